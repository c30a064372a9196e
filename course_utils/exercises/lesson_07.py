"""Checks of the exercises of lesson 07."""

import itertools

import numpy as np
from scipy import stats

from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "07.inputs",
    hints=("np.tile(z, (n, 1)) repeats a code; np.eye(10)[[2, 0]] are the labels of a 2 and a 0.",),
)
def _inputs(decoder_inputs) -> None:
    z = np.array([0.5, -1.0, 2.0])
    answer = decoder_inputs("2026", z)
    require(answer is not None, "the function returns nothing; it should return codes and labels.")
    require(len(answer) == 2, f"it should return two arrays, codes and labels; it returned {len(answer)} things.")
    codes, labels = map(np.asarray, answer)
    require(codes.shape == (4, 3), f"four digits and a code of 3 numbers give the shape (4, 3), not {codes.shape}.")
    require(np.array_equal(codes, [z, z, z, z]), "the four digits should all have the code z.")
    require(labels.shape == (4, 10), f"the labels should have one number per digit, shape (4, 10), not {labels.shape}.")
    expected = np.zeros((4, 10))
    for row, column in enumerate([2, 0, 2, 6]):
        expected[row, column] = 1
    require(np.array_equal(labels, expected), "each label should be a one in the column of its digit and nine zeros.")


@register_exercise(
    "07.truncated",
    hints=("draw all, then draw those with abs(z) > limit again, in a while loop, until none is left outside.",),
)
def _truncated(truncated_normal) -> None:
    for limit in (0.5, 1.5):
        z = truncated_normal(np.random.default_rng(0), (4000, 5), limit)
        require(z is not None, "the function returns nothing; it should return the numbers.")
        z = np.asarray(z)
        require(z.shape == (4000, 5), f"asked for the shape (4000, 5), it returned {z.shape}.")
        require(np.abs(z).max() <= limit, f"with the limit {limit} a number of {np.abs(z).max():.2f} was returned.")
        at_the_limit = np.mean(np.abs(z) > 0.999 * limit)
        require(
            at_the_limit < 0.01,
            f"{at_the_limit:.0%} of the numbers lie at the limit {limit} itself: they were moved there, not drawn again.",
        )
        expected = stats.truncnorm(-limit, limit)
        p_value = stats.kstest(z.ravel(), expected.cdf).pvalue
        require(
            p_value > 1e-4,
            f"with the limit {limit} the numbers are not distributed as normal numbers that were drawn again: their "
            f"standard deviation is {z.std():.3f} and should be {expected.std():.3f}.",
        )


@register_exercise(
    "07.kernel",
    hints=("(a @ a.T / d + 1) ** 3 holds all pairs; subtract np.trace of it and divide by m · (m − 1).",),
)
def _kernel(kernel_distance) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(7, 3)) + 0.5

    def kernel(u, v):
        return (float(np.dot(u, v)) / 3 + 1) ** 3

    # Pair by pair, as in the formula: mean over the ordered pairs of different rows.
    within_a = np.mean([kernel(u, v) for u, v in itertools.permutations(a, 2)])
    within_b = np.mean([kernel(u, v) for u, v in itertools.permutations(b, 2)])
    across = np.mean([kernel(u, v) for u, v in itertools.product(a, b)])
    answer = kernel_distance(a, b)
    require(answer is not None, "the function returns nothing; it should return a number.")
    require(np.ndim(answer) == 0, f"it should return one number; the result has the shape {np.shape(answer)}.")
    expected = within_a + within_b - 2 * across
    require(
        np.isclose(answer, expected),
        f"for two small sets it says {float(answer):.4f}, but pair by pair the sum is {expected:.4f}.",
    )
