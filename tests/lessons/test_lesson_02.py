"""Tests of what lesson 02 defines, and of the trainings in advance that it compares."""

import keras
import numpy as np
import pytest

from course_utils import evaluation
from course_utils.lessons import (
    build_autoencoder,
    build_conv_autoencoder,
    build_conv_decoder,
    build_conv_encoder,
    build_pooling_autoencoder,
    build_upscaler,
    downscale,
    moved_at_random,
    phase_spread,
    shift_right,
)
from course_utils.pretrained import load_curve
from tools.author import codes_of_128
from tools.author.pretrain import RECIPES
from tools.author.sweep import SWEEPS
from tools.shared.notebook_files import cell_sources

UPSAMPLINGS = ("transposed", "resize")


def widths(model):
    """Width of each layer's output."""
    return [layer.output.shape[1] for layer in model.layers]


def predict(model, x):
    return keras.ops.convert_to_numpy(model(x))


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype("float32")


# ---------------------------------------------------------------------------------------------------------------------
# The classic network
# ---------------------------------------------------------------------------------------------------------------------


def test_pooling_autoencoder_has_the_published_sizes():
    model, encoder, decoder = build_pooling_autoencoder()
    assert widths(encoder) == [28, 14, 14, 7, 7, 4]
    assert widths(decoder) == [4, 8, 8, 16, 14, 28, 28]
    assert encoder.output_shape == (None, 4, 4, 8)
    assert model.output_shape == (None, 28, 28, 1)
    assert model.count_params() == 4385  # as the Keras blog's network has


def test_pooling_autoencoder_with_padding_is_too_large():
    model, _, _ = build_pooling_autoencoder(third_padding="same")
    assert model.output_shape == (None, 32, 32, 1)


# ---------------------------------------------------------------------------------------------------------------------
# Ours
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("upsampling", "parameters"), [("transposed", 18313), ("resize", 18057)])
def test_conv_autoencoder_has_the_taught_sizes(upsampling, parameters):
    model, encoder, decoder = build_conv_autoencoder(upsampling=upsampling)
    assert widths(encoder) == [14, 7, 4]
    assert widths(decoder) == ([7, 14, 28] if upsampling == "transposed" else [7, 14, 14, 28, 28])
    assert model.input_shape == model.output_shape == decoder.output_shape == (None, 28, 28, 1)
    assert model.count_params() == parameters


@pytest.mark.parametrize("code_channels", [1, 5])
def test_code_channels_set_the_size_of_the_code(code_channels):
    _, encoder, decoder = build_conv_autoencoder(code_channels=code_channels)
    assert encoder.output_shape == decoder.input_shape == (None, 4, 4, code_channels)
    assert build_conv_encoder(code_channels).output_shape == (None, 4, 4, code_channels)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_the_three_models_share_their_weights(upsampling, x):
    model, encoder, decoder = build_conv_autoencoder(upsampling=upsampling)
    for weight in model.weights:
        weight.assign(keras.random.normal(weight.shape, seed=1) / 10)
    np.testing.assert_allclose(predict(model, x), predict(decoder, predict(encoder, x)), atol=1e-6)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_pictures_lie_between_0_and_1_and_codes_are_linear(upsampling, x):
    _, encoder, decoder = build_conv_autoencoder(upsampling=upsampling)
    z = predict(encoder, 100 * x)
    assert z.min() < 0 < z.max()
    x_hat = predict(decoder, 100 * z)
    assert 0 <= x_hat.min() < 0.1
    assert 0.9 < x_hat.max() <= 1


def test_a_shift_by_four_pixels_moves_the_code_by_one_column(x):
    x[:, :, :4] = x[:, :, -4:] = 0
    _, encoder, _ = build_conv_autoencoder()
    z, moved = predict(encoder, x), predict(encoder, np.roll(x, 4, axis=2))
    np.testing.assert_allclose(moved[:, :, 1:3], z[:, :, 0:2], atol=1e-5)
    assert not np.allclose(moved[:, :, 1:3], z[:, :, 1:3], atol=1e-2)


