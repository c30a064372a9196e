"""Lesson 02's rivals: networks with codes of 128 numbers, on centered digits, on shifted ones, and on a hundred digits.

All take and return pictures `(28, 28, 1)` and are trained as in the lesson. Random numbers come from Keras' and NumPy's
seeds, which the sweep sets.
"""

import contextlib
import math
from collections.abc import Callable

import numpy as np

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.evaluation import fit_pca, mse, reconstruct_pca
from course_utils.lessons import build_autoencoder, build_conv_autoencoder, moved_at_random, shift_right
from course_utils.pretrained import load_curve
from course_utils.training import TrainingError, compile_for_training, train

SETTINGS = {"code": 128, "epochs": 6, "batch_size": 64, "schedule": "warm-up and cosine"}
RATES = (0.008, 0.016, 0.032, 0.064)
LONG = {"code": 128, "batch_size": 64, "rates": "the best of 02.rates", "scored": "validation MSE"}
WIDE_LABEL = "convolutional, wide"
WIDE = (64, 140)  # channels: 200,737 parameters, and the dense network has 201,616
MOVED = 4  # pixels
SHIFTS = range(MOVED + 1)
PARTS = 10  # of a training on few digits: after each one the error is measured
FEW_DIGITS = {
    **SETTINGS,
    "rates": "the best of 02.rates",
    "scored": "lowest validation MSE of ten on the way",
    "scored on": 2000,
}
FEW_RATES = (0.001, 0.002, 0.004, 0.008, 0.016)


def networks() -> dict[str, keras.Model]:
    """Label → a new network."""
    dense, _, _ = build_autoencoder([784, 128], code_activation="linear")
    reshapes = keras.layers.Flatten(), keras.layers.Reshape((28, 28, 1))
    return {
        "dense": keras.Sequential([keras.Input((28, 28, 1)), reshapes[0], dense, reshapes[1]]),
        "convolutional": build_conv_autoencoder()[0],
    }


def wide_network() -> dict[str, keras.Model]:
    """Label → a new convolutional network with about as many parameters as the dense one."""
    return {WIDE_LABEL: build_conv_autoencoder(channels=WIDE)[0]}


def best_rates(curve: dict) -> dict[str, float]:
    """Label → the learning rate with the lowest mean error, of the curve "02.rates"."""
    return {label: curve["x"][int(np.argmin(errors))] for label, errors in curve["mean"].items()}


def _best_rates() -> dict[str, float]:
    return best_rates(load_curve("02.rates"))


def _best_wide_rate() -> dict[str, float]:
    curve = load_curve("02.wide")
    return best_rates({"x": curve["x"], "mean": {WIDE_LABEL: curve["mean"][f"{WIDE_LABEL}, 0 px"]}})


def _fit(models: dict, rates: dict, x_train: np.ndarray, epochs: int | None = None) -> None:
    training = {"epochs": epochs or SETTINGS["epochs"], "batch_size": SETTINGS["batch_size"]}
    for label, model in models.items():
        with contextlib.suppress(TrainingError):  # it diverged, and its error will say so
            train(model, x_train, x_train, loss="binary_crossentropy", learning_rate=rates[label], **training)


def picture_errors(models: dict, x: np.ndarray) -> dict[str, float]:
    """Label → MSE; 1 for a training that diverged, which is more than that of any other network."""
    errors = {label: mse(x, model.predict(x, batch_size=500, verbose=0)) for label, model in models.items()}
    return {label: error if math.isfinite(error) else 1.0 for label, error in errors.items()}


def pca_error(x_train: np.ndarray, x: np.ndarray, n_components: int = 128) -> float:
    """MSE of PCA, its pixels limited to 0…1 like those of the networks."""
    flat_train, flat = x_train.reshape(len(x_train), -1), x.reshape(len(x), -1)
    return mse(flat, np.clip(reconstruct_pca(fit_pca(flat_train, n_components), flat), 0, 1))


def _at_every_shift(errors_of: Callable[[np.ndarray], dict[str, float]], x: np.ndarray) -> dict[str, float]:
    """The errors of `x`, moved to the right by each of `SHIFTS`; the pixels become part of the label."""
    found = {pixels: errors_of(shift_right(x, pixels)) for pixels in SHIFTS}
    return {f"{label}, {pixels} px": error for pixels, errors in found.items() for label, error in errors.items()}


