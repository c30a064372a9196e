"""Checks of the exercises of lesson 06."""

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "06.draw",
    hints=("the standard deviation is exp(log_var / 2); multiply it by epsilon and add mu.",),
)
def _draw(draw) -> None:
    rng = np.random.default_rng(0)
    mu, variance = np.array([[1.0, -2.0, 0.0]]), np.array([[4.0, 0.25, 1.0]])
    epsilon = rng.normal(size=(100_000, 3))
    z = draw(np.repeat(mu, len(epsilon), axis=0), np.repeat(np.log(variance), len(epsilon), axis=0), epsilon)
    require(z is not None, "the function returns nothing; it should return the codes.")
    z = np.asarray(z)
    require(z.shape == epsilon.shape, f"expected codes of the shape {epsilon.shape}; the result has {z.shape}.")
    require(
        np.allclose(z.mean(axis=0), mu, atol=0.05),
        f"the means of many draws should be {mu[0]}; they are {z.mean(axis=0).round(2)}.",
    )
    require(
        np.allclose(z.var(axis=0), variance, rtol=0.05),
        f"for log-variances {np.log(variance[0]).round(2)} the variances of many draws should be {variance[0]}; they are "
        f"{z.var(axis=0).round(2)}.",
    )
    require(
        np.allclose(z[:, 0] - 1, 2 * epsilon[:, 0]),
        "the draws have the right spread, but do not use the given epsilon.",
    )


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
    hints=("per latent: half of (σ² + (μ − m)²) / s² − 1 + log s² − log σ²; then sum over the latents.",),
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


def _kinds(model) -> set[str]:
    """Names of the classes of all layers in a model, those of nested models too."""
    return {type(layer).__name__ for layer in model._flatten_layers(include_self=False)}


@register_exercise(
    "06.convolutional",
    hints=(
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
