"""Autoencoders, VAEs and conditional VAEs of one size that learn at the same time, for the stored curves of lesson 07.

Each layer holds the matrices of all networks, and one step trains them all, each as if it were alone: every network has
its own weights and its own noise, and no term of the loss mixes two of them. A network without labels gets zeros in their
place.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.mixture import GaussianMixture

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.evaluation import load_judge
from course_utils.lessons import (
    build_writer_networks,
    draw_from_mixture,
    frechet_distance,
    inception_score,
    kl_to_standard_normal,
    variety,
)
from course_utils.training import warm_up_and_cosine

ops = keras.ops

N_LABELS = 10


@dataclass(frozen=True)
class Kind:
    """How one network of the stack is trained. With `noise` 0 and `beta` 0 it is a plain autoencoder."""

    conditional: bool = False
    beta: float = 1.0
    noise: float = 1.0


class StackedWriters(keras.Model):
    """Networks of `build_writer_networks`, one for each of `kinds`."""

    def __init__(self, kinds: list[Kind], hidden: list, latent: int):
        super().__init__()
        self.kinds = kinds
        # The weights with which the single networks would start.
        singles = [build_writer_networks(hidden, latent, N_LABELS) for _ in kinds]
        self.encoders = self._stack([encoder for encoder, _ in singles])
        self.decoders = self._stack([decoder for _, decoder in singles])
        self.noise = keras.random.SeedGenerator()

    def _stack(self, networks: list) -> list:
        """Kernel, bias, kernel, bias, … with the networks along the first axis."""
        arrays = [np.stack(values) for values in zip(*(network.get_weights() for network in networks), strict=True)]
        return [keras.Variable(array) for array in arrays]

    def build(self, input_shape=None):
        """Nothing is left to build."""

    def call(self, x):
        return x

    def per_network(self, name: str):
        numbers = [float(getattr(kind, name)) for kind in self.kinds]
        return ops.convert_to_tensor(np.reshape(numbers, (-1, 1, 1)).astype("float32"))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """`x` are pictures and one-hot labels, one beside the other; the sum over all networks, in nats per picture."""
        x = ops.repeat(ops.expand_dims(x, 0), len(self.kinds), axis=0)  # (networks, n, …)
        pictures, labels = x[..., :-N_LABELS], x[..., -N_LABELS:] * self.per_network("conditional")
        (*hidden, mu_layer, log_var_layer), h = _pairs(self.encoders), ops.concatenate([pictures, labels], axis=-1)
        for layer in hidden:
            h = ops.silu(_dense(h, layer))
        # Without noise nothing holds log_var, whose exponential could become infinite.
        mu, log_var = _dense(h, mu_layer), self.per_network("noise") * _dense(h, log_var_layer)
        epsilon = self.per_network("noise") * keras.random.normal(ops.shape(mu), seed=self.noise)
        z = mu + ops.exp(log_var / 2) * epsilon
        (*hidden, output), g = _pairs(self.decoders), ops.concatenate([z, labels], axis=-1)
        for layer in hidden:
            g = ops.silu(_dense(g, layer))
        logits = _dense(g, output)
        # −x·log x̂ − (1 − x)·log(1 − x̂) with x̂ = sigmoid(logits)
        reconstruction = ops.sum(ops.softplus(logits) - pictures * logits, axis=-1)
        loss = reconstruction + self.per_network("beta")[:, 0] * kl_to_standard_normal(mu, log_var)
        return ops.sum(ops.mean(loss, axis=1))

    def single(self, kind: int):
        """Encoder and decoder of one network, as `build_writer_networks` makes them; without labels if it knows none."""
        labels = N_LABELS * self.kinds[kind].conditional
        latent = self.decoders[0].shape[1] - N_LABELS
        sizes = [bias.shape[-1] for bias in self.encoders[1:-4:2]]
        networks = build_writer_networks(sizes, latent, labels)
        for network, stack in zip(networks, (self.encoders, self.decoders), strict=True):
            first, *others = (ops.convert_to_numpy(weight)[kind] for weight in stack)
            network.set_weights([first[: len(first) - N_LABELS + labels], *others])
        return networks


def _pairs(weights: list) -> list[tuple]:
    return list(zip(weights[::2], weights[1::2], strict=True))


def _dense(h, layer):
    kernel, bias = layer
    return ops.matmul(h, kernel) + bias[:, None]


def train_writers(kinds: list[Kind], x: np.ndarray, y: np.ndarray, settings: dict) -> StackedWriters:
    """Train all networks on the flat pictures `x` with the digits `y`, as `train` does."""
    model = StackedWriters(kinds, settings["hidden"], settings["latent"])
    steps = settings["epochs"] * math.ceil(len(x) / settings["batch_size"])
    schedule = warm_up_and_cosine(settings["learning_rate"], steps)
    model.compile(optimizer=keras.optimizers.Adam(schedule), jit_compile="auto")
    both = np.concatenate([x, np.eye(N_LABELS, dtype="float32")[y]], axis=1)
    model.fit(both, batch_size=settings["batch_size"], epochs=settings["epochs"], verbose=0)
    return model


# What the curves of lesson 07 measure: every rule for drawing codes, at several temperatures and with several beta.
SETTINGS = {"hidden": [480, 240], "latent": 16, "epochs": 50, "batch_size": 200, "learning_rate": 0.003}
KINDS = {
    "AE": Kind(beta=0.0, noise=0.0),
    "VAE": Kind(),
    "cVAE": Kind(conditional=True),
    "cVAE, β = 0.25": Kind(conditional=True, beta=0.25),
    "cVAE, β = 0.5": Kind(conditional=True, beta=0.5),
    "cVAE, β = 2": Kind(conditional=True, beta=2.0),
}
BETAS = (0.25, 0.5, 1, 2)
TEMPERATURES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 4.0)
JUDGED = {"components in all": 50, "codes": 10_000, "pictures": 5_000}


@functools.cache
def _writers(seed: int) -> StackedWriters:
    (x_train, y_train), _, _ = load_mnist(flat=True)
    keras.utils.set_random_seed(seed)
    return train_writers(list(KINDS.values()), x_train, y_train, SETTINGS)


@functools.cache
def _real_digits() -> tuple:
    """The judge, and what it says about validation and test digits: features, and the variety within each digit."""
    judge = load_judge()
    judge = keras.Model(judge.inputs, [judge.get_layer("features").output, *judge.outputs])
    _, (x_val, _), (x_test, _) = load_mnist(flat=True)
    real = {}
    for name, x in [("validation ", x_val), ("", x_test)]:
        features, p = judge.predict(x.reshape(-1, 28, 28, 1), batch_size=1000, verbose=0)
        real[name] = features, variety(x, p.argmax(axis=1))
    return judge, real


def judged(decoder: keras.Model, codes: np.ndarray, wanted: np.ndarray | None) -> dict[str, float]:
    """Fréchet distance, variety, inception score and obedience of what is written; see lesson 07."""
    judge, real = _real_digits()
    inputs = codes if wanted is None else [codes, np.eye(10)[wanted]]
    x = decoder.predict(inputs, batch_size=1000, verbose=0)
    features, p = judge.predict(x.reshape(-1, 28, 28, 1), batch_size=1000, verbose=0)
    read, results = p.argmax(axis=1), {"inception score": inception_score(p)}
    for name, (real_features, real_variety) in real.items():
        results[f"{name}Fréchet"] = frechet_distance(features, real_features)
        results[f"{name}variety"] = variety(x, read) / real_variety
    return results if wanted is None else results | {"read as asked": np.mean(read == wanted)}


@functools.cache
def _rules(kind: str, seed: int) -> tuple[keras.Model, dict, np.ndarray | None]:
    """Decoder, rule → function from temperature to codes, and the digits that are asked for."""
    encoder, decoder = _writers(seed).single(list(KINDS).index(kind))
    (x_train, y_train), _, _ = load_mnist(flat=True)
    n, latent, rng = JUDGED["pictures"], SETTINGS["latent"], np.random.default_rng(seed)
    normal = rng.normal(size=(n, latent))
    conditional = KINDS[kind].conditional
    inputs = [x_train, np.eye(10)[y_train]] if conditional else x_train
    mu, log_var = encoder.predict(inputs, batch_size=1000, verbose=0)
    codes = mu + np.exp(log_var / 2) * rng.normal(size=mu.shape) if KINDS[kind].noise else mu
    wanted = np.arange(n) % 10 if conditional else None

    def mixed(codes: np.ndarray, components: int) -> Callable:
        mixture = GaussianMixture(components, random_state=seed, max_iter=30, tol=1e-2, reg_covar=1e-4)
        mixture.fit(codes.astype("float64"))
        return lambda t: draw_from_mixture(mixture, n, np.random.default_rng(seed), t)

    rules: dict[str, Callable] = {"N(0, I)": lambda t: t * normal}
    components, few = JUDGED["components in all"], JUDGED["codes"]
    if wanted is None:
        return decoder, rules | {"Gaussian": mixed(codes, 1), "mixture": mixed(codes[:few], components)}, wanted

    def of_each_digit(codes: np.ndarray, components: int) -> Callable:
        of_digit = y_train[: len(codes)]
        drawers = [mixed(codes[of_digit == digit], components) for digit in range(10)]

        def draw(t: float) -> np.ndarray:
            drawn = [drawer(t) for drawer in drawers]
            return np.stack([drawn[digit][i] for i, digit in enumerate(wanted)])

        return draw

    both = {"Gaussian": of_each_digit(codes, 1), "mixture": of_each_digit(codes[:few], components // 10)}
    return decoder, rules | both, wanted


@functools.cache
def measure_temperatures(seed: int) -> dict[float, dict[str, float]]:
    """Temperature → label → result, of every rule for drawing codes."""
    results: dict[float, dict[str, float]] = {t: {} for t in TEMPERATURES}
    for kind in ("AE", "VAE", "cVAE"):
        decoder, rules, wanted = _rules(kind, seed)
        for t in TEMPERATURES:
            for rule, codes in rules.items():
                measured = judged(decoder, codes(t), wanted)
                results[t] |= {f"{kind}, {rule}: {quantity}": value for quantity, value in measured.items()}
    return results


@functools.cache
def measure_betas(seed: int) -> dict[float, dict[str, float]]:
    """β → label → result, of every rule for drawing the codes of a conditional VAE."""
    results: dict[float, dict[str, float]] = {}
    for beta in BETAS:
        decoder, rules, wanted = _rules("cVAE" if beta == 1 else f"cVAE, β = {beta:g}", seed)
        results[beta] = {
            f"{rule}: {quantity}": value
            for rule, codes in rules.items()
            for quantity, value in judged(decoder, codes(1.0), wanted).items()
        }
    return results
