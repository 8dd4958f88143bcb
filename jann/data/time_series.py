"""Time series: hourly loads, daily prices, a synthetic one; and windows of them, cut inside the compiled step."""

import csv
import functools
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jann.data.files import DataError, altered, find

PARTS = ("train", "validation", "test")
CALENDAR = {"hour": 24, "weekday": 7, "day": 31, "month": 12}  # how many values each has, from 0; Monday is 0


@dataclass(frozen=True, eq=False, repr=False)
class Series:
    """Quantities measured at the same times: values[time, channels], in three parts one after the other.

    ends:    rows at which train, validation and test end; rows after that are not used
    times:   datetime64[time], ascending
    origin:  where the values come from, for error messages

    Raises DataError naming the column and the row of a value that is missing (NaN) or infinite: `filled` mends those.
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    columns: tuple[str, ...]
    ends: tuple[int, int, int]
    origin: str = "the series"

    def __post_init__(self):
        if self.values.shape != (len(self.times), len(self.columns)):
            raise ValueError(
                f"values must be [time={len(self.times)}, channels={len(self.columns)}], got {list(self.values.shape)}"
            )
        if not 0 < self.ends[0] <= self.ends[1] <= self.ends[2] <= len(self.times):
            raise ValueError(f"ends={self.ends} must ascend to at most the {len(self.times)} rows")
        if np.isnat(self.times).any():
            raise DataError(f"{self.origin}: row {np.flatnonzero(np.isnat(self.times))[0]} has no time")
        backwards = np.flatnonzero(np.diff(self.times) <= np.timedelta64(0))
        if len(backwards):
            row = backwards[0] + 1
            raise DataError(f"{self.origin}: row {row} ({self.times[row]}) is not later than the one before: sort them")
        missing = np.argwhere(~np.isfinite(self.values))
        if len(missing):
            row, column = missing[0]
            raise DataError(
                f"{self.origin}: column {self.columns[column]} has no finite value in row {row} ({self.times[row]}), "
                f"{len(missing)} values are missing in all: mend the data, or repeat the last known with fill='forward'"
            )

    @property
    def mean(self) -> np.ndarray:
        """Of each channel over the training rows."""
        return self.values[: self.ends[0]].mean(0)

    @property
    def deviation(self) -> np.ndarray:
        """Of each channel over the training rows; 1 where a channel is constant there."""
        training = self.values[: self.ends[0]]
        return np.where(np.ptp(training, 0) > 0, training.std(0), 1.0)  # of equal values std is a rounding error

    @property
    def standardised(self) -> np.ndarray:
        """values[time, channels] with mean 0 and variance 1 over the training rows, float32"""
        return ((self.values - self.mean) / self.deviation).astype(np.float32)

    def windows(self, part: str, lookback: int, horizon: int) -> "SeriesWindows":
        """All windows of standardised values whose forecast lies in a part, "train", "validation" or "test".

        What is looked back on may reach into the part before, as in the published splits.
        """
        return _windows(self, part, lookback, horizon)

    def __repr__(self) -> str:
        sizes = np.diff((0, *self.ends))
        parts = ", ".join(f"{part} {size:,}" for part, size in zip(PARTS, sizes, strict=True))
        return f"Series({self.name!r}: {parts} rows; {len(self.columns)} channels {', '.join(self.columns)})"


@dataclass(frozen=True, eq=False, repr=False)
class SeriesWindows:
    """Every stretch of `lookback + horizon` rows of arrays[time, features] whose last `horizon` lie in begin..end.

        batches = jann.data.batches(windows.starts, 32, key, transform=windows.cut)
        jann.evaluate(measure, params, windows.starts, transform=windows.cut)

    A batch is cut inside the compiled step, where the whole series is a constant; windows are never stored. What was
    compiled for one object does not serve another; `Series.windows` gives the same one each time.

    Raises ValueError where no window fits.
    """

    arrays: dict[str, np.ndarray]
    begin: int
    end: int
    lookback: int
    horizon: int
    part: str = "the series"

    def __post_init__(self):
        if self.lookback < 1 or self.horizon < 1:
            raise ValueError(f"lookback={self.lookback}, horizon={self.horizon}: both must be at least 1")
        rows = self.end - self.begin
        if self.horizon > rows:
            raise ValueError(f"horizon={self.horizon} is longer than {self.part}, which has {rows} rows: forecast less")
        if self.lookback + self.horizon > self.end:
            raise ValueError(
                f"lookback={self.lookback} and horizon={self.horizon} together are longer than the {self.end} rows "
                f"up to the end of {self.part}: take less of either"
            )

    @property
    def starts(self) -> dict[str, np.ndarray]:
        """{"start": int32[windows]}: the first row of each window."""
        first = max(self.begin - self.lookback, 0)
        return {"start": np.arange(first, self.end - self.lookback - self.horizon + 1, dtype=np.int32)}

    def cut(self, batch: dict[str, Any], key: Any = None) -> dict[str, Any]:
        """{"start": [...]} -> "past"[..., lookback, channels] and "target"[..., horizon, channels] beside it.

        Any other array than the values comes for the whole window: "calendar"[..., lookback + horizon, features].
        """
        start = jnp.asarray(batch["start"])
        within = jnp.arange(self.lookback + self.horizon).reshape((1,) * start.ndim + (-1,))
        found = {name: jnp.asarray(array)[start[..., None] + within] for name, array in self.arrays.items()}
        values = found.pop("values")
        return {**batch, **found, "past": values[..., : self.lookback, :], "target": values[..., self.lookback :, :]}


@functools.lru_cache(maxsize=64)  # the same object each time, so that what is compiled for it serves again
def _windows(series, part, lookback, horizon):
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    begin, end = (0, *series.ends)[PARTS.index(part) :][:2]
    arrays = {"values": series.standardised, "calendar": calendar(series.times)}
    return SeriesWindows(arrays, begin, end, lookback, horizon, part)


def calendar(times: np.ndarray) -> np.ndarray:
    """datetime64[time] -> int32[time, 4]: hour, weekday (Monday 0), day of the month and month, all from 0.

    Known of the future too. `CALENDAR` has their names and how many values each takes.
    """
    days, months = times.astype("datetime64[D]"), times.astype("datetime64[M]")
    return np.stack([
        (times - days) // np.timedelta64(1, "h"),
        (days.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday
        (days - months).astype(np.int64),
        months.astype(np.int64) % 12,
    ], axis=-1).astype(np.int32)  # fmt: skip


def filled(values: np.ndarray, fill: str | None) -> np.ndarray:
    """values[time, channels] with missing ones (NaN) mended: "forward" repeats the last known; None leaves them.

    The last known value is used because anything between it and the next would know the future. What is missing at the
    very beginning stays so.
    """
    if fill is None:
        return values
    if fill != "forward":
        raise ValueError(f"fill must be 'forward' or None, got {fill!r}")
    rows = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(rows, axis=0), axis=0)


def read_series(
    path: str | Path,
    time: str = "date",
    columns: tuple[str, ...] | None = None,
    ends: tuple[int, int, int] | None = None,
    fill: str | None = None,
) -> Series:
    """A series from a CSV file with a header: one row a time, which stands in the column `time` (2016-07-01 13:00:00).

    columns:  which to take, by default all others
    ends:     rows at which train, validation and test end, by default after 70, 80 and 100 %
    fill:     "forward" repeats the last known value where one is missing (empty, "NA", "nan")

    Raises DataError naming column and row of what is missing or is no number.
    """
    return _read(Path(path).stem, Path(path).read_bytes(), Path(path), time, columns, ends, fill)


def etth1() -> Series:
    """An electricity transformer, hourly from July 2016: six loads and the oil temperature OT; 12, 4 and 4 months.

    Zhou et al. 2021, "Informer", AAAI, arXiv:2012.07436.
    """
    url = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
    return _known("etth1", "timeseries/ETTh1.csv", url, "date", None, (8640, 11520, 14400))


def sp500() -> Series:
    """The index S&P 500 on each trading day: 2001-2009 train, 2010 validation, 2011 test."""
    columns = ("Open", "High", "Low", "Close", "Volume")
    url = "https://raw.githubusercontent.com/edwardhdlu/q-trader/master/data/%5EGSPC"
    files = {"timeseries/GSPC_daily_2001_2010.csv": f"{url}.csv", "timeseries/GSPC_daily_2011.csv": f"{url}_2011.csv"}
    before, test = (_known("sp500", *file, "Date", columns) for file in files.items())
    times, values = (np.concatenate([getattr(part, name) for part in (before, test)]) for name in ("times", "values"))
    year_2010 = int(np.searchsorted(times, np.datetime64("2010-01-01")))
    return Series("sp500", times, values, columns, (year_2010, len(before.times), len(times)), before.origin)


def apple() -> Series:
    """Apple's shares on each of 506 trading days from February 2015: 70 % train, 10 % validation, 20 % test."""
    columns = ("AAPL.Open", "AAPL.High", "AAPL.Low", "AAPL.Close", "AAPL.Volume")
    url = "https://raw.githubusercontent.com/plotly/datasets/master/finance-charts-apple.csv"
    found = _known("apple", "timeseries/finance-charts-apple.csv", url, "Date", columns)
    return Series("apple", found.times, found.values, tuple(c[5:] for c in columns), found.ends, found.origin)


