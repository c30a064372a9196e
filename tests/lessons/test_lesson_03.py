"""Lesson 03: the noise layers do what they promise, and the judge is the one that the course was built with."""

import hashlib

import numpy as np
import pytest
from scipy.stats import norm

from course_utils import data, evaluation
from course_utils.backend import keras
from course_utils.lessons import (
    AnyGaussianNoise,
    GaussianNoise,
    Masking,
    Noise,
    SaltAndPepper,
    TiedDenoiser,
    build_conv_denoiser,
    build_deep,
    build_filter_bank,
    build_unet,
    codes_moved,
    log_likelihood,
    noisy_copy,
    posterior,
    wavelength,
)
from tests.processes import run_python
from tools.author import sweep, train_judge
from tools.shared.notebook_files import cell_sources

KINDS = [GaussianNoise, AnyGaussianNoise, Masking, SaltAndPepper]


def corrupt(layer, x):
    return keras.ops.convert_to_numpy(layer(x, training=True))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def gray():
    """A thousand pictures, each of 784 pixels of 0.5."""
    return np.full((1000, 784), 0.5, dtype="float32")


# ---------------------------------------------------------------------------------------------------------------------
# Noise layers
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, None])
def test_noise_is_there_in_training_only(kind, training, gray):
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kind(0.5)(gray, training=training)), gray)
    assert not np.array_equal(corrupt(kind(0.5), gray), gray)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_off_in_predict_and_evaluate_and_on_in_fit(kind, gray):
    model = keras.Sequential([keras.Input((784,)), kind(0.5, seed=1)])
    model.compile(loss="mse")
    np.testing.assert_array_equal(model.predict(gray, verbose=0), gray)
    assert model.evaluate(gray, gray, verbose=0) == 0
    assert model.fit(gray, gray, epochs=1, verbose=0).history["loss"][0] > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_new_in_every_call_for_every_picture_and_every_pixel(kind, gray):
    layer = kind(0.5, seed=1)
    first, second = corrupt(layer, gray), corrupt(layer, gray)
    for a, b in [(first, second), (first[:500], first[500:]), (first[:, :392], first[:, 392:])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_new_in_every_step_of_a_compiled_training(kind, rng):
    """With the same noise in every step a table of free numbers would fit the target without error."""
    x = rng.uniform(size=(64, 784)).astype("float32")
    model = keras.Sequential([keras.Input((784,)), kind(0.5, seed=1)])
    model.compile(loss="mse", steps_per_execution=1)
    losses = model.fit(x, x, batch_size=64, epochs=4, shuffle=False, verbose=0).history["loss"]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_series_of_noises(kind, gray):
    one, two, other = kind(0.5, seed=3), kind(0.5, seed=3), kind(0.5, seed=4)
    for _ in range(2):
        noises = [corrupt(layer, gray) for layer in (one, two, other)]
        np.testing.assert_array_equal(noises[0], noises[1])
        assert not np.array_equal(noises[0], noises[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(784,), (28, 28, 1)])
def test_pictures_stay_pictures(kind, shape, rng):
    x = rng.uniform(size=(50, *shape)).astype("float32")
    noisy = corrupt(kind(0.9), x)
    assert noisy.shape == x.shape
    assert noisy.dtype == np.float32
    assert noisy.min() >= 0
    assert noisy.max() <= 1


@pytest.mark.parametrize("amount", [0.05, 0.1])
def test_gaussian_noise_has_its_mean_and_spread_where_nothing_is_clipped(amount, gray):
    noise = corrupt(GaussianNoise(amount), gray) - gray
    assert noise.mean() == pytest.approx(0, abs=5 * amount / np.sqrt(noise.size))
    assert noise.std() == pytest.approx(amount, rel=0.01)
    assert np.mean(np.abs(noise) < amount) == pytest.approx(0.6827, abs=0.005)


def test_gaussian_noise_on_black_is_half_a_bell(gray):
    noisy = corrupt(GaussianNoise(0.2), 0 * gray)
    assert np.mean(noisy == 0) == pytest.approx(0.5, abs=0.005)
    assert noisy.mean() == pytest.approx(0.2 / np.sqrt(2 * np.pi), rel=0.01)


@pytest.mark.parametrize("amount", [0.2, 0.5])
def test_masking_removes_its_share_and_nothing_else(amount, gray):
    noisy = corrupt(Masking(amount), gray)
    assert set(np.unique(noisy)) == {0, 0.5}
    assert np.mean(noisy == 0) == pytest.approx(amount, abs=0.003)


@pytest.mark.parametrize("amount", [0.2, 0.5])
def test_salt_and_pepper_take_half_of_their_share_each(amount, gray):
    noisy = corrupt(SaltAndPepper(amount), gray)
    assert set(np.unique(noisy)) == {0, 0.5, 1}
    for value in (0, 1):
        assert np.mean(noisy == value) == pytest.approx(amount / 2, abs=0.003)


@pytest.mark.parametrize("kind", KINDS)
def test_no_noise_of_strength_zero(kind, gray):
    np.testing.assert_array_equal(corrupt(kind(0.0), gray), gray)


@pytest.mark.parametrize("kind", KINDS)
def test_a_denoiser_can_be_saved_and_loaded(kind, tmp_path, gray):
    model = keras.Sequential([keras.Input((784,)), kind(0.25, seed=7), keras.layers.Dense(3)])
    model.save(tmp_path / "denoiser.keras")
    loaded = keras.models.load_model(tmp_path / "denoiser.keras")
    assert type(loaded.layers[0]).__name__ == kind.__name__  # a session with the notebooks has several of that name
    assert (loaded.layers[0].amount, loaded.layers[0].seed) == (0.25, 7)
    np.testing.assert_allclose(loaded.predict(gray, verbose=0), model.predict(gray, verbose=0), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fixed_noisy_set_depends_on_its_seed_alone(kind, gray):
    layer = kind(0.5, seed=99)
    expected = corrupt(kind(0.5, seed=2), gray)
    np.testing.assert_array_equal(noisy_copy(layer, gray, seed=2), expected)
    corrupt(layer, gray)
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(noisy_copy(layer, gray, seed=2), expected)
    assert not np.array_equal(noisy_copy(layer, gray, seed=3), expected)


def test_every_part_of_a_large_noisy_set_has_noise_of_its_own():
    noisy = noisy_copy(GaussianNoise(0.5), np.full((2500, 4), 0.5, "float32"), seed=2)
    assert noisy.shape == (2500, 4)
    assert not np.isclose(noisy[:1000], noisy[1000:2000]).all(axis=1).any()
    assert not np.isclose(noisy[:500], noisy[2000:]).all(axis=1).any()


def test_making_a_noisy_set_does_not_disturb_the_layer(gray):
    used, untouched = Masking(0.5, seed=1), Masking(0.5, seed=1)
    noisy_copy(used, gray, seed=2)
    np.testing.assert_array_equal(corrupt(used, gray), corrupt(untouched, gray))


def test_the_protocol_of_the_course_gives_the_noisy_input_of_the_curriculum():
    _, _, (x_test, _) = data.load_mnist(flat=True)
    for amount, decibels in [(0.5, 9.4), (1.0, 6.0)]:
        noisy = noisy_copy(GaussianNoise(amount), x_test, seed=2)
        assert evaluation.psnr(x_test, noisy) == pytest.approx(decibels, abs=0.1)


def test_a_kind_of_noise_without_corrupt_says_so(gray):
    with pytest.raises(AttributeError, match="corrupt"):
        Noise(0.5)(gray, training=True)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_noise_works_with_other_backends(backend):
    pytest.importorskip(backend)
    run_python(
        "import numpy as np, keras\n"
        "from course_utils.lessons import GaussianNoise, Masking, SaltAndPepper\n"
        "x = np.full((256, 784), 0.5, dtype='float32')\n"
        "for kind in (GaussianNoise, Masking, SaltAndPepper):\n"
        "    model = keras.Sequential([keras.Input((784,)), kind(0.5, seed=1), keras.layers.Dense(4)])\n"
        "    model.compile('adam', 'mse')\n"
        "    model.fit(x, x[:, :4], verbose=0)\n"
        "    layer = kind(0.5, seed=1)\n"
        "    a, b = (keras.ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))\n"
        "    assert not np.array_equal(a, b) and a.min() >= 0 and a.max() <= 1\n"
        "    assert np.array_equal(keras.ops.convert_to_numpy(layer(x)), x)\n",
        KERAS_BACKEND=backend,
    )


def test_noise_of_any_strength_draws_one_strength_for_each_picture():
    """Between half of the amount and the amount; small ones here, so that nothing is clipped."""
    for shape in [(784,), (28, 28, 1)]:
        gray = np.full((1000, *shape), 0.5, dtype="float32")
        strengths = (corrupt(AnyGaussianNoise(0.1, seed=1), gray) - gray).reshape(1000, -1).std(axis=1)
        assert strengths.min() == pytest.approx(0.05, rel=0.12)
        assert strengths.max() == pytest.approx(0.1, rel=0.12)
        assert strengths.mean() == pytest.approx(0.075, rel=0.02)


# ---------------------------------------------------------------------------------------------------------------------
# The networks
# ---------------------------------------------------------------------------------------------------------------------


def predict(model, x):
    return model.predict(x, verbose=0)


@pytest.mark.parametrize("build", [build_conv_denoiser, build_unet])
def test_convolutional_denoisers_give_pictures_of_the_same_size_and_see_noise_in_training_only(build, rng):
    model = build(AnyGaussianNoise(1.0))
    x = rng.uniform(size=(3, 784)).astype("float32")
    x_hat = predict(model, x)
    assert x_hat.shape == x.shape
    assert x_hat.min() >= 0
    assert x_hat.max() <= 1
    np.testing.assert_array_equal(predict(model, x), x_hat)
    assert not np.array_equal(keras.ops.convert_to_numpy(model(x, training=True)), x_hat)


def joined_resolutions(model):
    joined = [layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
    return [tuple(layer.output.shape[1:]) for layer in joined]


def test_the_small_denoiser_and_its_rival_differ_in_the_skip_connections_only():
    with_skips, without = (build_conv_denoiser(GaussianNoise(0.5), skips) for skips in (True, False))
    assert joined_resolutions(with_skips) == [(7, 7, 96), (14, 14, 64)]
    assert joined_resolutions(without) == []
    rest = [type(layer) for layer in with_skips.layers if not isinstance(layer, keras.layers.Concatenate)]
    assert [type(layer) for layer in without.layers] == rest
    assert 0.97 < without.count_params() / with_skips.count_params() < 1


def test_skip_connections_are_measured_on_noisy_validation_digits_with_equal_trainings(monkeypatch):
    trained = []

    def train(model, x, targets, **training):
        trained.append((joined_resolutions(model), len(x), x is targets, training))

    class Untouchable:
        def __iter__(self):
            raise AssertionError("the sweep looks at the test digits")

    digits = np.random.default_rng(0).uniform(size=(60, 784)).astype("float32")
    monkeypatch.setattr(sweep, "train", train)
    monkeypatch.setattr(sweep, "flat_digits", lambda: (digits[:50],))
    monkeypatch.setattr(sweep, "load_mnist", lambda flat: (None, (digits[50:], None), Untouchable()))
    results = sweep._skips(0.004)
    assert set(results) == {f"{label}, noise {a}" for label in ("with skip connections", "without") for a in (0.5, 1.0)}
    (skips, *equal), (none, *rival) = trained
    assert (len(skips), len(none)) == (2, 0)
    assert equal == rival
    assert (equal[0], equal[1], equal[2]["learning_rate"], equal[2]["epochs"]) == (
        50,
        True,
        0.004,
        sweep.SKIPS["epochs"],
    )


def test_a_skip_connection_leads_across_at_each_upper_level_of_the_unet():
    model = build_unet(GaussianNoise(0.5))
    assert joined_resolutions(model) == [(14, 14, 144), (28, 28, 72)]
    assert model.count_params() < 350_000  # its file is part of the package


def test_a_narrow_and_a_wide_network_differ_in_the_code_only(rng):
    x = rng.uniform(size=(3, 784)).astype("float32")
    for n_code in (8, 800):
        whole, encoder, decoder = build_deep(GaussianNoise(0.5), n_code)
        assert predict(encoder, x).shape == (3, n_code)
        np.testing.assert_allclose(predict(decoder, predict(encoder, x)), predict(whole, x), atol=1e-6)
        assert whole.count_params() == 2 * (784 * 400) + 400 + 784 + 400 * (2 * n_code) + n_code + 400


def test_the_decoder_of_a_tied_denoiser_is_its_encoder_transposed(rng):
    x = rng.uniform(size=(5, 784)).astype("float32")
    model = TiedDenoiser(GaussianNoise(0.5), n_units=7)
    x_hat = predict(model, x)
    model.units.kernel.assign(rng.normal(size=(784, 7)))
    model.bias.assign(rng.normal(size=784))
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in (model.units.kernel, model.bias))
    z = 1 / (1 + np.exp(-(x @ kernel)))
    np.testing.assert_allclose(predict(model, x), 1 / (1 + np.exp(-(z @ kernel.T + bias))), atol=1e-5)
    assert len(model.weights) == 3
    assert x_hat.shape == x.shape


def test_a_filter_bank_has_a_denoiser_for_each_noise():
    bank = build_filter_bank([GaussianNoise(0.0), GaussianNoise(1.0)], n_units=3)
    assert [output.shape for output in bank.outputs] == [(None, 784)] * 2
    assert sum(weight.shape == (784, 3) for weight in bank.weights) == 2


@pytest.mark.parametrize("pixels", [4, 7, 14])
@pytest.mark.parametrize("noise", [0, 0.3])
def test_the_wavelength_of_stripes_is_found_in_noise_too(pixels, noise, rng):
    rows, columns = np.mgrid[:28, :28]
    stripes = [np.sin(2 * np.pi * along / pixels).ravel() for along in (rows, columns)]
    filters = np.stack(stripes) + noise * rng.normal(size=(2, 784))
    assert wavelength(filters) == pytest.approx(pixels, rel=0.15)


def test_codes_move_along_the_differences_of_others(rng):
    z = rng.normal(size=(20_000, 2)) * [1, 10]
    np.testing.assert_allclose(codes_moved(z, 0.0, rng), z, rtol=1e-6)
    moved = codes_moved(z, 0.5, rng) - z
    np.testing.assert_allclose(moved.std(axis=0), 0.5 * np.sqrt(2) * np.array([1, 10]), rtol=0.05)
    assert abs(np.corrcoef(moved[:, 1], z[:, 1])[0, 1]) < 0.03


# ---------------------------------------------------------------------------------------------------------------------
# The judge
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge():
    return evaluation.load_judge()


@pytest.fixture(scope="module")
def digits():
    return data.load_mnist()[2]


@pytest.mark.slow
def test_the_judge_reads_the_test_digits_and_is_the_same_for_every_seed(judge, digits):
    x, y = digits
    assert evaluation.judge_accuracy(judge, x, y) >= 0.99
    keras.utils.set_random_seed(77)
    again = evaluation.load_judge()
    np.testing.assert_array_equal(again.predict(x[:50], verbose=0), judge.predict(x[:50], verbose=0))


def test_the_judge_gives_probabilities_and_cannot_be_trained(judge, digits):
    probabilities = judge.predict(digits[0][:100], verbose=0)
    assert probabilities.shape == (100, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert judge.trainable_weights == []


def test_judge_accuracy_counts_the_right_answers_in_every_shape(judge, digits):
    x, y = digits[0][:200], digits[1][:200]
    right = judge.predict(x, verbose=0).argmax(axis=1)
    wrong = (right + 1) % 10
    assert evaluation.judge_accuracy(judge, x, right) == 1
    assert evaluation.judge_accuracy(judge, x, wrong) == 0
    assert evaluation.judge_accuracy(judge, x, np.where(np.arange(200) < 50, right, wrong)) == 0.25
    for shape in [(200, 784), (200, 28, 28)]:
        assert evaluation.judge_accuracy(judge, x.reshape(shape), y) == evaluation.judge_accuracy(judge, x, y)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((3, 784)), np.zeros(2, dtype=int)),
        (np.zeros((0, 784)), np.zeros(0, dtype=int)),
        (np.zeros((3, 784)), np.zeros((3, 10))),
        (np.zeros((3, 32, 32, 1)), np.zeros(3, dtype=int)),
    ],
)
def test_judge_accuracy_refuses_what_does_not_fit(judge, x, y):
    with pytest.raises(ValueError, match="expected"):
        evaluation.judge_accuracy(judge, x, y)


