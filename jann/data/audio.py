"""Sound: wav files, log-mel spectrograms, random changes to them as pure functions of a key."""

import functools
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jann.data.files import DataError
from jann.layers.dtypes import along, wide_dtype

SPEECH_RATE = 16_000  # samples a second


def read_wav(source: str | Path | bytes, rate: int, name: str | None = None) -> np.ndarray:
    """A wav file (or its bytes, then with a `name` for errors) of one channel of 16 bits -> int16[time].

    Raises DataError for another rate, more channels, other numbers, or a file that is not whole.
    """
    from scipy.io import wavfile

    name = name or (str(source) if isinstance(source, (str, Path)) else "the wav file")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            found, audio = wavfile.read(BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError:
        raise
    except Exception as error:  # of a damaged header SciPy raises whatever it stumbles over
        raise DataError(f"{name} is not a whole wav file ({error}): copy it again") from error
    if found != rate:
        raise DataError(f"{name} has {found} samples a second, expected {rate}: resample it, e.g. sox IN -r {rate} OUT")
    if audio.ndim != 1:
        raise DataError(f"{name} has {audio.shape[1]} channels, expected 1: mix them, e.g. sox IN -c 1 OUT")
    if audio.dtype != np.int16:
        raise DataError(f"{name} holds {audio.dtype} samples, expected int16: convert it, e.g. sox IN -b 16 OUT")
    return audio


def write_wav(path: str | Path, audio: np.ndarray, rate: int) -> None:
    """Writes audio[time], floats within −1 and 1 or int16, as a wav file of one channel of 16 bits.

    What lies outside is clipped. Raises ValueError for more than one channel or values that are not finite, TypeError
    for other integers.
    """
    from scipy.io import wavfile

    audio = np.asarray(audio)
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"a wav file is written from audio[time], got shape {list(audio.shape)}")
    if audio.dtype != np.int16:
        _refuse_integers(audio)
        if not np.isfinite(audio).all():
            raise ValueError(f"audio has {np.sum(~np.isfinite(audio))} values that are not finite")
        audio = np.round(32767 * np.clip(audio.astype(np.float64), -1, 1)).astype(np.int16)
    wavfile.write(path, rate, audio)


def log_mel(
    audio: jax.Array, rate: int, window: int = 256, hop: int = 80, bands: int = 40, floor: float = 1e-6
) -> jax.Array:
    """audio[..., time] -> natural logarithm of its mel spectrogram + floor, [..., frames, bands]

    audio:   floats within −1 and 1, or int16, which is divided by 32768
    window:  samples in a frame, under a Hann window; `hop`: samples from a frame to the next
    bands:   triangles of `mel_filters`, on the power of the frame's Fourier transform over the window's power

    There are 1 + (time − window) // hop frames, each wholly within the audio. Raises ValueError where there is none.
    """
    from scipy.signal import get_window

    audio = _within_one(audio)
    audio = audio.astype(wide_dtype(audio))  # half precision has no Fourier transform
    frames = frame_count(audio.shape[-1], window, hop)
    if frames < 1:
        raise ValueError(f"audio of {audio.shape[-1]} samples is shorter than a window of {window}: pad it with zeros")
    weights = get_window("hann", window)
    weights = weights / np.sqrt(np.square(weights).sum())
    places = hop * np.arange(frames)[:, None] + np.arange(window)
    framed = audio[..., places] * jnp.asarray(weights, audio.dtype).reshape((1,) * audio.ndim + (-1,))
    spectrum = jnp.fft.rfft(framed)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)  # of which silence has a gradient, unlike of abs
    return jnp.log(power @ jnp.asarray(mel_filters(rate, window, bands), power.dtype) + floor)


