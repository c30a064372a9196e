"""Lesson 08's codes and what can be read from them: with few labels, through a graph of neighbors, and without any label.

The codes are the same for all seeds: pixels, PCA, the stored networks of lessons 02, 04 and 06, and an autoencoder with the layers
of lesson 06's VAE. The seed draws the labels, and the starts of the clusters. Every reader's setting is the one with the lowest
error on the validation digits.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from course_utils import lessons
from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.evaluation import fit_pca
from course_utils.lessons import (
    balanced_rows,
    cluster_accuracy,
    neighbor_graph,
    neighbors,
    normalized,
    spectral_code,
    spread_labels,
)
from course_utils.pretrained import load_pretrained
from course_utils.training import train

ops = keras.ops

HIDDEN, LATENT = (400, 200), 20  # as lesson 06's stored VAE
N_UNLABELED = 20_000
TRAINING: dict[str, Any] = {"epochs": 20, "batch_size": 200, "learning_rate": 3e-3}
LABELS = (10, 100)
STRENGTHS = (0.01, 0.1, 1.0)  # C of the logistic regression
VOTERS = (1, 3, 5)  # nearest neighbors that vote
GRAPHS = {"10 neighbors": (10, False), "10 neighbors, cosine": (10, True)}
READING_NEIGHBORS = 10  # nodes of the graph from which a new digit takes its label
MIXTURES = ("PCA, cosine", "VAE", "VAE, cosine")
N_K_MEANS = 10_000  # digits to which k-means on codes is fitted
MIXTURE_RESTARTS = 3  # the fit with the highest likelihood counts
SETTINGS = {
    "unlabeled": N_UNLABELED,
    "autoencoder": {"hidden": HIDDEN, "code": LATENT, **TRAINING},
    "labels": "the same number of each digit, among the unlabeled ones",
    "strengths": STRENGTHS,
    "voters": VOTERS,
    "graphs": list(GRAPHS),
    "reading neighbors": READING_NEIGHBORS,
    "chosen": "setting of each reader and code with the lowest error on 5,000 validation digits",
    "scored": "test digits, errors in percent",
}
CLUSTER_SETTINGS = {
    **{key: SETTINGS[key] for key in ("unlabeled", "autoencoder", "graphs", "reading neighbors")},
    "clusters": 10,
    "restarts": {"k-means": 2, "mixture": MIXTURE_RESTARTS},
    "k-means on codes": N_K_MEANS,
    "mixture of": "the first 20 numbers, without those of a standard deviation below 0.05",
    "scored": "test digits",
}

Code = tuple[np.ndarray, ...]  # of the training, validation and test digits


@functools.cache
def all_codes() -> dict[str, Code]:
    """Codes of the unlabeled, the validation and the test digits; of the VAE those of all training digits."""
    parts = [x for x, _ in load_mnist(flat=True)]
    pca = fit_pca(parts[0], 50)
    conv, conv_encoder, _ = lessons.build_conv_autoencoder()
    load_pretrained("02.conv128", conv)
    strokes = lessons.build_strokes(np.ones((2048, 784), dtype="float32"))
    load_pretrained("04.strokes", strokes)
    stroke_parts = strokes.layers[-1].parts()
    vae = lessons.VAE(*lessons.build_vae_networks(HIDDEN, LATENT, activation="silu"))
    load_pretrained("06.vae20", vae)
    autoencoder, encoder = build_rival()
    train(autoencoder, parts[0], parts[0], loss="binary_crossentropy", **TRAINING)
    readers: dict[str, Callable] = {
        "pixels": lambda x: x,
        "PCA": lambda x: pca.transform(x).astype("float32"),
        "convolutional": lambda x: ops.convert_to_numpy(conv_encoder(x.reshape(-1, 28, 28, 1))).reshape(len(x), -1),
        "strokes": lambda x: ops.convert_to_numpy(lessons.matched(x, stroke_parts)),
        "autoencoder": lambda x: ops.convert_to_numpy(encoder(x)),
        "VAE": lambda x: ops.convert_to_numpy(vae.encoder(x)[0]),
    }
    few = [parts[0][:N_UNLABELED], *parts[1:]]
    return {name: tuple(in_parts(read, x) for x in (parts if name == "VAE" else few)) for name, read in readers.items()}


def build_rival() -> tuple[keras.Model, keras.Model]:
    """An autoencoder with the layers of lesson 06's VAE, and its encoder."""
    activation = "silu"
    encoder = keras.Sequential([keras.Input((784,))])
    decoder = keras.Sequential([keras.Input((LATENT,))])
    for size in HIDDEN:
        encoder.add(keras.layers.Dense(size, activation=activation))
    encoder.add(keras.layers.Dense(LATENT))
    for size in reversed(HIDDEN):
        decoder.add(keras.layers.Dense(size, activation=activation))
    decoder.add(keras.layers.Dense(784, activation="sigmoid"))
    x = keras.Input((784,))
    return keras.Model(x, decoder(encoder(x))), encoder