def google() -> Series:
    """Google's shares on each of 1,047 trading days from August 2004 to October 2008: 70, 10 and 20 %.

    Real prices that come with matplotlib as sample data, so nothing is downloaded.
    """
    from matplotlib.cbook import get_sample_data

    table = get_sample_data("goog.npz")["price_data"]
    columns = ("Open", "High", "Low", "Close", "Volume")
    values = np.stack([table[name.lower()].astype(np.float64) for name in columns], axis=-1)
    return Series("google", table["date"], values, columns, _ends(len(table)), "matplotlib's goog.npz")


def seasonal() -> Series:
    """SYNTHETIC: 6,000 hours of four channels with daily and weekly cycles, a wandering level and noise.

    x = daily and weekly sines of the channel's phase and size + a slow autoregressive level + white noise of deviation
    0.3, drawn once and always alike.
    """
    random = np.random.default_rng(0)
    hours, channels = np.arange(6000), 4
    phase, size = random.uniform(0, 2 * math.pi, (2, channels)), random.uniform(0.5, 1.5, (2, channels))
    cycles = sum(
        size[i] * np.sin(2 * math.pi * hours[:, None] / period + phase[i]) for i, period in enumerate((24, 24 * 7))
    )
    level, steps = np.zeros((len(hours), channels)), 0.05 * random.standard_normal((len(hours), channels))
    for i in hours[1:]:
        level[i] = 0.995 * level[i - 1] + steps[i]
    values = cycles + level + 0.3 * random.standard_normal(level.shape)
    times = np.datetime64("2020-01-01T00") + hours.astype("timedelta64[h]")
    return Series("seasonal (synthetic)", times, values, tuple("abcd"), _ends(len(hours)), "the synthetic series")


