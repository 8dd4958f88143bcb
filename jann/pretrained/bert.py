"""Published weights of BERT, RoBERTa (XLM-R, CamemBERT), DistilBERT, MPNet, ALBERT and ELECTRA.

Sentence encoders are among them.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jann.layers import exact_gelu
from jann.models.bert import BERT
from jann.pretrained.hub import (
    PretrainedError,
    activation,
    activation_name,
    architecture,
    label_names,
    labels_of,
    lack,
    refuse,
)
from jann.pretrained.tables import Table

MODEL = BERT
IGNORED = (  # a constant; copies of the tokens' table and of a bias
    r"position_ids$|^(cls\.)?predictions\.(decoder\.|bias$)|^lm_head\.(decoder\.|bias$)|"
    r"^(vocab_projector|generator_lm_head)\.weight$"
)

NAMES = {
    "bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert",
    "distilbert": "DistilBert", "mpnet": "MPNet", "albert": "Albert", "electra": "Electra",
}  # fmt: skip
ALSO_ROBERTA = ("xlm-roberta", "camembert")
HEADS = {
    "Model": "features",
    "ForMaskedLM": "words",
    "ForSequenceClassification": "sentence",
    "ForTokenClassification": "tokens",
    "ForQuestionAnswering": "span",
}
CHOICE = {"ForMultipleChoice": "sentence"}  # choices are a leading axis of the tokens: logits[..., choices, 1]
FIRST = {"ForPreTraining": "words"}  # of two heads the second, of which sentence follows which, is not used
MORE_HEADS = {  # written as ForMaskedLM and ForSequenceClassification, but that of ELECTRA
    "bert": {**FIRST, "ForNextSentencePrediction": "sentence", **CHOICE},
    "albert": {**FIRST, **CHOICE},
    "electra": {"ForPreTraining": "replaced"},
}
LABELS = {"ForNextSentencePrediction": 2, "ForMultipleChoice": 1}  # whatever the configuration says
DISTILBERT_NAMES = {
    "dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size", "activation": "hidden_act",
}  # fmt: skip
ALBERT = {  # what is not said
    "vocab_size": 30_000, "embedding_size": 128, "hidden_size": 4096, "num_attention_heads": 64,
    "intermediate_size": 16_384, "hidden_act": "gelu_new", "num_hidden_groups": 1,
}  # fmt: skip
ELECTRA = {"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
MPNET_FIRST = 2  # row of the table of positions
DISTILLED = 1e-12  # the epsilon of every norm of a DistilBERT


def from_config(config: dict, names: Sequence[str] = ()) -> BERT:
    """names: of the tensors, where they are known, for a bare encoder may lack its pooler"""
    kind = config["model_type"]
    refuse(config, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    heads = HEADS | MORE_HEADS.get(kind, {})
    name = architecture(config, *(NAMES[kind] + ending for ending in heads)).removeprefix(NAMES[kind])
    head, distilled, electra = heads[name], kind == "distilbert", kind == "electra"
    roberta = kind in ("roberta", "mpnet", *ALSO_ROBERTA)
    config = spelt_as_bert(config) if distilled else config
    if kind == "albert":
        refuse(config, inner_group_num=1)
        config = ALBERT | config
    config = ELECTRA | config if electra else config
    if kind == "mpnet":
        config = {"vocab_size": 30_527, "relative_attention_num_buckets": 32, **config}
        config |= {"pad_token_id": MPNET_FIRST - 1, "type_vocab_size": 0}  # whatever it says
    units = activation(config.get("hidden_act", "gelu"))
    first = config.get("pad_token_id", 1) + 1 if roberta else 0
    pooler_activation = {"distilbert": jax.nn.relu, "electra": exact_gelu}.get(kind) if head == "sentence" else None
    return BERT(
        vocab=config.get("vocab_size", 50_265 if kind == "roberta" else 30_522),
        positions=config.get("max_position_embeddings", 512) - first,
        first_position=first,
        relative_buckets=config["relative_attention_num_buckets"] if kind == "mpnet" else 0,
        segments=config.get("type_vocab_size", 2),
        embed=config.get("hidden_size", 768),
        layers=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        hidden=config.get("intermediate_size", 3072),
        head=head,
        labels=LABELS.get(name, labels_of(config)),
        pooler=head == "features" and not (distilled or electra or lack(names, "pooler.")),
        table=config["embedding_size"] if kind in ("albert", "electra") else None,
        groups=config["num_hidden_groups"] if kind == "albert" else 0,
        activation=units,
        pooler_activation=pooler_activation or jnp.tanh,
        words_activation=exact_gelu if (roberta or electra) and head == "words" and units is not exact_gelu else None,
        epsilon=config.get("layer_norm_eps", 1e-12),
        tied=config.get("tie_word_embeddings", True),
    )


def spelt_as_bert(config: dict) -> dict:
    """A DistilBERT's configuration with BERT's names, and what it has not."""
    found = {bert: config[own] for own, bert in DISTILBERT_NAMES.items() if own in config}
    return {"num_hidden_layers": 6, **config, **found, "layer_norm_eps": DISTILLED, "type_vocab_size": 0}


def to_config(model: BERT) -> dict:
    kind = _kind(model)
    endings = HEADS | {"ForPreTraining": "replaced"}
    ending = next(ending for ending, head in endings.items() if head == model.head)
    config = {
        "architectures": [NAMES[kind] + ending],
        "model_type": kind,
        "vocab_size": model.vocab,
        "max_position_embeddings": model.positions + model.first_position,
        "tie_word_embeddings": model.tied,
        "type_vocab_size": model.segments,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "hidden_act": activation_name(model.activation),
        "layer_norm_eps": model.epsilon,
        **label_names(2 if model.head == "span" else model.labels),
    }
    if kind == "mpnet":
        config["relative_attention_num_buckets"] = model.relative_buckets
    if kind in ("albert", "electra"):
        config["embedding_size"] = model.table or model.embed
    if kind == "albert":
        config |= {"num_hidden_groups": model.groups, "inner_group_num": 1}
    if kind == "distilbert":
        own = {bert: own for own, bert in DISTILBERT_NAMES.items()}
        fixed = ("type_vocab_size", "layer_norm_eps")
        return {own.get(name, name): value for name, value in config.items() if name not in fixed}
    return config | ({"pad_token_id": model.first_position - 1} if model.first_position else {})


def as_in(config: dict, other: dict) -> dict:
    """What our configuration says where it goes by the other's name: an XLM-R or CamemBERT is a RoBERTa by another."""
    ours, theirs = config["model_type"], other.get("model_type")
    if ours != "roberta" or theirs not in ALSO_ROBERTA:
        return {}
    ending = config["architectures"][0].removeprefix(NAMES[ours])
    return {"model_type": theirs, "architectures": [NAMES[theirs] + ending]}


