"""Lesson 09's rivals over their settings: every method learns one digit at a time and scores all of them.

"09.tuning" tries the settings of each method on validation digits; the other curves are measured with the best on test digits.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator

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
from course_utils.training import train, warm_up_and_cosine
from tools.author.stacked_detectors import HIDDEN, Network, Stack, blur_matrix, chunks, floors
from tools.author.stacked_vaes import OwnRates

DIGITS = range(10)
SHARES = (0.01, 0.05, 0.1)  # of the training pictures that show another digit
# Ways to turn an error into a score, by column of the lesson's table: the square of the residual, or of its blur by so many
# pixels, or the square divided by the error of a general model, a blur by so many pixels.
PLAIN, BLURS, GENERAL = ("plain", 0.0), (1.0,), (1.0,)
COLUMNS = {
    "plain": (PLAIN,),
    "blurred": tuple(("blurred", sigma) for sigma in BLURS),
    "relative": tuple(("relative", sigma) for sigma in GENERAL),
}
WAYS = tuple(way for ways in COLUMNS.values() for way in ways)
LEAST = 0.05  # of the median of a task's normal pictures: no picture counts as easier than that
BATCH_SIZE, RATE = 100, 0.003
TUNING_EPOCHS, EPOCHS, CONV_EPOCHS = 6, 12, 6
# Method → three settings that are tried on the validation digits.
TRIED: dict[str, tuple] = {
    "PCA": (15, 30, 60),  # components
    "nearest neighbors": (1, 2, 5),
    "isolation forest": (40, 80, 150),  # PCA components that it sees
    "one-class SVM": (4.0, 8.0, 16.0),  # sharpness of the kernel: 1 / (2 · width²) times the variance of the pictures
    "dense": (8, 16, 32),  # size of the code
    "denoising": (0.1, 0.2, 0.4),  # standard deviation of the noise
    "VAE": (0.5, 1.0, 2.0),  # β
}
STACKED = ("dense", "denoising", "VAE")
CONTAMINATED = ("PCA", "nearest neighbors", "dense")  # the others take much longer
NU, TREES, SAMPLES = 0.05, 200, 1000  # of one-class SVM and isolation forest
NEIGHBORS = (2, 10, 50, 200)  # numbers of them, where other digits are among the training pictures
WIDE_CODE = 32  # of the denoising and the variational ones
SETTINGS = {
    "networks": [784, HIDDEN, "code", HIDDEN, 784],
    "code of the denoising and of the VAE": WIDE_CODE,
    "loss": "squared error; the VAE's is BCE + β · KL",
    "batch_size": BATCH_SIZE,
    "rate": RATE,
    "tried": TRIED,
    "scores": WAYS,
    "nu": NU,
    "trees": TREES,
    "samples per tree": SAMPLES,
}
TUNING = {**SETTINGS, "epochs": TUNING_EPOCHS, "scored": "validation digits, mean of the ten tasks"}
TEST = {"setting of each method": "the best of 09.tuning", "scored": "test digits"}
ONE_CLASS = {**SETTINGS, "epochs": EPOCHS, **TEST}
NEIGHBOR_SETTINGS = {"neighbors": NEIGHBORS, "scored": "AUROC on test digits, mean of the ten tasks"}
FILTERS, CONV_CODE = (16, 32), 16
CONVOLUTIONAL = {"filters": FILTERS, "code": CONV_CODE, "epochs": CONV_EPOCHS, "rate": RATE, "scored": "test digits"}


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


def network(kind: str, position: int, digit: int, share: float = 0.0) -> Network:
    """The network of this kind with the setting at `position`: a size of the code, or a strength with a wide code."""
    setting = TRIED[kind][position]
    if kind in ("denoising", "VAE"):
        return Network(digit, share, WIDE_CODE, RATE, strength=setting)
    return Network(digit, share, int(setting), RATE)


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
    model.compile(optimizer=OwnRates(schedule, rates), jit_compile=kind == "dense" or "auto")
    model.fit(columns, batch_size=BATCH_SIZE, epochs=1, verbose=0, shuffle=False)
    return model


Scores = dict[tuple, np.ndarray]  # way → scores of the new pictures


def ways_of_errors(plain: np.ndarray, blurred: dict, x_new: np.ndarray, x_normal: np.ndarray) -> Scores:
    ways = {PLAIN: plain} | {("blurred", sigma): blurred[sigma] for sigma in BLURS}
    return ways | {("relative", sigma): plain / general_errors(x_new, sigma, x_normal) for sigma in GENERAL}


def with_stacks(kind: str, cases: list[tuple], x_new: np.ndarray, epochs: int, seed: int) -> dict[tuple, Scores]:
    """Case (position, digit, share) → way → scores. For VAEs also those of −ELBO."""
    (x_train, y_train), _, _ = load_mnist(flat=True)
    found = fit(kind, [network(kind, *case) for case in cases], epochs, seed).scores(x_new, (0.0, *BLURS))
    scores: dict[tuple, Scores] = {}
    for i, case in enumerate(cases):
        normal = x_train[training_rows(y_train, case[1], case[2], seed)]
        scores[case] = ways_of_errors(found[0.0][i], {sigma: found[sigma][i] for sigma in BLURS}, x_new, normal)
        if kind == "VAE":
            above = found["−ELBO"][i] - floors(x_new)
            relative = above / general_errors(x_new, GENERAL[0], normal)
            scores[case] |= {("−ELBO", 0.0): found["−ELBO"][i], ("−ELBO above the floor", 0.0): above}
            scores[case] |= {("−ELBO, relative", 0.0): relative}
    return scores


@functools.cache
def without_network(tasks: tuple, choices: tuple, of_test: bool, n_pictures: int, seed: int) -> dict[tuple, dict]:
    """(method, digit, share) → (position, way) → scores of validation or test pictures.

    `choices` has methods, the positions of the settings, and the ways; all pairs of the latter are computed.
    """
    (x_train, y_train), validation, test = load_mnist(flat=True)
    x_new = (test if of_test else validation)[0][:n_pictures]

    def one(method: str, positions: tuple, ways: tuple, digit: int, share: float) -> dict:
        settings = tuple(TRIED[method][i] for i in positions)
        x = x_train[training_rows(y_train, digit, share, seed)]
        found = CLASSICAL[method](x, x_new, settings, ways, seed % 2**31)
        return {(positions[i], way): scores for (i, way), scores in found.items()}

    jobs = [(*choice, *task) for choice in choices for task in tasks]
    found = Parallel(n_jobs=min(16, usable_cores()), backend="threading")(delayed(one)(*job) for job in jobs)
    return {(job[0], *job[3:]): scores for job, scores in zip(jobs, found, strict=True)}


def classical(tasks: tuple, choices: tuple, of_test: bool, n_pictures: int, seed: int) -> dict[tuple, dict]:
    """As above. All but the forest give the same for every seed, unless other digits are drawn, so they run once."""
    seeds = {m: seed if m == "isolation forest" or any(share for _, share in tasks) else 0 for m, *_ in choices}
    return {
        key: scores
        for choice in choices
        for key, scores in without_network(tasks, (choice,), of_test, n_pictures, seeds[choice[0]]).items()
    }


def label(method: str, way: tuple[str, float]) -> str:
    """How the curves call a score."""
    return f"{method}, {way[0]}"


@functools.cache
def measure_tuning(seed: int, epochs: int = TUNING_EPOCHS, n_pictures: int = 5000) -> dict[int, dict[str, float]]:
    """Position of the setting → label → AUROC on validation digits, mean of the ten tasks, and the normal digits' error."""
    keras.utils.set_random_seed(seed)
    _, (x_val, y_val), _ = load_mnist(flat=True)
    x_val, y_val = x_val[:n_pictures], y_val[:n_pictures]
    found: dict[tuple, list[float]] = {}

    def keep(position: int, method: str, digit: int, ways: Scores) -> None:
        for way, scores in ways.items():
            found.setdefault((position, label(method, way)), []).append(ranked(scores, y_val, digit)[0])
        if method in ("PCA", *STACKED):
            error = float(ways[PLAIN][y_val == digit].mean()) / 784
            found.setdefault((position, f"{method}: MSE of normal digits"), []).append(error)

    positions = tuple(range(len(TRIED["PCA"])))
    tasks, choices = tuple((digit, 0.0) for digit in DIGITS), tuple((method, positions, WAYS) for method in CLASSICAL)
    for (method, digit, _), scores in classical(tasks, choices, False, n_pictures, seed).items():
        for i in positions:
            keep(i, method, digit, {way: scores[i, way] for way in WAYS})
    for kind in STACKED:
        cases = [(i, digit, 0.0) for i in positions for digit in DIGITS]
        for (i, digit, _), ways in with_stacks(kind, cases, x_val, epochs, seed).items():
            keep(i, kind, digit, ways)
    return {i: {name: float(np.mean(values)) for (j, name), values in found.items() if j == i} for i in positions}


