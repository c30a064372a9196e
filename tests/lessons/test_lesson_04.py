"""The mathematics of lesson 04: penalties, top-k, strokes, what counts as active, and the grid of its stored curves."""

import numpy as np
import pytest
from scipy.stats import entropy

from course_utils import lessons
from course_utils.backend import keras
from course_utils.exercises.registry import what_is_missing
from course_utils.pretrained import load_curve
from tools.author import pretrain, sparse_grid, sweep
from tools.shared.notebook_files import cell_sources

ops = keras.ops


def penalty_of(layer, z):
    """The sum of what `layer` adds to the loss for the code `z`."""
    layer(z)
    return sum(float(loss) for loss in layer.losses)


@pytest.fixture
def z():
    """A sigmoid code of 12 pictures and 7 units whose means differ."""
    rng = np.random.default_rng(4)
    return (rng.uniform(0.01, 0.2, (12, 7)) * np.linspace(0.5, 4, 7)).astype("float32")


def test_bernoulli_kl_against_scipy():
    for rho in (0.05, 0.3):
        for rho_hat in (0.01, 0.05, 0.5, 0.9):
            expected = entropy([rho, 1 - rho], [rho_hat, 1 - rho_hat])
            assert float(lessons.bernoulli_kl(rho, rho_hat)) == pytest.approx(expected, abs=1e-6)


def test_kl_penalty_is_per_unit_and_summed(z):
    expected = 0.7 * sum(entropy([0.1, 0.9], [m, 1 - m]) for m in z.mean(axis=0, dtype=np.float64))
    assert penalty_of(lessons.KLSparsity(rho=0.1, beta=0.7), z) == pytest.approx(expected, rel=1e-4)


def test_kl_penalty_is_zero_at_rho_and_positive_elsewhere():
    layer = lessons.KLSparsity(rho=0.05, beta=1.0)
    assert penalty_of(layer, np.full((8, 5), 0.05, "float32")) == pytest.approx(0, abs=1e-5)
    for mean in (0.0, 0.01, 0.1, 0.5, 0.96, 1.0):
        value = penalty_of(layer, np.full((8, 5), mean, "float32"))
        assert 0.01 < value < np.inf
    # The mean over the whole matrix is rho, that of no unit is.
    assert penalty_of(layer, np.tile(np.float32([0.0, 0.1]), (8, 4))) > 0.1


def test_penalties_do_not_depend_on_the_size_of_the_batch(z):
    for layer in (lessons.KLSparsity(beta=0.5), lessons.L1Sparsity(0.5)):
        once = penalty_of(layer, z)
        assert penalty_of(layer, np.concatenate([z, z, z])) == pytest.approx(once, rel=1e-4)


def test_l1_is_the_mean_over_pictures_of_the_sum_over_units():
    assert penalty_of(lessons.L1Sparsity(0.5), np.float32([[1, -2, 0], [0, 0, 4]])) == pytest.approx(0.5 * 7 / 2)


@pytest.mark.parametrize("layer", [lessons.KLSparsity(), lessons.L1Sparsity()])
def test_penalties_pass_the_code_on(layer, z):
    assert np.array_equal(ops.convert_to_numpy(layer(z)), z)


def test_penalty_enters_the_training_loss_once(z):
    inputs = keras.Input((7,))
    layer = lessons.KLSparsity(rho=0.1, beta=2.0)
    model = keras.Model(inputs, layer(inputs))
    model.compile(loss="mse")
    total = model.evaluate(
        z, z, batch_size=len(z), verbose=0
    )  # the reconstruction is perfect: only the penalty is left
    assert total == pytest.approx(penalty_of(lessons.KLSparsity(rho=0.1, beta=2.0), z), rel=1e-4)


def test_kl_gradient_pushes_each_mean_towards_rho():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, lessons.KLSparsity(rho=0.2, beta=1.0)(keras.layers.Dense(2, "sigmoid")(inputs)))
    model.compile(loss=lambda y, y_pred: 0.0 * ops.sum(y_pred, axis=-1), optimizer=keras.optimizers.SGD(1.0))
    x = np.zeros((4, 2), "float32")  # only the biases count
    model.layers[1].set_weights([np.eye(2, dtype="float32"), np.float32([3, -4])])
    before = model.predict(x, verbose=0)[0]
    model.fit(x, x, epochs=3, verbose=0)
    after = model.predict(x, verbose=0)[0]
    assert 0.2 < after[0] < before[0]
    assert before[1] < after[1] < 0.2