def test_the_judges_file_is_small_and_plain():
    path = data.DATA_FOLDER / evaluation.JUDGE_FILE
    assert path.stat().st_size <= 600_000
    assert {array.dtype for array in data.read_verified(path.name).values()} == {np.dtype("float32")}


@pytest.mark.slow
def test_the_training_of_the_judge_can_be_repeated(tmp_path, rng):
    x, y = rng.uniform(size=(256, 28, 28, 1)).astype("float32"), rng.integers(0, 10, 256)
    digests = {train_judge.write_weights(train_judge.train_judge(x, y, 1), tmp_path / f"{i}.npz") for i in range(2)}
    assert len(digests) == 1
    path = tmp_path / "0.npz"
    assert digests == {hashlib.sha256(path.read_bytes()).hexdigest()}
    with np.load(path) as arrays:
        assert len(arrays.files) == len(evaluation.build_judge().get_weights())


def test_shifted_digits_are_the_digits_moved_by_at_most_two_pixels():
    x = np.zeros((40, 28, 28, 1), dtype="float32")
    x[np.arange(40), 5:23, 5:23] = np.linspace(0.1, 1, 40)[:, np.newaxis, np.newaxis, np.newaxis]
    digits = train_judge.ShiftedDigits(x, np.arange(40))
    seen = set()
    for _ in range(3):
        (pictures, labels), *_ = (digits[i] for i in range(len(digits)))
        assert sorted(labels) == list(range(40))
        for picture, label in zip(pictures, labels, strict=True):
            fits = [s for s in SHIFTS if np.array_equal(np.roll(x[label], s, axis=(0, 1)), picture)]
            assert len(fits) == 1
            seen.add(fits[0])
        digits.on_epoch_end()
    assert {shift for pair in seen for shift in pair} == {-2, -1, 0, 1, 2}


