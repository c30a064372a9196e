"""Checks of the exercises of lesson 06."""

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require

CHANGES = ("rises", "falls", "stays")


@register_exercise(
    "06.halve",
    hints=(
        "take the three one by one: smaller noise at the decoder's input, a cloud that says more precisely where the code is, "
        "and a sum that the training has made as small as it could.",
        "look at the KL of one latent over σ: it contains −log σ, so halving σ costs log 2 = 0.69 nats where σ is small.",
        "at the best σ, the first derivative of the sum is zero; away from it the sum can only grow.",
    ),
)
def _halve(prediction) -> None:
    require(
        isinstance(prediction, (tuple, list)) and len(prediction) == 3 and all(word in CHANGES for word in prediction),
        f"expected three words for reconstruction error, KL and sum, each one of {CHANGES}; it is {prediction!r}.",
    )
    reconstruction, kl, total = prediction
    require(reconstruction == "falls", "the reconstruction error changes otherwise: what does noise do to details?")
    require(kl == "rises", "the KL changes otherwise: is a smaller cloud nearer to the prior, or further away?")
    require(total == "rises", "the sum changes otherwise: which σ had the training chosen?")


def _kl_by_integration(mu: float, log_var: float, prior_mu: float, prior_log_var: float) -> float:
    """KL divergence between two normal distributions on the line: the sum of q·(log q − log p) over a fine grid."""

    def log_density(z, mean, log_variance):
        return -0.5 * ((z - mean) ** 2 / np.exp(log_variance) + log_variance + np.log(2 * np.pi))

    sigma = np.exp(log_var / 2)
    z, step = np.linspace(mu - 10 * sigma, mu + 10 * sigma, 20_001, retstep=True)
    log_q = log_density(z, mu, log_var)
    return float(np.sum(np.exp(log_q) * (log_q - log_density(z, prior_mu, prior_log_var))) * step)


@register_exercise(
    "06.kl_between",
    hints=(
        "start from the mean of log q(z) − log p(z) over z drawn from q, for one latent.",
        "the mean of (z − m)² over q is σ² + (μ − m)²; that of (z − μ)² is σ². Both are divided by the variance of their density.",
        "per latent: half of (σ² + (μ − m)²) / s² − 1 + log s² − log σ²; then sum over the latents.",
    ),
)
def _kl_between(kl_between) -> None:
    rng = np.random.default_rng(0)
    arguments = [rng.normal(size=(4, 3)) for _ in range(4)]
    answer = kl_between(*arguments)
    require(answer is not None, "the function returns nothing; it should return one number per row.")
    answer = np.asarray(answer)
    require(answer.shape == (4,), f"4 rows should give 4 numbers; the result has the shape {answer.shape}.")
    same = np.asarray(kl_between(arguments[0], arguments[1], arguments[0], arguments[1]))
    require(np.allclose(same, 0, atol=1e-9), f"between equal distributions the divergence is 0; it says {same[0]:.3f}.")
    expected = np.array(
        [sum(_kl_by_integration(*(a[row, j] for a in arguments)) for j in range(3)) for row in range(4)]
    )
    require(
        np.allclose(answer, expected, rtol=1e-4),
        f"for the first row it says {answer[0]:.4f}, but integrating gives {expected[0]:.4f}. Is it right for a prior "
        "whose variance is not 1?",
    )


def _log_normalizer_by_integration(lam: float) -> float:
    """Minus the logarithm of the integral of λ^x (1 − λ)^(1 − x) over [0, 1], by the midpoint rule."""
    x = (np.arange(100_000) + 0.5) / 100_000
    return float(-np.log(np.mean(lam**x * (1 - lam) ** (1 - x))))


