"""Lesson 09's detectors as networks: autoencoders of one kind that learn at the same time, each from pictures of its own.

They are slices of one array and do not see each other: on a GPU a hundred small networks take little longer than one.
`tests/lessons/test_lesson_09.py` compares the slices with layers of Keras.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import entr

from course_utils.backend import keras
from tools.author.stacked_vaes import StackedDense

ops = keras.ops

HIDDEN = 128
DRAWS = 8  # of the code, for an estimate of −ELBO


@dataclass(frozen=True)
class Network:
    """One network of a stack: the task that it learns, and how."""

    digit: int
    share: float  # of other digits among its training pictures
    code: int
    rate: float
    strength: float = 0.0  # of the noise of a denoising one; β of a VAE


@functools.cache
def blur_matrix(sigma: float) -> np.ndarray:
    """The Gaussian filter of SciPy, a linear map, as a matrix for flat pictures: `x @ blur_matrix(sigma)`."""
    identity = np.eye(784, dtype="float32").reshape(-1, 28, 28)
    return (ndimage.gaussian_filter(identity, (0, sigma, sigma)) if sigma else identity).reshape(784, 784)


def floors(x: np.ndarray) -> np.ndarray:
    """The lowest cross-entropy that any reconstruction of each gray picture can have: its own entropy, in nats."""
    return np.sum(entr(x) + entr(1 - x), axis=1)


def chunks(x: np.ndarray, size: int = 500) -> Iterator[np.ndarray]:
    return (x[start : start + size] for start in range(0, len(x), size))


class Stack(keras.Model):
    """Autoencoders of one kind side by side: `"dense"`, `"denoising"` or `"VAE"`."""

    def __init__(self, kind: str, networks: list[Network], pictures: np.ndarray):
        super().__init__()
        self.kind, self.networks, n = kind, networks, len(networks)
        # A weight and not a constant, which XLA would copy into its program.
        self.pictures = self.add_weight(shape=pictures.shape, trainable=False, name="pictures")
        self.pictures.assign(pictures)
        self.strengths = np.array([network.strength for network in networks], "float32").reshape(-1, 1, 1)
        largest = max(network.code for network in networks)
        self.kept = np.array([[[i < network.code for i in range(largest)]] for network in networks], "float32")
        self.seed_generator = keras.random.SeedGenerator()
        self.mu, self.log_var = StackedDense(n, largest), StackedDense(n, largest, bias=-3.0)
        self.log_var.trainable = kind == "VAE"
        self.encoder = StackedDense(n, HIDDEN, "relu")
        self.decoder = [StackedDense(n, HIDDEN, "relu"), StackedDense(n, 784)]
        self.logits(self.encode(np.zeros((n, 1, 784), "float32"))[0])  # builds all layers

    def build(self, input_shape=None):
        """Nothing is left to build."""

    def encode(self, x):
        """Pictures `(n, batch, 784)` to mean and log-variance of the codes."""
        h = self.encoder(x)
        return self.mu(h) * self.kept, self.log_var(h)

    def logits(self, z):
        return self.decoder[1](self.decoder[0](z))

    def negative_elbo(self, x, mu, log_var, beta=1.0):
        """Of each picture with one draw of its code; the KL is weighted by `beta`. Shape `(n, batch)`."""
        noise = keras.random.normal(ops.shape(mu), seed=self.seed_generator)
        logits = self.logits(mu + ops.exp(log_var / 2) * noise)
        kl = 0.5 * ops.sum(ops.square(mu) + ops.exp(log_var) - 1 - log_var, axis=-1)
        return ops.sum(ops.softplus(logits) - x * logits, axis=-1) + beta * kl

    def call(self, rows):
        return rows

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Sum over the networks, none of which sees another. `x` are rows of the pictures, one column per network."""
        x = seen = ops.take(self.pictures, ops.transpose(x), axis=0)
        if self.kind == "denoising":
            seen = x + self.strengths * keras.random.normal(ops.shape(x), seed=self.seed_generator)
        mu, log_var = self.encode(seen)
        if self.kind == "VAE":
            return ops.sum(ops.mean(self.negative_elbo(x, mu, log_var, self.strengths[:, :, 0]), axis=1))
        return ops.sum(ops.mean(ops.sum(ops.square(ops.sigmoid(self.logits(mu)) - x), axis=-1), axis=1))

    def scores(self, x: np.ndarray, blurs: tuple) -> dict:
        """What each network makes of each picture, `(n, pictures)`, by the blur of the residual; of VAEs −ELBO too."""
        parts: dict = {blur: [] for blur in blurs} | ({"−ELBO": []} if self.kind == "VAE" else {})
        for chunk in chunks(x, 250):
            part = np.broadcast_to(chunk, (len(self.networks), *chunk.shape))
            mu, log_var = self.encode(part)
            residual = part - ops.sigmoid(self.logits(mu))
            for blur in blurs:
                blurred = ops.matmul(residual, blur_matrix(blur)) if blur else residual
                parts[blur].append(ops.convert_to_numpy(ops.sum(ops.square(blurred), axis=-1)))
            if self.kind == "VAE":
                drawn = sum(self.negative_elbo(part, mu, log_var) for _ in range(DRAWS)) / DRAWS
                parts["−ELBO"].append(ops.convert_to_numpy(drawn))
        return {name: np.concatenate(found, axis=1) for name, found in parts.items()}
