"""Whisper's published weights."""

from collections.abc import Sequence
from typing import Any

from jann.models.whisper import Whisper
from jann.pretrained.hub import activation, activation_name, architecture, refuse
from jann.pretrained.tables import Table
from jann.pretrained.transformer import halves

MODEL = Whisper
IGNORED = r"^proj_out\.weight$"  # a copy of the table


def from_config(config: dict, names: Sequence[str] = ()) -> Whisper:
    architecture(config, "WhisperForConditionalGeneration")
    heads, hidden = config.get("encoder_attention_heads", 6), config.get("encoder_ffn_dim", 1536)
    refuse(config, scale_embedding=False, tie_word_embeddings=True)
    sizes = {"decoder_attention_heads": 6, "decoder_ffn_dim": 1536, **config}
    refuse(sizes, decoder_attention_heads=heads, decoder_ffn_dim=hidden)
    return Whisper(
        vocab=config.get("vocab_size", 51_865),
        bands=config.get("num_mel_bins", 80),
        embed=config.get("d_model", 384),
        layers=config.get("encoder_layers", 4),
        heads=heads,
        hidden=hidden,
        decoder_layers=config.get("decoder_layers", 4),
        places=config.get("max_source_positions", 1500),
        positions=config.get("max_target_positions", 448),
        activation=activation(config.get("activation_function", "gelu")),
        begin_tokens=(config.get("decoder_start_token_id", 50_257),),
    )


def speech_tokens(
    tokenizer: Any, language: str | None = "en", task: str = "transcribe", timestamps: bool = False
) -> tuple[int, ...]:
    """What Whisper's decoder begins with: the ids for its `begin_tokens`.

    language:  two letters, as "de"; None for the models of English alone, which have neither languages nor tasks
    task:      "transcribe", or "translate" into English

    Raises ValueError naming what the tokenizer does not have.
    """
    names = ["startoftranscript", *([] if language is None else [language, task])]
    names += [] if timestamps else ["notimestamps"]
    ids = {name: tokenizer.token_to_id(f"<|{name}|>") for name in names}
    if missing := [name for name, number in ids.items() if number is None]:
        raise ValueError(f"the tokenizer has no <|{missing[0]}|>: languages have two letters, as en, tasks are two")
    return tuple(ids.values())


def to_config(model: Whisper) -> dict:
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": model.vocab,
        "num_mel_bins": model.bands,
        "d_model": model.embed,
        "encoder_layers": model.layers,
        "decoder_layers": model.decoder_layers or model.layers,
        "encoder_attention_heads": model.heads,
        "decoder_attention_heads": model.heads,
        "encoder_ffn_dim": model.hidden,
        "decoder_ffn_dim": model.hidden,
        "max_source_positions": model.places,
        "max_target_positions": model.positions,
        "activation_function": activation_name(model.activation),
        "decoder_start_token_id": model.begin_tokens[0],
        "pad_token_id": min(50_256, model.vocab - 1),  # which transformers wants within the vocabulary
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
    }


def copies(model: Whisper) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    return {"proj_out.weight": "decoder/tokens/table"}


def table(model: Whisper, names: Sequence[str]) -> Table:
    encoder = "model.encoder"
    return (
        (f"{encoder}.conv1.weight", "encoder/conv1/weight", (2, 1, 0)),
        (f"{encoder}.conv1.bias", "encoder/conv1/bias", None),
        (f"{encoder}.conv2.weight", "encoder/conv2/weight", (2, 1, 0)),
        (f"{encoder}.conv2.bias", "encoder/conv2/bias", None),
        (f"{encoder}.embed_positions.weight", "encoder/positions", None),
        ("model.decoder.embed_tokens.weight", "decoder/tokens/table", None),
        ("model.decoder.embed_positions.weight", "decoder/positions/table", None),
        *halves(),
    )
