"""Lesson 07: the judge's measures agree with closed forms, and the conditional VAE obeys its label and can be saved."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.ndimage import shift
from scipy.stats import entropy
from skimage.transform import AffineTransform, warp
from sklearn.mixture import GaussianMixture

from course_utils.backend import keras
from course_utils.lessons import (
    ConditionalVAE,
    build_writer_networks,
    draw_from_mixture,
    fit_each_digit,
    frechet_distance,
    inception_score,
    ink,
    nearest,
    slant_degrees,
    variety,
    with_fitted_prior,
    write_digits,
)
from course_utils.training import train
from tests.processes import run_python
from tools.shared.notebook_files import cell_sources


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---------------------------------------------------------------------------------------------------------------------
# Inception score
# ---------------------------------------------------------------------------------------------------------------------


def test_the_score_of_certain_and_balanced_answers_is_the_number_of_classes():
    assert inception_score(np.eye(10)[np.arange(200) % 10]) == pytest.approx(10)
    assert inception_score(np.eye(4)) == pytest.approx(4)


def test_the_score_of_equal_answers_is_one(rng):
    assert inception_score(np.eye(10)[[3] * 50]) == pytest.approx(1)
    assert inception_score(np.tile(rng.dirichlet(np.ones(10)), (50, 1))) == pytest.approx(1)


def test_certain_answers_of_unequal_frequency_have_the_exponential_of_their_entropy():
    counts = np.array([5, 3, 2])
    assert inception_score(np.repeat(np.eye(3), counts, axis=0)) == pytest.approx(np.exp(entropy(counts)))


def test_the_score_agrees_with_scipy_and_does_not_depend_on_repetition(rng):
    p = rng.dirichlet(np.full(10, 0.2), size=300)
    expected = np.exp(np.mean([entropy(row, p.mean(axis=0)) for row in p]))
    assert inception_score(p) == pytest.approx(expected)
    assert inception_score(np.tile(p, (3, 1))) == pytest.approx(expected)


def test_the_score_stands_float32_and_zeros(recwarn):
    assert inception_score(np.eye(10, dtype="float32")) == pytest.approx(10)
    assert len(recwarn) == 0


@pytest.mark.parametrize("wrong", [np.full((5, 10), 0.2), np.arange(10) / 45, np.zeros((5, 10))])
def test_the_score_refuses_what_are_no_probabilities(wrong):
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(wrong)


# ---------------------------------------------------------------------------------------------------------------------
# Fréchet distance
# ---------------------------------------------------------------------------------------------------------------------


def standardised(rng, n, d):
    """Features whose mean is exactly zero and whose covariance is exactly the unit matrix."""
    x = rng.normal(size=(n, d))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(x.T)))).T


def test_equal_sets_have_no_distance_in_any_order(rng):
    x = rng.normal(size=(500, 8)) @ rng.normal(size=(8, 8))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(x, rng.permutation(x)) == pytest.approx(0, abs=1e-8)


def test_a_moved_set_is_away_by_the_squared_length_of_the_move(rng):
    x, move = rng.normal(size=(500, 5)), np.array([3.0, 0, 4, 0, 0])
    assert frechet_distance(x, x + move) == pytest.approx(25)


def test_independent_features_have_the_closed_form(rng):
    """For diagonal covariances: Σ (m₁ − m₂)² + Σ (σ₁ − σ₂)²."""
    one, two = standardised(rng, 300, 4), standardised(rng, 200, 4)
    mean, sigma = np.array([1.0, -2, 0, 0.5]), np.array([2.0, 0.5, 1, 3])
    expected = np.square(mean).sum() + np.square(sigma - 1).sum()
    assert frechet_distance(one, mean + sigma * two) == pytest.approx(expected)


def test_covariances_that_do_not_commute_agree_with_the_matrix_root_of_scipy(rng):
    a, b = (rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6) for _ in range(2))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_features_that_never_change_are_no_problem(rng):
    x, y = rng.normal(size=(2, 300, 4))
    x[:, 2] = y[:, 2] = 0  # a dead unit of the judge
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(x[:, [0, 1, 3]], y[:, [0, 1, 3]]), abs=1e-8)


def test_one_feature_is_enough(rng):
    x = standardised(rng, 100, 1)
    assert frechet_distance(x, 3 * x + 1) == pytest.approx(1 + 4)


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5,))])
def test_sets_that_cannot_be_compared_are_refused(shapes):
    with pytest.raises(ValueError, match="same d"):
        frechet_distance(*(np.zeros(shape) for shape in shapes))


# ---------------------------------------------------------------------------------------------------------------------
# Variety, and codes from fitted distributions
# ---------------------------------------------------------------------------------------------------------------------


def test_variety_is_the_variance_within_each_digit_and_not_between_them(rng):
    digits = np.arange(5000) % 10
    x = digits[:, np.newaxis] + rng.normal(size=(5000, 7)) * np.arange(7)
    assert variety(x, digits) == pytest.approx(sum(n**2 for n in range(7)), rel=0.05)
    assert variety(digits[:, np.newaxis] * np.ones(7), digits) == 0  # a rubber stamp


def test_a_digit_that_is_missing_or_occurs_once_has_no_variety(rng, recwarn):
    digits = np.array([0] * 100 + [1])
    x = rng.normal(size=(101, 3))
    assert variety(x, digits) == pytest.approx(x[:100].var(axis=0).sum() / 10)
    assert len(recwarn) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_codes_of_a_mixture_have_its_mean_and_the_temperature_scales_the_components(rng, temperature):
    centers = np.array([[-10.0, 0], [10, 0], [10, 0]])
    data = centers[rng.integers(3, size=3000)] + rng.normal(size=(3000, 2)) @ np.array([[1, 0.5], [0, 2]])
    mixture = GaussianMixture(2, random_state=0).fit(data)
    z = draw_from_mixture(mixture, 20_000, rng, temperature)
    right = z[:, 0] > 0
    assert np.mean(right) == pytest.approx(2 / 3, abs=0.03)
    for part in (right, ~right):
        component = mixture.predict(z[part][:1])[0]
        np.testing.assert_allclose(z[part].mean(axis=0), mixture.means_[component], atol=0.15 * temperature)
        np.testing.assert_allclose(np.cov(z[part].T) / temperature**2, mixture.covariances_[component], atol=0.25)
    assert 0.5 < np.mean(right[:100]) < 0.8  # not sorted by component


def test_one_component_is_a_normal_distribution(rng):
    data = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 3)) + 4
    z = draw_from_mixture(GaussianMixture(1).fit(data), 50_000, rng)
    np.testing.assert_allclose(z.mean(axis=0), data.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(z.T), np.cov(data.T), rtol=0.05, atol=0.1)


def test_the_temperature_is_chosen_on_validation_digits():
    cells = cell_sources("07")
    lines = {
        "G: validation Fréchet": [3.0, 1.0, 2.0],
        "G: Fréchet": [3.0, 2.0, 1.0],
        "G: inception score": [9.0, 8.0, 7.0],
    }
    curve = {"x": [0.5, 1.0, 2.0], "mean": lines, "seeds": 8, "settings": {"epochs": 1, "pictures": 1}}
    namespace = {"np": np, "load_curve": lambda name: curve}
    exec(cells["temperature-curves"], namespace)
    assert namespace["best_temperature"]("G") == 1.0


def test_every_generator_writes_as_many_digits_at_the_temperature_that_was_chosen_for_it():
    cells = cell_sources("07")
    names = [f"{kind}, {rule}" for kind in ("AE", "VAE") for rule in ("N(0, I)", "Gaussian", "mixture")]
    chosen = {name: 0.5 + i for i, name in enumerate(names)}
    written = []

    def nothing(*arguments, **claims):
        return None

    namespace = {"generators": names, "best_temperature": chosen.get, "n": 3000, "yardstick": {"copier": None}}
    namespace |= {"describe": lambda x: (9.0, 1.0, 0.5), "print_row": nothing, "checkpoint": nothing}
    namespace["write"] = lambda *arguments: written.append(arguments)
    exec(cells["table-live"], namespace)
    assert written == [(name, 3000, chosen[name]) for name in names]


# ---------------------------------------------------------------------------------------------------------------------
# The nearest picture
# ---------------------------------------------------------------------------------------------------------------------


def test_the_nearest_picture_is_that_of_all_pairs(rng):
    x, pool = rng.uniform(size=(600, 12)), rng.uniform(size=(90, 12))
    expected = np.square(x[:, np.newaxis] - pool).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest(x, pool), expected)


def test_a_copy_is_nearest_to_its_original_even_among_brighter_pictures(rng):
    pool = rng.uniform(size=(50, 784)).astype("float32") * np.linspace(0.2, 1, 50, dtype="float32")[:, np.newaxis]
    np.testing.assert_array_equal(nearest(pool[5:20], pool), np.arange(5, 20))


# ---------------------------------------------------------------------------------------------------------------------
# A prior for each digit, inside the network
# ---------------------------------------------------------------------------------------------------------------------


def codes_with_labels(rng, n=4000):
    y = rng.integers(10, size=n)
    return rng.normal(size=(n, 2)) @ np.array([[1, 0.8], [0, 0.3]]) * (1 + y[:, np.newaxis]) + y[:, np.newaxis], y


def test_mean_and_root_of_each_digit(rng):
    codes, y = codes_with_labels(rng)
    means, roots = fit_each_digit(codes, y)
    for digit in range(10):
        part = codes[y == digit]
        np.testing.assert_allclose(means[digit], part.mean(axis=0))
        np.testing.assert_allclose(roots[digit] @ roots[digit], np.cov(part.T), atol=1e-10)
        np.testing.assert_allclose(roots[digit], roots[digit].T, atol=1e-10)


def test_the_fitted_prior_is_part_of_the_network_and_of_its_file(rng, tmp_path):
    decoder = small_cvae().decoder
    means, roots = fit_each_digit(*codes_with_labels(rng))
    writer = with_fitted_prior(decoder, means, roots)
    y = rng.integers(10, size=30)
    epsilon = rng.normal(size=(30, 2)).astype("float32")
    z = means[y] + np.einsum("nij,nj->ni", roots[y], epsilon)
    expected = decoder.predict([z.astype("float32"), np.eye(10)[y]], verbose=0)
    inputs = [epsilon, np.eye(10, dtype="float32")[y]]
    np.testing.assert_allclose(writer.predict(inputs, verbose=0), expected, atol=1e-5)
    writer.save(tmp_path / "writer.keras")
    loaded = keras.models.load_model(tmp_path / "writer.keras")
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), expected, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Slant and ink
# ---------------------------------------------------------------------------------------------------------------------


def stroke(degrees):
    """A vertical bar, sheared so that it leans to the right by that angle."""
    bar = np.zeros((28, 28))
    bar[6:22, 12:16] = 1
    down = np.tan(np.radians(degrees))  # a row further down lies further to the left
    matrix = np.array([[1, down, -down * 13.5], [0, 1, 0], [0, 0, 1]])
    return warp(bar, AffineTransform(matrix))


@pytest.mark.parametrize("degrees", [-30, -10, 0, 15, 25])
def test_the_slant_of_a_sheared_bar_is_its_angle_wherever_it_stands(degrees):
    picture = stroke(degrees)
    moved = shift(picture, (2, -2), order=0)
    slants = slant_degrees(np.stack([picture, 0.5 * picture, moved]).reshape(3, 784))
    np.testing.assert_allclose(slants, degrees, atol=1.5)


def test_an_empty_picture_has_no_slant_and_no_ink(recwarn):
    assert slant_degrees(np.zeros((2, 784))).tolist() == [0, 0]
    assert ink(np.zeros((2, 784))).tolist() == [0, 0]
    assert len(recwarn) == 0


def test_ink_counts_white_pixels():
    assert ink(np.eye(784)[:3] + np.eye(784)[5]).tolist() == [2, 2, 2]


# ---------------------------------------------------------------------------------------------------------------------
# The conditional VAE
# ---------------------------------------------------------------------------------------------------------------------


def small_cvae(seed=1, beta=1.0):
    keras.utils.set_random_seed(seed)
    return ConditionalVAE(*build_writer_networks([16, 8], 2, n_labels=10), beta=beta, seed=seed)


def by_numpy(array):
    return keras.ops.convert_to_numpy(array)


@pytest.fixture
def pairs(rng):
    """Forty pictures and their labels."""
    labels = np.eye(10, dtype="float32")[rng.integers(10, size=40)]
    return rng.uniform(0.01, 0.99, size=(40, 784)).astype("float32"), labels


def test_the_networks_have_the_shapes_that_they_promise():
    encoder, decoder = build_writer_networks([16, 8], 3)
    assert [output.shape for output in encoder.outputs] == [(None, 3), (None, 3)]
    assert (encoder.input_shape, decoder.input_shape, decoder.output_shape) == ((None, 784), (None, 3), (None, 784))
    encoder, decoder = build_writer_networks([16, 8], 3, n_labels=10)
    assert [tensor.shape for tensor in encoder.inputs] == [(None, 784), (None, 10)]
    assert [tensor.shape for tensor in decoder.inputs] == [(None, 3), (None, 10)]
    # the label enters each network once, at its first layer
    assert encoder.count_params() == (794 * 16 + 16) + (16 * 8 + 8) + 2 * (8 * 3 + 3)
    assert decoder.count_params() == (13 * 8 + 8) + (8 * 16 + 16) + (16 * 784 + 784)


def test_the_label_reaches_encoder_and_decoder(pairs):
    cvae, (x, y) = small_cvae(), pairs
    other = np.roll(y, 1, axis=1)
    assert not np.allclose(by_numpy(cvae.encoder([x, y])[0]), by_numpy(cvae.encoder([x, other])[0]))
    z = np.zeros((40, 2), dtype="float32")
    assert not np.allclose(by_numpy(cvae.decoder([z, y])), by_numpy(cvae.decoder([z, other])))


def test_outside_training_the_mean_code_is_decoded_with_its_label(pairs):
    cvae, (x, y) = small_cvae(), pairs
    mu, _ = cvae.encoder([x, y])
    expected = by_numpy(cvae.decoder([by_numpy(mu), y]))
    np.testing.assert_allclose(by_numpy(cvae([x, y])), expected, atol=1e-6)
    assert not np.allclose(by_numpy(cvae([x, y], training=True)), expected, atol=1e-4)


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_evaluate_equals_a_computation_by_hand(beta, pairs):
    """With a spread of nearly zero the sampled code is the mean, so every part can be computed."""
    cvae, (x, y) = small_cvae(beta=beta), pairs
    log_var_layer = cvae.encoder.get_layer("log_var")
    kernel, bias = log_var_layer.get_weights()
    log_var_layer.set_weights([0 * kernel, 0 * bias - 30])
    first = next(layer for layer in cvae.encoder.layers if layer.weights)
    kernel, bias = first.get_weights()
    kernel[784:] *= 20  # so that a label which is forgotten in the loss is noticed
    first.set_weights([kernel, bias])
    cvae.compile()
    found = cvae.evaluate([x, y], batch_size=8, verbose=0, return_dict=True)
    mu, _ = cvae.encoder.predict([x, y], verbose=0)
    x_hat = cvae.decoder.predict([mu, y], verbose=0).astype("float64")
    bce = (-x * np.log(x_hat) - (1 - x) * np.log1p(-x_hat)).sum(axis=1).mean()
    kl = 0.5 * (np.square(mu) + np.exp(-30) - 1 + 30).sum(axis=1).mean()
    assert found["reconstruction"] == pytest.approx(bce, rel=1e-4)
    assert found["kl"] == pytest.approx(kl, rel=1e-4)
    assert found["loss"] == pytest.approx(bce + beta * kl, rel=1e-4)


@pytest.mark.slow
def test_saving_and_loading_gives_equal_outputs(pairs, tmp_path):
    cvae = small_cvae(beta=3.0)
    cvae.compile("adam")
    cvae.fit(list(pairs), verbose=0)
    cvae.save(tmp_path / "cvae.keras")
    loaded = keras.models.load_model(tmp_path / "cvae.keras")
    assert type(loaded).__name__ == "ConditionalVAE"  # a session with the notebooks has several of that name
    np.testing.assert_allclose(by_numpy(loaded(list(pairs))), by_numpy(cvae(list(pairs))), atol=1e-6)
    assert float(loaded.beta) == 3.0
    cvae.decoder.save(tmp_path / "decoder.keras")
    decoder = keras.models.load_model(tmp_path / "decoder.keras")
    inputs = [np.ones((40, 2), dtype="float32"), pairs[1]]
    np.testing.assert_allclose(by_numpy(decoder(inputs)), by_numpy(cvae.decoder(inputs)), atol=1e-6)


def two_kinds(rng, n):
    """Label 0: the left half is bright, label 1: the right one; the code has to say only how bright."""
    kind, brightness = rng.integers(2, size=n), rng.uniform(0.5, 1, size=(n, 1, 1))
    x = np.zeros((n, 28, 28))
    x[kind == 0, :, :14], x[kind == 1, :, 14:] = brightness[kind == 0], brightness[kind == 1]
    return x.reshape(n, 784).astype("float32"), np.eye(2, dtype="float32")[kind]


@pytest.mark.slow
def test_training_makes_the_decoder_obey_the_label(rng):
    keras.utils.set_random_seed(0)
    cvae = ConditionalVAE(*build_writer_networks([32], 1, n_labels=2), beta=20.0)
    x, y = two_kinds(rng, 512)
    history = train(cvae, [x, y], epochs=20, batch_size=32, learning_rate=0.01, validation_data=([x, y], None))
    assert history.history["loss"][-1] < 0.8 * history.history["loss"][0]
    assert history.history["val_loss"][-1] == pytest.approx(
        history.history["val_reconstruction"][-1] + 20 * history.history["val_kl"][-1], rel=1e-4
    )
    wanted = np.arange(100) % 2
    z = rng.normal(size=(100, 1)).astype("float32")
    written = cvae.decoder.predict([z, np.eye(2)[wanted]], verbose=0).reshape(-1, 28, 28)
    right_is_brighter = written[:, :, 14:].mean(axis=(1, 2)) > written[:, :, :14].mean(axis=(1, 2))
    assert np.array_equal(right_is_brighter, wanted == 1)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_conditional_vae_works_with_other_backends(backend):
    pytest.importorskip(backend)
    run_python(
        "import numpy as np, keras\n"
        "from course_utils.lessons import ConditionalVAE, build_writer_networks, write_digits\n"
        "cvae = ConditionalVAE(*build_writer_networks([8], 2, n_labels=10), seed=1)\n"
        "x, y = np.full((64, 784), 0.5, dtype='float32'), np.eye(10, dtype='float32')[np.arange(64) % 10]\n"
        "cvae.compile('adam')\n"
        "history = cvae.fit([x, y], epochs=3, verbose=0).history\n"
        "assert history['loss'][-1] < history['loss'][0]\n"
        "assert write_digits('2026', cvae.decoder, seed=0).shape == (28, 112)\n",
        KERAS_BACKEND=backend,
    )


# ---------------------------------------------------------------------------------------------------------------------
# write_digits
# ---------------------------------------------------------------------------------------------------------------------


def test_a_number_is_written_in_one_hand_with_the_right_labels():
    decoder = small_cvae().decoder
    picture = write_digits("2026", decoder, seed=5, temperature=2.0)
    assert picture.shape == (28, 4 * 28)
    two, zero, again, six = np.hsplit(picture, 4)
    np.testing.assert_allclose(two, again, atol=1e-6)
    z = 2.0 * np.random.default_rng(5).normal(size=(1, 2))
    for digit, part in [(2, two), (0, zero), (6, six)]:
        expected = decoder.predict([z, np.eye(10)[[digit]]], verbose=0).reshape(28, 28)
        np.testing.assert_allclose(part, expected, atol=1e-5)


def test_the_seed_is_the_hand():
    decoder = small_cvae().decoder
    one, same, other = (write_digits("3", decoder, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    assert not np.allclose(write_digits("3", decoder), write_digits("3", decoder))


def test_the_temperature_is_one_unless_another_is_given():
    decoder = small_cvae().decoder
    np.testing.assert_array_equal(write_digits("3", decoder, seed=1), write_digits("3", decoder, seed=1, temperature=1))


def test_temperature_zero_writes_the_middle_of_all_hands():
    decoder = small_cvae().decoder
    np.testing.assert_array_equal(
        write_digits("7", decoder, seed=1, temperature=0), write_digits("7", decoder, seed=2, temperature=0)
    )


def test_the_file_is_as_good_as_the_model_and_numbers_as_good_as_text(tmp_path, monkeypatch):
    decoder = small_cvae().decoder
    decoder.save(tmp_path / "digit_writer.keras")
    expected = write_digits("2026", decoder, seed=1)
    monkeypatch.chdir(tmp_path)
    for text, source in [("2026", tmp_path / "digit_writer.keras"), ("2026", "digit_writer.keras"), (2026, decoder)]:
        np.testing.assert_allclose(write_digits(text, source, seed=1), expected, atol=1e-6)
    np.testing.assert_allclose(write_digits("2026", seed=1), expected, atol=1e-6)


@pytest.mark.parametrize("text", ["", "12a", "-3", "1.5", "²"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="digits 0 to 9"):
        write_digits(text, small_cvae().decoder)
