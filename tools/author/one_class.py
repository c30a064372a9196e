"""Lesson 09's rivals over their settings: every method learns one digit at a time and scores all of them.

"09.tuning" tries the settings of each method on validation digits, "09.oneclass" measures the best ones on test digits.
"""

import functools
import math
from collections.abc import Callable
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
from tools.author.stacked_detectors import FILTERS, HIDDEN, Network, Stack, blur_matrix, chunks
from tools.author.stacked_vaes import OwnRates

DIGITS = range(10)
SHARES = (0.0, 0.01, 0.05, 0.1)  # of the training pictures that show another digit
BLURS = (0.0, 0.7, 1.0, 1.4)  # standard deviation in pixels
BATCH_SIZE, EPOCHS = 100, 20
RATES = (0.001, 0.003)
# Method → five settings that are tried on the validation digits.
TRIED: dict[str, tuple] = {
    "PCA": (10, 20, 30, 45, 70),  # components
    "nearest neighbors": (1, 2, 3, 5, 10),
    "isolation forest": (20, 40, 60, 100, 150),  # PCA components that it sees
    "one-class SVM": (1.0, 2.0, 4.0, 6.0, 9.0),  # 1 / (2 width² · variance)
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
    "blurs": BLURS,
    "nu": NU,
    "trees": TREES,
    "samples per tree": SAMPLES,
}
TUNING = {**SETTINGS, "scored": "validation digits, mean of the ten tasks"}
ONE_CLASS = {**SETTINGS, "setting of each method": "the best of 09.tuning", "scored": "test digits"}


# ---------------------------------------------------------------------------------------------------------------------
# Data and scores
# ---------------------------------------------------------------------------------------------------------------------


