"""Many VAEs and autoencoders of one shape that learn at the same time, for the stored curves of lesson 06.

On a GPU a small network leaves nearly everything idle. Here each layer holds the matrices of all networks, and one step
trains them all, each as if it were alone: every network has its own weights, its own noise and its own learning rate,
and no term of the loss mixes two of them.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.pretrained import load_curve
from course_utils.training import warm_up_and_cosine

ops = keras.ops


@dataclass(frozen=True)
class Kind:
    """How one network of the stack is trained.

    The loss is reconstruction + beta · Σ_j max(KL of latent j, free_nats). `beta` rises linearly from 0 to its value over
    the share `warm_up` of all steps. With `noise` 0 the decoder gets the mean: an autoencoder, if `beta` is 0 as well.
    """

    rate: float
    beta: float = 1.0
    warm_up: float = 0.0
    free_nats: float = 0.0
    noise: float = 1.0


def autoencoder(rate: float) -> Kind:
    """A plain autoencoder: no noise, and nothing that charges for information."""
    return Kind(rate, beta=0.0, noise=0.0)


class StackedDense(keras.layers.Layer):
    """The same dense layer in each of `n` networks: `(n, batch, inputs)` to `(n, batch, units)`, Glorot's weights."""

    def __init__(self, n: int, units: int, activation: str = "linear", bias: float = 0.0):
        super().__init__()
        self.n, self.units, self.first_bias = n, units, bias
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        limit = math.sqrt(6 / (input_shape[-1] + self.units))
        self.kernel = self.add_weight(
            shape=(self.n, input_shape[-1], self.units), initializer=keras.initializers.RandomUniform(-limit, limit)
        )
        self.bias = self.add_weight(
            shape=(self.n, 1, self.units), initializer=keras.initializers.Constant(self.first_bias)
        )

    def call(self, h):
        return self.activation(ops.matmul(h, self.kernel) + self.bias)


class RatePerNetwork(keras.optimizers.Optimizer):
    """Gives an optimizer that treats every weight by itself a factor of its own on the learning rate of each network."""

    def __init__(self, schedule, factors: np.ndarray):
        super().__init__(learning_rate=schedule)
        self.factors = factors.reshape(-1, 1, 1).astype("float32")

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype) * ops.convert_to_tensor(self.factors)
        super().update_step(gradient, variable, rate)


class OwnRates(RatePerNetwork, keras.optimizers.Adam):
    """Adam with a factor for each network."""


class StackedVAEs(keras.Model):
    """Networks `hidden`-`latent`-`hidden`, one for each of `kinds`, for flat pictures of `n_pixels`."""

    def __init__(self, kinds: list[Kind], n_pixels: int, hidden, latent: int, activation="silu"):
        super().__init__()
        self.kinds, n = kinds, len(kinds)
        self.encoder_layers = [StackedDense(n, size, activation) for size in hidden]
        self.mu_layer, self.log_var_layer = StackedDense(n, latent), StackedDense(n, latent, bias=-3.0)
        self.decoder_layers = [StackedDense(n, size, activation) for size in reversed(hidden)]
        self.logits_layer = StackedDense(n, n_pixels)
        self.sampling_seed = keras.random.SeedGenerator()
        # Built here, because `call`, in which Keras would build them, does not use them.
        sizes = [n_pixels, *hidden, latent, *reversed(hidden), n_pixels]
        encoder, decoder = sizes[: len(hidden) + 2], sizes[len(hidden) + 1 :]
        for layer, size in zip([*self.encoder_layers, self.mu_layer], encoder, strict=False):
            layer.build((n, None, size))
        self.log_var_layer.build((n, None, encoder[-2]))
        for layer, size in zip([*self.decoder_layers, self.logits_layer], decoder, strict=False):
            layer.build((n, None, size))
        self.step = keras.Variable(0.0, trainable=False, name="step")
        self.total_steps = 1

    def build(self, input_shape=None):
        """Nothing is left to build."""

    def call(self, x):
        return x

    def setting(self, name: str) -> np.ndarray:
        """One number per network."""
        return np.array([getattr(kind, name) for kind in self.kinds], "float32")

    def encode(self, x):
        """Pictures `(networks or 1, n, pixels)` to the means and log-variances of their clouds."""
        for layer in self.encoder_layers:
            x = layer(x)
        return self.mu_layer(x), self.log_var_layer(x)

    def draw(self, mu, log_var):
        noise = self.setting("noise").reshape(-1, 1, 1)
        return mu + noise * ops.exp(log_var / 2) * keras.random.normal(ops.shape(mu), seed=self.sampling_seed)

    def logits(self, z):
        for layer in self.decoder_layers:
            z = layer(z)
        return self.logits_layer(z)

    def parts(self, x):
        """Per network: distortion in nats per picture, mean KL of each latent, and the log-variances of the clouds."""
        mu, log_var = self.encode(x)
        logits = self.logits(self.draw(mu, log_var))
        losses = ops.softplus(logits) - x * logits  # −x·log x̂ − (1 − x)·log(1 − x̂) with x̂ = sigmoid(logits)
        rates = ops.mean(ops.square(mu) + ops.exp(log_var) - 1 - log_var, axis=1) / 2
        return ops.mean(ops.sum(losses, axis=-1), axis=1), rates, log_var

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        distortion, rates, _ = self.parts(ops.expand_dims(x, 0))
        steps = np.maximum(self.setting("warm_up") * self.total_steps, 1e-3)
        self.step.assign(self.step + 1)
        beta = self.setting("beta") * ops.minimum(1.0, self.step / steps)
        charged = ops.sum(ops.maximum(rates, self.setting("free_nats").reshape(-1, 1)), axis=-1)
        return ops.sum(distortion + beta * charged)


