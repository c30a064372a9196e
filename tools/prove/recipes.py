"""Published training recipes on Keras 3, and ours for the same task.

A published recipe keeps its author's network, optimiser, batch size and number of epochs, and Keras' defaults for all else;
that is how a reader would run it. Building the model counts for neither side, compiling it for both.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.lessons import (
    VAE,
    GaussianNoise,
    build_autoencoder,
    build_conv_autoencoder,
    build_conv_denoiser,
    build_pooling_autoencoder,
    build_vae_networks,
    noisy_copy,
)
from course_utils.training import train

from keras import layers  # isort: skip

# Read in the tutorial itself: 150 epochs take over half an hour on two cores, so they are not run here.
KERAS_IO_DENOISING_LOSS = 0.0839
KERAS_IO_DENOISING_EPOCHS = 50 + 100

DENOISING_NOISE = 0.4


class Result(NamedTuple):
    """Test loss, seconds of training, and the multiplications (each with an addition) that its formulas need."""

    loss: float
    seconds: float
    multiply_adds: float


class Recipe(NamedTuple):
    name: str
    epochs: int
    run: Callable[[], Result]


class Comparison(NamedTuple):
    title: str
    loss: str
    convolutional: bool  # whether the machine's convolutions, and not its matrix products, are the yardstick
    published: list[Recipe]
    ours: Recipe


def multiply_adds(model: keras.Model) -> int:
    """Multiplications of one example's way through all dense and convolutional layers of `model`."""
    return sum(multiply_adds(layer) if hasattr(layer, "layers") else _of_layer(layer) for layer in model.layers)


def _of_layer(layer: layers.Layer) -> int:
    if not isinstance(layer, layers.Dense | layers.Conv2D | layers.Conv2DTranspose):
        return 0
    # Each number of the kernel meets every pixel of the result once; for a transposed convolution, of the input.
    picture = layer.input if isinstance(layer, layers.Conv2DTranspose) else layer.output
    return math.prod(layer.kernel.shape) * math.prod(picture.shape[1:-1])


def _work(model: keras.Model, n_examples: int, epochs: int) -> int:
    """Multiplications of a training: backward, the gradients of inputs and of weights take as much as forward each."""
    return 3 * multiply_adds(model) * n_examples * epochs


def machine_speed(convolutional: bool) -> float:
    """Multiplications per second of one large matrix product, or of a convolution as in lesson 02; the best of ten."""
    if convolutional:
        shapes, work = [(128, 14, 14, 32), (3, 3, 32, 32)], 128 * 14 * 14 * 9 * 32 * 32
        compute = functools.partial(keras.ops.conv, padding="same")
    else:
        shapes, work = [(2048, 2048), (2048, 2048)], 2048**3
        compute = keras.ops.matmul
    rng = np.random.default_rng(0)
    inputs = [keras.ops.convert_to_tensor(rng.random(shape, dtype="float32")) for shape in shapes]
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        keras.ops.convert_to_numpy(compute(*inputs))  # waits until it is computed
        seconds.append(time.perf_counter() - start)
    return work / min(seconds)


def _recipe(name: str, epochs: int, build: Callable, fit: Callable, flat: bool, score: Callable) -> Recipe:
    """A training to measure: `fit(model, epochs, x_train, x_val)` on `build()`, then `score(model, x_test)`."""

    def run() -> Result:
        (x_train, _), (x_val, _), (x_test, _) = load_mnist(flat=flat)
        model = build()
        start = time.perf_counter()
        fit(model, epochs, x_train, x_val)
        seconds = time.perf_counter() - start
        return Result(score(model, x_test), seconds, _work(model, len(x_train), epochs))

    return Recipe(name, epochs, run)


# ---------------------------------------------------------------------------------------------------------------------
# Networks of the tutorials
# ---------------------------------------------------------------------------------------------------------------------


def _keras_io_denoiser() -> keras.Model:
    """The network of keras.io's tutorial on denoising with a convolutional autoencoder."""
    x = keras.Input((28, 28, 1))
    h = x
    for _ in range(2):
        h = layers.Conv2D(32, 3, padding="same", activation="relu")(h)
        h = layers.MaxPooling2D(2, padding="same")(h)
    for _ in range(2):
        h = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(h)
    return keras.Model(x, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(h))


