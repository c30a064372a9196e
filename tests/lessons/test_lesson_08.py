"""Lesson 08: pre-training reaches every layer, the graph is that of the nearest codes, labels end where the formula says."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from course_utils.backend import keras
from course_utils.lessons import (
    balanced_rows,
    build_stack,
    cluster_accuracy,
    neighbor_graph,
    neighbors,
    normalized,
    pretrain_layers,
    small_weights,
    spectral_code,
    spread_labels,
)
from tools.author import neighborhoods, pretraining
from tools.shared.notebook_files import cell_sources

ops = keras.ops

SMALL = (784, 12, 6)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def digits(rng):
    """Training, validation and test "digits": ten dark rows of pixels with noise, which are easy to tell apart."""

    def some(n):
        y = np.arange(n) % 10
        x = rng.uniform(0, 0.2, size=(n, 28, 28))
        x[np.arange(n), y] = 1
        return x.reshape(n, 784).astype("float32"), y

    return some(300), some(100), some(100)


# ---------------------------------------------------------------------------------------------------------------------
# Definitions of the lesson
# ---------------------------------------------------------------------------------------------------------------------


def test_balanced_rows_are_distinct_and_of_each_digit_as_many(rng):
    y = rng.integers(10, size=1000)
    rows = balanced_rows(y, 50, rng)
    assert len(set(rows)) == 50
    assert np.bincount(y[rows]).tolist() == [5] * 10


def test_small_weights_reach_one_over_the_root_of_the_inputs():
    kernel = ops.convert_to_numpy(small_weights()((400, 300)))
    assert np.abs(kernel).max() == pytest.approx(0.05, rel=0.01)
    assert kernel.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.02)


def test_pretraining_changes_every_hidden_layer_and_not_the_last(digits):
    (x, _), _, _ = digits
    stack = build_stack(sizes=SMALL)
    before = [ops.convert_to_numpy(layer.kernel) for layer in stack.layers]
    pretrain_layers(stack, x, rate=0.1, epochs=1)
    changes = [np.abs(ops.convert_to_numpy(la.kernel) - b).max() for la, b in zip(stack.layers, before, strict=True)]
    assert min(changes[:2]) > 1e-3
    assert changes[2] == 0


@pytest.mark.slow
def test_pretraining_brings_the_codes_to_reconstruct(digits):
    """After it a linear map from the first layer's code reconstructs the pictures better than from random weights."""
    (x, _), _, _ = digits
    keras.utils.set_random_seed(0)

    def error(stack):
        h = np.c_[stack.layers[0](x), np.ones(len(x))]
        return np.square(x - h @ np.linalg.lstsq(h, x, rcond=None)[0]).mean()

    stack = build_stack(sizes=SMALL)
    before = error(stack)
    pretrain_layers(stack, x, rate=0.3, epochs=60)
    assert error(stack) < 0.8 * before


def test_neighbors_are_the_nearest(rng):
    z, pool = (rng.normal(size=(n, 5)).astype("float32") for n in (1200, 700))
    expected = np.argsort(np.linalg.norm(z[:, np.newaxis] - pool, axis=-1), axis=1)[:, :4]
    assert np.mean(neighbors(z, pool, 4) == expected) > 0.999


def test_graph_joins_each_code_with_its_nearest_both_ways_and_never_with_itself(rng):
    z = rng.normal(size=(60, 3)).astype("float32")
    W = neighbor_graph(z, 5).toarray()
    nearest = np.argsort(np.linalg.norm(z[:, np.newaxis] - z, axis=-1), axis=1)[:, 1:6]
    expected = np.zeros((60, 60))
    np.put_along_axis(expected, nearest, 1, axis=1)
    np.testing.assert_array_equal(W, np.maximum(expected, expected.T))