def speech_spectrogram(audio: jax.Array, rate: int, bands: int = 80, seconds: int = 30) -> jax.Array:
    """audio[..., time] -> what Whisper hears, [..., 100 seconds, bands] (Radford et al. 2022, arXiv:2212.04356)

    audio:    floats within −1 and 1, or int16; longer audio is cut, shorter followed by silence
    rate:     samples a second: 16,000, as `jax.image.resize` or scipy.signal.resample_poly makes of others
    bands:    80, of the large models' third version 128

    The decimal logarithm of the power in bands, down to 8 below its highest, about within −1 and 1. Frames are of 400
    samples, one every 160, the audio mirrored at its ends. Raises ValueError for another rate.
    """
    from scipy.signal import get_window

    _refuse_rate(rate)
    audio = _within_one(audio)
    audio = audio.astype(wide_dtype(audio))[..., : seconds * rate]
    window, hop, ends = 400, 160, [(0, 0)] * (audio.ndim - 1)
    audio = jnp.pad(audio, [*ends, (0, seconds * rate - audio.shape[-1])])
    audio = jnp.pad(audio, [*ends, (window // 2, window // 2)], mode="reflect")
    places = hop * np.arange(seconds * rate // hop)[:, None] + np.arange(window)
    weights = jnp.asarray(get_window("hann", window), audio.dtype)
    framed = audio[..., places]
    spectrum = jnp.fft.rfft(framed * along(weights, framed))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    logarithm = jnp.log10(jnp.maximum(power @ jnp.asarray(speech_filters(rate, window, bands), power.dtype), 1e-10))
    return jnp.maximum(logarithm, logarithm.max((-2, -1), keepdims=True) - 8) / 4 + 1


def speech_waveform(audio: jax.Array, rate: int, lengths: jax.Array | None = None) -> jax.Array:
    """audio[..., time] -> what wav2vec 2.0 hears, [..., time], each of mean 0 and variance 1 over its time

    audio:    floats within −1 and 1, or int16
    rate:     samples a second: 16,000, as scipy.signal.resample_poly makes of others
    lengths:  [...], samples of each that are there, by default all; behind them the result is 0

    As the normalising extractor of transformers' Wav2Vec2. Raises ValueError for another rate.
    """
    _refuse_rate(rate)
    audio = _within_one(audio)
    wide = audio.astype(wide_dtype(audio))
    if lengths is None:
        mean, variance = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
        return ((wide - mean) * jax.lax.rsqrt(variance + 1e-7)).astype(audio.dtype)
    lengths = jnp.asarray(lengths, jnp.int32)[..., None]
    there = jax.lax.broadcast_to_rank(jnp.arange(audio.shape[-1]), audio.ndim) < lengths
    count = jnp.maximum(lengths, 1).astype(wide.dtype)
    centred = jnp.where(there, wide - jnp.where(there, wide, 0).sum(-1, keepdims=True) / count, 0)
    variance = jnp.square(centred).sum(-1, keepdims=True) / count
    return (centred * jax.lax.rsqrt(variance + 1e-7)).astype(audio.dtype)


def ctc_decode(logits: jax.Array, blank: int = 0, lengths: Sequence[int] | None = None) -> list:
    """logits[time, vocab] -> the ids that they say, a list; of logits[rows, time, vocab] a list of lists

    The likeliest of each place, where equal ones beside each other are one, and then without the blank: greedy decoding
    (Graves et al. 2006, ICML). Wav2vec's ids are letters, by the folder's vocab.json; "|" stands between words:

        letters = {number: letter for letter, number in json.load(open("vocab.json")).items()}
        text = "".join(letters[number] for number in ids).replace("|", " ")

    lengths:  how many places of each row are there, as `Wav2Vec2.frames` tells of samples; by default all
    """
    if logits.ndim not in (2, 3):
        raise ValueError(f"logits {list(logits.shape)}: [time, vocab] or [rows, time, vocab] wanted")
    if logits.ndim == 2:
        return ctc_decode(logits[None], blank, None if lengths is None else [int(lengths)])[0]
    best = np.asarray(logits.argmax(-1))
    lengths = np.full(len(best), best.shape[1]) if lengths is None else np.asarray(lengths)
    if lengths.shape != best.shape[:1]:
        raise ValueError(f"lengths {list(lengths.shape)} for {len(best)} rows of logits: give one for each")
    said = np.diff(best, prepend=-1) != 0
    said &= (best != blank) & (np.arange(best.shape[1]) < lengths[:, None])
    return [row[there].tolist() for row, there in zip(best, said, strict=True)]


@functools.lru_cache(maxsize=16)
def speech_filters(rate: int, window: int, bands: int) -> np.ndarray:
    """Triangles as Slaney's Auditory Toolbox (1998) and librosa have them, of area 1: [1 + window // 2, bands]

    Their edges are equally far apart up to 1,000 Hz, 200 / 3 Hz a mel, and by equal factors beyond, 6.4 in 27 mel.
    """
    straight, step = 200 / 3, np.log(6.4) / 27
    bend = 1000 / straight
    highest = bend + np.log(rate / 2 / 1000) / step if rate > 2000 else rate / 2 / straight
    mel = np.linspace(0, highest, bands + 2)
    edges = np.where(mel < bend, mel * straight, 1000 * np.exp(step * (mel - bend)))
    return _triangles(edges, rate, window) * (2 / (edges[2:] - edges[:-2]))


def _triangles(edges: np.ndarray, rate: int, window: int) -> np.ndarray:
    hertz = np.fft.rfftfreq(window, 1 / rate)[:, None]
    rising = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hertz) / np.diff(edges)[1:]
    return np.maximum(np.minimum(rising, falling), 0)


def _refuse_rate(rate: int) -> None:
    if rate != SPEECH_RATE:
        raise ValueError(f"audio at {rate} samples a second: resample it to {SPEECH_RATE} (scipy.signal.resample_poly)")


def _within_one(audio: jax.Array) -> jax.Array:
    audio = jnp.asarray(audio)
    if not jnp.issubdtype(audio.dtype, jnp.integer):
        return audio
    if audio.dtype != jnp.int16:
        _refuse_integers(audio)
    return audio.astype(jnp.float32) / 32768


def _refuse_integers(audio: np.ndarray | jax.Array) -> None:
    if jnp.issubdtype(audio.dtype, jnp.integer):
        raise TypeError(f"audio is {audio.dtype}: give int16, or floats within -1 and 1")


def frame_count(time: int | jax.Array, window: int, hop: int) -> int | jax.Array:
    """How many frames `log_mel` makes of so many samples; of none where they are shorter than the window."""
    frames = 1 + (time - window) // hop
    return jnp.maximum(frames, 0) if isinstance(time, jax.Array) else max(frames, 0)


def mel_edges(rate: int, bands: int) -> np.ndarray:
    """Frequencies equally far apart in mel, from 0 to half the rate, in hertz: [bands + 2]

    mel = 2595 log10(1 + hertz / 700) (O'Shaughnessy 1987). Band i goes from edge i over its middle i + 1 to i + 2.
    """
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    return 700 * (10 ** (np.linspace(0, highest, bands + 2) / 2595) - 1)


@functools.lru_cache(maxsize=16)
def mel_filters(rate: int, window: int, bands: int) -> np.ndarray:
    """Triangles between `mel_edges` over the frequencies of a Fourier transform: [1 + window // 2, bands]

    Each is 1 at its middle (Davis and Mermelstein 1980). Raises ValueError where a triangle holds no frequency.
    """
    edges = mel_edges(rate, bands)
    filters = _triangles(edges, rate, window)
    if not filters.any(0).all():
        band = int(np.flatnonzero(~filters.any(0))[0])
        raise ValueError(f"mel band {band} of {bands} holds no frequency of a window of {window}: take fewer bands")
    return filters


def mu_law_encode(audio: jax.Array, levels: int = 256) -> jax.Array:
    """audio[...] within −1 and 1 -> int32[...] from 0 to levels − 1, finer near silence

    With m = levels − 1, sign(x) log(1 + m |x|) / log(1 + m), rounded to equal steps. ITU-T G.711; van den Oord et al.
    2016, arXiv:1609.03499, section 2.2. What lies outside is clipped; int16 is divided by 32768.
    """
    audio = _within_one(audio)
    most = levels - 1
    size = jnp.log1p(most * jnp.minimum(jnp.abs(audio), 1)) / np.log1p(most).astype(np.float32)
    return jnp.round((jnp.sign(audio) * size + 1) / 2 * most).astype(jnp.int32)


def mu_law_decode(numbers: jax.Array, levels: int = 256) -> jax.Array:
    """numbers[...] from 0 to levels − 1 -> float32[...] within −1 and 1, the inverse of `mu_law_encode`"""
    most = levels - 1
    size = 2 * jnp.asarray(numbers).astype(jnp.float32) / most - 1
    return jnp.sign(size) * jnp.expm1(jnp.abs(size) * np.log1p(most).astype(np.float32)) / most


def random_shift(audio: jax.Array, key: jax.Array, most: int) -> jax.Array:
    """Moves each of audio[batch, time] by up to `most` samples either way; zeros move in."""
    batch, time = audio.shape
    offsets = jax.random.randint(key, (batch,), 0, 2 * most + 1)
    padded = jnp.pad(audio, ((0, 0), (most, most)))
    return jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (time,)))(padded, offsets)


def random_mask(spectrogram: jax.Array, key: jax.Array, axis: int, most: int, fill: float = 0.0) -> jax.Array:
    """Sets a strip of up to `most` frames (axis=1) or bands (axis=2) of each of [batch, frames, bands] to `fill`.

    Its width is drawn from 0 .. most, then its place. Park et al. 2019 (SpecAugment), arXiv:1904.08779, without its
    warping of time. Raises ValueError for a strip that is wider than the axis.
    """
    batch, size = spectrogram.shape[0], spectrogram.shape[axis]
    if most > size:
        raise ValueError(f"a mask of up to {most} does not fit axis {axis} of {size}: choose at most that")
    width = jax.random.randint(jax.random.fold_in(key, 0), (batch, 1), 0, most + 1)
    start = jax.random.randint(jax.random.fold_in(key, 1), (batch, 1), 0, size - width + 1)
    at = jnp.arange(size)[None, :]
    masked = jnp.expand_dims((at >= start) & (at < start + width), 3 - axis)
    return jnp.where(masked, jnp.asarray(fill, spectrogram.dtype), spectrogram)