@pytest.mark.parametrize("size", [28, 44])
def test_a_larger_picture_needs_no_other_weights(size):
    model, encoder, decoder = build_conv_autoencoder(size=size)
    assert encoder.output_shape == decoder.input_shape == (None, size // 4 - 3, size // 4 - 3, 8)
    assert model.output_shape == (None, size, size, 1)
    assert [w.shape for w in model.weights] == [w.shape for w in build_conv_autoencoder()[0].weights]


def test_wide_network_has_as_many_parameters_as_the_dense_one():
    wide, _, _ = build_conv_autoencoder(channels=(64, 140))
    dense, _, _ = build_autoencoder([784, 128])
    assert wide.count_params() == pytest.approx(dense.count_params(), rel=0.01)


def test_unknown_upsampling_is_refused():
    with pytest.raises(ValueError, match="'transposed' or 'resize'"):
        build_conv_decoder(upsampling="bilinear")


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_conv_autoencoder_is_saved_and_loaded(upsampling, x, tmp_path):
    model, _, _ = build_conv_autoencoder(upsampling=upsampling)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict(loaded, x), predict(model, x), atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# The measure
# ---------------------------------------------------------------------------------------------------------------------


def pattern(block):
    """A picture of 28 × 28 pixels tiled with a block of 2 × 2."""
    return np.tile(np.asarray(block, dtype="float32"), (14, 14)).reshape(1, 28, 28, 1)


def test_phase_spread_of_known_patterns():
    assert phase_spread(pattern([[0, 1], [1, 0]])) == pytest.approx(1)  # nothing but checkerboard
    assert phase_spread(pattern([[0, 0], [0, 1]])) == pytest.approx(1)  # also where only one phase differs
    assert phase_spread(pattern([[0, 0], [1, 1]])) == pytest.approx(1)  # stripes in one direction
    assert phase_spread(pattern([[3, 3], [3, 3]])) == 0  # flat, without a division by zero


def test_phase_spread_is_a_share_of_the_contrast(x):
    blocks = np.repeat(np.repeat(x[:, ::2, ::2], 2, axis=1), 2, axis=2)  # all four phases are equal
    assert phase_spread(blocks) == pytest.approx(0, abs=1e-6)
    both = blocks + pattern([[0, 1], [1, 0]])
    assert 0.5 < phase_spread(both) < 1
    assert phase_spread(0.1 * both) == pytest.approx(phase_spread(both), rel=1e-3)


def test_phase_spread_is_taken_per_image():
    plus, minus = pattern([[0, 1], [1, 0]]), pattern([[1, 0], [0, 1]])  # their mean is flat
    assert phase_spread(np.concatenate([plus, minus])) == pytest.approx(1)


def test_phase_spread_leaves_out_the_margin():
    framed = np.repeat(np.repeat(np.random.default_rng(0).uniform(size=(1, 14, 14, 1)), 2, axis=1), 2, axis=2)
    framed[:, ::2, :4] = framed[:, :4, ::2] = framed[:, ::2, -4:] = framed[:, -4:, ::2] = 5
    assert phase_spread(framed) == pytest.approx(0, abs=1e-6)
    assert phase_spread(framed, margin=0) > 0.1


# ---------------------------------------------------------------------------------------------------------------------
# Moved, framed and small pictures
# ---------------------------------------------------------------------------------------------------------------------


def test_shift_right_brings_in_black_and_lets_nothing_come_back(x):
    moved = shift_right(x, 3)
    np.testing.assert_array_equal(moved[:, :, 3:], x[:, :, :-3])
    assert not moved[:, :, :3].any()
    np.testing.assert_array_equal(shift_right(x, 0), x)


def test_moved_at_random_moves_each_picture_by_a_vector_of_its_own():
    point = np.zeros((500, 28, 28, 1), "float32")
    point[:, 14, 14] = 1
    moved = moved_at_random(point, 4, np.random.default_rng(0))
    _, rows, columns, _ = np.nonzero(moved)
    assert len(rows) == 500  # none is lost
    assert set(rows) == set(columns) == set(range(10, 19))
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2
    assert point[:, 14, 14].all()  # the input is unchanged


def test_moved_at_random_by_nothing_changes_nothing(x):
    np.testing.assert_array_equal(moved_at_random(x, 0, np.random.default_rng(0)), x)


def test_downscale_takes_the_mean_of_each_block(x):
    small = downscale(x)
    assert small.shape == (3, 14, 14, 1)
    assert small.dtype == x.dtype
    assert small[1, 2, 3, 0] == pytest.approx(x[1, 4:6, 6:8, 0].mean())


def test_upscaler_doubles_pictures(x):
    y = predict(build_upscaler(), downscale(x))
    assert y.shape == x.shape
    assert 0 <= y.min() < y.max() <= 1


# ---------------------------------------------------------------------------------------------------------------------
# Equal terms of the trainings in advance
# ---------------------------------------------------------------------------------------------------------------------


def test_dense_and_convolutional_network_were_trained_alike():
    dense, conv = RECIPES["02.dense128"], RECIPES["02.conv128"]
    assert dense.training == conv.training
    assert len(dense.data()[0]) == len(conv.data()[0]) == 55_000


@pytest.fixture
def small_sweep(monkeypatch):
    """A sweep of one tiny network on 200 digits, which has no access to test digits."""

    class Untouchable:
        def __iter__(self):
            raise AssertionError("the sweep looks at the test digits")

    digits = np.random.default_rng(0).uniform(size=(250, 28, 28, 1)).astype("float32")
    splits = (digits[:200], None), (digits[200:], None), Untouchable()
    monkeypatch.setattr(codes_of_128, "load_mnist", lambda: splits)
    monkeypatch.setitem(codes_of_128.SETTINGS, "epochs", 2)

    def networks():
        return {"tiny": keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])}

    monkeypatch.setattr(codes_of_128, "networks", networks)
    monkeypatch.setattr(codes_of_128, "load_curve", lambda name: {"x": [0.1, 0.2], "mean": {"tiny": [2, 1]}})
    return splits