def test_normalized_graph_divides_by_the_roots_of_the_degrees(rng):
    W = (rng.random((12, 12)) < 0.4).astype(float)
    W = np.maximum(W, W.T) + np.eye(12, k=1) + np.eye(12, k=-1)
    roots = np.sqrt(W.sum(axis=1))
    np.testing.assert_allclose(normalized(sparse.csr_matrix(W)).toarray(), W / np.outer(roots, roots))


@pytest.fixture
def two_groups(rng):
    """Two clouds of 40 codes each, joined by few edges; their graph, and which cloud each belongs to."""
    group = np.repeat([0, 1], 40)
    z = rng.normal(size=(80, 2)) + 3.0 * group[:, np.newaxis]
    return neighbor_graph(z.astype("float32"), 5), group


def test_labels_end_where_the_formula_says(two_groups):
    W, _ = two_groups
    Y = np.zeros((80, 2))
    Y[3, 0] = Y[50, 1] = 1
    exact = np.linalg.inv(np.eye(80) - 0.9 * normalized(W).toarray()) @ Y
    np.testing.assert_allclose(spread_labels(W, Y, 0.9, 500), exact / exact.sum(axis=0), rtol=1e-6)


def test_one_label_names_a_group_and_columns_do_not_mix(two_groups):
    W, group = two_groups
    Y = np.zeros((80, 4))
    Y[3, 0] = Y[50, 1] = Y[50, 3] = 1
    scores = spread_labels(W, Y)
    assert np.mean(scores[:, :2].argmax(axis=1) == group) > 0.9
    np.testing.assert_allclose(scores[:, 3], scores[:, 1])
    assert not scores[:, 2].any()


def test_spectral_code_separates_the_groups(two_groups):
    W, group = two_groups
    code = spectral_code(W, 2)
    np.testing.assert_allclose(np.linalg.norm(code, axis=1), 1)
    angles = np.arctan2(code[:, 1], code[:, 0])
    apart = np.abs(np.median(angles[group == 0]) - np.median(angles[group == 1]))
    assert apart > 3 * np.median(np.abs(angles[group == 0] - np.median(angles[group == 0])))


def test_cluster_accuracy_is_that_of_the_best_pairing(rng):
    y = rng.integers(10, size=500)
    names = rng.permutation(10)
    assert cluster_accuracy(names[y], y) == 1
    wrong = names[y].copy()
    wrong[:50] = names[(y[:50] + 1) % 10]
    assert cluster_accuracy(wrong, y) == pytest.approx(0.9)
    assert cluster_accuracy(np.zeros(500, int), y) == np.bincount(y).max() / 500
    assert cluster_accuracy(np.arange(10) % 2, np.full(10, 3)) == 0.5  # a digit has one cluster, not two


# ---------------------------------------------------------------------------------------------------------------------
# Stored curves
# ---------------------------------------------------------------------------------------------------------------------


def test_the_first_rows_of_the_order_are_balanced(rng):
    y = np.concatenate([np.arange(300) % 10, np.zeros(50, int)])
    order = pretraining.balanced_order(y, rng)
    assert sorted(order) == list(range(350))
    assert np.bincount(y[order[:100]]).tolist() == [10] * 10


def test_weights_at_the_start_have_the_sizes_of_the_lessons(rng):
    kernel = pretraining.uniform_weights(rng, (400, 300), pretraining._small)[0]
    assert np.abs(kernel).max() == pytest.approx(0.05, rel=0.01)
    glorot = ops.convert_to_numpy(keras.initializers.GlorotUniform(seed=0)((400, 300)))
    he = ops.convert_to_numpy(keras.initializers.HeUniform(seed=0)((400, 300)))
    assert pretraining._glorot(400, 300) == pytest.approx(np.abs(glorot).max(), rel=0.01)
    assert pretraining._he(400, 300) == pytest.approx(np.abs(he).max(), rel=0.01)


