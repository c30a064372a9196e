"""Published training recipes on Keras 3, and ours with a code of the same size. Each returns test loss and training seconds.

A published recipe keeps its author's optimiser, batch size and number of epochs, and Keras' defaults for all else; that is
how a reader would run it. Building the model counts for neither side, compiling it for both.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

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


def _dense_published(optimizer: str) -> Callable[[], Result]:
    def run() -> Result:
        (x_train, _), (x_val, _), (x_test, _) = load_mnist(flat=True)
        model, _, _ = build_autoencoder([784, 32], code_activation="relu")
        start = time.perf_counter()
        model.compile(optimizer=optimizer, loss="binary_crossentropy")
        model.fit(x_train, x_train, batch_size=256, epochs=50, validation_data=(x_val, x_val), verbose=0)
        seconds = time.perf_counter() - start
        return Result(model.evaluate(x_test, x_test, batch_size=1000, verbose=0), seconds)

    return run


def _dense_ours() -> Result:
    (x_train, _), (x_val, _), (x_test, _) = load_mnist(flat=True)
    model, _, _ = build_autoencoder([784, 32], code_activation="relu")
    start = time.perf_counter()
    train(
        model,
        x_train,
        x_train,
        loss="binary_crossentropy",
        validation_data=(x_val, x_val),
        epochs=4,
        learning_rate=0.01,
    )
    seconds = time.perf_counter() - start
    return Result(model.evaluate(x_test, x_test, batch_size=1000, verbose=0), seconds)


def _convolutional_published() -> Result:
    (x_train, _), (x_val, _), (x_test, _) = load_mnist()
    model, _, _ = build_pooling_autoencoder()
    start = time.perf_counter()
    model.compile(optimizer="adam", loss="binary_crossentropy")
    model.fit(x_train, x_train, batch_size=128, epochs=50, validation_data=(x_val, x_val), verbose=0)
    seconds = time.perf_counter() - start
    return Result(model.evaluate(x_test, x_test, batch_size=1000, verbose=0), seconds)


def _convolutional_ours() -> Result:
    (x_train, _), (x_val, _), (x_test, _) = load_mnist()
    model, _, _ = build_conv_autoencoder()
    start = time.perf_counter()
    train(
        model,
        x_train,
        x_train,
        loss="binary_crossentropy",
        validation_data=(x_val, x_val),
        epochs=2,
        learning_rate=0.004,
    )
    seconds = time.perf_counter() - start
    return Result(model.evaluate(x_test, x_test, batch_size=1000, verbose=0), seconds)


COMPARISONS = {
    "dense": Comparison(
        title="Dense autoencoder 784-32-784",
        loss="test BCE",
        published=[
            Recipe("Keras blog: Adam, 50 epochs, batch 256", _dense_published("adam")),
            Recipe("lecture: Adadelta (default rate), 50 epochs, batch 256", _dense_published("adadelta")),
        ],
        ours=Recipe("ours: warm-up and cosine, 4 epochs, batch 128", _dense_ours),
    ),
    "convolutional": Comparison(
        title="Convolutional autoencoder with a code of 4 × 4 × 8 = 128 numbers",
        loss="test BCE",
        published=[Recipe("Keras blog: 16-8-8 with pooling, Adam, 50 epochs, batch 128", _convolutional_published)],
        ours=Recipe("ours: 16-32-8 with strides, warm-up and cosine, 2 epochs, batch 128", _convolutional_ours),
    ),
}
