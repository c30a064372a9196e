"""Checks of the exercises of lesson 05."""

import numpy as np

from course_utils.exercises.registry import register_exercise, require


def _squared_norm_by_differences(encode, x: np.ndarray) -> float:
    """Squared Frobenius norm of the Jacobian of `encode` at one `x`: each input moved by itself, in double precision."""
    step = 1e-5 * np.eye(len(x))
    return float(np.square((encode(x + step) - encode(x - step)) / 2e-5).sum())


@register_exercise(
    "05.predict_weights",
    hints=(
        "two factors change: the squared weights, and the squared slopes h(1 − h). In which direction does each go?",
        "the squared weights grow a hundredfold. Which share of the units still has a slope that is not nearly zero?",
    ),
)
def _predict_weights(prediction) -> None:
    require(
        isinstance(prediction, (int, float)) and prediction >= 0, "expected a factor, a number that is not negative."
    )
    require(
        prediction < 50,
        f"a factor of {prediction} would be near the truth if the slopes stayed as they are; but many sigmoids saturate.",
    )
    require(
        prediction > 1.5,
        f"with a factor of {prediction} saturation would win over the larger weights; it does not, as some units stay near zero.",
    )


@register_exercise(
    "05.tanh",
    hints=(
        "only the slope differs from the sigmoid's; what is the derivative of tanh, written with h itself?",
        "tanh' = 1 − tanh². In the penalty the slope is squared, like the weights.",
        "row j of the Jacobian is the slope 1 − h_j² times column j of W; square both factors, sum over inputs and units.",
    ),
)
def _tanh(tanh_penalty) -> None:
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(6, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)

    def encode(x):
        return np.tanh(x @ W + b)

    answer = tanh_penalty(encode(x), W)
    require(answer is not None, "the function returns nothing; it should return one number per picture.")
    answer = np.asarray(answer)
    require(answer.shape == (6,), f"6 pictures should give 6 numbers; the result has the shape {answer.shape}.")
    expected = np.array([_squared_norm_by_differences(encode, one) for one in x])
    require(
        np.allclose(answer, expected, rtol=1e-4),
        f"for the first picture it says {answer[0]:.4f}, but moving the inputs one by one gives {expected[0]:.4f}.",
    )


@register_exercise(
    "05.two_layers",
    hints=(
        "by the chain rule the Jacobian is a product of matrices; which four, and in which order?",
        "J = diag(z(1 − z)) · W2ᵀ · diag(h(1 − h)) · W1ᵀ, one such matrix per picture. Multiply first, square afterwards.",
        "inner = (h(1 − h))[:, :, None] * W1.T has the shape (n, hidden, inputs); J = (z(1 − z))[:, :, None] * "
        'np.einsum("hu,nhi->nui", W2, inner); then sum the squares over the last two axes.',
    ),
)
def _two_layers(two_layer_penalty) -> None:
    rng = np.random.default_rng(0)
    x, W1, W2 = rng.normal(size=(6, 4)), rng.normal(size=(4, 5)), rng.normal(size=(5, 3))

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    def encode(x):
        return sigmoid(sigmoid(x @ W1 + 0.3) @ W2 - 0.2)

    answer = two_layer_penalty(sigmoid(x @ W1 + 0.3), encode(x), W1, W2)
    require(answer is not None, "the function returns nothing; it should return one number per picture.")
    answer = np.asarray(answer)
    require(answer.shape == (6,), f"6 pictures should give 6 numbers; the result has the shape {answer.shape}.")
    expected = np.array([_squared_norm_by_differences(encode, one) for one in x])
    require(
        np.allclose(answer, expected, rtol=1e-4),
        f"for the first picture it says {answer[0]:.4f}, but moving the inputs one by one gives {expected[0]:.4f}.",
    )
