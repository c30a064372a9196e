"""Checks of the exercises of lesson 07."""

import itertools

import numpy as np
from scipy import stats

from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "07.predict",
    hints=(
        "two of the three words are the same as in the sentence: the digits become more ordinary.",
        "the Fréchet distance compares means *and* covariances. What happens to the covariance when all digits look alike?",
        "run describe(write_asked(*priors['Gaussian'], temperature=0.5)), and compare it with temperature=1.",
    ),
)
def _predict(prediction) -> None:
    words = tuple(str(word).strip().lower() for word in prediction)
    require(len(words) == 3, f"expected three words, but there are {len(words)}.")
    require(set(words) <= {"rises", "falls"}, 'each word should be "rises" or "falls".')
    asked, distance, variety = words
    require(variety == "falls", "with less noise the digits are more alike, so one of these words cannot be right.")
    require(asked == "rises", "ordinary digits are easier to read than strange ones.")
    require(distance == "rises", "two of the three words are right, and the third is the surprising one.")


@register_exercise(
    "07.truncated",
    hints=(
        "numbers beyond the limit should be replaced by new random numbers, not by the limit.",
        "a new number may lie outside again, so one replacement is not enough: use a while loop.",
        "outside = np.abs(z) > limit; z[outside] = rng.normal(size=outside.sum()); repeat while outside.any().",
    ),
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
    hints=(
        "a sum over i ≠ j leaves out the pairs of a row with itself, and divides by the number of the pairs that are left.",
        "a @ a.T holds all scalar products; its diagonal holds those of each row with itself.",
        "with k = (a @ a.T / d + 1) ** 3, the first term is (k.sum() - np.trace(k)) / (m * (m - 1)).",
    ),
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


@register_exercise(
    "07.copier",
    hints=(
        "the picture may move in both directions at the same time: three positions times three.",
        "np.pad gives every picture a black border of one pixel; each position is then a window of 28 × 28 pixels.",
        "for each position: candidates = nearest(moved, pool), and their distances np.square(moved - pool[candidates])"
        ".sum(axis=1); keep the row with the smallest distance so far.",
    ),
)
def _copier(nearest_if_moved) -> None:
    rng = np.random.default_rng(0)
    pool = np.zeros((40, 28, 28), dtype="float32")
    pool[:, 6:22, 6:22] = rng.uniform(size=(40, 16, 16))
    positions = list(itertools.product((-1, 0, 1), repeat=2))
    for down, right in positions:
        x = np.roll(pool[10:30], (down, right), axis=(1, 2)).reshape(20, 784)
        answer = nearest_if_moved(x, pool.reshape(40, 784))
        require(answer is not None, "the function returns nothing; it should return rows of the pool.")
        answer = np.asarray(answer)
        require(answer.shape == (20,), f"20 pictures should give 20 rows of the pool, not the shape {answer.shape}.")
        wrong = np.mean(answer != np.arange(10, 30))
        require(
            wrong == 0,
            f"pictures of the pool that were moved by {down} down and {right} to the right are not recognized "
            f"({wrong:.0%} of them).",
        )
    edge = np.zeros((3, 28, 28), dtype="float32")
    edge[0, 5, 27] = edge[1, 5, 0] = edge[2, 14, 14] = 1  # what leaves the picture must not come in again elsewhere
    x = np.zeros((1, 28, 28), dtype="float32")
    x[0, 5, 26] = 1
    answer = np.asarray(nearest_if_moved(x.reshape(1, 784), edge.reshape(3, 784)))
    require(
        answer[0] == 0, "at the border of the picture it finds the wrong row: what leaves on one side must not return."
    )
