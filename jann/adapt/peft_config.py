"""What an adapter_config.json of PEFT says: which modules it adapts, and how."""

import math
import re
from collections.abc import Sequence
from typing import Any

from jann.pretrained.hub import PretrainedError

# Options of PEFT that are honoured, and those that say nothing about what an adapter computes. Any other one that is
# set is refused.
HONOURED = {
    "alpha_pattern", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "modules_to_save", "peft_type", "r", "rank_pattern",
    "target_modules", "task_type", "use_rslora",
}  # fmt: skip
HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "eva_config", "inference_mode", "lora_dropout", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "runtime_config",
}  # fmt: skip
STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # the others change the base as well


def refuse_others(config: dict) -> None:
    """Raises PretrainedError naming a kind of adapter, or an option, that would compute something else."""
    if config.get("peft_type") != "LORA":
        raise PretrainedError(f"an adapter with peft_type={config.get('peft_type')!r} is not supported, only 'LORA'")
    for name in ("r", "lora_alpha", "target_modules"):
        if config.get(name) is None:
            raise PretrainedError(f"adapter_config.json lacks {name}")
    for name, value in config.items():
        neutral = "none" if name == "bias" else None
        if name not in HONOURED | HARMLESS and value and value != neutral:
            raise PretrainedError(f"an adapter with {name}={value!r} is not supported")
    if (start := config.get("init_lora_weights")) not in STARTS:
        raise PretrainedError(f"an adapter with init_lora_weights={start!r} is for a base that was changed as well")


def targets_of(config: dict, modules: Sequence[str]) -> list[str]:
    """Those of the modules that the configuration names, by PEFT's rules."""
    targets, excluded = config["target_modules"], config.get("exclude_modules") or ()
    if isinstance(targets, str) and targets.lower() == "all-linear":
        heads = {"lm_head"} | ({"score", "classifier"} if config.get("task_type") == "SEQ_CLS" else set())
        targets = sorted(set(modules) - heads)

    def named(module, names):
        if isinstance(names, str):
            return re.fullmatch(names, module) is not None
        return any(module == name or module.endswith(f".{name}") for name in names)

    def in_layers(module):
        layers, patterns = config.get("layers_to_transform"), config.get("layers_pattern") or ()
        if layers is None or layers == [] or isinstance(targets, str) or module in targets:
            return True
        patterns = [patterns] if isinstance(patterns, str) else patterns
        patterns = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in patterns] or [r".*?\.[^.]*\.(\d+)\."]
        found = next((found for pattern in patterns if (found := re.match(pattern, module))), None)
        return found is not None and int(found[1]) in ([layers] if isinstance(layers, int) else layers)

    return [
        module for module in modules
        if named(module, targets) and in_layers(module) and not named(module, excluded) and not is_saved(config, module)
    ]  # fmt: skip


def is_saved(config: dict, name: str) -> bool:
    """Whether a module, or a tensor of one, is saved whole."""
    return any(re.match(rf"(^|.*\.){module}($|\..*)", name) for module in config.get("modules_to_save") or ())


def rank_and_scale(config: dict, module: str) -> tuple[int, float]:
    """How many rows a module's factors have, and how much their product counts."""
    rank = int(by_pattern(config, "rank_pattern", module, config["r"]))
    alpha = by_pattern(config, "alpha_pattern", module, config["lora_alpha"])
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def by_pattern(config: dict, patterns: str, module: str, default: Any) -> Any:
    """The value of the first pattern that ends the module's name."""
    found = (value for key, value in (config.get(patterns) or {}).items() if re.match(rf"(.*\.)?({key})$", module))
    return next(found, default)
