"""Lesson 08's two ways to start a deep classifier, with few and many labels, as in 2006 and as today.

All networks of one style train at the same time, stacked along a first axis, each with its own labels and learning rate.
What is reported of each way is the best of its rates and stops, by the validation digits.
"""

import functools
import itertools
from typing import Any

import numpy as np

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.training import warm_up_and_cosine
from tools.author.stacked_vaes import OwnRates, RatePerNetwork

layers, ops = keras.layers, keras.ops

SIZES = (784, 256, 128, 64, 32)
LABELS = (100, 1000, 10_000, 55_000)
BATCH_SIZE = 50
PRETRAINING_BATCH_SIZE = 100
STEPS = 2000
STOPS = 4  # so often the networks are scored
PRETRAINING_EPOCHS = 2  # of each layer


def _small(n_in: int, n_out: int) -> float:
    """Largest weight of the uniform distribution that was usual before 2010."""
    return n_in**-0.5


def _glorot(n_in: int, n_out: int) -> float:
    return (6 / (n_in + n_out)) ** 0.5


def _he(n_in: int, n_out: int) -> float:
    return (6 / n_in) ** 0.5


STYLES: dict[str, dict[str, Any]] = {
    "2006": {
        "activation": "sigmoid",
        "optimizer": "SGD",
        "rates": (0.3, 1.0, 3.0),
        "pretraining rates": (0.03, 0.1, 0.3),  # of the cross-entropy summed over the outputs
        "starts": {"small weights": _small, "Glorot's weights": _glorot},
    },
    "today": {
        "activation": "relu",
        "optimizer": "Adam",
        "rates": (0.001, 0.003, 0.01),
        "pretraining rates": (0.0003, 0.001, 0.003),
        "starts": {"He's weights": _he},
    },
}
SETTINGS = {
    "network": [*SIZES, 10],
    "batch_size": BATCH_SIZE,
    "batch_size of the pre-training": PRETRAINING_BATCH_SIZE,
    "steps": STEPS,
    "pretraining epochs of each layer": PRETRAINING_EPOCHS,
    "styles": {
        name: {key: list(value) if key == "starts" else value for key, value in style.items()}
        for name, style in STYLES.items()
    },
    "schedule": {"2006": "constant rate", "today": "warm-up and cosine"},
    "chosen": f"rate, and in 2006's style one of {STOPS} stops, with the lowest validation error",
    "labels": "as many of each digit as possible",
    "scored": "test error in percent",
}


class SGDWithOwnRates(RatePerNetwork, keras.optimizers.SGD):
    """Plain gradient descent with a factor for each network."""


OPTIMIZERS = {"SGD": SGDWithOwnRates, "Adam": OwnRates}


def uniform_weights(rng: np.random.Generator, sizes: tuple, limit) -> list[np.ndarray]:
    """Kernels `(n_in, n_out)` and biases `(1, n_out)` in turn, kernels uniform up to `limit(n_in, n_out)`, biases zero."""
    weights = []
    for n_in, n_out in itertools.pairwise(sizes):
        largest = limit(n_in, n_out)
        weights.append(rng.uniform(-largest, largest, size=(n_in, n_out)).astype("float32"))
        weights.append(np.zeros((1, n_out), "float32"))
    return weights


class Stack(keras.Model):
    """Dense networks of the same shape side by side, from their first weights: a list of arrays for each network.

    The inputs of `fit` are rows of `pictures`, shape `(batch, networks)`: each network sees rows of its own.
    """

    def __init__(self, starts: list[list[np.ndarray]], activation: str, pictures: np.ndarray):
        super().__init__()
        self.activation = keras.activations.get(activation)
        self.parameters_ = [
            self.add_weight(shape=(len(starts), *first.shape), initializer="zeros", name=f"w{i}")
            for i, first in enumerate(starts[0])
        ]
        for i, weight in enumerate(self.parameters_):
            weight.assign(np.stack([start[i] for start in starts]))
        self.pictures = self._constant(pictures, "pictures")

    def _constant(self, array: np.ndarray, name: str):
        """A variable that no training changes, so that no backend compiles the array into its graph."""
        dtype = str(array.dtype)
        weight = self.add_weight(shape=array.shape, initializer="zeros", trainable=False, name=name, dtype=dtype)
        weight.assign(array)
        return weight

    def build(self, input_shape):
        """Nothing is left to build."""

    def call(self, x):
        return x

    def outputs_of(self, h):
        """Outputs of the last layer, before any activation; `h` has the shape `(networks or 1, n, inputs)`."""
        pairs = list(zip(self.parameters_[::2], self.parameters_[1::2], strict=True))
        for kernel, bias in pairs[:-1]:
            h = self.activation(ops.matmul(h, kernel) + bias)
        kernel, bias = pairs[-1]
        return ops.matmul(h, kernel) + bias

    def weights_of(self, network: int) -> list[np.ndarray]:
        return [ops.convert_to_numpy(weight[network]) for weight in self.parameters_]