def _tutorial_vae(beta: float) -> VAE:
    """The convolutional network of keras.io's tutorial and of the book for flat pictures, with a code of two numbers."""
    x = keras.Input((784,))
    h = layers.Reshape((28, 28, 1))(x)
    for channels in (32, 64):
        h = layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu")(h)
    h = layers.Dense(16, activation="relu")(layers.Flatten()(h))
    encoder = keras.Model(x, [layers.Dense(2)(h), layers.Dense(2)(h)])
    z = keras.Input((2,))
    h = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, activation="relu")(z))
    for channels in (64, 32):
        h = layers.Conv2DTranspose(channels, 3, strides=2, padding="same", activation="relu")(h)
    pixels = layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(h)
    return VAE(encoder, keras.Model(z, layers.Flatten()(pixels)), beta=beta)


def _pytorch_vae() -> VAE:
    """The network of PyTorch's example: one hidden layer of 400, a code of 20."""
    x = keras.Input((784,))
    h = layers.Dense(400, activation="relu")(x)
    encoder = keras.Model(x, [layers.Dense(20)(h), layers.Dense(20)(h)])
    decoder = keras.Sequential(
        [keras.Input((20,)), layers.Dense(400, activation="relu"), layers.Dense(784, activation="sigmoid")]
    )
    return VAE(encoder, decoder)


# ---------------------------------------------------------------------------------------------------------------------
# Trainings and scores
# ---------------------------------------------------------------------------------------------------------------------


def _keras_fit(batch_size: int, optimizer: str = "adam") -> Callable:
    """Keras' `fit` of an autoencoder, as in the tutorials."""

    def fit(model, epochs, x, x_val):
        model.compile(optimizer=optimizer, loss="binary_crossentropy")
        model.fit(x, x, batch_size=batch_size, epochs=epochs, validation_data=(x_val, x_val), verbose=0)

    return fit


def _keras_fit_vae(model, epochs, x, x_val):
    model.compile(optimizer="adam")
    model.fit(x, batch_size=128, epochs=epochs, verbose=0)


def _our_fit(**settings) -> Callable:
    """The course's `train`; a VAE computes its loss itself."""

    def fit(model, epochs, x, x_val):
        if isinstance(model, VAE):
            train(model, x, epochs=epochs, **settings)
        else:
            train(model, x, x, loss="binary_crossentropy", epochs=epochs, validation_data=(x_val, x_val), **settings)

    return fit


def _own_error(model, x_test) -> float:
    return model.evaluate(x_test, x_test, batch_size=1000, verbose=0)


def _denoising_error(model, x_test) -> float:
    noisy = noisy_copy(GaussianNoise(DENOISING_NOISE), x_test, seed=0)
    return model.evaluate(noisy, x_test, batch_size=200, verbose=0)


def _nelbo(model, x_test) -> float:
    """−ELBO per digit in nats, whatever the weight of the KL in training."""
    parts = model.evaluate(x_test, batch_size=200, verbose=0, return_dict=True)
    return parts["reconstruction"] + parts["kl"]


def _run_keras_io_denoising() -> Result:
    """The published loss, and the time of one epoch (the second, which compiles nothing) times the epochs."""
    (x, _), (x_val, _), _ = load_mnist()
    noisy, noisy_val = (noisy_copy(GaussianNoise(DENOISING_NOISE), images, seed=0) for images in (x, x_val))
    model = _keras_io_denoiser()
    model.compile(optimizer="adam", loss="binary_crossentropy")
    for _ in range(2):
        start = time.perf_counter()
        model.fit(noisy, x, batch_size=128, validation_data=(noisy_val, x_val), verbose=0)
        seconds = time.perf_counter() - start
    epochs = KERAS_IO_DENOISING_EPOCHS
    return Result(KERAS_IO_DENOISING_LOSS, epochs * seconds, _work(model, len(x), epochs))