def in_parts(read: Callable, x: np.ndarray, axis: int = 0) -> np.ndarray:
    return np.concatenate([read(x[i : i + 1000]) for i in range(0, len(x), 1000)], axis=axis)


def unit_length(z: np.ndarray) -> np.ndarray:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-9)


def scaled(code: Code) -> Code:
    """Divided by one number, so that a reader's penalty means the same for every code."""
    spread = np.sqrt(code[0].var(axis=0).mean())
    return tuple((part - code[0].mean(axis=0)) / spread for part in code)


def percent_wrong(guessed: np.ndarray, y: np.ndarray) -> float:
    return 100 * float(np.mean(guessed != y))


def regression_errors(code: Code, labels, draws: list[np.ndarray]) -> dict[str, list]:
    """Setting → (validation, test) error for each draw of labels."""
    (z, z_val, z_test), (y, y_val, y_test) = scaled(code), labels
    errors: dict[str, list] = {}
    for strength in STRENGTHS:
        for rows in draws:
            reader = LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit(z[rows], y[rows])
            pair = percent_wrong(reader.predict(z_val), y_val), percent_wrong(reader.predict(z_test), y_test)
            errors.setdefault(f"C {strength:g}", []).append(pair)
    return errors


def neighbor_errors(code: Code, labels, draws: list[np.ndarray]) -> dict[str, list]:
    """The same for a vote of the nearest labeled examples."""
    (z, *others), (y, *wanted) = code, labels
    errors: dict[str, list] = {}
    for rows in draws:
        found = [y[rows][neighbors(part, z[rows], max(VOTERS))] for part in others]
        for k in VOTERS:
            pair = [percent_wrong(vote(digits[:, :k]), truth) for digits, truth in zip(found, wanted, strict=True)]
            errors.setdefault(f"{k} voters", []).append(tuple(pair))
    return errors


def vote(digits: np.ndarray) -> np.ndarray:
    """The most frequent of each row; of equally frequent ones, that of the nearest."""
    counts = np.zeros((len(digits), 10))
    for place in range(digits.shape[1]):
        counts[np.arange(len(digits)), digits[:, place]] += 1 + 1e-3 * (digits.shape[1] - place)
    return counts.argmax(axis=1)


class Graph:
    """The neighbor graph of the first `n` training digits, and for each validation and test digit its nearest nodes."""

    def __init__(self, code: Code, n: int, k: int, cosine: bool):
        z, *others = (unit_length(part) if cosine else part for part in (code[0][:n], *code[1:]))
        self.W = neighbor_graph(z, k)
        self.nearest = [neighbors(part, z, READING_NEIGHBORS) for part in others]

    def read(self, scores: np.ndarray) -> list[np.ndarray]:
        """The winning column for each validation and each test digit, from the scores of its nearest nodes."""
        return [scores[rows].sum(axis=1).argmax(axis=1) for rows in self.nearest]


def spreading_errors(graph: Graph, labels, draws: list[np.ndarray]) -> list[tuple[float, ...]]:
    """(validation, test) error for each draw of labels."""
    y, *wanted = labels
    known = np.zeros((graph.W.shape[0], 10 * len(draws)), "float32")
    for i, rows in enumerate(draws):
        known[rows, 10 * i + y[rows]] = 1
    scores = spread_labels(graph.W, known)
    pairs = []
    for i in range(len(draws)):
        guesses = graph.read(scores[:, 10 * i : 10 * i + 10])
        pairs.append(tuple(percent_wrong(guess, truth) for guess, truth in zip(guesses, wanted, strict=True)))
    return pairs


def best_setting(errors: dict[str, list]) -> float:
    """Mean test error over the draws, at the setting with the lowest mean validation error."""
    best = min(errors, key=lambda setting: np.mean([val for val, _ in errors[setting]]))
    return float(np.mean([test for _, test in errors[best]]))


@functools.cache
def graph_of(name: str, label: str) -> Graph:
    return Graph(all_codes()[name], N_UNLABELED, *GRAPHS[label])


@functools.cache
def whole_graph() -> Graph:
    """Of the VAE's codes of all training digits."""
    code = all_codes()["VAE"]
    return Graph(code, len(code[0]), *GRAPHS["10 neighbors"])