def best_settings(curve: dict) -> dict[str, int]:
    """Method → position of the setting with the highest AUROC on the validation digits, whatever the way to score."""

    def best(method: str) -> int:
        return int(np.argmax(np.max([curve["mean"][label(method, way)] for way in WAYS], axis=0)))

    return {method: best(method) for method in TRIED}


def summary(found: dict[str, dict[int, np.ndarray]], y: np.ndarray) -> dict[str, float]:
    """From the scores of each digit's task, by label: mean AUROC and average precision, and the AUROC of each task."""
    results: dict[str, float] = {}
    for name, by_digit in found.items():
        auroc, precision = np.array([ranked(by_digit[digit], y, digit) for digit in DIGITS]).T
        results |= {f"{name}: AUROC": float(auroc.mean()), f"{name}: AP": float(precision.mean())}
        results |= {f"{name}: AUROC of {digit}": float(auroc[digit]) for digit in DIGITS}
    return results


@functools.cache
def measure_shares(
    seed: int, shares: tuple, methods: tuple = tuple(TRIED), epochs: int = EPOCHS, n_pictures: int = 10_000
) -> dict[float, dict[str, float]]:
    """Share of other digits → label → results on the test digits, each method at its best setting."""
    keras.utils.set_random_seed(seed)
    x_test, y_test = (part[:n_pictures] for part in load_mnist(flat=True)[2])
    position = best_settings(load_curve("09.tuning"))
    tasks = tuple((digit, share) for share in shares for digit in DIGITS)
    found: dict[float, dict[str, dict]] = {share: {} for share in shares}
    ways = WAYS if shares == (0.0,) else tuple(way for way in WAYS if way[0] != "blurred")
    choices = tuple((method, (position[method],), ways) for method in CLASSICAL if method in methods)
    for (method, digit, share), scores in classical(tasks, choices, True, n_pictures, seed).items():
        for way in ways:
            found[share].setdefault(label(method, way), {})[digit] = scores[position[method], way]
    for kind in (method for method in STACKED if method in methods):
        cases = [(position[kind], *task) for task in tasks]
        for (_, digit, share), by_way in with_stacks(kind, cases, x_test, epochs, seed).items():
            for way, of_way in by_way.items():
                found[share].setdefault(label(kind, way), {})[digit] = of_way
    return {share: summary(by_label, y_test) for share, by_label in found.items()}


