"""Sound: wav files, mel spectrograms, mu-law, random changes."""

import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import ShortTimeFFT, get_window

import jann.data
from jann.data import audio

RATE = 8000


def sine(hertz, seconds=0.5, rate=RATE):
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "a.wav"
    audio.write_wav(path, np.array([0.0, 0.5, -1.0, 1.0, 3.0, -3.0]), RATE)
    np.testing.assert_array_equal(audio.read_wav(path, RATE), [0, 16384, -32767, 32767, 32767, -32767])
    np.testing.assert_array_equal(audio.read_wav(path.read_bytes(), RATE), audio.read_wav(str(path), RATE))
    assert wavfile.read(path)[0] == RATE
    with pytest.raises(ValueError, match=r"audio\[time\], got shape \[2, 3\]"):
        audio.write_wav(path, np.zeros((2, 3)), RATE)
    with pytest.raises(ValueError, match="1 values that are not finite"):
        audio.write_wav(path, np.array([0.0, np.nan]), RATE)


def test_another_rate_stereo_and_other_numbers_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    wavfile.write(path, 16_000, np.zeros(10, np.int16))
    with pytest.raises(jann.data.DataError, match="a.wav has 16000 samples a second, expected 8000: resample"):
        audio.read_wav(path, RATE)
    wavfile.write(path, RATE, np.zeros((10, 2), np.int16))
    with pytest.raises(jann.data.DataError, match="a.wav has 2 channels, expected 1"):
        audio.read_wav(path, RATE)
    wavfile.write(path, RATE, np.zeros(10, np.float32))
    with pytest.raises(jann.data.DataError, match="a.wav holds float32 samples, expected int16"):
        audio.read_wav(path, RATE)


def test_damaged_wav_files_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    audio.write_wav(path, sine(440), RATE)
    contents = path.read_bytes()
    for damaged in (contents[:2000], contents[:30], b"", b"not a wav file at all", b"RIFF" + struct.pack("<I", 9)):
        path.write_bytes(damaged)
        with pytest.raises(jann.data.DataError, match="a.wav is not a whole wav file"):
            audio.read_wav(path, RATE)
    with pytest.raises(FileNotFoundError):
        audio.read_wav(tmp_path / "none.wav", RATE)


def test_mel_filters_are_the_formulas():
    filters = audio.mel_filters(RATE, 256, 20)
    mel = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 22)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hertz = np.arange(129) * RATE / 256
    for band in (0, 7, 19):
        triangle = np.interp(hertz, edges[band : band + 3], (0, 1, 0), left=0, right=0)
        np.testing.assert_allclose(filters[:, band], triangle, atol=1e-12)
    assert np.isclose(2595 * np.log10(1 + 1000 / 700), 1000, atol=0.1), "1000 mel is 1000 hertz by definition"
    with pytest.raises(ValueError, match="mel band 0 of 100 holds no frequency of a window of 256"):
        audio.mel_filters(RATE, 256, 100)


def test_log_mel_equals_scipys_spectrogram_times_the_filters():
    sound = np.random.default_rng(0).normal(size=2000).astype(np.float32) * 0.1
    window = get_window("hann", 256)
    transform = ShortTimeFFT(window / np.sqrt(np.square(window).sum()), hop=80, fs=RATE)
    spectrogram = np.abs(transform.stft(sound, p0=0, p1=20)) ** 2  # frame p has its middle at sample 80 p
    got = np.asarray(audio.log_mel(sound, RATE))
    assert got.shape == (audio.frame_count(2000, 256, 80), 40) == (22, 40)
    # Ours begin at sample 80 i, so their middles lie 128 samples later: compare where both have a frame.
    later = np.asarray(audio.log_mel(np.pad(sound, (128, 128)), RATE))
    want = np.log(spectrogram.T @ audio.mel_filters(RATE, 256, 40) + 1e-6)
    np.testing.assert_allclose(later[:20], want, rtol=1e-3, atol=1e-3)


def test_a_tone_is_in_its_band_and_twice_as_loud_is_log_4_more():
    filters = audio.mel_filters(RATE, 256, 40)
    for hertz in (500, 1500, 3000):
        quiet, loud = (np.asarray(audio.log_mel(factor * sine(hertz), RATE)) for factor in (0.25, 0.5))
        assert (quiet.argmax(-1) == filters[round(hertz * 256 / RATE)].argmax()).all()
        top = quiet[0].argmax()
        np.testing.assert_allclose((loud - quiet)[:, top], np.log(4), atol=1e-3)


