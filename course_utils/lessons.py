"""Definitions that the notebooks teach: generated, do not edit.

They come from 01_autoencoder.ipynb, 04_sparse_autoencoder.ipynb.
To change one, edit its notebook and run `make lessons`.
"""

import numpy as np

from course_utils.backend import keras

from keras import layers, ops  # isort: skip


# From notebooks/01_autoencoder.ipynb


def build_autoencoder(sizes, code_activation="relu", output_activation="sigmoid"):
    """Dense autoencoder: `sizes` are the encoder's units; the decoder has them in reverse.

    `sizes` goes from the number of inputs to the size of the code: `[784, 384, 32]` gives
    784-384-32-384-784. Hidden layers use ReLU. Returns `autoencoder, encoder, decoder`, which
    share their weights.
    """
    n_inputs, *hidden, n_code = sizes
    encoder = keras.Sequential([keras.Input((n_inputs,))], name="encoder")
    decoder = keras.Sequential([keras.Input((n_code,))], name="decoder")
    for size in hidden:
        encoder.add(layers.Dense(size, activation="relu"))
    for size in reversed(hidden):
        decoder.add(layers.Dense(size, activation="relu"))
    encoder.add(layers.Dense(n_code, activation=code_activation))
    decoder.add(layers.Dense(n_inputs, activation=output_activation))
    x = keras.Input((n_inputs,))
    return keras.Model(x, decoder(encoder(x))), encoder, decoder


# From notebooks/04_sparse_autoencoder.ipynb


def bernoulli_kl(rho, rho_hat):
    """KL divergence in nats between two coins with probabilities `rho` and `rho_hat`."""
    heads = rho * ops.log(rho / rho_hat)
    tails = (1 - rho) * ops.log((1 - rho) / (1 - rho_hat))
    return heads + tails


@keras.saving.register_keras_serializable(package="course")
class KLSparsity(layers.Layer):
    """Passes a sigmoid code on and adds beta · Σ_j KL(rho ‖ mean of unit j) to the loss.

    The code has the shape `(n, units)`; the mean is over the batch, for each unit.
    """

    def __init__(self, rho=0.05, beta=0.003, **kwargs):
        super().__init__(**kwargs)
        self.rho, self.beta = rho, beta

    def call(self, z):
        rho_hat = ops.clip(ops.mean(z, axis=0), 1e-6, 1 - 1e-6)
        self.add_loss(self.beta * ops.sum(bernoulli_kl(self.rho, rho_hat)))
        return z

    def get_config(self):
        return {**super().get_config(), "rho": self.rho, "beta": self.beta}


@keras.saving.register_keras_serializable(package="course")
class L1Sparsity(layers.Layer):
    """Passes a code on and adds strength · Σ_j |z_j|, mean over the batch, to the loss."""

    def __init__(self, strength=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.strength = strength

    def call(self, z):
        self.add_loss(self.strength * ops.mean(ops.sum(ops.abs(z), axis=-1)))
        return z

    def get_config(self):
        return {**super().get_config(), "strength": self.strength}


@keras.saving.register_keras_serializable(package="course")
class TopK(layers.Layer):
    """Keeps the `k` largest numbers of each row and sets the others to zero.

    Never more than `k` are kept: of equal ones the first. The gradient is 1 for the kept, 0 else.
    """

    def __init__(self, k, **kwargs):
        super().__init__(**kwargs)
        self.k = k

    def call(self, z):
        kth = ops.top_k(z, self.k)[0][:, -1:]
        above, tied = z > kth, ops.equal(z, kth)
        free = self.k - ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
        first = ops.cumsum(ops.cast(tied, "int32"), axis=-1) <= free
        return ops.where(above | (tied & first), z, 0.0)

    def get_config(self):
        return {**super().get_config(), "k": self.k}


def build_sparse(*code_layers):
    """784 → code → 784: `code_layers` make the code, one dense sigmoid layer decodes it.

    Returns `autoencoder, encoder, decoder`, which share their weights.
    """
    encoder = keras.Sequential([keras.Input((784,)), *code_layers], name="encoder")
    n_code = encoder.output_shape[-1]
    output = layers.Dense(784, activation="sigmoid")
    decoder = keras.Sequential([keras.Input((n_code,)), output], name="decoder")
    x = keras.Input((784,))
    return keras.Model(x, decoder(encoder(x))), encoder, decoder


def sigmoid_code(n_code=1024, rho=0.05):
    """A dense sigmoid layer whose units start near the mean activation `rho`."""
    return layers.Dense(
        n_code,
        activation="sigmoid",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
        bias_initializer=keras.initializers.Constant(np.log(rho / (1 - rho))),
    )


def topk_code(k, n_code=1024):
    """The layers of a top-k code: dense, normalised per unit, the `k` largest kept."""
    return (
        layers.Dense(n_code, use_bias=False),
        layers.BatchNormalization(center=False, scale=False, momentum=0.9),
        TopK(k),
    )


def describe_code(z):
    """How sparse a code of shape `(n, units)` is: a dict with `active`, `mean` and `dead`.

    `active` is the share of units above a tenth of their own maximum, mean over the pictures;
    `mean` the mean activation; `dead` the number of units that are the same for all pictures.
    """
    high, low = z.max(axis=0), z.min(axis=0)
    dead = high - low < 0.01 * z.max()
    active = (z > 0.1 * high) & ~dead
    return {"active": active.mean(), "mean": z.mean(), "dead": int(dead.sum())}