SHIFTS = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]


def test_the_likelihood_of_a_clipped_pixel_is_a_probability_and_of_any_other_a_density(rng):
    x, x_noisy, sigma = rng.uniform(size=(3, 40)), np.clip(rng.normal(0.5, 1, size=(5, 40)), 0, 1), 0.7
    noisy, clean = x_noisy[:, np.newaxis], x[np.newaxis]
    by_hand = np.where(noisy == 0, norm.logcdf(0, clean, sigma), norm.logpdf(noisy, clean, sigma))
    by_hand = np.where(noisy == 1, norm.logsf(1, clean, sigma), by_hand).sum(axis=2)
    found = log_likelihood(x_noisy.astype("float32"), x.astype("float32"), sigma)
    np.testing.assert_allclose(found - found[:, :1], by_hand - by_hand[:, :1], atol=1e-3)  # up to a constant
    expected = np.exp(by_hand) / np.exp(by_hand).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posterior(x_noisy.astype("float32"), x.astype("float32"), sigma), expected, atol=1e-3)


def test_filters_are_corrected_by_a_line_and_their_width_is_the_best(rng):
    x = rng.uniform(size=(40, 784))
    namespace = {"np": np, "x_check": x, "noisy_check": {"dim": 0.5 * x + 0.2}}
    exec(cell_sources("03")["filters"], namespace)
    with_too_much = {1: 0.0, 2: 0.1, 3: 0.3}  # width → what the filter adds to every other pixel

    def apply(some, width):
        return some + with_too_much[width] * (np.arange(784) % 2)

    restored = namespace["with_line"](apply, 1, "dim")(0.5 * x + 0.2)
    assert np.allclose(restored, x, atol=1e-6)
    assert restored.dtype == "float32"
    assert namespace["with_line"](apply, 1, "dim")(np.array([[-9.0, 9.0] * 392])).ravel().tolist() == [0, 1] * 392
    best, filtered = namespace["best_filter"](apply, [3, 1, 2], "dim", lambda x_hat: evaluation.psnr(x, x_hat))
    assert best == 1
    assert np.allclose(filtered(0.5 * x + 0.2), x, atol=1e-6)