def test_rates_are_chosen_on_validation_digits(small_sweep):
    _, (x_val, _), _ = small_sweep
    assert 0 < codes_of_128.measure_rate(0.01)["tiny"] < np.mean(np.square(x_val))
    assert codes_of_128.best_rates({"x": [1, 2, 3], "mean": {"a": [5, 4, 6], "b": [1, 2, 3]}}) == {"a": 2, "b": 1}


@pytest.mark.slow
def test_shifts_and_few_digits_are_scored_on_validation_digits(small_sweep):
    shifted = codes_of_128.measure_shift(4)
    assert set(shifted) == {f"{label}, {k} px" for label in ("PCA", "tiny") for k in range(5)}
    few = codes_of_128.measure_few(100)
    assert set(few) == {"PCA", "tiny"}
    assert all(value > 0 for value in few.values())


def test_with_few_digits_every_rival_is_scored_on_the_same_digits(small_sweep, monkeypatch):
    scored = []
    monkeypatch.setattr(codes_of_128, "pca_error", lambda x_train, x, n: scored.append(x) or 1.0)
    monkeypatch.setattr(codes_of_128, "picture_errors", lambda networks, x: scored.append(x) or {"tiny": 1.0})
    monkeypatch.setitem(codes_of_128.FEW_DIGITS, "scored on", 30)
    codes_of_128.measure_few(100)
    assert len(scored) == 1 + codes_of_128.PARTS
    assert all(np.array_equal(x, small_sweep[1][0][:30]) for x in scored)


def test_a_longer_training_has_so_many_epochs_at_the_best_rate_and_changes_no_other(small_sweep, monkeypatch):
    trained = []
    monkeypatch.setattr(codes_of_128, "train", lambda *arrays, **training: trained.append(training))
    assert set(codes_of_128.measure_long(5)) == {"tiny"}
    (training,) = trained
    assert (training["epochs"], training["learning_rate"]) == (5, 0.2)
    assert codes_of_128.SETTINGS["epochs"] == 2


def test_pixels_of_pca_are_limited_like_those_of_the_networks():
    x_train = np.round(np.random.default_rng(0).uniform(size=(50, 784)))
    x = x_train[:5] + 0.5  # brighter than any picture, so PCA draws them brighter than white
    drawn = evaluation.reconstruct_pca(evaluation.fit_pca(x_train, 20), x)
    assert drawn.max() > 1
    assert codes_of_128.pca_error(x_train, x, 20) == pytest.approx(evaluation.mse(x, np.clip(drawn, 0, 1)))


def test_a_training_that_diverged_counts_as_the_worst():
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(1, 1)])
    model.set_weights([np.full((1, 1, 1, 1), np.nan), np.zeros(1)])
    assert codes_of_128.picture_errors({"diverged": model}, np.ones((2, 28, 28, 1), "float32")) == {"diverged": 1.0}


def test_the_wide_network_has_as_many_parameters_as_the_dense_one_and_is_scored_at_every_shift(
    small_sweep, monkeypatch
):
    trained = []

    def fit(networks, rates, x_train):
        trained.append((*networks.values(), *rates.values(), len(x_train)))

    monkeypatch.setattr(codes_of_128, "_fit", fit)
    assert set(codes_of_128.measure_wide_rate(0.01)) == {f"convolutional, wide, {k} px" for k in range(5)}
    ((network, rate, n_digits),) = trained
    assert (rate, n_digits) == (0.01, 200)
    dense = build_autoencoder([784, 128], code_activation="linear")[0]
    assert network.count_params() == pytest.approx(dense.count_params(), rel=0.01)
    assert network.count_params() == build_conv_autoencoder(channels=codes_of_128.WIDE)[0].count_params()