@register_exercise(
    "06.log_normalizer",
    hints=(
        "C is the reciprocal of the integral, so that the density integrates to 1.",
        "write the integrand as (1 − λ)·exp(a·x) with a = log λ − log(1 − λ), and integrate the exponential.",
        "C(λ) = (log λ − log(1 − λ)) / (2λ − 1), and C(½) = 2; use np.where near ½, with a harmless λ in the other branch.",
    ),
)
def _log_normalizer(log_normalizer) -> None:
    lam = np.array([0.01, 0.2, 0.5, 0.5 + 1e-9, 0.7, 0.999])
    with np.errstate(all="ignore"):
        answer = log_normalizer(lam)
    require(answer is not None, "the function returns nothing; it should return log C for each λ.")
    answer = np.asarray(answer)
    require(answer.shape == lam.shape, f"6 values of λ should give 6 numbers; the result has the shape {answer.shape}.")
    require(bool(np.isfinite(answer).all()), f"at λ = {lam[~np.isfinite(answer)][:1]} the result is not a number.")
    expected = np.array([_log_normalizer_by_integration(value) for value in lam])
    wrong = int(np.abs(answer - expected).argmax())
    require(
        np.allclose(answer, expected, atol=1e-3),
        f"at λ = {lam[wrong]:.3f} it says {answer[wrong]:.4f}, but integrating gives {expected[wrong]:.4f}.",
    )


def _kinds(model) -> set[str]:
    """Names of the classes of all layers in a model, those of nested models too."""
    return {type(layer).__name__ for layer in model._flatten_layers(include_self=False)}


@register_exercise(
    "06.convolutional",
    hints=(
        "the encoder goes 28 → 14 → 7 by strides, and ends in two dense layers side by side; the decoder goes 7 → 14 → 28.",
        "μ and log σ² must be able to have either sign, and pixels lie in [0, 1]: which layers have which activation?",
        "encoder: Reshape((28, 28, 1)), two Conv2D with strides=2, Flatten, two Dense(latent) without activation; decoder: "
        "Dense(7 * 7 * 32), Reshape((7, 7, 32)), two Conv2DTranspose with strides=2, the last with one channel and a sigmoid, Flatten.",
    ),
)
def _convolutional(build_conv_networks) -> None:
    rng = np.random.default_rng(0)
    networks = build_conv_networks(5)
    require(
        isinstance(networks, (tuple, list)) and len(networks) == 2,
        "the function should return two networks, encoder and decoder.",
    )
    encoder, decoder = networks
    require("Conv2D" in _kinds(encoder), "there is no convolution in the encoder.")
    require(
        bool(_kinds(decoder) & {"Conv2DTranspose", "Conv2D"}),
        "there is no convolution in the decoder, transposed or after upsampling.",
    )
    x = rng.uniform(size=(60, 784)).astype("float32")
    code = encoder(x)
    require(isinstance(code, (tuple, list)) and len(code) == 2, "the encoder should give two arrays, [mu, log_var].")
    for name, part in zip(("mu", "log_var"), code, strict=True):
        part = keras.ops.convert_to_numpy(part)
        require(part.shape == (60, 5), f"for 60 digits and 5 latents {name} should be (60, 5); it is {part.shape}.")
    weights = encoder.get_weights()
    outputs = []
    for _ in range(5):  # whatever the weights are, the outputs must be able to have either sign
        encoder.set_weights([rng.normal(scale=0.2, size=weight.shape) for weight in weights])
        outputs.append([keras.ops.convert_to_numpy(part) for part in encoder(x)])
    encoder.set_weights(weights)
    for index, name in enumerate(("mu", "log_var")):
        low = min(output[index].min() for output in outputs)
        high = max(output[index].max() for output in outputs)
        require(
            low < -1e-3 and high > 1e-3,
            f"whatever the weights are, {name} lies between {low:.2f} and {high:.2f}; it must be able to have either "
            "sign. Is there an activation?",
        )
    z = rng.normal(size=(60, 5)).astype("float32")
    x_hat = keras.ops.convert_to_numpy(decoder(z))
    require(x_hat.shape == (60, 784), f"the decoder should give flat pixels (60, 784); its result is {x_hat.shape}.")
    weights = decoder.get_weights()
    decoder.set_weights([rng.normal(scale=0.3, size=weight.shape) for weight in weights])
    x_hat = keras.ops.convert_to_numpy(decoder(z))
    decoder.set_weights(weights)
    require(
        x_hat.min() >= 0 and x_hat.max() <= 1,
        "pixels should lie in [0, 1] whatever the weights are: end the decoder with a sigmoid.",
    )
    require(
        x_hat.sum(axis=1).max() > 2,
        "the pixels of a picture add up to 1: each pixel needs a sigmoid of its own, not a softmax.",
    )
