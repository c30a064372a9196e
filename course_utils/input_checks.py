"""Whether a model can be trained on some data, and if not, why, in a sentence."""

import math

import numpy as np

from course_utils.backend import keras


def require_positive(**arguments: float) -> None:
    """Raise a `ValueError` unless all are numbers above 0, and whole ones where they count something."""
    for name, value in arguments.items():
        whole = name != "learning_rate"
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise ValueError(f"{name} is {value!r}; expected a number above 0.")
        if whole and value != int(value):
            raise ValueError(f"{name} is {value!r}; expected a whole number.")


def check_examples(model: keras.Model, x, y, loss, where: str) -> int:
    """Raise a `ValueError` that explains itself unless `model` can be trained on `x` and `y`; return their length."""
    inputs = _check_arrays(x, getattr(model, "input_shape", None), f"{where}, x")
    lengths = {len(array) for array in inputs}
    if y is not None:
        # Labels as whole numbers have one axis less than the model's output.
        sparse = loss_name(loss) in ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
        targets = _check_arrays(y, None if sparse else getattr(model, "output_shape", None), f"{where}, y")
        lengths |= {len(array) for array in targets}
        if loss_name(loss) in ("binary_crossentropy", "bce", "BCE", "BinaryCrossentropy"):
            _check_unit_interval(targets, f"{where}, y")
    if len(lengths) > 1:
        raise ValueError(f"{where}: x and y must have one entry per example; their lengths are {sorted(lengths)}.")
    return lengths.pop()


def check_validation(model: keras.Model, validation_data, loss) -> int:
    """`check_examples` of a pair `(x_val, y_val)`; 0 where `validation_data` is `None`."""
    if validation_data is None:
        return 0
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        raise ValueError("validation_data: expected a pair (x_val, y_val).")
    x_val, y_val = validation_data
    return check_examples(model, x_val, y_val, loss, "validation_data")


def _check_arrays(arrays, model_shapes, where: str) -> list[np.ndarray]:
    flat = [np.asarray(array) for array in keras.tree.flatten(arrays)]
    if not flat:
        raise ValueError(f"{where}: expected at least one example, but it is empty.")
    shapes = model_shapes if isinstance(model_shapes, list) else [model_shapes] * len(flat)
    for array, shape in zip(flat, shapes, strict=False):
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"{where}: expected at least one example, but it is empty (shape {array.shape}).")
        if shape is not None and not _fits(array.shape, shape):
            expected = ", ".join("n" if size is None else str(size) for size in shape)
            hint = ""
            if math.prod(array.shape[1:]) == math.prod(size or 1 for size in shape[1:]):
                hint = " The sizes agree: reshape it, or load the data with or without flat=True."
            raise ValueError(f"{where}: the model expects the shape ({expected}), but it is {array.shape}.{hint}")
        if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            raise ValueError(f"{where}: expected numbers, but the type is {array.dtype}.")
        # The sum is NaN or infinite if any entry is; that needs no second array of the same size.
        with np.errstate(invalid="ignore"):
            total = np.sum(array, dtype=np.float64)
        if not np.isfinite(total):
            bad = int(np.size(array) - np.isfinite(array).sum())
            raise ValueError(f"{where}: expected finite numbers, but {bad:,} of {array.size:,} are NaN or infinite.")
    return flat


def _fits(shape: tuple, model_shape: tuple) -> bool:
    return len(shape) == len(model_shape) and all(
        expected in (None, size) for size, expected in zip(shape[1:], model_shape[1:], strict=True)
    )


def loss_name(loss) -> str:
    """The name of a loss given as a string, a function, a class or an object (then that of its class)."""
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def _check_unit_interval(arrays: list[np.ndarray], where: str) -> None:
    for array in arrays:
        lowest, highest = array.min(), array.max()
        if lowest < 0 or highest > 1:
            hint = " Divide gray values 0…255 by 255." if lowest >= 0 and 1 < highest <= 255 else ""
            raise ValueError(
                f"{where}: a binary cross-entropy needs targets in [0, 1], but they reach from {lowest:.4g} to "
                f"{highest:.4g}.{hint}"
            )
