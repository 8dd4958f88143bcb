"""Published weights of Mamba."""

from collections.abc import Sequence

from jann.models.mamba import Mamba
from jann.pretrained.bert import dense
from jann.pretrained.hub import PretrainedError, activation, activation_name, architecture, lack
from jann.pretrained.tables import Table

MODEL = Mamba
CAUSAL, BARE = "MambaForCausalLM", "MambaModel"
IGNORED = r"(?!)"


def from_config(config: dict, names: Sequence[str] = ()) -> Mamba:
    """names: of the tensors, where they are known, for a bare decoder may lack its head: then it counts as tied"""
    name = architecture(config, CAUSAL, BARE)
    embed, rank = config.get("hidden_size", 768), config.get("time_step_rank", "auto")
    return Mamba(
        vocab=config.get("vocab_size", 50_280),
        embed=embed,
        layers=config.get("num_hidden_layers", 32),
        inner=int(config.get("expand", 2) * embed),
        state=config.get("state_size", 16),
        window=config.get("conv_kernel", 4),
        rank=None if rank == "auto" else rank,
        activation=activation(config.get("hidden_act", "silu")),
        epsilon=config.get("layer_norm_epsilon", 1e-5),
        bias=config.get("use_bias", False),
        conv_bias=config.get("use_conv_bias", True),
        tied=config.get("tie_word_embeddings", True) or (name == BARE and lack(names, "lm_head")),
    )


def to_config(model: Mamba) -> dict:
    if model.inside() % model.embed:
        raise PretrainedError(f"{model} is no multiple of embed={model.embed} wide inside, as published ones are")
    return {
        "architectures": [CAUSAL],
        "model_type": "mamba",
        "vocab_size": model.vocab,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "expand": model.inside() // model.embed,
        "intermediate_size": model.inside(),
        "state_size": model.state,
        "conv_kernel": model.window,
        "time_step_rank": model.ranks(),
        "hidden_act": activation_name(model.activation),
        "layer_norm_epsilon": model.epsilon,
        "use_bias": model.bias,
        "use_conv_bias": model.conv_bias,
        "tie_word_embeddings": model.tied,
    }


def copies(model: Mamba) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    return {"lm_head.weight": "tokens/table"} if model.tied else {}


def table(model: Mamba, names: Sequence[str]) -> Table:
    """Files of the bare decoder lack the prefix."""
    bare = bool(names) and not any(name.startswith("backbone.") for name in names)
    prefix = "" if bare else "backbone."
    block = (
        ("norm.weight", "norm/scale", None),
        ("mixer.in_proj.weight", "in/weight", "(parts inner) embed -> embed parts inner"),
        ("mixer.in_proj.bias", "in/bias", "(parts inner) -> parts inner"),
        ("mixer.conv1d.weight", "conv/weight", "inner 1 window -> window inner"),
        ("mixer.conv1d.bias", "conv/bias", None),
        ("mixer.x_proj.weight", "selected/weight", (1, 0)),
        *dense("mixer.dt_proj", "step"),
        ("mixer.A_log", "log_decay", None),
        ("mixer.D", "skip", None),
        *dense("mixer.out_proj", "out"),
    )
    return (
        (f"{prefix}embeddings.weight", "tokens/table", None),
        *((f"{prefix}layers.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        (f"{prefix}norm_f.weight", "norm/scale", None),
        ("lm_head.weight", "head/weight", (1, 0)),
    )
