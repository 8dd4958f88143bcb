"""Checks on what is to be drawn."""

import numpy as np


def as_array(name: str, values, *shapes: str) -> np.ndarray:
    """values as a NumPy array of numbers, bfloat16 and the like as float32.

    Raises ValueError if it is empty, or has not the dimensions of any of the shapes ("seeds, points") given.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}") from error
    if array.dtype.kind in "OUSMmc":
        raise ValueError(f"{name} must be real numbers, got {array.dtype}")
    if array.dtype.kind not in "biu" and array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if shapes and array.ndim not in {len(shape.split(",")) for shape in shapes}:
        wanted = " or ".join(f"[{shape}]" for shape in shapes)
        raise ValueError(f"{name} must be {wanted}, got shape {list(array.shape)}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: shape {list(array.shape)}")
    return array


def as_classes(name: str, values, classes: int | None = None) -> np.ndarray:
    """values[n] as whole numbers. Raises ValueError unless they are from 0 to below `classes`."""
    if classes == 0:
        raise ValueError("classes is empty: give a name for each class, or None")
    array = as_array(name, values, "n")
    with np.errstate(invalid="ignore"):  # NaN, which the comparison finds
        numbers = array.astype(np.int64)
    if not np.array_equal(numbers, array):
        raise ValueError(f"{name} must be class numbers 0, 1, ..., got {array[numbers != array][0]}")
    if numbers.min() < 0 or (classes is not None and numbers.max() >= classes):
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise ValueError(f"{name} must be from 0 to {'...' if classes is None else classes - 1}, got {wrong}")
    return numbers


def same_length(name: str, values, other: str, others) -> None:
    """Raise ValueError if two sequences that belong together differ in length."""
    if len(values) != len(others):
        raise ValueError(f"{name} and {other} must be equally many, got {len(values)} and {len(others)}")


def finite_range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest finite value; 0 and 0 where there is none."""
    finite = values[np.isfinite(values)]
    return (finite.min(), finite.max()) if finite.size else (0.0, 0.0)


def largest_size(values: np.ndarray) -> float:
    """Largest absolute finite value, or 1 if all are zero, so that a scale can be made of it."""
    return max(abs(float(value)) for value in finite_range(values)) or 1.0