def _kind(model: BERT) -> str:
    """The family whose options the model uses."""
    words = (model.words_activation or model.activation) if model.head == "words" else None
    pooled = model.pooler_activation if model.head == "sentence" or model.pooler else None
    plain = model.segments and not (model.first_position or model.relative_buckets)
    if model.groups:
        if plain and model.table and pooled in (None, jnp.tanh) and words in (None, model.activation):
            if model.head != "replaced":
                return "albert"
    elif model.table or model.head == "replaced" or pooled is exact_gelu:
        if plain and not model.pooler and pooled in (None, exact_gelu) and words in (None, exact_gelu):
            return "electra"
    elif model.first_position and pooled in (None, jnp.tanh) and words in (None, exact_gelu):
        if model.segments and not model.relative_buckets:
            return "roberta"
        if model.relative_buckets and not model.segments and model.first_position == MPNET_FIRST:
            return "mpnet"
    elif words in (None, model.activation) and not model.relative_buckets:
        if model.segments and pooled in (None, jnp.tanh):
            return "bert"
        distilled = not (model.segments or model.pooler) and model.epsilon == DISTILLED
        if distilled and pooled in (None, jax.nn.relu):
            return "distilbert"
    raise PretrainedError(f"no published family has the options of {model} together: jann.save(folder, ...) keeps it")