def train_stack(kinds: list[Kind], x: np.ndarray, *, hidden, latent: int, epochs: int, batch_size: int) -> StackedVAEs:
    """Train all networks on the flat pictures `x`."""
    model = StackedVAEs(kinds, x.shape[1], hidden, latent)
    model.total_steps = epochs * math.ceil(len(x) / batch_size)
    schedule = warm_up_and_cosine(1.0, model.total_steps)
    model.compile(optimizer=OwnRates(schedule, model.setting("rate")), jit_compile="auto")
    model.fit(x, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


def measure_stack(model: StackedVAEs, x: np.ndarray, batch_size: int = 250) -> list[dict[str, float]]:
    """Results of each kind on the pictures `x`: distortion, rate, active latents, mean σ, and the MSE from the mean."""
    chunks = []
    for start in range(0, len(x), batch_size):
        part = ops.convert_to_tensor(x[np.newaxis, start : start + batch_size])
        distortion, rates, log_var = model.parts(part)
        from_mean = ops.sigmoid(model.logits(model.encode(part)[0]))
        error = ops.mean(ops.square(part - from_mean), axis=(1, 2))
        sigma = ops.mean(ops.exp(log_var / 2), axis=(1, 2))
        reconstruction = ops.mean(_bce(part, from_mean), axis=1)
        quantities = (distortion, rates, sigma, error, reconstruction)
        chunks.append([ops.convert_to_numpy(quantity) for quantity in quantities])
    weights = [len(x[start : start + batch_size]) for start in range(0, len(x), batch_size)]
    distortion, rates, sigma, error, reconstruction = (
        np.average([chunk[i] for chunk in chunks], axis=0, weights=weights) for i in range(5)
    )
    return [
        {
            "distortion": distortion[i],
            "rate": rates[i].sum(),
            "active": float((rates[i] > 0.1).sum()),
            "sigma": sigma[i],
            "mse": error[i],
            "bce": reconstruction[i],
        }
        for i in range(len(rates))
    ]


def _bce(x, x_hat):
    """In nats per picture."""
    x_hat = ops.clip(x_hat, 1e-7, 1 - 1e-7)
    return -ops.sum(x * ops.log(x_hat) + (1 - x) * ops.log(1 - x_hat), axis=-1)


# The curves of lesson 06. One training gives the results for all values of x.

NETWORK = {"network": [784, 400, 200, 20], "activation": "silu", "batch_size": 200}
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008)
RATES_SETTINGS = {**NETWORK, "epochs": 60, "scored": "validation digits"}


def _trained(kinds: list[Kind], settings: dict) -> StackedVAEs:
    _, *hidden, latent = settings["network"]
    return train_stack(
        kinds,
        load_mnist(flat=True)[0][0],
        hidden=hidden,
        latent=latent,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
    )


def _on_validation_digits(model: StackedVAEs) -> list[dict[str, float]]:
    return measure_stack(model, load_mnist(flat=True)[1][0])


@functools.cache
def measure_rates(seed: int) -> dict[float, dict[str, float]]:
    """Learning rate → label → result, of an autoencoder and a VAE trained with each rate."""
    keras.utils.set_random_seed(seed)
    kinds = [make(rate) for make in (autoencoder, Kind) for rate in RATES]
    results = _on_validation_digits(_trained(kinds, RATES_SETTINGS))
    return {
        rate: {
            "autoencoder, BCE": plain["bce"],
            "autoencoder, MSE": plain["mse"],
            "VAE, −ELBO": vae["distortion"] + vae["rate"],
            "VAE, KL": vae["rate"],
            "VAE, MSE": vae["mse"],
        }
        for rate, plain, vae in zip(RATES, results[: len(RATES)], results[len(RATES) :], strict=True)
    }


def best_rate(label: str) -> float:
    """The learning rate with the lowest mean of the curve "06.rates"."""
    curve = load_curve("06.rates")
    return curve["x"][int(np.argmin(curve["mean"][label]))]


BETAS = (0.1, 0.5, 1.0, 2.0, 5.0, 24.5)
WAYS = {"": {}, ", warm-up": {"warm_up": 0.3}, ", free bits": {"free_nats": 0.25}}
BETA_SETTINGS = {
    **NETWORK,
    "network": [784, 400, 200, 32],
    "epochs": 40,
    "rate": "the best of 06.rates for the VAE",
    "ways": WAYS,
    "scored": "validation digits",
}


@functools.cache
def measure_betas(seed: int) -> dict[float, dict[str, float]]:
    """β → label → rate, distortion, active latents and mean σ of VAEs trained in each way."""
    keras.utils.set_random_seed(seed)
    rate = best_rate("VAE, −ELBO")
    kinds = [Kind(rate, beta=beta, **way) for beta in BETAS for way in WAYS.values()]
    of_kinds = iter(_on_validation_digits(_trained(kinds, BETA_SETTINGS)))
    results: dict[float, dict[str, float]] = {}
    for beta in BETAS:
        values = results[beta] = {}
        for way, result in zip(WAYS, of_kinds, strict=False):
            values |= {f"{name}{way}": result[name] for name in ("distortion", "rate", "active", "sigma", "mse")}
            values[f"−ELBO{way}"] = result["distortion"] + result["rate"]
    return results
