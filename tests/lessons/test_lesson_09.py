"""What lesson 09 defines, and the sweeps behind its stored curves."""

from unittest import mock

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.evaluation import fit_pca, reconstruct_pca
from course_utils.lessons import (
    RATE,
    STRENGTHS,
    SideBySideDense,
    blurred,
    build_detectors,
    damage,
    detector_errors,
    drift,
    general_errors,
    in_windows,
    log_spectra,
    machine_hum,
    mean_over_tasks,
    neighbor_errors,
    precision_of_alarms,
    threshold_for,
)
from tools.author import one_class
from tools.author.stacked_detectors import Network, Stack, blur_matrix, floors
from tools.author.sweep import SWEEPS

ops = keras.ops


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pictures(rng, n):
    return rng.uniform(size=(n, 784)).astype("float32")


# What the lesson defines


def test_networks_side_by_side_are_dense_layers_that_do_not_see_each_other(rng):
    layer, x = SideBySideDense(5, activation="relu"), rng.normal(size=(7, 3, 4)).astype("float32")
    together = ops.convert_to_numpy(layer(x))
    kernels, biases = (ops.convert_to_numpy(weight) for weight in layer.weights)
    for i in range(3):
        np.testing.assert_allclose(together[:, i], np.maximum(x[:, i] @ kernels[i] + biases[i], 0), atol=1e-5)
    x[:, 1] += 1
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x))[:, [0, 2]], together[:, [0, 2]])


def test_side_by_side_kernels_start_like_those_of_a_single_layer():
    keras.utils.set_random_seed(0)
    layer, single = SideBySideDense(128), keras.layers.Dense(128)
    layer.build((None, 10, 784))
    single.build((None, 784))
    stacked, kernel = (ops.convert_to_numpy(layer.weights[0]), ops.convert_to_numpy(single.kernel))
    assert stacked.shape == (10, 784, 128)
    assert stacked.std() == pytest.approx(kernel.std(), rel=0.02)


def test_detector_errors_are_squared_errors_in_each_network(rng):
    detectors, x = build_detectors(4, networks=3, hidden=8), pictures(rng, 6)
    errors = detector_errors(detectors, x)
    assert errors.shape == (6, 3)
    x_hat = detectors.predict(np.repeat(x[:, None], 3, axis=1), verbose=0)
    np.testing.assert_allclose(errors[:, 2], np.square(x - x_hat[:, 2]).sum(axis=1), rtol=1e-4)


def test_neighbor_errors_by_all_distances(rng):
    normal, x = pictures(rng, 50), pictures(rng, 9)
    distances = np.sort(np.linalg.norm(x[:, None] - normal[None], axis=2), axis=1)
    for k in (1, 2, 5):
        expected = np.square(distances[:, :k].mean(axis=1))
        np.testing.assert_allclose(neighbor_errors(normal, x, k), expected, rtol=1e-3)
    assert neighbor_errors(normal, normal[:3], 1) == pytest.approx([0, 0, 0], abs=1e-3)


def test_a_blur_smooths_each_picture_by_itself(rng):
    x = pictures(rng, 3)
    expected = np.stack([ndimage.gaussian_filter(one.reshape(28, 28), 1.3).ravel() for one in x])
    np.testing.assert_allclose(blurred(x, 1.3), expected, atol=1e-5)
    np.testing.assert_allclose(blurred(x[:, None], 1.3)[:, 0], expected, atol=1e-5)


def test_general_errors_are_those_of_a_blur_and_never_zero(rng):
    normal, black = pictures(rng, 9), np.zeros((1, 784), "float32")
    usual = np.median(np.square(normal - blurred(normal)).sum(axis=1))
    assert general_errors(black, normal) == pytest.approx(0.05 * usual)
    expected = np.square(normal - blurred(normal)).sum(axis=1) + 0.05 * usual
    np.testing.assert_allclose(general_errors(normal, normal), expected, rtol=1e-5)


