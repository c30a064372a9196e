"""Many VAEs and autoencoders of one shape that learn at the same time, for the stored curves of lesson 06.

On a GPU a small network leaves nearly everything idle. Here each layer holds the matrices of all networks, and one step
trains them all, each as if it were alone: every network has its own weights, its own noise, its own learning rate and,
per seed, its own order of the digits, and no term of the loss mixes two of them.
"""

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.evaluation import load_judge
from course_utils.lessons import frechet_distance
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


class OwnRates(keras.optimizers.Adam):
    """Adam, which treats every weight by itself, with a factor of its own on the learning rate of each network."""

    def __init__(self, schedule, factors: np.ndarray):
        super().__init__(learning_rate=schedule)
        self.factors = factors.reshape(-1, 1, 1).astype("float32")

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype) * ops.convert_to_tensor(self.factors)
        super().update_step(gradient, variable, rate)


class StackedVAEs(keras.Model):
    """Networks `hidden`-`latent`-`hidden`: those of the first seed in the order of `kinds`, then those of the second, …"""

    def __init__(self, kinds: list[Kind], n_seeds: int, pictures: np.ndarray, hidden, latent: int, activation="silu"):
        super().__init__()
        self.kinds, self.n_seeds = kinds, n_seeds
        n, n_pixels = len(kinds) * n_seeds, pictures.shape[1]
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
        self.pictures = keras.Variable(pictures, trainable=False, name="pictures")
        self.step = keras.Variable(0.0, trainable=False, name="step")
        self.total_steps = 1

    def build(self, input_shape=None):
        """Nothing is left to build."""

    def call(self, rows):
        return rows

    def setting(self, name: str) -> np.ndarray:
        """One number per network."""
        return np.tile([getattr(kind, name) for kind in self.kinds], self.n_seeds).astype("float32")

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
        """Per network: distortion in nats per picture, mean KL of each latent, and the mean squared error of a draw."""
        mu, log_var = self.encode(x)
        logits = self.logits(self.draw(mu, log_var))
        losses = ops.softplus(logits) - x * logits  # −x·log x̂ − (1 − x)·log(1 − x̂) with x̂ = sigmoid(logits)
        rates = ops.mean(ops.square(mu) + ops.exp(log_var) - 1 - log_var, axis=1) / 2
        return ops.mean(ops.sum(losses, axis=-1), axis=1), rates, log_var

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        pictures = ops.take(self.pictures, ops.transpose(x), axis=0)  # (seeds, batch, pixels)
        distortion, rates, _ = self.parts(ops.repeat(pictures, len(self.kinds), axis=0))
        steps = np.maximum(self.setting("warm_up") * self.total_steps, 1e-3)
        self.step.assign(self.step + 1)
        beta = self.setting("beta") * ops.minimum(1.0, self.step / steps)
        charged = ops.sum(ops.maximum(rates, self.setting("free_nats").reshape(-1, 1)), axis=-1)
        return ops.sum(distortion + beta * charged)