def test_rivals_on_moved_digits_differ_in_network_and_epochs_only(small_sweep, monkeypatch):
    trained = []
    wide = {"x": [0.1, 0.2, 0.3], "mean": {f"{codes_of_128.WIDE_LABEL}, 0 px": [2, 1, 3]}}
    curves = {"02.wide": wide, "02.rates": {"x": [0.1, 0.2], "mean": {"tiny": [1, 2]}}}
    monkeypatch.setattr(codes_of_128, "load_curve", curves.get)
    monkeypatch.setattr(codes_of_128, "_fit", lambda models, rates, x, epochs=None: trained.append((rates, x, epochs)))
    for measure, setting in [
        (codes_of_128.measure_shift, 4), (codes_of_128.measure_shift_wide, 4), (codes_of_128.measure_shift_long, 18),
    ]:  # fmt: skip
        np.random.seed(0)  # noqa: NPY002
        measure(setting)
    rates, digits, epochs = zip(*trained, strict=True)
    assert rates == ({"tiny": 0.1}, {codes_of_128.WIDE_LABEL: 0.2}, {"tiny": 0.1})
    assert epochs == (None, None, 18)
    assert all(np.array_equal(x, digits[0]) for x in digits)
    assert not np.array_equal(digits[0], small_sweep[0][0])


def test_with_few_digits_each_rival_has_its_network_and_rate(small_sweep, monkeypatch):
    compiled = []
    wide = {"x": [0.1, 0.2, 0.3], "mean": {f"{codes_of_128.WIDE_LABEL}, 0 px": [2, 1, 3]}}
    monkeypatch.setattr(codes_of_128, "load_curve", {"02.wide": wide}.get)
    dense = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    monkeypatch.setattr(codes_of_128, "networks", lambda: {"dense": dense, "other": None})

    class Stop(Exception):
        """The training would start now."""

    def compile_for_training(model, steps, rate, **settings):
        compiled.append((model.count_params(), rate))
        raise Stop

    monkeypatch.setattr(codes_of_128, "compile_for_training", compile_for_training)
    for measure, setting in [(codes_of_128.measure_few_wide, 100), (codes_of_128.measure_few_rate, 0.004)]:
        with pytest.raises(Stop):
            measure(setting)
    assert compiled == [(200_737, 0.2), (0, 0.004)]


@pytest.mark.parametrize("name", [n for n in SWEEPS if n.startswith("02.") and not n.endswith("long")])
def test_curves_have_several_seeds_and_the_same_length(name):
    planned = SWEEPS[name]
    slow = name in ("02.shift_wide", "02.few_digits_wide")  # ten minutes each
    assert planned.seeds >= (5 if name in ("02.shift", "02.few_digits") else 2 if slow else 3)
    assert planned.settings["epochs"] == codes_of_128.SETTINGS["epochs"]


def test_the_best_rates_lie_inside_the_grid():
    curve = load_curve("02.rates")
    for label, rate in codes_of_128.best_rates(curve).items():
        assert min(curve["x"]) < rate < max(curve["x"]), label


def test_with_few_digits_no_learning_rate_saves_the_dense_network():
    tuned, few = load_curve("02.few_digits_rates"), load_curve("02.few_digits")
    assert max(tuned["x"]) < codes_of_128.best_rates(load_curve("02.rates"))["dense"]  # the rate of the comparison
    assert min(tuned["mean"]["dense"]) > 2 * few["mean"]["convolutional"][0]


def test_the_best_rate_of_the_wide_network_lies_inside_its_grid():
    errors = load_curve("02.wide")["mean"]["convolutional, wide, 0 px"]
    assert min(errors) < min(errors[0], errors[-1])


def test_pca_has_as_many_numbers_as_the_codes_of_its_rivals():
    cells = cell_sources("02")
    x_train = np.random.default_rng(0).uniform(size=(300, 28, 28, 1))
    namespace = {"evaluation": evaluation, "x_train": x_train}
    exec(cells["reconstruct"], namespace)
    sizes = {np.prod(build()[1].output_shape[1:]) for build in (build_conv_autoencoder, build_pooling_autoencoder)}
    assert {namespace["pca"].n_components_} == sizes == {codes_of_128.SETTINGS["code"]}
