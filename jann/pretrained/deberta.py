"""Published weights of DeBERTa, versions 2 and 3."""

from collections.abc import Sequence

from jann.models.deberta import DeBERTa
from jann.pretrained.bert import BLOCK, CHOICE, HEADS, dense, heads_apart, heads_of_bert, norm
from jann.pretrained.hub import (
    PretrainedError,
    activation,
    activation_name,
    architecture,
    label_names,
    labels_of,
    refuse,
)
from jann.pretrained.tables import Table

MODEL = DeBERTa
NAME = "DebertaV2"
IGNORED = (  # constants and copies; a head of version 3's pre-training, as another that is not used
    r"position_ids$|^cls\.predictions\.(decoder\.|bias$)|^mask_predictions\.|^deberta\.embeddings\.position_embeddings"
)
DEFAULT = {
    "vocab_size": 128_100, "hidden_size": 1536, "num_hidden_layers": 24, "num_attention_heads": 24,
    "intermediate_size": 6144, "max_position_embeddings": 512, "type_vocab_size": 0, "layer_norm_eps": 1e-7,
    "hidden_act": "gelu", "pooler_hidden_act": "gelu", "position_biased_input": True, "share_att_key": False,
    "norm_rel_ebd": "none", "relative_attention": False, "pos_att_type": (),
}  # fmt: skip
KINDS = ("c2p", "p2c")  # content to position, position to content
OWN = {"key_proj": "distance_key", "query_proj": "distance_query"}


def from_config(config: dict, names: Sequence[str] = ()) -> DeBERTa:
    config = DEFAULT | {name: value for name, value in config.items() if value is not None}
    embed, longest = config["hidden_size"], config["max_position_embeddings"]
    refuse(config, relative_attention=True, conv_kernel_size=0, pooler_hidden_size=embed)
    refuse(config, attention_head_size=embed // config["num_attention_heads"])
    kinds = config["pos_att_type"]
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else kinds
    if unknown := [kind for kind in kinds if kind not in KINDS] or not kinds:
        raise PretrainedError(f"deberta-v2 with pos_att_type={unknown or kinds}: jann knows {', '.join(KINDS)}")
    furthest, table = config.get("max_relative_positions", -1), config.get("embedding_size", embed)
    name = architecture(config, *(NAME + ending for ending in HEADS | CHOICE)).removeprefix(NAME)
    return DeBERTa(
        vocab=config["vocab_size"],
        positions=longest if config["position_biased_input"] else 0,
        segments=config["type_vocab_size"],
        embed=embed,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        head=(HEADS | CHOICE)[name],
        labels=1 if name == "ForMultipleChoice" else labels_of(config),
        activation=activation(config["hidden_act"]),
        pooler_activation=activation(config["pooler_hidden_act"]),
        epsilon=config["layer_norm_eps"],
        tied=config.get("tie_word_embeddings", True) or not config.get("legacy", True),
        table=None if table == embed else table,
        buckets=max(config.get("position_buckets", -1), 0),
        furthest=longest if furthest < 1 else furthest,
        content_to_position="c2p" in kinds,
        position_to_content="p2c" in kinds,
        shared=config["share_att_key"],
        relative_norm="layer_norm" in [part.strip() for part in config["norm_rel_ebd"].lower().split("|")],
    )


def to_config(model: DeBERTa) -> dict:
    if model.pooler and model.head != "sentence":
        raise PretrainedError("a published DeBERTa has a pooler under the head 'sentence' alone: take pooler=False")
    if model.head not in HEADS.values() or model.words_activation not in (None, model.activation):
        raise PretrainedError(f"no published family has the options of {model}: jann.save(folder, ...) keeps it")
    ending = next(ending for ending, head in HEADS.items() if head == model.head)
    wanted = (model.content_to_position, model.position_to_content)
    return {
        "architectures": [NAME + ending],
        "model_type": "deberta-v2",
        "vocab_size": model.vocab,
        "max_position_embeddings": model.positions or model.furthest,
        "position_biased_input": model.positions > 0,
        "type_vocab_size": model.segments,
        "hidden_size": model.embed,
        "embedding_size": model.table or model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "hidden_act": activation_name(model.activation),
        "pooler_hidden_act": activation_name(model.pooler_activation),
        "pooler_hidden_size": model.embed,
        "layer_norm_eps": model.epsilon,
        "tie_word_embeddings": model.tied,
        "relative_attention": True,
        "pos_att_type": [kind for kind, there in zip(KINDS, wanted, strict=True) if there],
        "position_buckets": model.buckets or -1,
        "max_relative_positions": model.furthest,
        "share_att_key": model.shared,
        "norm_rel_ebd": "layer_norm" if model.relative_norm else "none",
        "legacy": True,
        **label_names(2 if model.head == "span" else model.labels),
    }


def copies(model: DeBERTa) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    decoder = "cls.predictions.decoder"
    tied = model.tied and model.head == "words"
    return {f"{decoder}.weight": "tokens/table", f"{decoder}.bias": "head/bias"} if tied else {}


def table(model: DeBERTa, names: Sequence[str]) -> Table:
    """Files of the bare encoder lack the prefix."""
    bare = not any(name.startswith("deberta.") for name in names) if names else model.head == "features"
    prefix = "" if bare else "deberta."
    embeddings = (("word", "tokens"), ("position", "positions"), ("token_type", "segments"))
    layer = f"{prefix}encoder.layer.*"
    return (
        *((f"{prefix}embeddings.{name}_embeddings.weight", f"{ours}/table", None) for name, ours in embeddings),
        (f"{prefix}embeddings.embed_proj.weight", "widen/weight", (1, 0)),
        *norm(f"{prefix}embeddings.LayerNorm", "norm"),
        (f"{prefix}encoder.rel_embeddings.weight", "distances/table", None),
        *norm(f"{prefix}encoder.LayerNorm", "distances_norm"),
        *((f"{layer}.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block()),
        *dense("pooler.dense", "pooler"),
        *heads(model, names),
    )


def heads(model: DeBERTa, names: Sequence[str]) -> Table:
    """Version 3 was published with its own head for words, `legacy` of transformers being false."""
    own = "lm_predictions.lm_head"
    if model.head == "words" and f"{own}.bias" in names and "cls.predictions.bias" not in names:
        return (
            *dense(f"{own}.dense", "head/dense"),
            *norm(f"{own}.LayerNorm", "head/norm"),
            (f"{own}.bias", "head/bias", None),
        )
    return heads_of_bert(model, names, "")


def block() -> Table:
    """A block of BERT's whose projections are called otherwise, and those of distances."""
    projections = ("query", "key", "value")
    return (
        *(row for name in projections for row in heads_apart(f"attention.self.{name}_proj", name)),
        *(row for theirs, ours in OWN.items() for row in heads_apart(f"attention.self.pos_{theirs}", ours)),
        *(row for row in BLOCK if row[1].split("/")[0] not in projections),
    )