def train_stack(
    kinds: list[Kind], n_seeds: int, x: np.ndarray, *, hidden, latent: int, epochs: int, batch_size: int
) -> StackedVAEs:
    """Train all networks on the flat pictures `x`, each seed in another order of the pictures."""
    model = StackedVAEs(kinds, n_seeds, x, hidden, latent)
    model.total_steps = epochs * math.ceil(len(x) / batch_size)
    schedule = warm_up_and_cosine(1.0, model.total_steps)
    model.compile(optimizer=OwnRates(schedule, model.setting("rate")), jit_compile="auto")
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(len(x)) for _ in range(n_seeds)], axis=1).astype("int32")
    model.fit(rows, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


def measure_stack(model: StackedVAEs, x: np.ndarray, batch_size: int = 250) -> list[list[dict[str, float]]]:
    """Seed → kind → results on the pictures `x`: distortion, rate, active latents, mean σ, and the MSE from the mean."""
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
    results = [
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
    n_kinds = len(model.kinds)
    return [results[start : start + n_kinds] for start in range(0, len(results), n_kinds)]


def _bce(x, x_hat):
    """In nats per picture."""
    x_hat = ops.clip(x_hat, 1e-7, 1 - 1e-7)
    return -ops.sum(x * ops.log(x_hat) + (1 - x) * ops.log(1 - x_hat), axis=-1)


def chosen_networks(model: StackedVAEs, kind: int, latent: int) -> StackedVAEs:
    """The networks of one kind, of all seeds, as a stack of their own."""
    places = np.arange(model.n_seeds) * len(model.kinds) + kind
    hidden = [layer.units for layer in model.encoder_layers]
    few = StackedVAEs(
        [model.kinds[kind]], model.n_seeds, np.zeros((1, model.logits_layer.units), "float32"), hidden, latent
    )
    for weight, all_weights in zip(few.trainable_variables, model.trainable_variables, strict=True):
        weight.assign(ops.take(all_weights, ops.convert_to_tensor(places), axis=0))
    return few


# The curves of lesson 06. Each training serves all values of x, so it is kept for the next one.

NETWORK = {"network": [784, 400, 200, 20], "activation": "silu", "batch_size": 200}
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008)
RATES_SETTINGS = {**NETWORK, "epochs": 60, "scored": "validation digits"}
N_SEEDS = 8


def this_seed() -> int:
    """0 … N_SEEDS − 1: which of the sweep's seeds, 1 … N_SEEDS, was set last, by NumPy's first draw."""
    first = {int(np.random.RandomState(seed + 1).randint(2**31)): seed for seed in range(N_SEEDS)}
    return first[int(np.random.randint(2**31))]  # noqa: NPY002


@functools.cache
def _rated() -> tuple[StackedVAEs, list]:
    """Autoencoders and VAEs with each of the rates, and what they are worth on the validation digits."""
    (x_train, _), (x_val, _), _ = load_mnist(flat=True)
    kinds = [make(rate) for make in (autoencoder, Kind) for rate in RATES]
    _, *hidden, latent = NETWORK["network"]
    model = train_stack(
        kinds,
        N_SEEDS,
        x_train,
        hidden=hidden,
        latent=latent,
        epochs=RATES_SETTINGS["epochs"],
        batch_size=NETWORK["batch_size"],
    )
    return model, measure_stack(model, x_val)


def rate_results(rate: float) -> dict[str, float]:
    """Of this seed's autoencoder and VAE, trained with the learning rate `rate`."""
    seed, i = this_seed(), RATES.index(rate)  # the seed first: the training below draws numbers
    results = _rated()[1][seed]
    plain, vae = results[i], results[len(RATES) + i]
    return {
        "autoencoder, BCE": plain["bce"],
        "autoencoder, MSE": plain["mse"],
        "VAE, −ELBO": vae["distortion"] + vae["rate"],
        "VAE, KL": vae["rate"],
        "VAE, MSE": vae["mse"],
    }


COMPONENTS = (1, 3, 10, 30, 100)
GENERATORS_SETTINGS = {
    **RATES_SETTINGS,
    "rates": "the best of 06.rates for each model",
    "mixture": "full covariances, fitted to the codes of 20,000 training digits",
    "scored": "Fréchet distance of 5,000 pictures to the validation digits, on the judge's features",
}


@functools.cache
def _tuned() -> dict[str, StackedVAEs]:
    """The autoencoders and the VAEs with the rate that is best for them, on the mean over the seeds."""
    model, results = _rated()
    mean = {
        name: np.mean([[kind[name] for kind in seed] for seed in results], axis=0)
        for name in ("bce", "distortion", "rate")
    }
    n, latent = len(RATES), NETWORK["network"][-1]
    best = {
        "autoencoder": int(np.argmin(mean["bce"][:n])),
        "VAE": n + int(np.argmin((mean["distortion"] + mean["rate"])[n:])),
    }
    return {name: chosen_networks(model, kind, latent) for name, kind in best.items()}


def _in_chunks(function: Callable, arrays: np.ndarray, size: int = 1000) -> np.ndarray:
    """`function` of arrays `(networks or 1, n, …)`, computed in parts along the second axis."""
    parts = [arrays[:, start : start + size] for start in range(0, arrays.shape[1], size)]
    return np.concatenate([ops.convert_to_numpy(function(ops.convert_to_tensor(part))) for part in parts], axis=1)


@functools.cache
def _codes_of_tuned() -> dict[str, np.ndarray]:
    """Of each tuned model a draw from the clouds of 20,000 training digits, `(seeds, 20000, latents)`."""
    x = load_mnist(flat=True)[0][0][np.newaxis, :20_000]
    return {name: _in_chunks(lambda part, m=model: m.draw(*m.encode(part)), x) for name, model in _tuned().items()}


def _draw_from_mixture(codes: np.ndarray, n_components: int, n: int, seed: int) -> np.ndarray:
    scale = codes.std(axis=0) + 1e-6
    mixture = GaussianMixture(n_components, max_iter=50, reg_covar=1e-4, random_state=seed).fit(codes / scale)
    return (mixture.sample(n)[0] * scale).astype("float32")


@functools.cache
def _judge_features() -> keras.Model:
    judge = load_judge()
    return keras.Model(judge.inputs, judge.get_layer("features").output)


def _features(images: np.ndarray) -> np.ndarray:
    return _judge_features().predict(images.reshape(-1, 28, 28, 1), batch_size=1000, verbose=0)


@functools.cache
def _generated(n_components: int) -> dict[str, list[float]]:
    """Label → Fréchet distance of every seed."""
    (x_train, _), (x_val, _), _ = load_mnist(flat=True)
    rng, n, latent = np.random.default_rng(n_components), len(x_val), NETWORK["network"][-1]
    codes = {"VAE, prior": rng.normal(size=(N_SEEDS, n, latent)).astype("float32")}
    with threadpool_limits(1), ThreadPoolExecutor() as pool:
        for name, all_codes in _codes_of_tuned().items():
            jobs = [(part, n_components, n, seed) for seed, part in enumerate(all_codes)]
            codes[f"{name}, mixture"] = np.stack(list(pool.map(lambda job: _draw_from_mixture(*job), jobs)))
    real = _features(x_val)
    distances = {}
    for label, z in codes.items():
        model = _tuned()[label.partition(",")[0]]
        pictures = _in_chunks(lambda part, m=model: ops.sigmoid(m.logits(part)), z)
        distances[label] = [frechet_distance(_features(images), real) for images in pictures]
    drawn = [x_train[rng.choice(len(x_train), n, replace=False)] for _ in range(N_SEEDS)]
    distances["training digits"] = [frechet_distance(_features(images), real) for images in drawn]
    return distances


def generator_results(n_components: int) -> dict[str, float]:
    """How far this seed's generated digits are from the validation digits, by label."""
    seed = this_seed()
    return {label: values[seed] for label, values in _generated(n_components).items()}


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
def _betas() -> list:
    (x_train, _), (x_val, _), _ = load_mnist(flat=True)
    curve = load_curve("06.rates")
    rate = curve["x"][int(np.argmin(curve["mean"]["VAE, −ELBO"]))]
    kinds = [Kind(rate, beta=beta, **way) for beta in BETAS for way in WAYS.values()]
    _, *hidden, latent = BETA_SETTINGS["network"]
    model = train_stack(
        kinds,
        N_SEEDS,
        x_train,
        hidden=hidden,
        latent=latent,
        epochs=BETA_SETTINGS["epochs"],
        batch_size=NETWORK["batch_size"],
    )
    return measure_stack(model, x_val)


def beta_results(beta: float) -> dict[str, float]:
    """Rate, distortion, active latents and mean σ of this seed's VAEs with the weight `beta`, by way of training."""
    seed, first = this_seed(), BETAS.index(beta) * len(WAYS)
    results = _betas()[seed][first : first + len(WAYS)]
    values = {}
    for way, result in zip(WAYS, results, strict=True):
        values |= {f"{name}{way}": result[name] for name in ("distortion", "rate", "active", "sigma", "mse")}
        values[f"−ELBO{way}"] = result["distortion"] + result["rate"]
    return values
