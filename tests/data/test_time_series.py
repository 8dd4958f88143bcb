"""Time series: the published rows, windows against plain slices, and what is missing is named."""

import datetime

import jax
import numpy as np
import pytest

import jann.data
from jann.data.time_series import Series, SeriesWindows, calendar, filled, read_series


def counting(rows=20, channels=2, ends=(10, 14, 20)):
    """values[t, c] = 10 t + c, hourly"""
    values = 10.0 * np.arange(rows)[:, None] + np.arange(channels)
    times = np.datetime64("2024-02-28T22") + np.arange(rows).astype("timedelta64[h]")
    return Series("counting", times, values, tuple("abc"[:channels]), ends)


def test_windows_are_the_slices_that_their_starts_say():
    series = counting()
    standardised = (series.values - series.values[:10].mean(0)) / series.values[:10].std(0)
    # The first forecast of a part is its first row, the last its last; train looks back on nothing before it.
    for part, first, last in (("train", 0, 5), ("validation", 7, 9), ("test", 11, 15)):
        windows = series.windows(part, 3, 2)
        starts = windows.starts["start"]
        assert starts.tolist() == list(range(first, last + 1))
        batch = jax.jit(windows.cut)({"start": starts})
        for i, start in enumerate(starts):
            np.testing.assert_allclose(batch["past"][i], standardised[start : start + 3], rtol=1e-6)
            np.testing.assert_allclose(batch["target"][i], standardised[start + 3 : start + 5], rtol=1e-6)
            np.testing.assert_array_equal(batch["calendar"][i], calendar(series.times)[start : start + 5])


def test_batches_of_windows_visit_each_once_an_epoch():
    windows = counting().windows("train", 3, 2)
    batches = jann.data.batches(windows.starts, 2, jax.random.key(0), windows.cut)
    seen = np.concatenate([batches(step)["start"] for step in range(3)])
    assert sorted(seen.tolist()) == [0, 1, 2, 3, 4, 5]
    batch = batches(1)
    np.testing.assert_allclose(batch["target"], windows.cut({"start": batch["start"]})["target"], rtol=1e-6)


