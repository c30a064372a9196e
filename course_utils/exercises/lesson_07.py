"""Checks of the exercises of lesson 07."""

import itertools

import numpy as np
from scipy import stats
from sklearn.mixture import GaussianMixture

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
    "07.mixture",
    hints=(
        "both logarithms belong to densities, whose integral is 1; check the constant of the normal distribution.",
        "log N(z; 0, I) = −½ (‖z‖² + d · log 2π) for a code of d numbers; the sum over the numbers is np.square(z).sum(axis=1).",
        "return np.mean(mixture.score_samples(z) - log_normal), with one log_normal per code.",
    ),
)
def _mixture(nats_saved) -> None:
    rng = np.random.default_rng(0)
    centers = np.array([[-3.0, 0, 0], [3, 1, 0]])
    z = centers[rng.integers(2, size=400)] + 0.5 * rng.normal(size=(400, 3))
    fitted = GaussianMixture(2, random_state=0).fit(z)
    for codes in (z, rng.normal(size=(50, 3))):
        answer = nats_saved(fitted, codes)
        require(answer is not None, "the function returns nothing; it should return a number.")
        require(np.ndim(answer) == 0, f"it should return one number; the result has the shape {np.shape(answer)}.")
        expected = np.mean(fitted.score_samples(codes) - stats.norm.logpdf(codes).sum(axis=1))
        require(
            np.isclose(answer, expected),
            f"for {len(codes)} codes of three numbers it says {float(answer):.3f} nats, but it should be {expected:.3f}.",
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
