"""Lesson 08's codes and what can be read from them: with few labels, through a graph of neighbors, and without any label.

Each seed trains an autoencoder and a VAE of the same layers at the same time, as lesson 06's curves do, each with the learning
rate that was best there. Pixels, PCA, and the stored networks of lessons 02 and 04 are the same for all seeds. The seed also draws
the labels. Every reader's setting is the one with the lowest mean error on the validation digits.
"""

import functools
from collections.abc import Callable

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
from course_utils.lessons import cluster_accuracy, neighbor_graph, neighbors, normalized, spectral_code, spread_labels
from course_utils.pretrained import load_pretrained
from tools.author import stacked_vaes

ops = keras.ops

HIDDEN, LATENT, BATCH_SIZE = (400, 200), 20, 200  # as in lesson 06's `NETWORK`
N_UNLABELED = 20_000
EPOCHS = 60
DRAWS = 2  # for each seed
LABELS = (10, 100, 1000)
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # C of the logistic regression
VOTERS = (1, 3, 5)  # nearest neighbors that vote
GRAPHS = {"5 neighbors": (5, False), "10 neighbors": (10, False), "10 neighbors, cosine": (10, True)}
READING_NEIGHBORS = 10  # nodes of the graph from which a new digit takes its label
ALL_UNLABELED = ("pixels", "PCA", "VAE")  # codes whose graph is built over all training digits as well
MIXTURE_CODES = ("PCA", "autoencoder", "VAE")
MIXTURE_RESTARTS = 5  # the fit with the highest likelihood counts
SETTINGS = {
    "unlabeled": N_UNLABELED,
    "autoencoder and VAE": {**stacked_vaes.NETWORK, "epochs": EPOCHS, "rates": "the best of 06.rates"},
    "draws of labels for each seed": DRAWS,
    "labels": "the same number of each digit, among the unlabeled ones",
    "strengths": STRENGTHS,
    "voters": VOTERS,
    "graphs": list(GRAPHS),
    "reading neighbors": READING_NEIGHBORS,
    "chosen": "setting of each reader and code with the lowest mean error on 5,000 validation digits",
    "scored": "test digits, errors in percent",
}
CLUSTER_SETTINGS = {
    **{key: SETTINGS[key] for key in ("unlabeled", "autoencoder and VAE", "graphs", "reading neighbors")},
    "clusters": 10,
    "restarts": {"k-means": 5, "mixture": MIXTURE_RESTARTS},
    "mixture of": "the first 20 numbers, without those of a standard deviation below 0.05",
    "scored": "test digits",
}

Code = tuple[np.ndarray, ...]  # of the training, validation and test digits


@functools.cache
def trained_codes(seed: int, epochs: int = EPOCHS) -> dict[str, Code]:
    """Codes of an autoencoder and a VAE of the same layers."""
    keras.utils.set_random_seed(seed)
    kinds = [
        stacked_vaes.autoencoder(stacked_vaes.best_rate("autoencoder, BCE")),
        stacked_vaes.Kind(stacked_vaes.best_rate("VAE, −ELBO")),
    ]
    parts = [x for x, _ in load_mnist(flat=True)]
    model = stacked_vaes.train_stack(
        kinds, parts[0], hidden=HIDDEN, latent=LATENT, epochs=epochs, batch_size=BATCH_SIZE
    )
    both = [in_parts(lambda x: ops.convert_to_numpy(model.encode(x[np.newaxis])[0]), x, axis=1) for x in parts]
    return {name: tuple(codes[i] for codes in both) for i, name in enumerate(("autoencoder", "VAE"))}


@functools.cache
def fixed_codes() -> dict[str, Code]:
    """Pixels, PCA with 50 numbers, and the stored codes of lessons 02 and 04."""
    parts = [x for x, _ in load_mnist(flat=True)]
    pca = fit_pca(parts[0], 50)
    conv, encoder, _ = lessons.build_conv_autoencoder()
    load_pretrained("02.conv128", conv)
    strokes = lessons.build_strokes(np.ones((2048, 784), dtype="float32"))
    load_pretrained("04.strokes", strokes)
    stroke_parts = strokes.layers[-1].parts()
    readers: dict[str, Callable] = {
        "pixels": lambda x: x,
        "PCA": lambda x: pca.transform(x).astype("float32"),
        "convolutional": lambda x: ops.convert_to_numpy(encoder(x.reshape(-1, 28, 28, 1))).reshape(len(x), -1),
        "strokes": lambda x: ops.convert_to_numpy(lessons.matched(x, stroke_parts)),
    }
    return {name: tuple(in_parts(read, x) for x in parts) for name, read in readers.items()}