def measure_rate(rate: float) -> dict[str, float]:
    """Validation MSE of every network at this learning rate."""
    (x_train, _), (x_val, _), _ = load_mnist()
    models = networks()
    _fit(models, dict.fromkeys(models, rate), x_train)
    return picture_errors(models, x_val)


def measure_wide_rate(rate: float) -> dict[str, float]:
    """Validation MSE of the wide network at every shift, trained on centered digits at this learning rate."""
    (x_train, _), (x_val, _), _ = load_mnist()
    models = wide_network()
    _fit(models, dict.fromkeys(models, rate), x_train)
    return _at_every_shift(lambda moved: picture_errors(models, moved), x_val)


def measure_long(epochs: int) -> dict[str, float]:
    """Validation MSE of both networks at their best rates after so many epochs."""
    (x_train, _), (x_val, _), _ = load_mnist()
    models = networks()
    _fit(models, _best_rates(), x_train, epochs)
    return picture_errors(models, x_val)


def _moved_digits(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Training digits that were moved by up to `most` pixels, and validation digits that were not."""
    (x_train, _), (x_val, _), _ = load_mnist()
    return moved_at_random(x_train, most, np.random.default_rng(np.random.randint(2**31))), x_val  # noqa: NPY002


def measure_shift(most: int) -> dict[str, float]:
    """Validation MSE of every network and of PCA at every shift, trained on digits moved by up to `most` pixels."""
    x_train, x_val = _moved_digits(most)
    models = networks()
    _fit(models, _best_rates(), x_train)
    return _at_every_shift(lambda moved: {"PCA": pca_error(x_train, moved), **picture_errors(models, moved)}, x_val)


def measure_shift_wide(most: int) -> dict[str, float]:
    """`measure_shift` for the wide network."""
    x_train, x_val = _moved_digits(most)
    models = wide_network()
    _fit(models, _best_wide_rate(), x_train)
    return _at_every_shift(lambda moved: picture_errors(models, moved), x_val)


def measure_shift_long(epochs: int) -> dict[str, float]:
    """`measure_shift` for the networks after so many epochs on moved digits."""
    x_train, x_val = _moved_digits(MOVED)
    models = networks()
    _fit(models, _best_rates(), x_train, epochs)
    return _at_every_shift(lambda moved: picture_errors(models, moved), x_val)


def _lowest_on_the_way(models: dict, rates: dict, n: int, with_pca: bool = False) -> dict[str, float]:
    """Lowest validation MSE on the way, of networks that see as many pictures as the others, drawn from `n` digits."""
    (x_train, _), (x_val, _), _ = load_mnist()
    x_val = x_val[: FEW_DIGITS["scored on"]]
    rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
    few = x_train[rng.permutation(len(x_train))[:n]]
    drawn = rng.integers(n, size=(PARTS, SETTINGS["epochs"] * len(x_train) // PARTS))
    steps = PARTS * math.ceil(drawn.shape[1] / SETTINGS["batch_size"])
    lowest = {"PCA": pca_error(few, x_val, min(128, n - 1))} if with_pca else {}
    for label, model in models.items():
        compile_for_training(model, steps, rates[label], loss="binary_crossentropy")
        for part in drawn:
            model.fit(few[part], few[part], batch_size=SETTINGS["batch_size"], verbose=0)
            error = picture_errors({label: model}, x_val)[label]
            lowest[label] = min(lowest.get(label, error), error)
    return lowest


def measure_few(n: int) -> dict[str, float]:
    """Of PCA and of every network, the lowest validation MSE on the way, trained on `n` digits."""
    return _lowest_on_the_way(networks(), _best_rates(), n, with_pca=True)


def measure_few_wide(n: int) -> dict[str, float]:
    """`measure_few` for the wide network."""
    return _lowest_on_the_way(wide_network(), _best_wide_rate(), n)


def measure_few_rate(rate: float) -> dict[str, float]:
    """`measure_few` for the dense network, trained on 100 digits at this learning rate."""
    return _lowest_on_the_way({"dense": networks()["dense"]}, {"dense": rate}, 100)