class Classifiers(Stack):
    """Networks that learn to read digits; the loss is the sum of their cross-entropies."""

    def __init__(self, starts, activation, pictures, y):
        super().__init__(starts, activation, pictures)
        self.y = self._constant(y.astype("int32"), "labels")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        rows = ops.transpose(x)
        logits = self.outputs_of(ops.take(self.pictures, rows, axis=0))
        entropies = keras.losses.sparse_categorical_crossentropy(
            ops.take(self.y, rows, axis=0), logits, from_logits=True
        )
        return ops.sum(ops.mean(entropies, axis=1))

    def errors(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Error of each network in percent, on the pictures `x`."""
        wrong = [
            ops.convert_to_numpy(ops.argmax(self.outputs_of(x[np.newaxis, i : i + 1000]), axis=-1)) != y[i : i + 1000]
            for i in range(0, len(x), 1000)
        ]
        return 100 * np.concatenate(wrong, axis=1).mean(axis=1)


class Autoencoders(Stack):
    """Networks of two layers that reconstruct their inputs: sigmoids with the cross-entropy, ReLU with the squared error."""

    def __init__(self, starts, activation, pictures, outputs: str):
        super().__init__(starts, activation, pictures)
        self.outputs = outputs

    def losses_of_networks(self, x):
        out = self.outputs_of(x)
        if self.outputs == "sigmoid":
            return ops.mean(ops.sum(ops.softplus(out) - x * out, axis=-1), axis=1)
        return ops.mean(ops.sum(ops.square(out - x), axis=-1), axis=1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.sum(self.losses_of_networks(ops.take(self.pictures, ops.transpose(x), axis=0)))


def apply_layer(h: np.ndarray, kernel: np.ndarray, bias: np.ndarray, activation: str) -> np.ndarray:
    a = h @ kernel + bias
    return np.maximum(a, 0) if activation == "relu" else 1 / (1 + np.exp(-a))


def passes(rng: np.random.Generator, pool: np.ndarray, steps: int, n_networks: int, batch: int) -> np.ndarray:
    """Rows of `pool`, shuffled anew in each pass, for so many steps; the same for all `n_networks`."""
    per_pass = max(1, len(pool) // batch)
    one = [rng.permutation(pool)[: per_pass * batch] for _ in range(-(-steps // per_pass))]
    rows = np.concatenate(one)[: steps * batch]
    return np.repeat(rows[:, np.newaxis], n_networks, axis=1).astype("int32")


def pretrain_layers(
    style: dict, x_train: np.ndarray, x_val: np.ndarray, rng, sizes=SIZES, epochs=PRETRAINING_EPOCHS
) -> list[np.ndarray]:
    """Kernels and biases of encoders that were trained one after the other, each on the codes of the one before.

    Of the rates, each layer gets the one whose autoencoder reconstructs the validation digits' codes best. No label is used.
    """
    activation, rates = style["activation"], style["pretraining rates"]
    limit = next(iter(style["starts"].values()))
    weights: list[np.ndarray] = []
    h, h_val = x_train, x_val
    for n_in, n_out in itertools.pairwise(sizes):
        starts = [uniform_weights(rng, (n_in, n_out, n_in), limit)] * len(rates)
        pixels = n_in == sizes[0]
        model = Autoencoders(starts, activation, h, "sigmoid" if pixels or activation == "sigmoid" else "linear")
        steps = epochs * (len(h) // PRETRAINING_BATCH_SIZE)
        schedule = 1.0 if style["optimizer"] == "SGD" else warm_up_and_cosine(1.0, steps)
        rows = passes(rng, np.arange(len(h)), steps, len(rates), PRETRAINING_BATCH_SIZE)
        model.compile(optimizer=OPTIMIZERS[style["optimizer"]](schedule, np.array(rates)), jit_compile="auto")
        model.fit(rows, batch_size=PRETRAINING_BATCH_SIZE, epochs=1, shuffle=False, verbose=0)
        losses = ops.convert_to_numpy(model.losses_of_networks(h_val[np.newaxis]))
        kernel, bias = model.weights_of(int(np.nanargmin(losses)))[:2]
        weights += [kernel, bias]
        h, h_val = (apply_layer(codes, kernel, bias, activation) for codes in (h, h_val))
    return weights


def balanced_order(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows in an order whose first n hold n / 10 of each digit, as long as there are as many."""
    rank = np.empty(len(y))
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(y == digit))
        rank[rows] = np.arange(len(rows))
    return np.lexsort((rng.random(len(y)), rank))


