"""Adapting trained models: low-rank corrections, prompts, frozen parts, heads put on another body."""

from jann.adapt.low_rank import low_rank, merge, trainable
from jann.adapt.peft import load_adapter, save_adapter
from jann.adapt.prompts import PromptTuned, prompt_tuned
from jann.adapt.transfer import Transplanted, frozen, transplant

__all__ = [
    "PromptTuned",
    "Transplanted",
    "frozen",
    "load_adapter",
    "low_rank",
    "merge",
    "prompt_tuned",
    "save_adapter",
    "trainable",
    "transplant",
]