# sha256 of the files.
CONTENTS = {
    "timeseries/ETTh1.csv": "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    "timeseries/GSPC_daily_2001_2010.csv": "03d91ed3ca05878d70cd939a9a7d649fc622201255d9213df1c3a29ebf8f2b7c",
    "timeseries/GSPC_daily_2011.csv": "c526e9273f5fba62be9b0cbbcb67d79786e03117a87ed1f9686818e4e7aa7001",
    "timeseries/finance-charts-apple.csv": "24c7604edfd5afe862ddb9f9535e2fd7351f43711bfc442bca52055e15e37bcd",
}


def _known(name, file, url, time, columns, ends=None):
    path = find(file, url, f"sha256:{CONTENTS[file]}")
    contents = path.read_bytes()
    found = hashlib.sha256(contents).hexdigest()
    if found != CONTENTS[file]:
        raise altered(path, f"has contents of sha256 {found}", CONTENTS[file])
    return _read(name, contents, path, time, columns, ends)


def _read(name, contents, path, time, columns, ends, fill=None):
    header, *rows = (row for row in csv.reader(io.StringIO(contents.decode("utf-8-sig"))) if row)
    columns = tuple(column for column in header if column != time) if columns is None else columns
    unknown = [column for column in (time, *columns) if column not in header]
    if unknown:
        raise DataError(f"{path} has no column {', '.join(unknown)}; it has {', '.join(header)}")
    at = [header.index(column) for column in columns]
    values = np.empty((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(at):
            text = row[column].strip() if column < len(row) else ""
            try:
                values[i, j] = float(text) if text not in ("", "NA") else math.nan
            except ValueError:
                raise DataError(f"{path}: column {columns[j]} is {text!r} in row {i}, not a number") from None
    texts = [row[header.index(time)].strip() for row in rows]
    try:
        times = np.array(texts, "datetime64")
    except ValueError:
        wrong = next(i for i, text in enumerate(texts) if not _is_time(text))
        mend = "write it as 2020-01-31 or 2020-01-31 23:00"
        raise DataError(f"{path}: column {time} is {texts[wrong]!r} in row {wrong}, no time: {mend}") from None
    return Series(name, times, filled(values, fill), columns, ends or _ends(len(rows)), str(path))


def _is_time(text):
    try:
        return bool(np.datetime64(text) is not None)
    except ValueError:
        return False


def _ends(rows):
    return round(0.7 * rows), round(0.8 * rows), rows