def test_standardised_by_the_training_rows_alone():
    series = counting()
    np.testing.assert_allclose(series.standardised[:10].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(series.standardised[:10].std(0), 1, rtol=1e-6)
    later = series.values.copy()
    later[10:] *= 100
    moved = Series("counting", series.times, later, series.columns, series.ends)
    np.testing.assert_array_equal(moved.standardised[:10], series.standardised[:10])
    constant = Series("flat", series.times, np.ones((20, 2)), series.columns, series.ends)
    np.testing.assert_array_equal(constant.standardised, 0)


def test_calendar_is_that_of_the_standard_library():
    times = np.datetime64("2023-12-31T21") + np.arange(0, 4000, 7).astype("timedelta64[h]")
    for row, time in zip(calendar(times), times.astype(datetime.datetime), strict=True):
        assert row.tolist() == [time.hour, time.weekday(), time.day - 1, time.month - 1]


@pytest.mark.parametrize(
    ("part", "lookback", "horizon", "message"),
    [
        ("test", 3, 7, "horizon=7 is longer than test, which has 6 rows"),
        ("train", 8, 3, "lookback=8 and horizon=3 together are longer than the 10 rows up to the end of train"),
        ("test", 18, 3, "lookback=18 and horizon=3 together are longer than the 20 rows"),
        ("test", 0, 3, "lookback=0, horizon=3: both must be at least 1"),
        ("valid", 3, 3, "part must be one of train, validation, test, got 'valid'"),
    ],
)
def test_windows_that_do_not_fit(part, lookback, horizon, message):
    with pytest.raises(ValueError, match=message):
        counting().windows(part, lookback, horizon)


def test_a_longest_window_fits_once():
    windows = SeriesWindows({"values": np.arange(5.0)[:, None]}, 0, 5, 3, 2)
    assert windows.starts["start"].tolist() == [0]
    assert windows.cut({"start": 0})["target"].ravel().tolist() == [3, 4]


CSV = """date,load,oil
2024-01-01 00:00:00,1.5,
2024-01-01 01:00:00,,7
2024-01-01 02:00:00,nan,8
2024-01-01 03:00:00,4,NA
"""


def test_missing_values_are_named_or_repeated(tmp_path):
    path = tmp_path / "loads.csv"
    path.write_text(CSV)
    with pytest.raises(
        jann.data.DataError,
        match=r"loads.csv: column oil has no finite value in row 0 \(2024-01-01T00:00:00\), 4 values .*fill='forward'",
    ):
        read_series(path)
    with pytest.raises(jann.data.DataError, match="column oil has no finite value in row 0 .*, 1 values are missing"):
        read_series(path, fill="forward")  # there is nothing before it to repeat
    series = read_series(path, columns=("load",), ends=(2, 3, 4), fill="forward")
    assert series.values.ravel().tolist() == [1.5, 1.5, 1.5, 4]
    assert str(series.times[1]) == "2024-01-01T01:00:00" and series.name == "loads"


def test_filled_never_uses_a_later_value():
    nan = np.nan
    got = filled(np.array([[nan, 1], [2, nan], [nan, nan], [5, 6]]), "forward")
    np.testing.assert_array_equal(got, [[nan, 1], [2, 1], [2, 1], [5, 6]])
    with pytest.raises(ValueError, match="fill must be 'forward' or None, got 'backward'"):
        filled(got, "backward")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,load\n2024-01-01,x1\n", "column load is 'x1' in row 0, not a number"),
        ("time,load\n2024-01-01,1\n", "has no column date; it has time, load"),
        ("date,load\n2024-01-02,1\n2024-01-01,2\n", r"row 1 \(2024-01-01\) is not later than the one before"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(jann.data.DataError, match=message):
        read_series(tmp_path / "bad.csv", ends=(1, 1, 1))


def test_google_comes_with_matplotlib():
    series = jann.data.load("google")
    assert len(series.times) == 1047 and str(series.times[0]) == "2004-08-19" and series.ends == (733, 838, 1047)
    assert series.values[0].tolist() == [100.0, 104.06, 95.96, 100.34, 22351900]
    low, high = series.values[:, 2], series.values[:, 1]
    assert (low <= high).all() and (low > 0).all()


def test_the_synthetic_series_has_the_cycles_it_says():
    series = jann.data.load("seasonal")
    assert "synthetic" in series.name
    spectrum = np.abs(np.fft.rfft(series.values[: 168 * 35], axis=0))  # so many whole weeks
    spectrum[:10] = 0  # the wandering level
    assert (np.sort(np.argsort(spectrum, axis=0)[-2:], axis=0) == [[35], [7 * 35]]).all()


def test_etth1_is_the_benchmarks(real_data):
    series = jann.data.load("etth1")
    assert series.columns == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert series.values.shape == (17_420, 7) and series.ends == (8640, 11_520, 14_400)
    assert str(series.times[0]) == "2016-07-01T00:00:00" and abs(series.values[0, -1] - 30.531) < 1e-6
    counts = [len(series.windows(part, 96, 96).starts["start"]) for part in ("train", "validation", "test")]
    assert counts == [8449, 2785, 2785]  # as in the published splits


def test_daily_prices_are_split_by_year(real_data):
    series = jann.data.load("sp500")
    firsts = [str(series.times[end]) for end in series.ends[:2]]
    assert firsts == ["2010-01-04", "2011-01-03"] and len(series.times) == 2515 + 252
    assert series.values[0, 3] == 1283.27002
    assert len(jann.data.load("apple").times) == 506


def test_an_altered_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "timeseries").mkdir()
    (tmp_path / "timeseries" / "ETTh1.csv").write_text("date,OT\n2016-07-01 00:00:00,30.5\n")
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    with pytest.raises(jann.data.DataError, match="ETTh1.csv has contents of sha256 .*, expected f18de3ad"):
        jann.data.load("etth1")


def test_a_channel_that_does_not_change_has_deviation_1():
    values = np.full((1000, 1), 0.1)
    values[800:] = 0.2
    times = np.datetime64("2020-01-01T00") + np.arange(1000).astype("timedelta64[h]")
    series = Series("flat", times, values, ("x",), (700, 800, 1000))
    assert series.deviation == [1.0]
    np.testing.assert_allclose(series.standardised[-1], 0.1, rtol=1e-6)


def test_what_spreadsheets_write_is_read_or_named(tmp_path):
    file = tmp_path / "series.csv"
    lines = ["date,x", *(f"2020-01-{day:02},{day}" for day in range(1, 11))]
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8-sig")  # a byte-order mark, an empty line
    series = read_series(file)
    assert series.values[:, 0].tolist() == list(range(1, 11))
    for text, message in (("01/02/2020", "column date is '01/02/2020' in row 3, no time"), ("", "row 3 has no time")):
        file.write_text("\n".join([*lines[:4], f"{text},4", *lines[5:]]))
        with pytest.raises(jann.data.DataError, match=message):
            read_series(file)