def test_top_k_keeps_the_k_largest_of_each_row():
    z = np.random.default_rng(0).normal(size=(40, 23)).astype("float32")
    kept = ops.convert_to_numpy(lessons.TopK(5)(z))
    for row, kept_row in zip(z, kept, strict=True):
        expected = np.zeros_like(row)
        largest = np.argsort(row)[-5:]
        expected[largest] = row[largest]
        assert np.array_equal(kept_row, expected)


def test_top_k_takes_the_first_of_equal_numbers():
    rows = np.float32([[2, 2, 2, 2], [1, 3, 1, 1], [0.5, 0.5, 0.1, 0.7]])
    expected = np.float32([[2, 2, 0, 0], [1, 3, 0, 0], [0.5, 0, 0, 0.7]])
    assert np.array_equal(ops.convert_to_numpy(lessons.TopK(2)(rows)), expected)


def test_top_k_gradient_flows_only_through_the_kept():
    inputs = keras.Input((4,))
    scale = keras.layers.EinsumDense("bi,i->bi", output_shape=(4,))
    model = keras.Model(inputs, lessons.TopK(2)(scale(inputs)))
    scale.set_weights([np.ones(4, "float32")])
    model.compile(loss=lambda y, y_pred: ops.sum(y_pred, axis=-1), optimizer=keras.optimizers.SGD(0.1))
    x = np.float32([[4, 1, 3, 2]])
    model.fit(x, x, verbose=0)
    assert np.allclose(scale.get_weights()[0], [1 - 0.4, 1, 1 - 0.3, 1], atol=1e-6)


def test_describe_code():
    z = np.zeros((10, 4), "float32")
    z[:2, 0] = 1  # active for two pictures
    z[:, 1] = 0.05  # always the same: dead
    z[:5, 2] = 0.2  # small, but by its own measure active for half of the pictures
    z[5:, 2] = 0.01
    facts = lessons.describe_code(z)  # unit 3 is silent: dead
    assert facts["dead"] == 2
    assert facts["active"] == pytest.approx((2 + 5) / 40)
    assert facts["mean"] == pytest.approx(z.mean())
    for scale in (0.01, 100):
        assert lessons.describe_code(scale * z)["active"] == pytest.approx(facts["active"])


def test_build_sparse_shares_its_halves():
    autoencoder, encoder, decoder = lessons.build_sparse(*lessons.topk_code(3, n_code=20))
    x = np.random.default_rng(0).uniform(size=(6, 784)).astype("float32")
    z = encoder.predict(x, verbose=0)
    assert z.shape == (6, 20)
    assert (np.count_nonzero(z, axis=1) == 3).all()
    assert np.allclose(decoder.predict(z, verbose=0), autoencoder.predict(x, verbose=0), atol=1e-6)


def test_sigmoid_code_starts_near_rho():
    keras.utils.set_random_seed(0)
    z = ops.convert_to_numpy(lessons.sigmoid_code(500, rho=0.1)(np.zeros((2, 784), "float32")))
    assert np.allclose(z, 0.1, atol=1e-5)
    x = np.random.default_rng(0).uniform(size=(50, 784)).astype("float32") < 0.1
    assert np.ptp(ops.convert_to_numpy(lessons.sigmoid_code(500)(x.astype("float32"))).mean(axis=0)) > 0.02


