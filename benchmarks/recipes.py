"""Published training recipes on Keras 3, and ours with a code of the same size. Each returns test loss and training seconds.

A published recipe keeps its author's optimiser, batch size and number of epochs, and Keras' defaults for all else; that is
how a reader would run it. Building the model counts for neither side, compiling it for both.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.lessons import build_autoencoder, build_conv_autoencoder, build_pooling_autoencoder
from course_utils.training import train


class Result(NamedTuple):
    loss: float
    seconds: float


class Recipe(NamedTuple):
    name: str
    run: Callable[[], Result]


class Comparison(NamedTuple):
    title: str
    loss: str
    published: list[Recipe]
    ours: Recipe


def _recipe(build: Callable[[], keras.Model], fit: Callable, flat: bool) -> Callable[[], Result]:
    """A training to measure: `fit(model, digits, validation_data)` on a model from `build`, then its test loss."""

    def run() -> Result:
        (x_train, _), (x_val, _), (x_test, _) = load_mnist(flat=flat)
        model = build()
        start = time.perf_counter()
        fit(model, x_train, (x_val, x_val))
        seconds = time.perf_counter() - start
        return Result(model.evaluate(x_test, x_test, batch_size=1000, verbose=0), seconds)

    return run


def _published(optimizer: str, batch_size: int) -> Callable:
    """Fifty epochs of Keras' `fit`, as in the tutorials."""

    def fit(model, x, validation_data):
        model.compile(optimizer=optimizer, loss="binary_crossentropy")
        model.fit(x, x, batch_size=batch_size, epochs=50, validation_data=validation_data, verbose=0)

    return fit


def _ours(epochs: int, learning_rate: float) -> Callable:
    """The course's `train`."""

    def fit(model, x, validation_data):
        train(
            model,
            x,
            x,
            loss="binary_crossentropy",
            validation_data=validation_data,
            epochs=epochs,
            learning_rate=learning_rate,
        )

    return fit


def _dense() -> keras.Model:
    return build_autoencoder([784, 32], code_activation="relu")[0]


def _pooling() -> keras.Model:
    return build_pooling_autoencoder()[0]


def _convolutional() -> keras.Model:
    return build_conv_autoencoder()[0]


COMPARISONS = {
    "dense": Comparison(
        title="Dense autoencoder 784-32-784",
        loss="test BCE",
        published=[
            Recipe("Keras blog: Adam, 50 epochs, batch 256", _recipe(_dense, _published("adam", 256), flat=True)),
            Recipe(
                "lecture: Adadelta (default rate), 50 epochs, batch 256",
                _recipe(_dense, _published("adadelta", 256), flat=True),
            ),
        ],
        ours=Recipe("ours: warm-up and cosine, 4 epochs, batch 128", _recipe(_dense, _ours(4, 0.01), flat=True)),
    ),
    "convolutional": Comparison(
        title="Convolutional autoencoder with a code of 4 × 4 × 8 = 128 numbers",
        loss="test BCE",
        published=[
            Recipe(
                "Keras blog: 16-8-8 with pooling, Adam, 50 epochs, batch 128",
                _recipe(_pooling, _published("adam", 128), flat=False),
            )
        ],
        ours=Recipe(
            "ours: 16-32-8 with strides, warm-up and cosine, 2 epochs, batch 128",
            _recipe(_convolutional, _ours(2, 0.004), flat=False),
        ),
    ),
}