def in_parts(read: Callable, x: np.ndarray, axis: int = 0) -> np.ndarray:
    return np.concatenate([read(x[i : i + 1000]) for i in range(0, len(x), 1000)], axis=axis)


def unit_length(z: np.ndarray) -> np.ndarray:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-9)


def scaled(code: Code) -> Code:
    """Divided by one number, so that a reader's penalty means the same for every code."""
    spread = np.sqrt(code[0].var(axis=0).mean())
    return tuple((part - code[0].mean(axis=0)) / spread for part in code)


def balanced_rows(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of `n` examples, n / 10 of each digit."""
    return np.concatenate([rng.choice(np.flatnonzero(y == digit), n // 10, replace=False) for digit in range(10)])


def percent_wrong(guessed: np.ndarray, y: np.ndarray) -> float:
    return 100 * float(np.mean(guessed != y))


def regression_errors(code: Code, labels, draws: list[np.ndarray]) -> dict[str, list]:
    """Setting → (validation, test) error for each draw of labels."""
    (z, z_val, z_test), (y, y_val, y_test) = scaled(code), labels
    errors: dict[str, list] = {}
    for strength in STRENGTHS:
        for rows in draws:
            reader = LogisticRegression(C=strength, max_iter=200).fit(z[rows], y[rows])
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
def all_codes(seed: int) -> dict[str, Code]:
    return {**fixed_codes(), **trained_codes(seed)}


@functools.cache
def measure_labels(seed: int) -> dict[int, dict[str, float]]:
    """Number of labels → code and reader → test error, with this seed's networks and draws of labels."""
    rng = np.random.default_rng(seed)
    results: dict[int, dict[str, float]] = {n: {} for n in LABELS}
    data = load_mnist(flat=True)
    labels = tuple(y for _, y in data)
    draws = {n: [balanced_rows(labels[0][:N_UNLABELED], n, rng) for _ in range(DRAWS)] for n in LABELS}
    for name, code in all_codes(seed).items():
        graphs = {label: Graph(code, N_UNLABELED, *graph) for label, graph in GRAPHS.items()}
        for n in LABELS:
            spread = {label: spreading_errors(graph, labels, draws[n]) for label, graph in graphs.items()}
            found = {
                "logistic regression": best_setting(regression_errors(code, labels, draws[n])),
                "nearest neighbors": best_setting(neighbor_errors(code, labels, draws[n])),
                "label spreading": best_setting(spread),
            }
            found |= {f"label spreading, {label}": best_setting({label: errors}) for label, errors in spread.items()}
            results[n] |= {f"{name}: {reader}": error for reader, error in found.items()}
        if name in ALL_UNLABELED:
            whole = Graph(code, len(labels[0]), *GRAPHS["10 neighbors"])
            for n in LABELS:
                error = best_setting({"all": spreading_errors(whole, labels, draws[n])})
                results[n][f"{name}: label spreading, all training digits"] = error
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
    for name, code in all_codes(seed).items():
        found: dict[str, dict[str, float]] = {}
        for suffix, change in (("", lambda z: z), (", cosine", unit_length)):
            z, z_test = change(code[0][:N_UNLABELED]), change(code[2])
            k_means = KMeans(10, n_init=5, random_state=seed).fit(z)
            found[f"k-means{suffix}"] = describe_clusters(k_means.predict(z_test), y_test)
            if name in MIXTURE_CODES:
                z, z_test = (change(part[:, in_use(code)]) for part in (code[0][:N_UNLABELED], code[2]))
                mixture = GaussianMixture(10, n_init=MIXTURE_RESTARTS, reg_covar=1e-4, random_state=seed).fit(z)
                found[f"mixture{suffix}"] = describe_clusters(mixture.predict(z_test), y_test)
        for label, settings in GRAPHS.items():
            graph = Graph(code, N_UNLABELED, *settings)
            clusters = KMeans(10, n_init=5, random_state=seed).fit_predict(spectral_code(graph.W, 10))
            at_test = graph.read(np.eye(10)[clusters])[1]
            eigenvalues = leading_eigenvalues(graph.W, 11)
            found[f"spectral, {label}"] = {
                **describe_clusters(at_test, y_test),
                "normalized cut": normalized_cut(graph.W, clusters),
                "normalized cut of the digits": normalized_cut(graph.W, y),
                "gap": eigenvalues[9] - eigenvalues[10],
                "purity": purity(graph.W, y),
            }
        results |= {f"{name}: {method}: {what}": v for method, r in found.items() for what, v in r.items()}
    return {10: results}


def leading_eigenvalues(W, n: int) -> np.ndarray:
    values = sparse.linalg.eigsh(normalized(W), k=n, which="LA", return_eigenvectors=False, v0=np.ones(W.shape[0]))
    return np.sort(values)[::-1]
