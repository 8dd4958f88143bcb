"""BERT's published weights, with the heads of transformers' classes; sentence encoders among them."""

from collections.abc import Sequence

from jann.models.bert import BERT
from jann.pretrained.hub import activation, activation_name, architecture, label_names, labels_of, lack, refuse
from jann.pretrained.tables import Table

MODEL = BERT
IGNORED = r"position_ids$|^cls\.predictions\.(decoder\.|bias$)"  # a constant; copies of the tokens' table, of a bias

HEADS = {
    "BertModel": "features",
    "BertForMaskedLM": "words",
    "BertForSequenceClassification": "sentence",
    "BertForTokenClassification": "tokens",
    "BertForQuestionAnswering": "span",
    "BertForPreTraining": "words",  # of its two heads the second, of which sentence follows which, is not used
    "BertForNextSentencePrediction": "sentence",  # written as BertForSequenceClassification, and so is the next
    "BertForMultipleChoice": "sentence",  # choices are a leading axis of the tokens: logits[..., choices, 1]
}
LABELS = {"BertForNextSentencePrediction": 2, "BertForMultipleChoice": 1}  # whatever the configuration says


def from_config(config: dict, names: Sequence[str] = ()) -> BERT:
    """names: of the tensors, where they are known, for a bare encoder may lack its pooler"""
    refuse(config, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    name = architecture(config, *HEADS)
    return BERT(
        vocab=config.get("vocab_size", 30522),
        positions=config.get("max_position_embeddings", 512),
        segments=config.get("type_vocab_size", 2),
        embed=config.get("hidden_size", 768),
        layers=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        hidden=config.get("intermediate_size", 3072),
        head=HEADS[name],
        labels=LABELS.get(name, labels_of(config)),
        pooler=name == "BertModel" and not lack(names, "pooler.dense"),
        activation=activation(config.get("hidden_act", "gelu")),
        epsilon=config.get("layer_norm_eps", 1e-12),
        tied=config.get("tie_word_embeddings", True),
    )


def to_config(model: BERT) -> dict:
    return {
        "architectures": [next(name for name, head in HEADS.items() if head == model.head)],
        "model_type": "bert",
        "vocab_size": model.vocab,
        "max_position_embeddings": model.positions,
        "type_vocab_size": model.segments,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "hidden_act": activation_name(model.activation),
        "layer_norm_eps": model.epsilon,
        "tie_word_embeddings": model.tied,
        **label_names(2 if model.head == "span" else model.labels),
    }


def copies(model: BERT) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    decoder = "cls.predictions.decoder"
    tied = model.tied and model.head == "words"
    return {f"{decoder}.weight": "tokens/table", f"{decoder}.bias": "head/bias"} if tied else {}


def table(model: BERT, names: Sequence[str]) -> Table:
    """Files of the bare encoder lack the prefix."""
    bare = not any(name.startswith("bert.") for name in names) if names else model.head == "features"
    prefix = "" if bare else "bert."
    split = "(heads head) embed -> embed heads head"
    block = (
        *((f"attention.self.{name}.weight", f"{name}/weight", split) for name in ("query", "key", "value")),
        *((f"attention.self.{name}.bias", f"{name}/bias", "(heads head) -> heads head")
          for name in ("query", "key", "value")),
        ("attention.output.dense.weight", "attention_out/weight", "embed (heads head) -> heads head embed"),
        ("attention.output.dense.bias", "attention_out/bias", None),
        *norm("attention.output.LayerNorm", "attention_norm"),
        *dense("intermediate.dense", "mlp_in"),
        *dense("output.dense", "mlp_out"),
        *norm("output.LayerNorm", "mlp_norm"),
    )  # fmt: skip
    embeddings = (("word", "tokens"), ("position", "positions"), ("token_type", "segments"))
    if model.head == "words":
        transform = "cls.predictions.transform"
        head = (*dense(f"{transform}.dense", "head/dense"), *norm(f"{transform}.LayerNorm", "head/norm"))
        head += (
            (("cls.predictions.bias", "head/bias", None),) if model.tied else dense("cls.predictions.decoder", "head")
        )
    else:
        follows = "cls.seq_relationship.weight" in names and "classifier.weight" not in names
        sentence = "cls.seq_relationship" if follows else "classifier"
        head = dense({"span": "qa_outputs", "sentence": sentence}.get(model.head, "classifier"), "head")
    return (
        *((f"{prefix}embeddings.{name}_embeddings.weight", f"{ours}/table", None) for name, ours in embeddings),
        *norm(f"{prefix}embeddings.LayerNorm", "norm"),
        *((f"{prefix}encoder.layer.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *dense(f"{prefix}pooler.dense", "pooler"),
        *head,
    )


def norm(theirs: str, ours: str) -> Table:
    return ((f"{theirs}.weight", f"{ours}/scale", None), (f"{theirs}.bias", f"{ours}/bias", None))


def dense(theirs: str, ours: str) -> Table:
    return ((f"{theirs}.weight", f"{ours}/weight", (1, 0)), (f"{theirs}.bias", f"{ours}/bias", None))
