"""Lesson 09's rivals over their settings: every method learns one digit at a time and scores all of them.

"09.tuning" tries the settings of each method on validation digits, "09.oneclass" measures the best ones on test digits.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.svm import OneClassSVM

from course_utils import usable_cores
from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.evaluation import fit_pca
from course_utils.pretrained import load_curve
from course_utils.training import warm_up_and_cosine
from tools.author.stacked_detectors import FILTERS, HIDDEN, Network, Stack, blur_matrix, chunks, floors
from tools.author.stacked_vaes import OwnRates

DIGITS = range(10)
SHARES = (0.0, 0.01, 0.05, 0.1)  # of the training pictures that show another digit
# Ways to turn an error into a score, by column of the lesson's table: the square of the residual, or of its blur by so many
# pixels, or the square divided by the error of a general model, a blur by so many pixels.
PLAIN, BLURS, GENERAL = ("plain", 0.0), (0.7, 1.0, 1.4), (0.7, 1.0, 1.4)
COLUMNS = {
    "plain": (PLAIN,),
    "blurred": tuple(("blurred", sigma) for sigma in BLURS),
    "relative": tuple(("relative", sigma) for sigma in GENERAL),
}
WAYS = tuple(way for ways in COLUMNS.values() for way in ways)
LEAST = 0.05  # of the median of a task's normal pictures: no picture counts as easier than that
BATCH_SIZE, EPOCHS = 100, 20
RATES = (0.001, 0.003)
# Method → five settings that are tried on the validation digits.
TRIED: dict[str, tuple] = {
    "PCA": (10, 20, 30, 45, 70),  # components
    "nearest neighbors": (1, 2, 3, 5, 10),
    "isolation forest": (20, 40, 60, 100, 150),  # PCA components that it sees
    "one-class SVM": (2.0, 4.0, 8.0, 16.0, 32.0),  # 1 / (2 width² · variance)
    "dense": (4, 8, 16, 32, 64),  # size of the code
    "convolutional": (4, 8, 16, 32, 64),
    "denoising": (0.1, 0.2, 0.3, 0.5, 0.8),  # standard deviation of the noise
    "VAE": (0.25, 0.5, 1.0, 2.0, 4.0),  # β
}
NETWORKS = ("dense", "convolutional", "denoising", "VAE")
NU, TREES, SAMPLES = 0.05, 200, 1000  # of one-class SVM and isolation forest
WIDE_CODE = 32  # of the denoising and the variational ones
SETTINGS = {
    "networks": [784, HIDDEN, "code", HIDDEN, 784],
    "convolutional": [f"3×3×{FILTERS // 2}, stride 2", f"3×3×{FILTERS}, stride 2", "code", "and back"],
    "code of the denoising and of the VAE": WIDE_CODE,
    "loss": "squared error; the VAE's is BCE + β · KL",
    "epochs": EPOCHS,
    "batch_size": BATCH_SIZE,
    "rates": RATES,
    "tried": TRIED,
    "scores": WAYS,
    "nu": NU,
    "trees": TREES,
    "samples per tree": SAMPLES,
}
TUNING = {**SETTINGS, "scored": "validation digits, mean of the ten tasks"}
ONE_CLASS = {**SETTINGS, "setting of each method": "the best of 09.tuning", "scored": "test digits"}


# ---------------------------------------------------------------------------------------------------------------------
# Data and scores
# ---------------------------------------------------------------------------------------------------------------------


def training_rows(y: np.ndarray, digit: int, share: float, seed: int) -> np.ndarray:
    """Rows of the training digits for one task, the same for all methods: of `digit`, but `share` of them of any others."""
    rng = np.random.default_rng([seed, digit, round(1000 * share)])
    rows = rng.permutation(np.flatnonzero(y == digit))
    n_foreign = round(share * len(rows))
    return np.concatenate([rows[n_foreign:], rng.choice(np.flatnonzero(y != digit), n_foreign, replace=False)])


def general_errors(x: np.ndarray, sigma: float, x_normal: np.ndarray) -> np.ndarray:
    """Squared error of each picture if it is reconstructed by a blur, which knows no digit; at least `LEAST` of the usual."""

    def errors(pictures: np.ndarray) -> np.ndarray:
        return np.square(pictures - pictures @ blur_matrix(sigma)).sum(axis=1)

    return errors(x) + LEAST * np.median(errors(x_normal))


def ranked(scores: np.ndarray, y: np.ndarray, digit: int) -> tuple[float, float]:
    """AUROC and average precision of the task whose normal class is `digit`; an anomaly is positive."""
    anomalous = y != digit
    return float(roc_auc_score(anomalous, scores)), float(average_precision_score(anomalous, scores))


# ---------------------------------------------------------------------------------------------------------------------
# Methods without a network: from training pictures, new pictures, settings and ways to (setting, way) → scores
# ---------------------------------------------------------------------------------------------------------------------


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = np.square(a).sum(axis=1)[:, np.newaxis] + np.square(b).sum(axis=1)
    return np.maximum(squares - 2 * a @ b.T, 0)


def pca_scores(x: np.ndarray, x_new: np.ndarray, sizes: tuple, ways: tuple, seed: int) -> dict:
    """Squared reconstruction error."""
    pca = fit_pca(x, max(sizes))
    centered = x_new - pca.mean_
    scores: dict = {}
    for i, size in enumerate(sizes):
        axes = pca.components_[:size]
        residual = centered - centered @ axes.T @ axes
        for how, sigma in ways:
            blurred = residual @ blur_matrix(sigma) if how == "blurred" else residual
            scores[i, (how, sigma)] = np.square(blurred).sum(axis=1)
    return divided(scores, x, x_new)


def divided(scores: dict, x: np.ndarray, x_new: np.ndarray) -> dict:
    """The same scores, but those that are called relative divided by the error of the general model."""
    by = {way: general_errors(x_new, way[1], x) if way[0] == "relative" else 1.0 for _, way in scores}
    return {(i, way): score / by[way] for (i, way), score in scores.items()}


def blurred_pairs(x: np.ndarray, x_new: np.ndarray, ways: tuple) -> Iterator[tuple]:
    """For methods without a residual the pictures are blurred instead: the pictures, and all ways that take them so."""
    blur_of = {way: way[1] if way[0] == "blurred" else 0.0 for way in ways}
    for sigma in dict.fromkeys(blur_of.values()):
        matrix = blur_matrix(sigma)
        yield x @ matrix, x_new @ matrix, [way for way in ways if blur_of[way] == sigma]


def neighbor_scores(x: np.ndarray, x_new: np.ndarray, counts: tuple, ways: tuple, seed: int) -> dict:
    """Square of the mean distance to the `k` nearest training pictures."""
    scores: dict = {}
    for seen, new, alike in blurred_pairs(x, x_new, ways):
        nearest = [
            np.sort(np.partition(squared_distances(part, seen), max(counts))[:, : max(counts)]) for part in chunks(new)
        ]
        distances = np.sqrt(np.concatenate(nearest))
        for i, k in enumerate(counts):
            scores |= dict.fromkeys([(i, way) for way in alike], np.square(distances[:, :k].mean(axis=1)))
    return divided(scores, x, x_new)


def svm_scores(x: np.ndarray, x_new: np.ndarray, sharpnesses: tuple, ways: tuple, seed: int) -> dict:
    """One-class SVM with a Gaussian kernel whose width is relative to the variance of the pictures.

    The score is −log of the weighted mean of the kernel: it ranks as the SVM does, and grows like a squared distance.
    """
    scores: dict = {}
    for seen, new, alike in blurred_pairs(x, x_new, ways):
        within, across = squared_distances(seen, seen), squared_distances(new, seen)
        for i, sharpness in enumerate(sharpnesses):
            factor = -sharpness / seen.var(axis=0).sum()
            svm = OneClassSVM(kernel="precomputed", nu=NU, cache_size=1000).fit(np.exp(factor * within))
            kernel = np.exp(factor * across[:, svm.support_].astype("float64"))
            weights = svm.dual_coef_[0] / svm.dual_coef_[0].sum()
            score = -np.log(np.maximum(kernel @ weights, 1e-300))
            scores |= dict.fromkeys([(i, way) for way in alike], score)
    return divided(scores, x, x_new)


def forest_scores(x: np.ndarray, x_new: np.ndarray, sizes: tuple, ways: tuple, seed: int) -> dict:
    """Isolation forest on principal components, which suit it better than pixels, most of which are always black.

    Its score is no squared error. So the pictures are divided, by the root of what the errors are divided by elsewhere.
    """
    scores: dict = {}
    for how, sigma in ways:
        matrix = blur_matrix(sigma if how == "blurred" else 0.0)
        seen, new = x @ matrix, x_new @ matrix
        if how == "relative":
            seen, new = (part / np.sqrt(general_errors(part, sigma, x))[:, np.newaxis] for part in (seen, new))
        pca = fit_pca(seen, max(sizes))
        z, z_new = pca.transform(seen), pca.transform(new)
        for i, size in enumerate(sizes):
            forest = IsolationForest(n_estimators=TREES, max_samples=min(SAMPLES, len(x)), random_state=seed)
            scores[i, (how, sigma)] = -forest.fit(z[:, :size]).score_samples(z_new[:, :size])
    return scores


CLASSICAL: dict[str, Callable] = {
    "PCA": pca_scores,
    "nearest neighbors": neighbor_scores,
    "isolation forest": forest_scores,
    "one-class SVM": svm_scores,
}


# ---------------------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------------------


def network(kind: str, position: int, rate: float, digit: int, share: float = 0.0) -> Network:
    """The network of this kind with the setting at `position`: a size of the code, or a strength with a wide code."""
    setting = TRIED[kind][position]
    if kind in ("denoising", "VAE"):
        return Network(digit, share, WIDE_CODE, rate, strength=setting)
    return Network(digit, share, int(setting), rate)


def fit(kind: str, networks: list[Network], epochs: int, seed: int) -> Stack:
    """Train all networks, each on the training pictures of its digit, with its share of others."""
    (x_train, y_train), _, _ = load_mnist(flat=True)
    rng = np.random.default_rng(seed)
    tasks = {(n.digit, n.share): training_rows(y_train, n.digit, n.share, seed) for n in networks}
    # As many pictures per epoch for each, the mean size of a class: those of a rare digit come more often.
    size = len(x_train) // 10
    in_turn = {
        task: np.concatenate([np.resize(rng.permutation(rows), size) for _ in range(epochs)])
        for task, rows in tasks.items()
    }
    columns = np.stack([in_turn[n.digit, n.share] for n in networks], axis=1).astype("int32")
    model = Stack(kind, networks, x_train)
    schedule = warm_up_and_cosine(1.0, math.ceil(len(columns) / BATCH_SIZE))
    rates = np.array([network.rate for network in networks])
    model.compile(optimizer=OwnRates(schedule, rates), jit_compile="auto")
    model.fit(columns, batch_size=BATCH_SIZE, epochs=1, verbose=0, shuffle=False)
    return model


# ---------------------------------------------------------------------------------------------------------------------
# The two curves
# ---------------------------------------------------------------------------------------------------------------------


Scores = dict[tuple, np.ndarray]  # way → scores of the new pictures


def of_networks(kind: str, cases: list[tuple], x_new: np.ndarray, epochs: int, seed: int) -> dict[tuple, Scores]:
    """Case (position, rate, digit, share) → way → scores. For VAEs also those of −ELBO."""
    (x_train, y_train), _, _ = load_mnist(flat=True)
    found = fit(kind, [network(kind, *case) for case in cases], epochs, seed).scores(x_new, (0.0, *BLURS))
    scores: dict[tuple, Scores] = {}
    for i, case in enumerate(cases):
        normal = x_train[training_rows(y_train, case[2], case[3], seed)]
        general = {sigma: general_errors(x_new, sigma, normal) for sigma in GENERAL}
        ways = {PLAIN: found[0.0][i]}
        ways |= {("blurred", sigma): found[sigma][i] for sigma in BLURS}
        ways |= {("relative", sigma): found[0.0][i] / general[sigma] for sigma in GENERAL}
        if kind == "VAE":
            above = found["−ELBO"][i] - floors(x_new)
            ways |= {("−ELBO", 0.0): found["−ELBO"][i], ("−ELBO above the floor", 0.0): above}
            ways |= {("−ELBO, relative", sigma): above / general[sigma] for sigma in GENERAL}
        scores[case] = ways
    return scores


def without_network(tasks: list[tuple[int, float]], choices: dict, x_new: np.ndarray, seed: int) -> dict[tuple, dict]:
    """(method, digit, share) → (position, way) → scores of the pictures `x_new`.

    `choices` has the positions and the ways of each method, all pairs of which are computed.
    """
    (x_train, y_train), _, _ = load_mnist(flat=True)

    def one(method: str, digit: int, share: float) -> dict:
        positions, ways = choices[method]
        settings = tuple(TRIED[method][i] for i in positions)
        x = x_train[training_rows(y_train, digit, share, seed)]
        found = CLASSICAL[method](x, x_new, settings, ways, seed % 2**31)
        return {(positions[i], way): scores for (i, way), scores in found.items()}

    jobs = [(method, digit, share) for method in CLASSICAL for digit, share in tasks]
    # Threads, because the work is done by NumPy and by compiled parts of scikit-learn, and a GPU has one process.
    found = Parallel(n_jobs=min(16, usable_cores()), prefer="threads")(delayed(one)(*job) for job in jobs)
    return dict(zip(jobs, found, strict=True))


def label(method: str, rate: float | None, way: tuple[str, float]) -> str:
    """How the curve "09.tuning" calls a score."""
    how = f"{way[0]} {way[1]:g}" if way[1] else way[0]
    return f"{method}, {how}" if rate is None else f"{method}, rate {rate:g}, {how}"


@functools.cache
def measure_tuning(seed: int, epochs: int = EPOCHS, n_pictures: int = 5000) -> dict[int, dict[str, float]]:
    """Position of the setting → label → AUROC on validation digits, mean of the ten tasks, and what normal pictures cost."""
    keras.utils.set_random_seed(seed)
    _, (x_val, y_val), _ = load_mnist(flat=True)
    x_val, y_val = x_val[:n_pictures], y_val[:n_pictures]
    found: dict[tuple, list[float]] = {}

    def keep(position: int, method: str, rate: float | None, digit: int, ways: Scores) -> None:
        for way, scores in ways.items():
            auroc = ranked(scores, y_val, digit)[0]
            found.setdefault((position, label(method, rate, way)), []).append(auroc)
        if method != "isolation forest" and PLAIN in ways:
            name = f"{label(method, rate, PLAIN)}: normal digits"
            found.setdefault((position, name), []).append(float(ways[PLAIN][y_val == digit].mean()))

    positions = {method: tuple(range(len(TRIED[method]))) for method in TRIED}
    choices = {method: (positions[method], WAYS) for method in CLASSICAL}
    classical = without_network([(digit, 0.0) for digit in DIGITS], choices, x_val, seed)
    for (method, digit, _), scores in classical.items():
        for i in positions[method]:
            keep(i, method, None, digit, {way: scores[i, way] for way in WAYS})
    for kind in NETWORKS:
        cases = [(i, rate, digit, 0.0) for i in positions[kind] for rate in RATES for digit in DIGITS]
        for (i, rate, digit, _), ways in of_networks(kind, cases, x_val, epochs, seed).items():
            keep(i, kind, rate, digit, ways)
    results: dict[int, dict[str, float]] = {i: {} for i in positions["PCA"]}
    for (position, name), values in found.items():
        results[position][name] = float(np.mean(values))
    return results


Choice = tuple[int, Any, tuple[str, float]]  # position of the setting; learning rate, if it has one; way to score


def best_settings(curve: dict) -> dict[tuple[str, str], Choice]:
    """Method and column of the lesson's table → the choice with the highest AUROC on the validation digits, by "09.tuning"."""

    def best(method: str, ways: tuple) -> Choice:
        rates = RATES if method in NETWORKS else (None,)
        choices = [(i, rate, way) for i in range(len(TRIED[method])) for rate in rates for way in ways]
        return max(choices, key=lambda choice: curve["mean"][label(method, *choice[1:])][choice[0]])

    cells = {(method, column): best(method, ways) for method in TRIED for column, ways in COLUMNS.items()}
    cells |= {("VAE", how): best("VAE", ((how, 0.0),)) for how in ("−ELBO", "−ELBO above the floor")}
    return cells | {("VAE", "−ELBO, relative"): best("VAE", tuple(("−ELBO, relative", sigma) for sigma in GENERAL))}


