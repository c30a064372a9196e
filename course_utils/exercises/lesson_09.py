"""Checks of the exercises of lesson 09."""

import numpy as np
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "09.predict_ink",
    hints=(
        "the score of a picture is its ink; which digit has the least ink?",
        "AUROC is the probability that a random other digit has more ink than a random 1. How often does that fail?",
    ),
)
def _predict_ink(prediction) -> None:
    require(
        isinstance(prediction, (int, float)) and 0 <= prediction <= 1, "expected an AUROC, a number between 0 and 1."
    )
    require(
        prediction > 0.5,
        f"an AUROC of {prediction} would mean that a random other digit has at most as much ink as a random 1.",
    )
    require(
        prediction > 0.75,
        f"with {prediction} many other digits would have less ink than a 1; but a 1 is a single stroke.",
    )


@register_exercise(
    "09.auroc",
    hints=(
        "sort all scores together. What does the rank of an anomaly say about the number of scores below it?",
        "the ranks of the anomalies also count the other anomalies below: n_a (n_a + 1) / 2 in all, with the anomaly itself.",
        "equal scores must share the mean of their ranks, as `rankdata` does, so that each such pair counts one half.",
    ),
)
def _auroc(auroc_by_ranks) -> None:
    rng = np.random.default_rng(0)
    for levels in (None, 7):
        scores, anomalous = rng.normal(size=400), rng.uniform(size=400) < 0.3
        scores += anomalous
        if levels:
            scores = np.round(scores * levels / 4)
        answer = auroc_by_ranks(anomalous, scores)
        require(answer is not None, "the function returns nothing; it should return the AUROC.")
        expected = roc_auc_score(anomalous, scores)
        case = "many scores are equal" if levels else "no two scores are equal"
        require(
            np.isclose(answer, expected, atol=1e-9),
            f"where {case}, it says {float(answer):.4f}, but counting all pairs gives {expected:.4f}.",
        )


@register_exercise(
    "09.worst_place",
    hints=(
        "`ndimage.gaussian_filter` needs pictures: reshape to (n, 28, 28), and do not smooth along the first axis.",
        "the signs matter: a thin bright line beside a thin dark one should cancel before the absolute value is taken.",
        "smooth with the widths (0, sigma, sigma), then take the largest absolute value over the last two axes.",
    ),
)
def _worst_place(worst_place) -> None:
    residual = np.random.default_rng(0).normal(size=(5, 784)).astype("float32")
    for sigma in (0.7, 1.5):
        answer = worst_place(residual.copy(), sigma)
        require(answer is not None, "the function returns nothing; it should return one number per picture.")
        answer = np.asarray(answer)
        require(answer.shape == (5,), f"5 pictures should give 5 numbers; the result has the shape {answer.shape}.")
        smooth = np.stack([ndimage.gaussian_filter(one.reshape(28, 28), sigma) for one in residual])
        require(
            np.allclose(answer, np.abs(smooth).max(axis=(1, 2)), rtol=1e-4),
            f"for the first picture it says {answer[0]:.4f}; smoothing first gives {np.abs(smooth[0]).max():.4f}.",
        )
