"""Honest splits: what learns from data refuses the test digits, which are for a model's final figure only."""

import functools
import hashlib

import numpy as np

from course_utils.backend import keras
from course_utils.data import read_verified

PIXELS = 784

# Every second pixel of the middle 16 × 16: enough to find the few rows that are worth a closer look.
_PROBED = np.array([28 * row + column for row in range(6, 22, 2) for column in range(6, 22, 2)])


class TestDigitsError(ValueError):
    """Test digits were given to something that learns from its data."""

    __test__ = False  # for pytest, which takes the name for a test's


def refuse_test_digits(where: str, *arrays) -> None:
    """Raise an error if MNIST's test digits are among the examples, also when they are shuffled, incomplete or mixed with others.

    A row is recognized by its gray values, in [0, 1] or 0…255, flat or as a picture; this takes milliseconds.

    Args:
        where: what the arrays are, for the message, such as `"training data"`.
        *arrays: arrays with one row per example, and lists or dicts of such. Arrays that are not pictures of 784 pixels,
            and `None`, are skipped.

    Raises:
        TestDigitsError: how many of the examples are test digits, and why that matters.
    """
    for array in keras.tree.flatten(arrays):
        if count := count_test_digits(array):
            raise TestDigitsError(
                f"{where}: {count:,} of {len(array):,} examples are test digits. What learns or chooses by the test set "
                "can no longer be judged by it: its error there would look better than on digits that are really new. "
                "Take the training or validation digits, or say allow_test_digits=True to see what leaking does."
            )


def count_test_digits(array) -> int:
    """How many rows of `array` are test digits of MNIST; 0 for what does not consist of pictures of 784 pixels."""
    array = np.asarray(array)
    if array.ndim < 2 or array[0:1].size != PIXELS or array.dtype.kind not in "fiub":
        return 0
    rows = array.reshape(len(array), PIXELS)
    probes, digests = _test_digits()
    scale = _scale(rows)
    candidates = np.flatnonzero(np.isin(_keys(_bytes(rows[:, _PROBED], scale)), probes))
    return sum(_digest(_bytes(rows[row], scale[row])) in digests for row in candidates)


def _scale(rows: np.ndarray) -> np.ndarray:
    """255 for each row of gray values in [0, 1], 1 for each row of 0…255; shape `(n, 1)`."""
    unit = (
        rows[:, _PROBED].max(axis=1, keepdims=True) <= 1 if rows.dtype.kind == "f" else np.zeros((len(rows), 1), bool)
    )
    return np.where(unit, np.float32(255), np.float32(1))


def _bytes(gray: np.ndarray, scale: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # `check_examples` rejects NaN
        return np.clip(np.rint(gray * scale), 0, 255).astype(np.uint8)


def _keys(probed: np.ndarray) -> np.ndarray:
    """One number per row of 64 bytes, by which most other rows are told apart."""
    words = np.ascontiguousarray(probed).view(np.uint64)
    multipliers = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        return (words * multipliers).sum(axis=1, dtype=np.uint64)


def _digest(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


@functools.cache
def _test_digits() -> tuple[np.ndarray, frozenset[bytes]]:
    """Keys and digests of the 10,000 test digits."""
    rows = read_verified("mnist.npz", "x_test")["x_test"].reshape(-1, PIXELS)
    return _keys(rows[:, _PROBED]), frozenset(map(_digest, rows))