def training_rows(y: np.ndarray, digit: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of the training digits for one task: those of `digit`, of which `share` are replaced by any others."""
    rows = rng.permutation(np.flatnonzero(y == digit))
    n_foreign = round(share * len(rows))
    return np.concatenate([rows[n_foreign:], rng.choice(np.flatnonzero(y != digit), n_foreign, replace=False)])


def ranked(scores: np.ndarray, y: np.ndarray, digit: int) -> tuple[float, float]:
    """AUROC and average precision of the task whose normal class is `digit`; an anomaly is positive."""
    anomalous = y != digit
    return float(roc_auc_score(anomalous, scores)), float(average_precision_score(anomalous, scores))


# ---------------------------------------------------------------------------------------------------------------------
# Methods without a network. Each gives its settings' scores: fit on `x`, applied to `x_new`, both blurred or not
# ---------------------------------------------------------------------------------------------------------------------


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = np.square(a).sum(axis=1)[:, np.newaxis] + np.square(b).sum(axis=1)
    return np.maximum(squares - 2 * a @ b.T, 0)


def pca_scores(x: np.ndarray, x_new: np.ndarray, sizes: tuple, blurs: tuple, seed: int) -> dict:
    """Reconstruction error; the blur is that of the residual."""
    pca = fit_pca(x, max(sizes))
    centered = x_new - pca.mean_
    scores: dict = {}
    for i, size in enumerate(sizes):
        axes = pca.components_[:size]
        residual = centered - centered @ axes.T @ axes
        scores |= {(i, blur): np.square(residual @ blur_matrix(blur)).sum(axis=1) for blur in blurs}
    return scores


def neighbor_scores(x: np.ndarray, x_new: np.ndarray, counts: tuple, blurs: tuple, seed: int) -> dict:
    """Mean distance to the `k` nearest training pictures."""
    most = max(counts)
    scores: dict = {}
    for blur in blurs:
        x_b, new_b = x @ blur_matrix(blur), x_new @ blur_matrix(blur)
        nearest = [np.sort(np.partition(squared_distances(part, x_b), most)[:, :most]) for part in chunks(new_b)]
        distances = np.sqrt(np.concatenate(nearest))
        scores |= {(i, blur): distances[:, :k].mean(axis=1) for i, k in enumerate(counts)}
    return scores


def forest_scores(x: np.ndarray, x_new: np.ndarray, sizes: tuple, blurs: tuple, seed: int) -> dict:
    """Isolation forest on principal components: better than on pixels, of which most are always black."""
    scores = {}
    for blur in blurs:
        x_b, new_b = x @ blur_matrix(blur), x_new @ blur_matrix(blur)
        pca = fit_pca(x_b, max(sizes))
        z, z_new = pca.transform(x_b), pca.transform(new_b)
        for i, size in enumerate(sizes):
            samples = min(SAMPLES, len(x))
            forest = IsolationForest(n_estimators=TREES, max_samples=samples, random_state=seed)
            scores[i, blur] = -forest.fit(z[:, :size]).score_samples(z_new[:, :size])
    return scores


def svm_scores(x: np.ndarray, x_new: np.ndarray, sharpnesses: tuple, blurs: tuple, seed: int) -> dict:
    """One-class SVM with a Gaussian kernel on the pixels, whose width is relative to the variance of the pictures."""
    scores = {}
    for blur in blurs:
        x_b, new_b = x @ blur_matrix(blur), x_new @ blur_matrix(blur)
        within, variance = squared_distances(x_b, x_b), x_b.var(axis=0).sum()
        across = squared_distances(new_b, x_b)
        for i, sharpness in enumerate(sharpnesses):
            svm = OneClassSVM(kernel="precomputed", nu=NU, cache_size=1000)
            svm.fit(np.exp(-sharpness / variance * within))
            vectors, weights = svm.support_, svm.dual_coef_[0].astype("float32")
            # The logarithm changes no order, and keeps apart what is far from all vectors.
            kernel = np.exp(-sharpness / variance * across[:, vectors].astype("float64"))
            scores[i, blur] = -np.log(np.maximum(kernel @ weights, 1e-300))
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


def fit(kind: str, networks: list[Network], epochs: int) -> Stack:
    """Train all networks, each on the training pictures of its digit, with its share of others."""
    (x_train, y_train), _, _ = load_mnist(flat=True)
    rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
    tasks = {(n.digit, n.share): training_rows(y_train, n.digit, n.share, rng) for n in networks}
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


def without_network(tasks: list[tuple[int, float]], positions: dict, blurs: dict, x_new: np.ndarray, seed: int) -> dict:
    """(method, digit, share) → (position in `positions`, blur) → scores of the pictures `x_new`."""
    (x_train, y_train), _, _ = load_mnist(flat=True)

    def one(method: str, digit: int, share: float) -> dict:
        rows = training_rows(y_train, digit, share, np.random.default_rng([seed, digit, round(1000 * share)]))
        settings = tuple(TRIED[method][i] for i in positions[method])
        found = CLASSICAL[method](x_train[rows], x_new, settings, blurs[method], seed % 2**31)
        return {(positions[method][i], blur): scores for (i, blur), scores in found.items()}

    jobs = [(method, digit, share) for method in CLASSICAL for digit, share in tasks]
    # Threads, because the work is done by NumPy and by compiled parts of scikit-learn, and a GPU has one process.
    found = Parallel(n_jobs=min(16, usable_cores()), prefer="threads")(delayed(one)(*job) for job in jobs)
    return dict(zip(jobs, found, strict=True))


def label(method: str, rate: float | None, way) -> str:
    """How the curve "09.tuning" calls a score: its blur, or its name."""
    name = f"blur {way:g}" if isinstance(way, float) else way
    return f"{method}, {name}" if rate is None else f"{method}, rate {rate:g}, {name}"


@functools.cache
def measure_tuning(seed: int, epochs: int = EPOCHS, n_pictures: int = 5000) -> dict[int, dict[str, float]]:
    """Position of the setting → label → AUROC on validation digits, mean of the ten tasks, and what normal pictures cost."""
    keras.utils.set_random_seed(seed)
    _, (x_val, y_val), _ = load_mnist(flat=True)
    x_val, y_val = x_val[:n_pictures], y_val[:n_pictures]
    found: dict[tuple, list[float]] = {}

    def keep(position: int, name: str, scores: np.ndarray, digit: int) -> None:
        found.setdefault((position, name), []).append(ranked(scores, y_val, digit)[0])

    positions = {method: tuple(range(len(TRIED[method]))) for method in TRIED}
    blurs = dict.fromkeys(TRIED, BLURS)
    classical = without_network([(digit, 0.0) for digit in DIGITS], positions, blurs, x_val, seed)
    for (method, digit, _), by_setting in classical.items():
        for (position, blur), scores in by_setting.items():
            keep(position, label(method, None, blur), scores, digit)
    for kind in NETWORKS:
        cases = [(i, rate, digit) for i in positions[kind] for rate in RATES for digit in DIGITS]
        networks = [network(kind, i, rate, digit) for i, rate, digit in cases]
        for way, of_networks in fit(kind, networks, epochs).scores(x_val, BLURS).items():
            for (i, rate, digit), scores in zip(cases, of_networks, strict=True):
                keep(i, label(kind, rate, way), scores, digit)
                if way == 0:
                    normal = float(scores[y_val == digit].mean()) / 784
                    found.setdefault((i, f"{kind}, rate {rate:g}, MSE of normal digits"), []).append(normal)
    results: dict[int, dict[str, float]] = {i: {} for i in positions["PCA"]}
    for (position, name), values in found.items():
        results[position][name] = float(np.mean(values))
    return results


Choice = tuple[int, Any, Any]  # position of the setting; learning rate, if it has one; blur or name of the score


def best_settings(curve: dict) -> dict[str, Choice]:
    """Row of the lesson's table → the choice with the highest AUROC on the validation digits, by the curve "09.tuning"."""

    def best(method: str, ways: tuple) -> Choice:
        rates = RATES if method in NETWORKS else (None,)
        choices = [(i, rate, way) for i in range(len(TRIED[method])) for rate in rates for way in ways]
        return max(choices, key=lambda choice: curve["mean"][label(method, *choice[1:])][choice[0]])

    rows = {method: best(method, (0.0,)) for method in TRIED}
    rows |= {f"{method}, blurred": best(method, BLURS[1:]) for method in TRIED}
    return rows | {f"VAE, {name}": best("VAE", (name,)) for name in ("−ELBO", "−ELBO above the floor")}


@functools.cache
def measure_one_class(seed: int, epochs: int = EPOCHS, n_pictures: int = 10_000) -> dict[float, dict[str, float]]:
    """Share of foreign digits → label → AUROC and average precision on the test digits, each method at its best setting."""
    keras.utils.set_random_seed(seed)
    x_test, y_test = (part[:n_pictures] for part in load_mnist(flat=True)[2])
    chosen = best_settings(load_curve("09.tuning"))
    rows_of = {method: [row for row in chosen if row.partition(",")[0] == method] for method in TRIED}
    found: dict[tuple, dict[int, tuple]] = {}

    def keep(row: str, share: float, digit: int, scores: np.ndarray) -> None:
        found.setdefault((row, share), {})[digit] = ranked(scores, y_test, digit)

    tasks = [(digit, share) for share in SHARES for digit in DIGITS]
    positions = {method: tuple(sorted({chosen[row][0] for row in rows})) for method, rows in rows_of.items()}
    blurs = {method: tuple(sorted({chosen[row][2] for row in rows_of[method]})) for method in CLASSICAL}
    classical = without_network(tasks, positions, blurs, x_test, seed)
    for (method, digit, share), by_setting in classical.items():
        for row in rows_of[method]:
            keep(row, share, digit, by_setting[chosen[row][0], chosen[row][2]])
    for kind in NETWORKS:
        settings = sorted({chosen[row][:2] for row in rows_of[kind]}, key=str)
        cases = [(*setting, *task) for setting in settings for task in tasks]
        ways = {chosen[row][2] for row in rows_of[kind]}
        model = fit(kind, [network(kind, *case) for case in cases], epochs)
        scores = model.scores(x_test, tuple(sorted(way for way in ways if isinstance(way, float))))
        for row in rows_of[kind]:
            for (i, rate, digit, share), of_network in zip(cases, scores[chosen[row][2]], strict=True):
                if (i, rate) == chosen[row][:2]:
                    keep(row, share, digit, of_network)
    results: dict[float, dict[str, float]] = {share: {} for share in SHARES}
    for (row, share), by_digit in found.items():
        auroc, precision = np.array([by_digit[digit] for digit in DIGITS]).T
        results[share] |= {f"{row}: AUROC": auroc.mean(), f"{row}: AP": precision.mean()}
        results[share] |= {f"{row}: AUROC of {digit}": auroc[digit] for digit in DIGITS}
    return results
