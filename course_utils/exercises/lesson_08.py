"""Checks of the exercises of lesson 08."""

import numpy as np

from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "08.predict_ten_labels",
    hints=(
        "a hundred labels named ten groups. How many labels does it take to name one group?",
        "one label per group would do if the groups were perfect. What happens when a label falls on an odd digit?",
    ),
)
def _predict_ten_labels(prediction) -> None:
    require(
        isinstance(prediction, (int, float)) and 0 <= prediction <= 100,
        "expected an error in percent, a number from 0 to 100.",
    )
    require(
        prediction < 30,
        f"{prediction}% would be near the truth if labels did not travel; but one label can name a whole group.",
    )
    require(
        prediction > 6,
        f"{prediction}% is about what a hundred labels reach; a single label per digit names the wrong group now and then.",
    )


@register_exercise(
    "08.spread_exactly",
    hints=(
        "at the end nothing changes: F = α S F + (1 − α) Y. Bring the two terms with F to the same side.",
        "(I − α S) F = (1 − α) Y is a system of linear equations with a column of unknowns for each class.",
        "np.linalg.solve(A, B) solves A F = B; A is np.eye(n) − alpha * S.",
    ),
)
def _spread_exactly(spread_exactly) -> None:
    rng = np.random.default_rng(0)
    W = np.triu(rng.random((8, 8)) < 0.4, 1).astype(float) + np.eye(8, k=1)
    W = np.minimum(W + W.T, 1)
    roots = np.sqrt(W.sum(axis=1))
    S, Y = W / np.outer(roots, roots), np.eye(8)[:, [0, 5]]
    for alpha in (0.5, 0.9):
        answer = spread_exactly(S, Y, alpha)
        require(answer is not None, "the function returns nothing; it should return a row of scores for each point.")
        answer = np.asarray(answer)
        require(answer.shape == (8, 2), f"8 points and 2 classes should give (8, 2); the result has {answer.shape}.")
        expected = Y
        for _ in range(2000):
            expected = alpha * S @ expected + (1 - alpha) * Y
        require(
            np.allclose(answer, expected, atol=1e-6),
            f"with α = {alpha} point 1 gets {answer[1].round(4)}, but after 2,000 repetitions it has {expected[1].round(4)}.",
        )


@register_exercise(
    "08.name_clusters",
    hints=(
        "for each cluster: which rows belong to it, what is their mean, and which of them is nearest to it?",
        "ask for the label of that row in the whole array, not of its position within the cluster.",
        "rows = np.flatnonzero(clusters == c); central = rows[np.argmin(distances to z[rows].mean(axis=0))]; "
        "labels[rows] = ask(central).",
    ),
)
def _name_clusters(name_clusters) -> None:
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    clusters = np.repeat([2, 0, 1], 30)
    z = centers[clusters] + rng.normal(size=(90, 2))
    for cluster in range(3):  # the first of each cluster lies at its border, and is of another kind
        z[np.flatnonzero(clusters == cluster)[0]] = centers[cluster] + 4
    truth = np.array([7, 1, 4])[clusters]
    truth[[np.flatnonzero(clusters == cluster)[0] for cluster in range(3)]] = 9
    asked: list[int] = []

    def ask(row):
        require(np.ndim(row) == 0 and 0 <= int(row) < 90, f"ask takes the number of one row, but it was given {row}.")
        asked.append(int(row))
        return int(truth[int(row)])

    answer = name_clusters(z, clusters, ask)
    require(answer is not None, "the function returns nothing; it should return a label for each digit.")
    answer = np.asarray(answer)
    require(answer.shape == (90,), f"90 codes should give 90 labels; the result has the shape {answer.shape}.")
    require(len(asked) <= 3, f"there are 3 clusters, but it asked {len(asked)} times.")
    nearest = [
        int(rows[np.argmin(np.linalg.norm(z[rows] - z[rows].mean(axis=0), axis=1))])
        for rows in (np.flatnonzero(clusters == cluster) for cluster in range(3))
    ]
    require(
        sorted(asked) == sorted(nearest),
        f"it asked for the rows {sorted(asked)}, but those nearest to the means of their clusters are {sorted(nearest)}.",
    )
    require(
        np.array_equal(answer, np.array([7, 1, 4])[clusters]),
        "each digit should get the label that was given for its cluster.",
    )