def test_stacked_classifiers_learn_as_keras_does(digits, rng):
    """Two networks side by side with rates of their own end where each ends by itself."""
    (x, y), _, _ = digits
    starts = [pretraining.uniform_weights(rng, (*SMALL, 10), pretraining._glorot) for _ in range(2)]
    rates = (0.5, 2.0)
    stacked = pretraining.Classifiers(starts, "sigmoid", x, y)
    rows = pretraining.passes(rng, np.arange(len(x)), 6, 2, 50)
    stacked.compile(optimizer=pretraining.SGDWithOwnRates(1.0, np.array(rates)))
    stacked.fit(rows, batch_size=50, epochs=1, shuffle=False, verbose=0)
    for network, (start, rate) in enumerate(zip(starts, rates, strict=True)):
        alone = build_stack(sizes=SMALL)
        alone.set_weights([weight.ravel() if weight.shape[0] == 1 else weight for weight in start])
        alone.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
        alone.fit(x[rows[:, network]], y[rows[:, network]], batch_size=50, epochs=1, shuffle=False, verbose=0)
        for one, other in zip(alone.get_weights(), stacked.weights_of(network), strict=True):
            np.testing.assert_allclose(one, other.reshape(one.shape), atol=1e-4)


def test_every_way_gets_the_same_steps_rates_and_labels(digits, monkeypatch):
    fits, rates = [], []
    original, compiled = pretraining.Classifiers.fit, pretraining.Classifiers.compile
    monkeypatch.setattr(
        pretraining.Classifiers, "fit", lambda self, x, **k: (fits.append(x), original(self, x, **k))[1]
    )
    monkeypatch.setattr(
        pretraining.Classifiers,
        "compile",
        lambda self, **k: (rates.append(k["optimizer"].factors.ravel()), compiled(self, **k))[1],
    )
    result = pretraining.measure_style("2006", 1, digits, labels=(50, 100), steps=8, sizes=SMALL, epochs=1)
    rows, tried, ways = np.concatenate(fits), pretraining.STYLES["2006"]["rates"], 3
    np.testing.assert_allclose(rates, [np.tile(tried, 2 * ways)], rtol=1e-6)
    assert rows.shape == (8 * pretraining.BATCH_SIZE, 2 * ways * len(tried))
    for first in (0, ways * len(tried)):
        assert (rows[:, first : first + ways * len(tried)] == rows[:, [first]]).all()
    assert len(set(rows[:, 0])) <= 50 < len(set(rows[:, -1])) <= 100
    for n, way in itertools.product((50, 100), ("small weights", "Glorot's weights")):
        gain = result[n][f"2006, {way}: test error"] - result[n]["2006, pre-trained: test error"]
        assert result[n][f"2006, gain over {way}"] == pytest.approx(gain)