@functools.cache
def measure_labels(seed: int) -> dict[int, dict[str, float]]:
    """Number of labels → code and reader → test error, with this seed's draw of labels."""
    rng = np.random.default_rng(seed)
    results: dict[int, dict[str, float]] = {n: {} for n in LABELS}
    labels = tuple(y for _, y in load_mnist(flat=True))
    draws = {n: [balanced_rows(labels[0][:N_UNLABELED], n, rng)] for n in LABELS}
    for name, code in all_codes().items():
        for n in LABELS:
            spread = {label: spreading_errors(graph_of(name, label), labels, draws[n]) for label in GRAPHS}
            found = {
                "logistic regression": best_setting(regression_errors(code, labels, draws[n])),
                "nearest neighbors": best_setting(neighbor_errors(code, labels, draws[n])),
                "label spreading": best_setting(spread),
            }
            found |= {f"label spreading, {label}": best_setting({label: errors}) for label, errors in spread.items()}
            results[n] |= {f"{name}: {reader}": error for reader, error in found.items()}
    for n in LABELS:
        errors = spreading_errors(whole_graph(), labels, draws[n])
        results[n]["VAE: label spreading, all training digits"] = best_setting({"all": errors})
    return results


def purity(W, y: np.ndarray) -> float:
    """Share of the graph's edges that join two examples of the same digit."""
    edges = W.tocoo()
    return float(np.mean(y[edges.row] == y[edges.col]))


def normalized_cut(W, clusters: np.ndarray) -> float:
    """Sum over the ten clusters of the share of their edges that lead out of them."""
    member = np.eye(10)[clusters]
    inside = np.einsum("ij,ij->j", member, W @ member)
    return float(np.sum(1 - inside / np.maximum(np.asarray(W.sum(axis=1)).ravel() @ member, 1)))


def in_use(code: Code) -> np.ndarray:
    """Columns among the first 20 that differ from digit to digit."""
    return np.flatnonzero(code[0][:, :LATENT].std(axis=0) > 0.05)


def describe_clusters(clusters: np.ndarray, y: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": cluster_accuracy(clusters, y),
        "NMI": normalized_mutual_info_score(y, clusters),
        "ARI": adjusted_rand_score(y, clusters),
    }


@functools.cache
def measure_clusters(seed: int) -> dict[int, dict[str, float]]:
    """Number of clusters (10) → code and method → how well the clusters agree with the digits."""
    (_, y), _, (_, y_test) = load_mnist(flat=True)
    y = y[:N_UNLABELED]
    results: dict[str, float] = {}
    for name, code in all_codes().items():
        found: dict[str, dict[str, float]] = {}
        for suffix, change in (("", lambda z: z), (", cosine", unit_length)):
            z, z_test = change(code[0][:N_UNLABELED]), change(code[2])
            k_means = KMeans(10, n_init=2, random_state=seed).fit(z[:N_K_MEANS])
            found[f"k-means{suffix}"] = describe_clusters(k_means.predict(z_test), y_test)
            if name + suffix in MIXTURES:
                z, z_test = (change(part[:, in_use(code)]) for part in (code[0][:N_UNLABELED], code[2]))
                mixture = GaussianMixture(10, n_init=MIXTURE_RESTARTS, reg_covar=1e-4, random_state=seed).fit(z)
                found[f"mixture{suffix}"] = describe_clusters(mixture.predict(z_test), y_test)
        for label in GRAPHS:
            graph = graph_of(name, label)
            eigenvalues, positions = spectrum(name, label)
            clusters = KMeans(10, n_init=2, random_state=seed).fit_predict(positions)
            at_test = graph.read(np.eye(10)[clusters])[1]
            found[f"spectral, {label}"] = {
                **describe_clusters(at_test, y_test),
                "normalized cut": normalized_cut(graph.W, clusters),
                "normalized cut of the digits": normalized_cut(graph.W, y),
                "gap": eigenvalues[9] - eigenvalues[10],
                "purity": purity(graph.W, y),
            }
        results |= {f"{name}: {method}: {what}": v for method, r in found.items() for what, v in r.items()}
    return {10: results}


@functools.cache
def spectrum(name: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """The eleven largest eigenvalues of a graph, and the lesson's spectral code of ten numbers."""
    W = graph_of(name, label).W
    values = sparse.linalg.eigsh(normalized(W), k=11, which="LA", return_eigenvectors=False, v0=np.ones(W.shape[0]))
    return np.sort(values)[::-1], spectral_code(W, 10)