def test_a_threshold_is_passed_by_the_share_that_was_asked_for(rng):
    scores = rng.exponential(size=100_000)
    for rate in (0.01, 0.05, 0.3):
        assert np.mean(scores > threshold_for(scores, rate)) == pytest.approx(rate, rel=1e-3)


def test_precision_by_counting():
    # Of 1,000 things 100 are anomalies, of which 80 are reported, and so are 90 of the 900 others.
    assert precision_of_alarms(0.1, 0.8, 0.1) == pytest.approx(80 / 170)


def test_the_mean_over_tasks_has_the_anomaly_as_its_positive_class():
    y = np.array([0, 0, 1, 1])
    scores = np.array([[1, 5], [2, 6], [3, 1], [4, 2]])
    assert mean_over_tasks(roc_auc_score, scores, y) == 1.0
    assert mean_over_tasks(roc_auc_score, -scores, y) == 0.0


def test_damage_is_bright_where_the_mask_says_and_leaves_the_rest(rng):
    x = np.zeros((20, 784), "float32")
    damaged, masks = damage(x, rng)
    assert masks.any(axis=1).all()
    assert np.all(damaged[masks] == 1)
    np.testing.assert_array_equal(damaged[~masks], x[~masks])
    assert masks.sum(axis=1).max() < 40


# The machine


@pytest.mark.parametrize("fault", [None, "clicks", "rubbing", "missing harmonic", "wobble"])
def test_a_fault_sounds_from_the_first_to_the_third_second_only(fault):
    healthy, nothing = machine_hum(np.random.default_rng(3))
    sound, faulty = machine_hum(np.random.default_rng(3), fault)
    assert sound.shape == faulty.shape == (4 * RATE,)
    assert not nothing.any()
    assert faulty.sum() == (2 * RATE if fault else 0)
    np.testing.assert_array_equal(sound[:RATE], healthy[:RATE])
    assert (np.abs(sound - healthy)[RATE : 3 * RATE].max() > 0.01) == (fault is not None)


