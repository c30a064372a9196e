"""Lesson 05's rivals over their strengths: many one-layer autoencoders that train at the same time, each as if it were alone.

All networks are stacked along a first axis, so that they see the same batches and the same noise, and a GPU computes them in
about the time that it needs for one. Each has a learning rate of its own, and of the rates only the best is kept.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.linear_model import RidgeClassifier

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.evaluation import mse, relative_shift
from course_utils.lessons import contractive_penalty
from course_utils.training import warm_up_and_cosine
from tools.author.stacked_vaes import OwnRates

layers, ops = keras.layers, keras.ops

UNITS, EPOCHS, BATCH_SIZE = 128, 15, 250
RATES = (0.015, 0.04, 0.08, 0.16)
# Position on the curve → strength, by method; position 0 is the plain autoencoder in all of them.
STRENGTHS = {
    "weight decay": (0.0, 3e-7, 3e-6, 1e-5, 2e-5, 3e-5, 5e-5, 1e-4),
    "weight decay, both layers": (0.0, 3e-7, 3e-6, 1e-5, 2e-5, 3e-5, 5e-5, 1e-4),
    "denoising": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35),
    "contractive": (0.0, 1e-5, 1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3),
    "relative contraction": (0.0, 2e-4, 2e-3, 4e-3, 6e-3, 9e-3, 1.3e-2, 2e-2),
}
IN_USE = 0.01  # smallest standard deviation, over the digits, of a unit that counts as in use
SETTINGS = {
    "network": [784, UNITS, 784],
    "units": "sigmoid",
    "input": "minus the mean image",
    "loss": "binary cross-entropy",
    "epochs": EPOCHS,
    "batch_size": BATCH_SIZE,
    "schedule": "warm-up and cosine",
    "rates": RATES,
    "rate": "of each training that with the lowest loss, its own penalty included, on the validation digits",
    "strengths": STRENGTHS,
    "scored": "validation digits",
}


@dataclass(frozen=True)
class Case:
    """One training."""

    method: str
    strength: float
    rate: float


class StackedAutoencoders(keras.Model):
    """One autoencoder per case: sigmoid units, kernel `(cases, 784, units)`, and back. The loss is the sum of all losses."""

    def __init__(self, cases: list[Case], mean: np.ndarray, units: int = UNITS):
        super().__init__()
        self.mean_image = mean
        of_method = {
            name: np.array([case.strength * (case.method == name) for case in cases], "float32") for name in STRENGTHS
        }
        self.decay_back = of_method["weight decay, both layers"]
        self.decay = of_method["weight decay"] + self.decay_back
        self.contraction, self.relative = of_method["contractive"], of_method["relative contraction"]
        self.noise = of_method["denoising"][:, np.newaxis, np.newaxis]
        self.seed_generator = keras.random.SeedGenerator(int(np.random.randint(2**31)))  # noqa: NPY002
        glorot = math.sqrt(6 / (784 + units))  # of each network by itself, as Keras' `Dense` has it
        uniform = keras.initializers.RandomUniform(-glorot, glorot, seed=self.seed_generator)
        n = len(cases)
        self.kernel = self.add_weight(shape=(n, 784, units), initializer=uniform, name="kernel")
        self.bias = self.add_weight(shape=(n, 1, units), initializer="zeros", name="bias")
        self.kernel_back = self.add_weight(shape=(n, units, 784), initializer=uniform, name="kernel_back")
        self.bias_back = self.add_weight(shape=(n, 1, 784), initializer="zeros", name="bias_back")

    def build(self, input_shape):
        """Nothing is left to build."""

    def call(self, x):
        """Codes `(cases, n, units)` and logits of the reconstructions `(cases, n, 784)` of the pictures `(n, 784)`."""
        h = ops.sigmoid(ops.matmul(x - self.mean_image, self.kernel) + self.bias)
        return h, ops.matmul(h, self.kernel_back) + self.bias_back

    def losses_of_cases(self, x, disturbed):
        """Cross-entropy and penalty of each network, shape `(cases,)`."""
        h, logits = self(disturbed)
        # Stable and as Keras has it: max(a, 0) − a·x + log(1 + exp(−|a|)).
        bce = ops.mean(ops.softplus(logits) - logits * x, axis=(1, 2))
        decay = self.decay * ops.sum(ops.square(self.kernel), axis=(1, 2))
        decay = decay + self.decay_back * ops.sum(ops.square(self.kernel_back), axis=(1, 2))
        squared_norm = ops.mean(contractive_penalty(h, self.kernel), axis=1)
        squared_spread = ops.sum(ops.var(h, axis=1), axis=1)
        return bce + decay + (self.contraction + self.relative / squared_spread) * squared_norm

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        return ops.sum(self.losses_of_cases(x, x + self.noise * noise))


def fit(cases: list[Case], x: np.ndarray, epochs: int = EPOCHS) -> StackedAutoencoders:
    """Train all cases on the pictures `x`."""
    model = StackedAutoencoders(cases, x.mean(axis=0))
    schedule = warm_up_and_cosine(1.0, epochs * math.ceil(len(x) / BATCH_SIZE))
    model.compile(optimizer=OwnRates(schedule, np.array([case.rate for case in cases])), jit_compile="auto")
    model.fit(x, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model


def own_losses(model: StackedAutoencoders, x: np.ndarray) -> np.ndarray:
    """The loss of each case on the pictures `x`, with its own penalty and noise."""
    total, rng = 0.0, np.random.default_rng(0)
    for chunk in np.split(x, len(x) // 250):
        disturbed = chunk + model.noise * rng.standard_normal(chunk.shape, dtype="float32")
        total += ops.convert_to_numpy(model.losses_of_cases(chunk, disturbed))
    return total / (len(x) // 250)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def unit_steps(images: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Flat steps of length 1 from pictures towards moved ones."""
    steps = (moved - images).reshape(len(images), -1)
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)