def measure_one_class(seed: int) -> dict[float, dict[str, float]]:
    return measure_shares(seed, (0.0,))


def measure_contamination(seed: int) -> dict[float, dict[str, float]]:
    return measure_shares(seed, SHARES, methods=CONTAMINATED)


@functools.cache
def measure_neighbors(seed: int, n_pictures: int = 10_000) -> dict[float, dict[str, float]]:
    """Share of other digits → label → AUROC on the test digits of nearest neighbors, with fewer and with more of them."""
    (x_train, y_train), _, (x_test, y_test) = load_mnist(flat=True)
    x_test, y_test = x_test[:n_pictures], y_test[:n_pictures]
    ways = (PLAIN, ("relative", GENERAL[0]))

    def one(digit: int, share: float) -> dict:
        x = x_train[training_rows(y_train, digit, share, seed)]
        scores = neighbor_scores(x, x_test, NEIGHBORS, ways, seed)
        return {label(f"{NEIGHBORS[i]} neighbors", way): ranked(s, y_test, digit)[0] for (i, way), s in scores.items()}

    return {share: _mean_of(one(digit, share) for digit in DIGITS) for share in (0.0, *SHARES)}


def _mean_of(results: Iterable[dict[str, float]]) -> dict[str, float]:
    of_digits = list(results)
    return {name: float(np.mean([result[name] for result in of_digits])) for name in of_digits[0]}


def build_convolutional(code: int = CONV_CODE) -> keras.Model:
    """A small convolutional autoencoder for flat pictures."""
    small, large = FILTERS
    layers, same = keras.layers, {"strides": 2, "padding": "same"}
    return keras.Sequential([
        keras.Input((784,)),
        layers.Reshape((28, 28, 1)),
        layers.Conv2D(small, 3, activation="relu", **same),
        layers.Conv2D(large, 3, activation="relu", **same),
        layers.Flatten(),
        layers.Dense(code),
        layers.Dense(49 * large, activation="relu"),
        layers.Reshape((7, 7, large)),
        layers.Conv2DTranspose(small, 4, activation="relu", **same),
        layers.Conv2DTranspose(1, 4, activation="sigmoid", **same),
        layers.Flatten(),
    ])  # fmt: skip


@functools.cache
def measure_convolutional(
    seed: int, epochs: int = CONV_EPOCHS, n_pictures: int = 10_000
) -> dict[float, dict[str, float]]:
    """Results on the test digits of ten convolutional autoencoders. One program trains them all, from new weights each."""
    keras.utils.set_random_seed(seed)
    (x_train, y_train), _, (x_test, y_test) = load_mnist(flat=True)
    x_test, y_test = x_test[:n_pictures], y_test[:n_pictures]
    model = build_convolutional()
    found: dict[str, dict] = {}
    for digit in DIGITS:
        x = x_train[training_rows(y_train, digit, 0.0, seed)]
        x = np.resize(x, (len(x_train) // 10, 784))
        model.set_weights(build_convolutional().get_weights())
        train(model, x, x, epochs=epochs, loss="mse", batch_size=BATCH_SIZE, learning_rate=RATE)
        residual = x_test - model.predict(x_test, batch_size=500, verbose=0)
        blurred = {sigma: np.square(residual @ blur_matrix(sigma)).sum(axis=1) for sigma in BLURS}
        for way, scores in ways_of_errors(np.square(residual).sum(axis=1), blurred, x_test, x).items():
            found.setdefault(label("convolutional", way), {})[digit] = scores
    return {0.0: summary(found, y_test)}