@pytest.mark.parametrize("code", [(lessons.sigmoid_code(8), lessons.KLSparsity(0.1, 0.2)), lessons.topk_code(2, 8)])
def test_models_are_saved_and_loaded(code, tmp_path):
    autoencoder, _, _ = lessons.build_sparse(*code, lessons.L1Sparsity(0.3))
    autoencoder.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    x = np.random.default_rng(0).uniform(size=(3, 784)).astype("float32")
    assert np.allclose(loaded.predict(x, verbose=0), autoencoder.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "settings"),
    [
        (lessons.KLSparsity(0.3, 0.4), {"rho": 0.3, "beta": 0.4}),
        (lessons.L1Sparsity(0.5), {"strength": 0.5}),
        (lessons.TopK(6), {"k": 6}),
    ],
)
def test_settings_survive_the_config(layer, settings):
    again = type(layer).from_config(layer.get_config())
    assert {name: getattr(again, name) for name in settings} == settings


def test_windows_are_dimmed_pieces_of_the_pictures():
    x = np.zeros((3, 784), "float32")
    x[:, 400:405] = 0.9  # row 14, columns 8 to 12
    windows = lessons.stroke_windows(x, 20, seed=1)
    assert windows.shape == (20, 784)
    assert np.all((windows == 0) == (x[0] == 0))
    assert np.allclose(windows.max(axis=1), 0.9)  # the pixel in the middle keeps its ink
    assert np.all(windows <= 0.9)
    assert np.array_equal(windows, lessons.stroke_windows(x, 20, seed=1))
    apart = windows[:, 404] / windows[:, 400]
    assert np.isclose(np.abs(np.log(apart)).max(), 4**2 / (2 * 3.5**2), rtol=1e-4)


@pytest.fixture
def strokes():
    """A layer that draws with at most 3 of 30 random parts."""
    windows = np.random.default_rng(0).uniform(size=(30, 16)).astype("float32") ** 4
    return lessons.build_strokes(windows, k=3).get_layer("strokes")


@pytest.fixture
def x():
    return np.random.default_rng(1).uniform(size=(8, 16)).astype("float32")


def test_parts_have_length_one_and_no_negative_ink(strokes):
    parts = ops.convert_to_numpy(strokes.parts())
    assert np.allclose(np.linalg.norm(parts, axis=1), 1, atol=1e-4)
    assert parts.min() >= 0


def test_pursuit_chooses_as_matching_pursuit_does(strokes, x):
    parts = ops.convert_to_numpy(strokes.parts())
    units, _, chosen = (ops.convert_to_numpy(array) for array in strokes.pursue(x))
    for picture, found in zip(x, units, strict=True):
        rest, expected = picture.copy(), []
        for _ in range(3):
            match = parts @ rest
            match[expected] = -1
            j = int(np.argmax(match))
            rest = rest - match[j] * parts[j]
            expected.append(j)
        assert found.tolist() == expected
    assert np.allclose(chosen, parts[units])


def test_no_part_is_chosen_twice(strokes, x):
    units = ops.convert_to_numpy(strokes.pursue(x, k=12)[0])
    assert all(len(set(row)) == 12 for row in units.tolist())


@pytest.mark.slow
def test_adjusted_strengths_are_the_best_that_are_not_negative(strokes, x):
    from scipy.optimize import nnls

    strokes.n_adjust = 3000
    _, z, chosen = (ops.convert_to_numpy(array) for array in strokes.pursue(x))
    for picture, some, parts in zip(x, z, chosen, strict=True):
        assert np.allclose(some, nnls(parts.T.astype("float64"), picture)[0], atol=1e-3)


def test_a_part_that_would_have_to_be_subtracted_gets_no_strength(strokes):
    strokes.n_adjust = 200
    chosen = np.float32([[[1.0, 0.0], [0.8, 0.6]]])
    x = np.float32([[1.0, -0.5]])  # the best strengths without the limit are 5/3 and −5/6
    z = ops.convert_to_numpy(strokes.adjust(x, np.ones((1, 2), "float32"), chosen))
    assert z.tolist() == [[pytest.approx(1, abs=1e-3), 0]]