def copies(model: BERT) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    if not model.tied or model.head != "words":
        return {}
    kind = _kind(model)
    if kind in ("distilbert", "electra"):
        return {f"{'vocab_projector' if kind == 'distilbert' else 'generator_lm_head'}.weight": "tokens/table"}
    decoder = {"bert": "cls.predictions", "albert": "predictions"}.get(kind, "lm_head") + ".decoder"
    return {f"{decoder}.weight": "tokens/table", f"{decoder}.bias": "head/bias"}


def table(model: BERT, names: Sequence[str]) -> Table:
    """Files of the bare encoder lack the prefix."""
    kind = _kind(model)
    bare = not any(name.startswith(f"{kind}.") for name in names) if names else model.head == "features"
    prefix = "" if bare else f"{kind}."
    embeddings = (("word", "tokens"), ("position", "positions"), ("token_type", "segments"))
    blocks = {
        "distilbert": "transformer.layer.*",
        "albert": "encoder.albert_layer_groups.*.albert_layers.0",
    }.get(kind, "encoder.layer.*")
    block = {"distilbert": DISTILBERT_BLOCK, "mpnet": MPNET_BLOCK, "albert": ALBERT_BLOCK}.get(kind, BLOCK)
    heads = {
        "bert": heads_of_bert,
        "distilbert": heads_of_distilbert,
        "albert": heads_of_albert,
        "electra": heads_of_electra,
    }.get(kind, heads_of_roberta)
    return (
        *((f"{prefix}embeddings.{name}_embeddings.weight", f"{ours}/table", None) for name, ours in embeddings),
        *norm(f"{prefix}embeddings.LayerNorm", "norm"),
        *dense(prefix + ("encoder.embedding_hidden_mapping_in" if kind == "albert" else "embeddings_project"), "widen"),
        *((f"{prefix}{blocks}.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        (f"{prefix}encoder.relative_attention_bias.weight", "relative/table", None),
        *heads(model, names, prefix),
    )


def heads_of_bert(model: BERT, names: Sequence[str], prefix: str) -> Table:
    pooler = dense(f"{prefix}pooler.dense", "pooler")
    if model.head == "words":
        transform = "cls.predictions.transform"
        own = (("cls.predictions.bias", "head/bias", None),) if model.tied else dense("cls.predictions.decoder", "head")
        return (*dense(f"{transform}.dense", "head/dense"), *norm(f"{transform}.LayerNorm", "head/norm"), *own)
    follows = "cls.seq_relationship.weight" in names and "classifier.weight" not in names
    sentence = "cls.seq_relationship" if follows else "classifier"
    return (*pooler, *dense({"span": "qa_outputs", "sentence": sentence}.get(model.head, "classifier"), "head"))


def heads_of_roberta(model: BERT, names: Sequence[str], prefix: str) -> Table:
    if model.head == "words":
        own = (("lm_head.bias", "head/bias", None),) if model.tied else dense("lm_head.decoder", "head")
        return (*dense("lm_head.dense", "head/dense"), *norm("lm_head.layer_norm", "head/norm"), *own)
    if model.head == "sentence":
        return (*dense("classifier.dense", "pooler"), *dense("classifier.out_proj", "head"))
    head = "qa_outputs" if model.head == "span" else "classifier"
    return (*dense(f"{prefix}pooler.dense", "pooler"), *dense(head, "head"))


def heads_of_distilbert(model: BERT, names: Sequence[str], prefix: str) -> Table:
    if model.head == "words":
        bias = (("vocab_projector.bias", "head/bias", None),)
        own = bias if model.tied else dense("vocab_projector", "head")
        return (*dense("vocab_transform", "head/dense"), *norm("vocab_layer_norm", "head/norm"), *own)
    head = "qa_outputs" if model.head == "span" else "classifier"
    return (*dense("pre_classifier", "pooler"), *dense(head, "head"))


def heads_of_albert(model: BERT, names: Sequence[str], prefix: str) -> Table:
    if model.head == "words":
        own = (("predictions.bias", "head/bias", None),) if model.tied else dense("predictions.decoder", "head")
        return (*dense("predictions.dense", "head/dense"), *norm("predictions.LayerNorm", "head/norm"), *own)
    head = "qa_outputs" if model.head == "span" else "classifier"
    return (*dense(f"{prefix}pooler", "pooler"), *dense(head, "head"))


def heads_of_electra(model: BERT, names: Sequence[str], prefix: str) -> Table:
    if model.head == "words":
        made, bias = "generator_predictions", (("generator_lm_head.bias", "head/bias", None),)
        own = bias if model.tied else dense("generator_lm_head", "head")
        return (*dense(f"{made}.dense", "head/dense"), *norm(f"{made}.LayerNorm", "head/norm"), *own)
    if model.head == "replaced":
        found = "discriminator_predictions"
        return (*dense(f"{found}.dense", "head/dense"), *dense(f"{found}.dense_prediction", "head"))
    if model.head == "sentence":
        return (*dense("classifier.dense", "pooler"), *dense("classifier.out_proj", "head"))
    return dense("qa_outputs" if model.head == "span" else "classifier", "head")


def norm(theirs: str, ours: str) -> Table:
    return ((f"{theirs}.weight", f"{ours}/scale", None), (f"{theirs}.bias", f"{ours}/bias", None))


def dense(theirs: str, ours: str) -> Table:
    return ((f"{theirs}.weight", f"{ours}/weight", (1, 0)), (f"{theirs}.bias", f"{ours}/bias", None))


def heads_apart(theirs: str, ours: str) -> Table:
    return (
        (f"{theirs}.weight", f"{ours}/weight", "(heads head) embed -> embed heads head"),
        (f"{theirs}.bias", f"{ours}/bias", "(heads head) -> heads head"),
    )


def heads_together(theirs: str, ours: str) -> Table:
    return (
        (f"{theirs}.weight", f"{ours}/weight", "embed (heads head) -> heads head embed"),
        (f"{theirs}.bias", f"{ours}/bias", None),
    )


MLP = (*dense("intermediate.dense", "mlp_in"), *dense("output.dense", "mlp_out"), *norm("output.LayerNorm", "mlp_norm"))
BLOCK = (
    *(row for name in ("query", "key", "value") for row in heads_apart(f"attention.self.{name}", name)),
    *heads_together("attention.output.dense", "attention_out"),
    *norm("attention.output.LayerNorm", "attention_norm"),
    *MLP,
)
MPNET_BLOCK = (
    *(row for name in ("query", "key", "value") for row in heads_apart(f"attention.attn.{name[0]}", name)),
    *heads_together("attention.attn.o", "attention_out"),
    *norm("attention.LayerNorm", "attention_norm"),
    *MLP,
)
DISTILBERT_BLOCK = (
    *(row for name in ("query", "key", "value") for row in heads_apart(f"attention.{name[0]}_lin", name)),
    *heads_together("attention.out_lin", "attention_out"),
    *norm("sa_layer_norm", "attention_norm"),
    *dense("ffn.lin1", "mlp_in"),
    *dense("ffn.lin2", "mlp_out"),
    *norm("output_layer_norm", "mlp_norm"),
)
ALBERT_BLOCK = (
    *(row for name in ("query", "key", "value") for row in heads_apart(f"attention.{name}", name)),
    *heads_together("attention.dense", "attention_out"),
    *norm("attention.LayerNorm", "attention_norm"),
    *dense("ffn", "mlp_in"),
    *dense("ffn_output", "mlp_out"),
    *norm("full_layer_layer_norm", "mlp_norm"),
)