def test_log_mel_takes_int16_and_any_leading_axes():
    sound = np.random.default_rng(0).integers(-3000, 3000, (2, 3, 1000)).astype(np.int16)
    got = audio.log_mel(sound, RATE)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got[1, 2], audio.log_mel(sound[1, 2] / np.float32(32768), RATE), atol=1e-5)
    assert audio.log_mel(jnp.ones(256, jnp.bfloat16), RATE).dtype == jnp.float32  # which has no Fourier transform
    slope = jax.grad(lambda sound: audio.log_mel(sound, RATE).sum())(jnp.zeros(256))
    np.testing.assert_array_equal(slope, 0)
    with pytest.raises(ValueError, match="audio of 100 samples is shorter than a window of 256"):
        audio.log_mel(sound[..., :100], RATE)
    counts = audio.frame_count(jnp.array([100, 256, 335, 336]), 256, 80)
    assert counts.tolist() == [0, 1, 1, 2]


def test_mu_law_is_the_formula():
    x = np.linspace(-1, 1, 1001)
    compressed = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.log(256)
    near = np.abs((compressed + 1) / 2 * 255 % 1 - 0.5) < 1e-4  # rounded one way in float64, the other in float32
    got = np.asarray(audio.mu_law_encode(x.astype(np.float32)))
    np.testing.assert_array_equal(got[~near], np.round((compressed + 1) / 2 * 255)[~near])
    assert got.min() == 0 and got.max() == 255
    y = 2 * np.arange(256) / 255 - 1
    expanded = np.sign(y) * ((1 + 255) ** np.abs(y) - 1) / 255
    np.testing.assert_allclose(audio.mu_law_decode(np.arange(256)), expanded, rtol=1e-4, atol=1e-7)


def test_mu_law_comes_back_and_clips():
    numbers = np.arange(256)
    np.testing.assert_array_equal(audio.mu_law_encode(audio.mu_law_decode(numbers)), numbers)
    x = np.float32(np.random.default_rng(0).uniform(-1, 1, 1000))
    error = np.abs(audio.mu_law_decode(audio.mu_law_encode(x)) - x)
    assert (error <= 0.5 * np.log(256) * (1 + 255 * np.abs(x)) / 255 * (2 / 255) * 1.05).all(), "half a step"
    assert audio.mu_law_encode(jnp.array([-2.0, 2.0])).tolist() == [0, 255]
    np.testing.assert_array_equal(audio.mu_law_encode(np.int16([0, 16384])), audio.mu_law_encode(np.float32([0, 0.5])))


def test_random_shift_moves_each_by_its_own_amount(key):
    sound = jnp.broadcast_to(jnp.arange(1, 21), (200, 20))
    moved = np.asarray(audio.random_shift(sound, key, 3))
    offsets = [int(row[10]) - 11 for row in moved]
    assert set(offsets) == set(range(-3, 4))
    for row, offset in zip(moved[:20], offsets, strict=False):
        want = np.zeros(20)
        want[max(0, -offset) : 20 - max(0, offset)] = np.arange(1, 21)[max(0, offset) : 20 + min(0, offset)]
        np.testing.assert_array_equal(row, want)


@pytest.mark.parametrize("axis", [1, 2])
def test_random_mask_blanks_one_strip(axis, key):
    masked = np.asarray(audio.random_mask(jnp.ones((300, 12, 9)), key, axis, 4, fill=-1.0))
    along = masked.min(3 - axis)
    np.testing.assert_array_equal(along, masked.max(3 - axis), "a strip goes across the whole other axis")
    widths = (along == -1).sum(-1)
    assert set(widths) == set(range(5))
    edges = np.abs(np.diff(np.pad(along, ((0, 0), (1, 1)), constant_values=1.0), axis=1)).sum(-1)
    np.testing.assert_array_equal(edges, np.where(widths > 0, 4, 0))
    assert (along == -1).any(0).all(), "every place is reached"
    with pytest.raises(ValueError, match=f"up to 13 does not fit axis {axis}"):
        audio.random_mask(jnp.ones((3, 12, 12)), jax.random.key(0), axis, 13)


def written(sound):
    audio.write_wav("/dev/null", sound, RATE)


