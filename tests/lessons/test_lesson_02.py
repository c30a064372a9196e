"""Tests of what lesson 02 defines: the sizes, the weights and the checkerboard measure."""

import keras
import numpy as np
import pytest

from course_utils.lessons import (
    build_conv_autoencoder,
    build_conv_decoder,
    build_conv_encoder,
    build_pooling_autoencoder,
    phase_spread,
)

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
# The network of the notes
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