def test_windows_overlap_by_half_and_spectra_find_a_tone():
    tone = np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE).astype("float32")
    windows, spectra = in_windows(tone), log_spectra(tone)
    np.testing.assert_array_equal(windows[1, :1024], windows[0, 1024:])
    assert spectra.shape == (len(windows), 136)
    assert np.all(spectra.argmax(axis=1) == 500 * 1024 // RATE - 1)  # bands begin at the second frequency


def test_drift_is_slow(rng):
    curve = drift(rng, 2 * RATE, 1.0, 1.0)
    assert curve.shape == (2 * RATE,)
    assert np.abs(np.diff(curve)).max() < 10 / RATE
    assert len(STRENGTHS) == 12


# The sweeps


def test_blur_as_a_matrix_is_that_of_the_lesson(rng):
    x = pictures(rng, 4)
    np.testing.assert_allclose(x @ blur_matrix(1.0), blurred(x, 1.0), atol=1e-4)
    np.testing.assert_array_equal(blur_matrix(0.0), np.eye(784, dtype="float32"))


def test_the_sweeps_score_as_the_lesson_does(rng):
    normal, x = pictures(rng, 80), pictures(rng, 7)
    ways = (one_class.PLAIN, ("relative", 1.0))
    found = one_class.pca_scores(normal, x, (3, 9), ways, 0)
    error = np.square(x - reconstruct_pca(fit_pca(normal, 9), x)).sum(axis=1)
    np.testing.assert_allclose(found[1, one_class.PLAIN], error, rtol=1e-3)
    relative = error / general_errors(x, normal)
    np.testing.assert_allclose(found[1, ("relative", 1.0)], relative, rtol=1e-3)
    found = one_class.neighbor_scores(normal, x, (1, 3), ways, 0)
    np.testing.assert_allclose(found[1, one_class.PLAIN], neighbor_errors(normal, x, 3), rtol=1e-3)
    relative = neighbor_errors(normal, x, 3) / general_errors(x, normal)
    np.testing.assert_allclose(found[1, ("relative", 1.0)], relative, rtol=1e-3)


@pytest.mark.slow
def test_svm_and_forest_find_a_stranger(rng):
    normal = (0.1 * rng.normal(size=(300, 784)) + np.linspace(0, 1, 784)).astype("float32")
    strangers = (0.1 * rng.normal(size=(20, 784)) + np.linspace(1, 0, 784)).astype("float32")
    x, strange = np.concatenate([normal[:20], strangers]), np.arange(40) >= 20
    for method, setting in ((one_class.svm_scores, 1.0), (one_class.forest_scores, 5)):
        for scores in method(normal, x, (setting,), one_class.WAYS, 0).values():
            assert roc_auc_score(strange, scores) > 0.9


def test_contaminated_training_rows_have_the_share_that_is_asked_for():
    y = np.repeat(np.arange(10), 200)
    clean = one_class.training_rows(y, 4, 0.0, 1)
    dirty = one_class.training_rows(y, 4, 0.1, 1)
    assert np.all(y[clean] == 4)
    assert len(clean) == len(dirty) == len(set(dirty)) == 200
    assert np.mean(y[dirty] != 4) == pytest.approx(0.1)


def test_an_anomaly_is_the_positive_class():
    y = np.array([3, 3, 5, 5])
    assert one_class.ranked(np.array([0.1, 0.2, 0.8, 0.9]), y, 3) == (1.0, 1.0)


def test_a_stack_computes_what_single_networks_do(rng):
    networks = [Network(0, 0.0, 4, 0.01), Network(1, 0.0, 2, 0.01)]
    stack, x = Stack("dense", networks, pictures(rng, 3)), pictures(rng, 5)
    scores = stack.scores(x, (0.0, 1.0))
    weights = [
        [ops.convert_to_numpy(weight[1]) for weight in layer.weights]
        for layer in (stack.encoder, stack.mu, *stack.decoder)
    ]
    h = np.maximum(x @ weights[0][0] + weights[0][1], 0)
    z = h @ weights[1][0] + weights[1][1]
    z[:, 2:] = 0  # a code of 2 of the 4 numbers
    h = np.maximum(z @ weights[2][0] + weights[2][1], 0)
    residual = x - 1 / (1 + np.exp(-(h @ weights[3][0] + weights[3][1])))
    np.testing.assert_allclose(scores[0.0][1], np.square(residual).sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(scores[1.0][1], np.square(blurred(residual)).sum(axis=1), rtol=1e-3)


@pytest.mark.slow
def test_negative_elbo_is_reconstruction_and_kl_and_lies_above_the_floor(rng):
    stack, x = Stack("VAE", [Network(0, 0.0, 4, 0.01, strength=1.0)], pictures(rng, 3)), pictures(rng, 5)
    mu, log_var = stack.encode(x[None])
    with_kl, without = (
        np.mean([ops.convert_to_numpy(stack.negative_elbo(x, mu, log_var, beta)) for _ in range(200)], axis=0)
        for beta in (1.0, 0.0)
    )
    mu, log_var = ops.convert_to_numpy(mu), ops.convert_to_numpy(log_var)
    kl = 0.5 * np.sum(mu**2 + np.exp(log_var) - 1 - log_var, axis=-1)
    np.testing.assert_allclose(with_kl - without, kl, atol=1.0)
    assert np.all(with_kl[0] > floors(x))


@pytest.mark.slow
def test_settings_are_chosen_on_validation_digits():
    x_val = load_mnist(flat=True)[1][0]

    def classical(tasks, choices, of_test, n_pictures, seed):
        assert not of_test
        scores = {(i, way): np.arange(n_pictures) for i in range(3) for way in one_class.WAYS}
        return {(method, *task): scores for method, *_ in choices for task in tasks}

    def with_stacks(kind, cases, x_new, epochs, seed):
        np.testing.assert_array_equal(x_new, x_val[: len(x_new)])
        return dict.fromkeys(cases, dict.fromkeys(one_class.WAYS, np.arange(len(x_new))))

    with mock.patch.multiple(one_class, classical=classical, with_stacks=with_stacks):
        assert set(one_class.measure_tuning.__wrapped__(1, epochs=1, n_pictures=50)) == {0, 1, 2}


def test_the_best_setting_is_the_one_with_the_highest_auroc():
    labels = [one_class.label(method, way) for method in one_class.TRIED for way in one_class.WAYS]
    curve = {"mean": {label: [0.9, 0.5, 0.8] for label in labels}}
    curve["mean"]["dense, relative"] = [0.9, 0.5, 0.99]
    best = one_class.best_settings(curve)
    assert best["dense"] == 2
    assert best["PCA"] == 0


def test_all_networks_of_the_comparison_train_equally_long():
    trained = {}

    def classical(tasks, choices, of_test, n_pictures, seed):
        assert of_test
        scores = {(choice[1][0], way): np.arange(n_pictures) for choice in choices for way in choice[2]}
        return {(method, *task): scores for method, *_ in choices for task in tasks}

    def with_stacks(kind, cases, x_new, epochs, seed):
        trained[kind] = epochs
        return dict.fromkeys(cases, dict.fromkeys(one_class.WAYS, np.arange(len(x_new))))

    curve = {"mean": {one_class.label(m, way): [0.5, 0.9, 0.7] for m in one_class.TRIED for way in one_class.WAYS}}
    fakes = {"classical": classical, "with_stacks": with_stacks, "load_curve": lambda name: curve}
    with mock.patch.multiple(one_class, **fakes):
        found = one_class.measure_shares.__wrapped__(1, (0.0,), n_pictures=100)[0.0]
    assert trained == dict.fromkeys(one_class.STACKED, one_class.EPOCHS)
    assert found["PCA, plain: AUROC"] == found["dense, plain: AUROC"]
    settings = SWEEPS["09.oneclass"].settings
    assert settings["epochs"] == one_class.EPOCHS == SWEEPS["09.contamination"].settings["epochs"]
    assert all(len(tried) == 3 for tried in settings["tried"].values())


@pytest.mark.slow
def test_an_intruder_among_the_training_pictures_is_its_own_nearest_neighbor():
    (x, y), validation, _ = load_mnist(flat=True)
    data = (x[:600], y[:600]), validation, (x[:600], y[:600])  # the test pictures are the training pictures
    with (
        mock.patch.object(one_class, "load_mnist", return_value=data),
        mock.patch.object(one_class, "NEIGHBORS", (1, 20)),
    ):
        found = one_class.measure_neighbors.__wrapped__(1, n_pictures=600)
    assert list(found) == [0.0, *one_class.SHARES]
    for way in ("plain", "relative"):
        one, many = ([found[share][f"{k} neighbors, {way}"] for share in found] for k in (1, 20))
        assert one[0] == 1  # only normal digits have the distance 0
        assert many[0] < 1
        assert one == sorted(one, reverse=True)
        assert many == sorted(many, reverse=True)


@pytest.mark.slow
def test_one_program_trains_ten_convolutional_networks_from_new_weights():
    (x, y), validation, test = load_mnist(flat=True)
    seen = []
    with (
        mock.patch.object(one_class, "load_mnist", return_value=((x[:600], y[:600]), validation, test)),
        mock.patch.object(one_class, "train", lambda model, x, *_, **__: seen.append((model.get_weights()[0], len(x)))),
    ):
        found = one_class.measure_convolutional.__wrapped__(1, epochs=1, n_pictures=100)[0.0]
    assert len(seen) == 10
    assert not np.array_equal(seen[0][0], seen[1][0])
    assert {length for _, length in seen} == {60}
    assert 0 <= found["convolutional, plain: AUROC"] <= 1