def test_adjusting_never_makes_the_drawing_worse(strokes, x):
    errors = []
    for strokes.n_adjust in (0, 1, 5, 20):
        _, z, chosen = strokes.pursue(x)
        errors.append(float(ops.mean(ops.square(x - ops.sum(z[..., None] * chosen, axis=1)))))
        assert float(ops.min(z)) >= 0
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_a_drawing_is_the_sum_of_its_parts_and_grows_part_by_part(strokes, x):
    x = x / 4
    _, z, chosen = (ops.convert_to_numpy(array) for array in strokes.pursue(x))
    sums = lessons.growing_sums(strokes, x, [1, 3])
    assert np.allclose(sums[:, 0], np.clip(z[:, :1] * chosen[:, 0], 0, 1), atol=1e-6)
    assert np.allclose(sums[:, 1], np.clip(ops.convert_to_numpy(strokes(x)), 0, 1), atol=1e-5)


def test_training_changes_only_chosen_parts_and_keeps_ink_positive():
    windows = np.eye(6, 16, dtype="float32") + np.float32(0.01)
    model = lessons.build_strokes(windows, k=1)
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(5.0))
    x = np.tile(windows[:1] + np.float32(0.2), (4, 1))
    before = float(model.evaluate(x, x, verbose=0))
    model.fit(x, x, epochs=20, verbose=0)
    kernel = model.get_weights()[0]
    assert np.array_equal(kernel[1:], windows[1:])
    assert kernel.min() >= 0
    assert float(model.evaluate(x, x, verbose=0)) < before / 2


def test_matched_codes_keep_the_n_best_above_the_next():
    parts = np.random.default_rng(2).normal(size=(9, 5)).astype("float32")
    x = np.random.default_rng(3).normal(size=(4, 5)).astype("float32")
    z = ops.convert_to_numpy(lessons.matched(x, parts, 3))
    matches = np.sort(x @ parts.T, axis=1)
    assert np.allclose(np.sort(z, axis=1)[:, -3:], matches[:, -3:] - matches[:, -4:-3], atol=1e-5)
    assert (np.count_nonzero(z, axis=1) == 3).all()


def test_the_scale_of_a_unit_does_not_change_what_the_probe_reads():
    keras.utils.set_random_seed(0)
    probe = lessons.build_probe(6)
    x = np.random.default_rng(0).normal(size=(500, 6)).astype("float32")
    probe.layers[0].set_weights([np.zeros(6), x.var(axis=0)])
    one = probe.predict(x, verbose=0)
    probe.layers[0].set_weights([np.zeros(6), 10_000 * x.var(axis=0)])
    assert np.allclose(one, probe.predict(100 * x, verbose=0), atol=1e-3)


# The grid of the stored curves


@pytest.mark.parametrize("kind", ["L1", "KL", "top-k"])
def test_models_side_by_side_are_those_of_the_lesson(kind, monkeypatch):
    monkeypatch.setattr(sparse_grid, "N_CODE", 20)
    strengths = {"L1": (0.0, 0.2), "KL": ((0.05, 0.3), (0.2, 0.1)), "top-k": (3, 7)}[kind]
    stack = sparse_grid.Codes(kind, strengths, (0.1, 0.2))
    stack.build((None, 784))
    x = np.random.default_rng(0).uniform(size=(12, 784)).astype("float32")
    losses = ops.convert_to_numpy(stack.losses_of(x, stack.encode(x)))
    kernel, out, out_bias = (ops.convert_to_numpy(w) for w in (stack.kernel, stack.out, stack.out_bias))
    for i, strength in enumerate(strengths):
        if kind == "L1":
            code = keras.layers.Dense(20, activation="relu"), lessons.L1Sparsity(strength)
        elif kind == "KL":
            code = lessons.sigmoid_code(20, strength[0]), lessons.KLSparsity(*strength)
        else:
            code = lessons.topk_code(strength, 20)
        model, encoder, decoder = lessons.build_sparse(*code)
        bias = [ops.convert_to_numpy(stack.bias)[i, 0]] if kind != "top-k" else []
        encoder.layers[0].set_weights([kernel[i], *bias])
        decoder.layers[-1].set_weights([out[i], out_bias[i, 0]])
        x_hat = model(x, training=True)
        taught = keras.losses.BinaryCrossentropy()(x, x_hat) + sum(model.losses)
        assert float(taught) == pytest.approx(losses[i], rel=1e-4)


