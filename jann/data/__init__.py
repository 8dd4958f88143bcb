"""Data: batches of arrays and streams as functions of the step, augmentation, and datasets by name.

Images, text, sound and music.
"""

from jann.data.audio import (
    ctc_decode,
    frame_count,
    log_mel,
    mel_edges,
    mel_filters,
    mu_law_decode,
    mu_law_encode,
    random_mask,
    random_shift,
    read_wav,
    speech_spectrogram,
    speech_waveform,
    write_wav,
)
from jann.data.augment import (
    mixup,
    random_crop,
    random_deform,
    random_erase,
    random_flip,
    random_symmetry,
    random_window,
)
from jann.data.batches import Batches, batches
from jann.data.contiguous import Contiguous, contiguous
from jann.data.corpora import Corpus, Problem
from jann.data.datasets import load
from jann.data.detection import Boxes
from jann.data.faces import Faces
from jann.data.files import DataError, MissingData
from jann.data.images import Dataset, Standardise
from jann.data.masking import corrupt_spans, mask_places, mask_words
from jann.data.midi import synthesise, write_midi
from jann.data.music import PianoRolls
from jann.data.questions import Answer, Question, question_rows, read_answers, read_squad
from jann.data.ratings import Ratings
from jann.data.recordings import Recordings
from jann.data.sequences import instructed, packed, padded, paired
from jann.data.stream import Stream
from jann.data.text import Text, as_text
from jann.data.time_series import Series, SeriesWindows, read_series
from jann.data.tokenizer import load_tokenizer, train_bpe
from jann.data.windows import Windows, whole_windows, windows

__all__ = [
    "Answer",
    "Batches",
    "Boxes",
    "Contiguous",
    "Corpus",
    "DataError",
    "Dataset",
    "Faces",
    "MissingData",
    "PianoRolls",
    "Problem",
    "Question",
    "Ratings",
    "Recordings",
    "Series",
    "SeriesWindows",
    "Standardise",
    "Stream",
    "Text",
    "Windows",
    "as_text",
    "batches",
    "contiguous",
    "corrupt_spans",
    "ctc_decode",
    "frame_count",
    "instructed",
    "load",
    "load_tokenizer",
    "log_mel",
    "mask_places",
    "mask_words",
    "mel_edges",
    "mel_filters",
    "mixup",
    "mu_law_decode",
    "mu_law_encode",
    "packed",
    "padded",
    "paired",
    "question_rows",
    "random_crop",
    "random_deform",
    "random_erase",
    "random_flip",
    "random_mask",
    "random_shift",
    "random_symmetry",
    "random_window",
    "read_answers",
    "read_series",
    "read_squad",
    "read_wav",
    "speech_spectrogram",
    "speech_waveform",
    "synthesise",
    "train_bpe",
    "whole_windows",
    "windows",
    "write_midi",
    "write_wav",
]