@functools.cache
def disturbances() -> dict[str, np.ndarray]:
    """The validation digits, disturbed as the lesson does."""
    _, (x_val, _), _ = load_mnist(flat=True)
    rng, images = np.random.default_rng(0), x_val.reshape(-1, 28, 28)
    return {
        "noise": x_val + 0.2 * rng.standard_normal(x_val.shape, dtype="float32"),
        "shift": ndimage.shift(images, (0, 0, 1), order=1).reshape(-1, 784),
        "small shift": unit_steps(images, ndimage.shift(images, (0, 0, 0.3), order=1)),
        "random": unit_steps(0 * images, rng.standard_normal(images.shape, dtype="float32")),
    }


def describe(encode, jacobian_step, x_hat: np.ndarray) -> dict[str, float]:
    """What the lesson reports of a code, on the validation digits.

    `encode(x)` gives the codes, `jacobian_step(h, v)` the movement of the codes `h` for small steps `v`, per unit of length.
    """
    (x_train, y_train), (x_val, y_val), _ = load_mnist(flat=True)
    disturbed, z = disturbances(), encode(x_val)
    spread = np.sqrt(z.var(axis=0).sum())
    after = {kind: encode(disturbed[kind]) for kind in ("noise", "shift")}
    along, across = (np.linalg.norm(jacobian_step(z, disturbed[kind]), axis=1) for kind in ("small shift", "random"))
    scale = np.sqrt(z.shape[1]) / spread  # so that the classifier's own penalty is the same for all codes
    probe = RidgeClassifier().fit(scale * encode(x_train), y_train)
    return {
        "mse": mse(x_val, x_hat),
        "shift under noise": relative_shift(z, after["noise"], np.roll(z, 1, axis=0)),
        "shift under one pixel": relative_shift(z, after["shift"], np.roll(z, 1, axis=0)),
        "selectivity": float(np.sqrt(np.square(along).mean() / np.square(across).mean())),
        "units in use": int(np.sum(z.std(axis=0) > IN_USE)),
        "clean error": 1 - probe.score(scale * z, y_val),
        "noisy error": 1 - probe.score(scale * after["noise"], y_val),
    }


def describe_case(model: StackedAutoencoders, i: int) -> dict[str, float]:
    """What the lesson reports of network `i` of the stack, on the validation digits."""
    _, (x_val, _), _ = load_mnist(flat=True)
    kernel, bias, kernel_back, bias_back = (
        ops.convert_to_numpy(weight[i]) for weight in (model.kernel, model.bias, model.kernel_back, model.bias_back)
    )
    bias = bias - model.mean_image @ kernel

    def encode(x):
        return sigmoid(x @ kernel + bias)

    def step(h, v):
        return h * (1 - h) * (v @ kernel)

    h = encode(x_val)
    norm = np.mean(np.square(h * (1 - h)) @ np.square(kernel).sum(axis=0))
    return {"norm": norm} | describe(encode, step, sigmoid(h @ kernel_back + bias_back))


@functools.cache
def measure_strengths(seed: int, epochs: int = EPOCHS) -> dict[int, dict[str, float]]:
    """Position → label → number, of all methods with one seed, each at the best of its rates."""
    (x_train, _), (x_val, _), _ = load_mnist(flat=True)
    keras.utils.set_random_seed(seed)
    trained = [("plain", 0.0, 0)]
    trained += [(method, s, i) for method, strengths in STRENGTHS.items() for i, s in enumerate(strengths) if i]
    cases = [Case(method, strength, rate) for method, strength, _ in trained for rate in RATES]
    model = fit(cases, x_train, epochs)
    losses = own_losses(model, x_val).reshape(len(trained), len(RATES))
    results: dict[int, dict[str, float]] = {i: {} for i in range(len(STRENGTHS["contractive"]))}
    for n, (method, _, position) in enumerate(trained):
        best = int(np.nanargmin(losses[n]))
        numbers = describe_case(model, n * len(RATES) + best) | {"rate": RATES[best]}
        for name in STRENGTHS if method == "plain" else [method]:
            results[position] |= {f"{name}: {what}": number for what, number in numbers.items()}
    return results