def test_each_model_of_the_grid_learns_with_its_own_rate(monkeypatch):
    monkeypatch.setattr(sparse_grid, "N_CODE", 8)
    x = keras.Input((784,))
    stack = sparse_grid.Codes("L1", (0.0, 0.0), (0.0, 0.01))
    model = keras.Model(x, stack(x))
    before = model.get_weights()
    digits = np.random.default_rng(0).uniform(size=(20, 784)).astype("float32")
    sparse_grid.fit(model, digits, 20, 2, sparse_grid.multipliers_of([stack]), 10)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(old[0], new[0])
        assert not np.array_equal(old[1], new[1])


def test_rates_are_chosen_by_the_validation_loss_for_each_strength(monkeypatch):
    monkeypatch.setattr(sparse_grid, "N_CODE", 8)
    stack = sparse_grid.Codes("top-k", (2, 2, 3), (0.1, 0.2, 0.3))
    stack.build((None, 784))
    monkeypatch.setattr(stack, "losses_of", lambda x, z: np.array([0.5, 0.4, 0.9]))
    best = sparse_grid.best_rates(stack, np.ones((4, 784), "float32"))
    assert (best.strengths, best.rates) == ((2, 3), (0.2, 0.3))
    assert np.array_equal(best.get_weights()[0], stack.get_weights()[0][[1, 2]])


def test_decay_of_a_probe_is_chosen_on_validation_digits(monkeypatch):
    answers = iter([[np.array([[3.0, 1.0, 2.0]])], [np.array([[7.0, 8.0, 5.0]])]])  # validation, then test
    monkeypatch.setattr(sparse_grid, "fit", lambda *arguments: None)
    monkeypatch.setattr(sparse_grid.ProbeModel, "wrong", lambda self, x, y: next(answers))
    digits = np.random.default_rng(0).uniform(size=(6, 784)).astype("float32")
    split = digits, np.arange(6)
    errors = sparse_grid.probe_errors([lambda x: ops.convert_to_tensor(x)[None]], (split, split, split), 1, 2)
    assert errors[0].tolist() == [[1.0, 8.0]]


def test_shifted_digits_are_the_digits_and_four_neighbors():
    x = np.zeros((2, 784), "float32")
    x[:, 14 * 28 + 14] = 1
    moved, labels = sparse_grid.with_shifts(x, np.array([3, 5]))
    assert labels.tolist() == [3, 5] * 5
    assert sorted(moved.argmax(axis=1)[::2] - (14 * 28 + 14)) == [-28, -1, 0, 1, 28]


def test_every_code_is_tried_with_as_many_rates():
    assert {len(rates) for _, rates in sparse_grid.LIVE_GRID.values()} == {5}
    assert set(sparse_grid.LIVE_GRID) == {"L1", "KL", "top-k"}


def test_no_code_has_its_best_rate_at_the_end_of_the_range():
    losses = load_curve("04.rates")["mean"]
    for kind, (strengths, rates) in sparse_grid.LIVE_GRID.items():
        for code in sparse_grid.names_of(sparse_grid.Codes(kind, strengths, rates)):
            best = min(rates, key=lambda rate: losses[f"{code} at {rate:g}: loss"])
            assert best not in (rates[0], rates[-1]), code


@pytest.mark.parametrize("grid", [sparse_grid.GRID, sparse_grid.FEW_DIGITS_GRID], ids=["all digits", "few digits"])
def test_long_comparisons_use_the_rates_that_did_best(grid):
    losses = {name: values[0] for name, values in load_curve("04.rates")["mean"].items() if name.endswith(": loss")}
    for kind, (strengths, rates) in sparse_grid.LIVE_GRID.items():
        for code in sparse_grid.names_of(sparse_grid.Codes(kind, strengths, rates)):
            best = min(rates, key=lambda rate: losses[f"{code} at {rate:g}: loss"])
            assert best in grid[kind][1]
    assert {sweep.SWEEPS[name].seeds for name in ("04.rates", "04.tradeoff", "04.overfit", "04.random_sigmoid")} == {5}
    assert sweep.SWEEPS["04.rho"].seeds >= 3


