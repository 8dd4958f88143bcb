"""Weights to and from other libraries: one table a family, read both ways."""

from jann.pretrained import patchtst, recurrent, resnet, unet
from jann.pretrained.hub import PretrainedError, from_pretrained, local_folder, save_pretrained
from jann.pretrained.prompts import begin_tokens, chat_prompt, generation_options, stop_tokens
from jann.pretrained.sentences import minilm_folder, sentence_encoder
from jann.pretrained.tables import WeightsError
from jann.pretrained.whisper import speech_tokens

__all__ = [
    "PretrainedError",
    "WeightsError",
    "begin_tokens",
    "chat_prompt",
    "from_pretrained",
    "generation_options",
    "local_folder",
    "minilm_folder",
    "patchtst",
    "recurrent",
    "resnet",
    "save_pretrained",
    "sentence_encoder",
    "speech_tokens",
    "stop_tokens",
    "unet",
]