def measure_style(
    name: str, seed: int, data, labels=LABELS, steps=STEPS, sizes=SIZES, epochs=PRETRAINING_EPOCHS
) -> dict:
    """Number of labels → label → number, of all ways to start in one style."""
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = data
    style, rng = STYLES[name], np.random.default_rng(seed)
    order = balanced_order(y_train, rng)
    encoders = pretrain_layers(style, x_train, x_val, rng, sizes, epochs)
    firsts = {start: uniform_weights(rng, (*sizes, 10), limit) for start, limit in style["starts"].items()}
    usual = next(iter(style["starts"].values()))
    firsts["pre-trained"] = [*encoders, *uniform_weights(rng, (sizes[-1], 10), usual)]
    cases = [(n, way, rate) for n in labels for way in firsts for rate in style["rates"]]
    model = Classifiers([firsts[way] for _, way, _ in cases], style["activation"], x_train, y_train)
    of_labels = {n: passes(rng, order[:n], steps, 1, BATCH_SIZE) for n in labels}
    rows = np.concatenate([of_labels[n] for n, _, _ in cases], axis=1)
    rates = np.array([rate for _, _, rate in cases])
    constant = style["optimizer"] == "SGD"
    parts = np.split(rows, STOPS) if constant else [rows]
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    schedule = 1.0 if constant else warm_up_and_cosine(1.0, steps)
    model.compile(optimizer=OPTIMIZERS[style["optimizer"]](schedule, rates), jit_compile="auto")
    for part in parts:
        model.fit(part, batch_size=BATCH_SIZE, epochs=1, shuffle=False, verbose=0)
        scores.append((model.errors(x_val, y_val), model.errors(x_test, y_test)))
    results: dict[int, dict[str, float]] = {n: {} for n in labels}
    val, test = np.array(scores).transpose(1, 0, 2)
    for n in labels:
        for way in firsts:
            mine = [i for i, case in enumerate(cases) if case[:2] == (n, way)]
            stop, best = np.unravel_index(np.argmin(val[:, mine]), (len(val), len(mine)))
            found = {"test error": test[stop, mine[best]], "rate": style["rates"][best]}
            if constant:
                found["steps"] = (stop + 1) * steps // STOPS
            results[n] |= {f"{name}, {way}: {what}": float(number) for what, number in found.items()}
        for way in style["starts"]:
            gain = results[n][f"{name}, {way}: test error"] - results[n][f"{name}, pre-trained: test error"]
            results[n][f"{name}, gain over {way}"] = gain
    return results


@functools.cache
def measure_pretraining(seed: int) -> dict[int, dict[str, float]]:
    """Number of labels → label → number, in both styles."""
    keras.utils.set_random_seed(seed)
    data = load_mnist(flat=True)
    both = [measure_style(name, seed, data) for name in STYLES]
    return {n: both[0][n] | both[1][n] for n in LABELS}
