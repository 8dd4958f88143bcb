"""Published weights of the Transformer: Marian's translators, BART, mBART and Pegasus."""

from collections.abc import Sequence

from jann.models.transformer import Transformer
from jann.pretrained.bert import dense, heads_apart, heads_together, norm
from jann.pretrained.hub import PretrainedError, activation, activation_name, architecture, lack, refuse, respelt
from jann.pretrained.tables import Table

MODEL = Transformer
IGNORED = r"^(lm_head|model\.(en|de)coder\.embed_(tokens|positions))\.weight$"  # copies of the table, and sinusoids

KINDS = {  # class, whether positions are learned, whether norms come first, what a decoder's input begins with
    "marian": ("MarianMTModel", False, False, 58_100),
    "bart": ("BartForConditionalGeneration", True, False, 2),
    "mbart": ("MBartForConditionalGeneration", True, True, 2),
    "pegasus": ("PegasusForConditionalGeneration", False, True, 0),
}
FIRST, EPSILON = 2, 1e-5  # row of the first learned position; of every norm


def from_config(config: dict, names: Sequence[str] = ()) -> Transformer:
    """names: of the tensors, where they are known, for a file may lack the bias of the logits"""
    name, learned, norm_first, begin = KINDS[config["model_type"]]
    architecture(config, name)
    config = respelt(config, hidden_size="d_model", num_hidden_layers="encoder_layers")
    config = respelt(config, num_attention_heads="encoder_attention_heads")
    heads, hidden = config.get("encoder_attention_heads", 16), config.get("encoder_ffn_dim", 4096)
    sizes = {"decoder_attention_heads": 16, "decoder_ffn_dim": 4096, **config}
    refuse(sizes, decoder_attention_heads=heads, decoder_ffn_dim=hidden, tie_word_embeddings=True)
    vocab = config.get("vocab_size", 58_101 if name == "MarianMTModel" else 50_265)
    refuse(config, share_encoder_decoder_embeddings=True, decoder_vocab_size=vocab)
    given = config.get("decoder_start_token_id")
    return Transformer(
        vocab=vocab,
        embed=config.get("d_model", 1024),
        layers=config.get("encoder_layers", 12),
        heads=heads,
        hidden=hidden,
        decoder_layers=config.get("decoder_layers", 12),
        activation=activation(config.get("activation_function", "gelu")),
        norm_first=norm_first,
        epsilon=EPSILON,
        begin_token=begin if given is None else given,
        scaled=config.get("scale_embedding", False),
        positions=config.get("max_position_embeddings", 1024) if learned else 0,
        first_position=FIRST if learned else 0,
        embedded_norm=learned,
        logits_bias=not lack(names, "final_logits_bias"),
    )


def to_config(model: Transformer) -> dict:
    kind, name = _kind(model)
    return {
        "architectures": [name],
        "model_type": kind,
        "vocab_size": model.vocab,
        "d_model": model.embed,
        "encoder_layers": model.layers,
        "decoder_layers": model.decoder_layers or model.layers,
        "encoder_attention_heads": model.heads,
        "decoder_attention_heads": model.heads,
        "encoder_ffn_dim": model.hidden,
        "decoder_ffn_dim": model.hidden,
        "activation_function": activation_name(model.activation),
        "decoder_start_token_id": model.begin_token,
        "scale_embedding": model.scaled,
        "max_position_embeddings": model.positions or 1024,  # of sinusoids there are as many as one likes
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        **({"pad_token_id": model.begin_token} if kind == "marian" else {}),
    }


def _kind(model: Transformer) -> tuple[str, str]:
    """The family whose options the model uses, and its class."""
    for kind, (name, learned, norm_first, _) in KINDS.items():
        embedded = (model.positions > 0, model.first_position, model.embedded_norm)
        wanted = (True, FIRST, True) if learned else (False, 0, False)
        if embedded == wanted and model.norm_first == norm_first and model.logits_bias and model.epsilon == EPSILON:
            return kind, name
    raise PretrainedError(
        f"no published family has the options of {model} together (all have logits_bias=True, epsilon={EPSILON}): "
        "jann.save(folder, ...) keeps it"
    )


def copies(model: Transformer) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    names = ("lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens")
    return {f"{name}.weight": "tokens/table" for name in names}


def table(model: Transformer, names: Sequence[str]) -> Table:
    sides = ("encoder", "decoder")
    return (
        ("model.shared.weight", "tokens/table", None),
        *((f"model.{side}.embed_positions.weight", f"{side}/positions/table", None) for side in sides),
        *(row for side in sides for row in norm(f"model.{side}.layernorm_embedding", f"{side}/embedded_norm")),
        *halves(),
        ("final_logits_bias", "logits/bias", "1 vocab -> vocab"),
    )


def halves() -> Table:
    """Blocks of an encoder and a decoder, and the norms behind them, as this family and Whisper name them."""

    def attention(theirs: str, ours: str) -> Table:
        parts = (("q", "query"), ("k", "key"), ("v", "value"))
        return (
            *(row for short, part in parts for row in heads_apart(f"{theirs}.{short}_proj", f"{ours}_{part}")),
            *heads_together(f"{theirs}.out_proj", f"{ours}_out"),
            *norm(f"{theirs}_layer_norm", f"{ours}_norm"),
        )

    block = (
        *attention("self_attn", "self"), *attention("encoder_attn", "cross"), *dense("fc1", "mlp_in"),
        *dense("fc2", "mlp_out"), *norm("final_layer_norm", "mlp_norm"),
    )  # fmt: skip
    return tuple(
        row
        for side in ("encoder", "decoder")
        for row in (
            *((f"model.{side}.layers.*.{theirs}", f"{side}/blocks/*/{ours}", axes) for theirs, ours, axes in block),
            *norm(f"model.{side}.layer_norm", f"{side}/norm"),
        )
    )