@pytest.mark.parametrize("take", [audio.mu_law_encode, lambda sound: audio.log_mel(sound, 8000, 256, 128, 8), written])
def test_integers_other_than_int16_are_refused(take):
    for dtype in (np.uint8, np.int32):
        with pytest.raises(TypeError, match=f"audio is {np.dtype(dtype).name}: give int16, or floats within"):
            take(np.zeros(1000, dtype))


def test_what_whisper_hears_is_what_transformers_makes_of_it():
    """The numbers are of its WhisperFeatureExtractor, version 5.23."""
    time = np.arange(16_000) / 16_000
    sweep = (0.5 * np.sin(2 * np.pi * (300 + 400 * time) * time)).astype(np.float32)
    heard = audio.speech_spectrogram(sweep, 16_000)
    assert heard.shape == (3000, 80)
    known = {(0, 5): 1.3052101, (10, 8): 1.3093259, (50, 20): 0.9833211, (99, 30): 0.8851535, (2999, 79): -0.5490681}
    for place, value in known.items():
        np.testing.assert_allclose(heard[place], value, atol=1e-4)
    longer = audio.speech_spectrogram(np.tile(sweep, (2, 31)), 16_000)
    assert longer.shape == (2, 3000, 80)
    np.testing.assert_allclose(longer[1, 100:200], longer[0, 200:300], atol=1e-3)
    whole = np.round(32768 * sweep).astype(np.int16)
    np.testing.assert_allclose(audio.speech_spectrogram(whole, 16_000)[:90], heard[:90], atol=0.02)
    assert audio.speech_spectrogram(sweep, 16_000, bands=128).shape == (3000, 128)
    with pytest.raises(ValueError, match="audio at 8000 samples a second: resample it to 16000"):
        audio.speech_spectrogram(sweep, 8000)


def test_filters_of_speech_have_an_area_of_one():
    filters = audio.speech_filters(16_000, 4096, 80)
    np.testing.assert_allclose(filters.sum(0) * 16_000 / 4096, 1, atol=0.05)


def test_what_wav2vec2_hears_has_mean_0_and_variance_1():
    """As transformers' Wav2Vec2FeatureExtractor, version 5.23, has it: (x - mean) / sqrt(variance + 1e-7)"""
    waves = np.array([[0.25, -0.25, 0.75, -0.75], [0.002, 0.004, 0.0, 0.0]], np.float32)
    heard = audio.speech_waveform(waves, 16_000, np.array([4, 2]))
    np.testing.assert_allclose(heard[0], waves[0] / np.sqrt(0.3125 + 1e-7), rtol=1e-5)
    np.testing.assert_allclose(heard[1], np.array([-1, 1, 0, 0]) * 1e-3 / np.sqrt(1e-6 + 1e-7), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(audio.speech_waveform(waves[1, :2], 16_000), heard[1, :2], rtol=1e-4)
    whole = np.round(32768 * waves[0]).astype(np.int16)
    np.testing.assert_allclose(audio.speech_waveform(whole, 16_000), heard[0], rtol=1e-5)
    np.testing.assert_array_equal(audio.speech_waveform(waves, 16_000, np.array([4, 0]))[1], 0)
    with pytest.raises(ValueError, match="audio at 8000 samples a second: resample it to 16000"):
        audio.speech_waveform(waves, 8000)
    with pytest.raises(TypeError, match="audio is int32"):
        audio.speech_waveform(waves.astype(np.int32), 16_000)


def test_equal_letters_beside_each_other_are_one_and_blanks_none():
    best = np.array([[0, 1, 1, 0, 1, 2, 2], [3, 3, 0, 0, 3, 1, 1]])
    logits = jax.nn.one_hot(best, 4)
    assert audio.ctc_decode(logits) == [[1, 1, 2], [3, 3, 1]]
    assert audio.ctc_decode(logits, lengths=[4, 0]) == [[1], []]
    assert audio.ctc_decode(logits[1], blank=3) == [0, 1] and audio.ctc_decode(logits[1], lengths=2) == [3]
    assert audio.ctc_decode(logits[:0]) == []
    with pytest.raises(ValueError, match=r"logits \[4\]: \[time, vocab\] or"):
        audio.ctc_decode(logits[0, 0])
    with pytest.raises(ValueError, match=r"lengths \[1\] for 2 rows of logits"):
        audio.ctc_decode(logits, lengths=[4])