def test_smaller_means_are_tried_with_the_rest_as_in_the_lesson_and_scored_on_validation_digits(monkeypatch):
    monkeypatch.setattr(sparse_grid, "N_CODE", 8)
    monkeypatch.setattr(sparse_grid, "fit", lambda *arguments: None)
    strengths, rates = sparse_grid.RHO_GRID["KL"]
    assert all(rho < 0.05 and beta == 0.003 for rho, beta in strengths)
    assert set(sparse_grid.GRID["KL"][1]) < set(rates)
    x = np.random.default_rng(0).uniform(size=(6, 784)).astype("float32")
    unlike = np.zeros((6, 784), "float32"), None
    measured = [
        sparse_grid.measure_rho(1, data=(unlike, (x_val, None), unlike), batch=2) for x_val in (x, np.zeros_like(x))
    ]
    names = {f"KL {rho:g} 0.003" for rho, _ in strengths}
    assert {label.partition(":")[0] for label in measured[0]} == names
    assert all(measured[0][f"{name}: MSE"] != measured[1][f"{name}: MSE"] for name in names)


def test_random_sigmoid_units_have_the_spreads_that_are_said_and_are_read_untrained(monkeypatch):
    monkeypatch.setattr(sparse_grid, "N_CODE", 64)
    read = []

    def probe_errors(readers, data, epochs, batch):
        read.append(ops.convert_to_numpy(readers[0](np.eye(784, dtype="float32"))))
        return [np.array([[1.0, 2.0], [3.0, 4.0]])]

    monkeypatch.setattr(sparse_grid, "probe_errors", probe_errors)
    results = sparse_grid.measure_random_sigmoid(4, data=(), spreads=(0.1, 3.0))
    assert results == {
        "random sigmoid 0.1: probe validation": 1.0, "random sigmoid 0.1: probe test": 2.0,
        "random sigmoid 3: probe validation": 3.0, "random sigmoid 3: probe test": 4.0,
    }  # fmt: skip
    inputs = np.log(read[0]) - np.log1p(-read[0])  # what the sigmoid takes: weight and bias of each pixel and unit
    assert inputs.std(axis=(1, 2)) == pytest.approx([0.1, 3.0], rel=0.05)
    assert inputs.mean(axis=(1, 2)) == pytest.approx(np.log(0.05 / 0.95), abs=0.05)


def test_every_kind_of_code_has_a_twin_without_any_restriction():
    strengths = {kind: strengths for kind, (strengths, _) in sparse_grid.GRID.items()}
    assert strengths["L1"][0] == 0
    assert strengths["KL"][0][1] == 0
    assert strengths["top-k"][-1] == sparse_grid.N_CODE
    assert all(len(some) == 4 for some in strengths.values())


def test_the_dense_rival_is_the_deep_network_of_lesson_01(monkeypatch):
    monkeypatch.setattr(sparse_grid, "fit", lambda *arguments: None)
    _, dense, encoder = sparse_grid.train_codes(np.zeros((2, 784), "float32"), {}, epochs=1, batch=2)
    cells = cell_sources("01")
    namespace = {"build_autoencoder": lessons.build_autoencoder, "train": lambda *a, **k: None, "x_train": None}
    exec(cells["train-deep"], namespace)
    assert [w.shape for w in dense.weights] == [w.shape for w in namespace["deep"].weights]
    assert encoder.layers[-1].activation is namespace["deep_encoder"].layers[-1].activation
    assert namespace["deep_settings"]["learning_rate"] == sparse_grid.DENSE_RATE


def test_stored_trainings_are_those_that_the_lesson_describes():
    strokes, probe = (pretrain.RECIPES[name] for name in ("04.strokes", "04.probe"))
    assert strokes.sizes["parts"] == sparse_grid.N_PARTS == 2048
    assert strokes.sizes["at most"] == 12
    assert probe.sizes["matched"] == 600
    names = list(pretrain.RECIPES)
    assert names.index("04.strokes") < names.index("04.probe")  # whose codes the probe reads


@pytest.mark.parametrize("answer", [0, 7, 11, True, "one"])
def test_a_wrong_prediction_is_refused(answer):
    assert what_is_missing("04.thriftiest", answer) is not None
    assert what_is_missing("04.thriftiest", 1) is None