# What the recipes of a comparison have in common: the form of the pictures, and what is compared.
_flat_recipe = functools.partial(_recipe, flat=True, score=_own_error)
_picture_recipe = functools.partial(_recipe, flat=False, score=_own_error)
_vae_recipe = functools.partial(_recipe, flat=True, score=_nelbo)

COMPARISONS = {
    "dense": Comparison(
        title="Dense autoencoder 784-32-784",
        loss="test BCE",
        convolutional=False,
        published=[
            _flat_recipe(
                name="Keras blog: Adam, 50 epochs, batch 256",
                epochs=50,
                build=lambda: build_autoencoder([784, 32])[0],
                fit=_keras_fit(256),
            ),
            _flat_recipe(
                name="lecture: Adadelta (default rate), 50 epochs, batch 256",
                epochs=50,
                build=lambda: build_autoencoder([784, 32])[0],
                fit=_keras_fit(256, "adadelta"),
            ),
        ],
        ours=_flat_recipe(
            name="ours: warm-up and cosine, 5 epochs, batch 128",
            epochs=5,
            build=lambda: build_autoencoder([784, 32])[0],
            fit=_our_fit(learning_rate=0.01),
        ),
    ),
    "convolutional": Comparison(
        title="Convolutional autoencoder with a code of 4 × 4 × 8 = 128 numbers",
        loss="test BCE",
        convolutional=True,
        published=[
            _picture_recipe(
                name="Keras blog: 16-8-8 with pooling, Adam, 50 epochs, batch 128",
                epochs=50,
                build=lambda: build_pooling_autoencoder()[0],
                fit=_keras_fit(128),
            )
        ],
        ours=_picture_recipe(
            name="ours: 16-32-8 with strides, warm-up and cosine, 2 epochs, batch 128",
            epochs=2,
            build=lambda: build_conv_autoencoder()[0],
            fit=_our_fit(learning_rate=0.004),
        ),
    ),
    "denoising": Comparison(
        title=f"Denoising, Gaussian noise of {DENOISING_NOISE}",
        loss="test BCE",
        convolutional=True,
        published=[
            Recipe(
                "keras.io: 50 epochs on clean digits, 100 on noisy ones (loss as published, time of one epoch × 150)",
                KERAS_IO_DENOISING_EPOCHS,
                _run_keras_io_denoising,
            )
        ],
        ours=_recipe(
            name="ours: the network of lesson 03, fresh noise, 2 epochs, batch 64",
            epochs=2,
            build=lambda: build_conv_denoiser(GaussianNoise(DENOISING_NOISE)),
            fit=_our_fit(learning_rate=0.004, batch_size=64),
            flat=True,
            score=_denoising_error,
        ),
    ),
    "vae2": Comparison(
        title="Variational autoencoder with two latents",
        loss="test −ELBO in nats",
        convolutional=False,
        published=[
            _vae_recipe(
                name="keras.io: convolutional, Adam, 30 epochs, batch 128",
                epochs=30,
                build=lambda: _tutorial_vae(beta=1.0),
                fit=_keras_fit_vae,
            ),
            _vae_recipe(
                name="book: the same, 30 epochs, with half the KL (its mean over the latents)",
                epochs=30,
                build=lambda: _tutorial_vae(beta=0.5),
                fit=_keras_fit_vae,
            ),
        ],
        ours=_vae_recipe(
            name="ours: dense, as in lesson 06, 7 epochs, batch 200",
            epochs=7,
            build=lambda: VAE(*build_vae_networks([256, 128, 64], latent=2)),
            fit=_our_fit(learning_rate=0.008, batch_size=200),
        ),
    ),
    "vae20": Comparison(
        title="Variational autoencoder with 20 latents",
        loss="test −ELBO in nats",
        convolutional=False,
        published=[
            _vae_recipe(
                name="PyTorch's example: 784-400-20, Adam, 10 epochs, batch 128",
                epochs=10,
                build=_pytorch_vae,
                fit=_keras_fit_vae,
            )
        ],
        ours=_vae_recipe(
            name="ours: 784-400-200-20 as in lesson 06, 5 epochs, batch 128",
            epochs=5,
            build=lambda: VAE(*build_vae_networks([400, 200], latent=20)),
            fit=_our_fit(learning_rate=0.007),
        ),
    ),
}