def test_rate_and_stop_are_those_with_the_lowest_validation_error(digits, monkeypatch):
    """The validation error grows from rate to rate, and the test error falls."""
    (_, (x_val, _), _), calls = digits, []

    def errors(self, x, y):
        calls.append(x is x_val)
        column = np.arange(len(ops.convert_to_numpy(self.parameters_[0])), dtype=float)
        return column + len(calls) if x is x_val else 100 - column - len(calls)

    monkeypatch.setattr(pretraining.Classifiers, "errors", errors)
    result = pretraining.measure_style("2006", 1, digits, labels=(50,), steps=8, sizes=SMALL, epochs=1)
    assert sum(calls) == pretraining.STOPS
    for i, way in enumerate(("small weights", "Glorot's weights", "pre-trained")):
        found = {what: result[50][f"2006, {way}: {what}"] for what in ("rate", "steps", "test error")}
        tried = pretraining.STYLES["2006"]["rates"]
        assert found == {"rate": tried[0], "steps": 8 // pretraining.STOPS, "test error": 98 - i * len(tried)}


def test_pretraining_for_the_curve_reads_no_labels_and_takes_the_best_rate(digits, rng):
    (x, _), (x_val, _), _ = digits
    style = pretraining.STYLES["2006"] | {"pretraining rates": (1e-6, 0.3)}
    weights = pretraining.pretrain_layers(style, x, x_val, rng, sizes=SMALL, epochs=20)
    assert [w.shape for w in weights] == [(784, 12), (1, 12), (12, 6), (1, 6)]
    assert np.abs(weights[0]).max() > 784**-0.5  # with the tiny rate nothing would have moved


def test_a_reader_takes_the_setting_with_the_lowest_validation_error():
    errors = {"bad": [(30.0, 1.0), (30.0, 1.0)], "good": [(20.0, 7.0), (22.0, 9.0)]}
    assert neighborhoods.best_setting(errors) == 8


def test_readers_learn_from_the_drawn_labels_alone(digits, rng, monkeypatch):
    """With the other labels destroyed the errors are the same, and on easy digits they are near zero."""
    monkeypatch.setattr(neighborhoods, "READING_NEIGHBORS", 3)
    (x, y), (x_val, y_val), (x_test, y_test) = digits
    rows = balanced_rows(y, 50, rng)
    destroyed = np.zeros_like(y)
    destroyed[rows] = y[rows]
    code, graph = (x, x_val, x_test), neighborhoods.Graph((x, x_val, x_test), len(x), 5, False)
    for truth in (y, destroyed):
        labels = truth, y_val, y_test
        regression = neighborhoods.regression_errors(code, labels, [rows])
        votes = neighborhoods.neighbor_errors(code, labels, [rows])
        spread = {"graph": neighborhoods.spreading_errors(graph, labels, [rows])}
        assert max(neighborhoods.best_setting(errors) for errors in (regression, votes, spread)) < 5


def test_validation_error_comes_first_and_test_error_second(digits, rng):
    (x, y), (x_val, y_val), (x_test, y_test) = digits
    rows = balanced_rows(y, 50, rng)
    labels = y, y_val, (y_test + 1) % 10
    for errors in (
        neighborhoods.regression_errors((x, x_val, x_test), labels, [rows]),
        neighborhoods.neighbor_errors((x, x_val, x_test), labels, [rows]),
    ):
        val, test = min(pairs[0] for pairs in errors.values())
        assert val < 5
        assert test > 90


def test_vote_prefers_the_nearest_among_equals():
    assert neighborhoods.vote(np.array([[3, 5, 5], [7, 2, 4], [1, 1, 9]])).tolist() == [5, 7, 1]


def test_normalized_cut_and_purity_of_two_separate_groups():
    W = sparse.csr_matrix(np.kron(np.eye(2), 1 - np.eye(4)))
    group = np.repeat([0, 1], 4)
    assert neighborhoods.normalized_cut(W, group) == pytest.approx(8)  # the eight clusters without any digit count 1
    assert neighborhoods.purity(W, group) == 1
    assert neighborhoods.purity(W, np.arange(8) % 2) == pytest.approx(1 / 3)


def test_the_maps_of_tsne_start_from_three_random_places():
    starts = []

    class Drawn:
        def __init__(self, init, max_iter, random_state):
            assert init == "random"
            starts.append(random_state)

        def fit_transform(self, x):
            return x[:, :2]

    x, y = np.random.default_rng(0).normal(size=(1000, 20)), np.arange(1000) % 10
    namespace = {"TSNE": Drawn, "np": np, "rng": np.random.default_rng(0), "val": {"VAE": x}, "y_val": y}
    cells = cell_sources("08")
    exec(cells["tsne"] + "\n" + cells["tsne-distances"], namespace)
    assert len(set(starts)) == len(namespace["maps"]) == 3
    gaps = namespace["distances_between_digits"](x)
    assert np.isinf(np.diag(gaps)).all()
    assert (
        gaps[2, 5]
        == gaps[5, 2]
        == pytest.approx(np.linalg.norm(np.median(x[y == 2], axis=0) - np.median(x[y == 5], axis=0)))
    )