@functools.cache
def measure_one_class(seed: int, epochs: int = EPOCHS, n_pictures: int = 10_000) -> dict[float, dict[str, float]]:
    """Share of foreign digits → label → AUROC and average precision on the test digits, each method at its best setting."""
    keras.utils.set_random_seed(seed)
    x_test, y_test = (part[:n_pictures] for part in load_mnist(flat=True)[2])
    chosen = best_settings(load_curve("09.tuning"))
    of_method = {m: [choice for (other, _), choice in chosen.items() if other == m] for m in TRIED}
    found: dict[tuple, dict[int, tuple]] = {}

    def keep(method: str, choice: Choice, digit: int, share: float, scores: np.ndarray) -> None:
        for cell in chosen:
            if cell[0] == method and chosen[cell] == choice:
                found.setdefault((*cell, share), {})[digit] = ranked(scores, y_test, digit)

    tasks = [(digit, share) for share in SHARES for digit in DIGITS]
    choices = {
        m: (tuple(sorted({choice[0] for choice in of_method[m]})), tuple({choice[2] for choice in of_method[m]}))
        for m in CLASSICAL
    }
    for (method, digit, share), scores in without_network(tasks, choices, x_test, seed).items():
        for choice in set(of_method[method]):
            keep(method, choice, digit, share, scores[choice[0], choice[2]])
    for kind in NETWORKS:
        settings = sorted({choice[:2] for choice in of_method[kind]})
        cases = [(*setting, *task) for setting in settings for task in tasks]
        for (i, rate, digit, share), ways in of_networks(kind, cases, x_test, epochs, seed).items():
            for choice in set(of_method[kind]):
                if choice[:2] == (i, rate):
                    keep(kind, choice, digit, share, ways[choice[2]])
    results: dict[float, dict[str, float]] = {share: {} for share in SHARES}
    for (method, column, share), by_digit in found.items():
        row = f"{method}, {column}"
        auroc, precision = np.array([by_digit[digit] for digit in DIGITS]).T
        results[share] |= {f"{row}: AUROC": float(auroc.mean()), f"{row}: AP": float(precision.mean())}
        results[share] |= {f"{row}: AUROC of {digit}": float(auroc[digit]) for digit in DIGITS}
    return results
