"""What lesson 01 defines, and the trainings that it loads."""

import keras
import numpy as np
import pytest

from course_utils import lessons
from course_utils.exercises.lesson_01 import SHIFT_IN_CODE
from course_utils.exercises.registry import what_is_missing
from tools.author import sweep


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_signed_pictures_show_zero_as_gray_and_each_array_by_its_own_largest(shape):
    arrays = np.array([[0.0, 1, -2, 0.5], [30, 0, 0, -15], [0, 0, 0, 0]]).reshape(shape)
    expected = np.array([[0.5, 0.75, 0, 0.625], [1, 0.5, 0.5, 0.25], [0.5] * 4]).reshape(shape)
    np.testing.assert_allclose(lessons.signed_pictures(arrays), expected)


def test_an_autoencoder_is_its_encoder_and_then_its_decoder():
    autoencoder, encoder, decoder = lessons.build_autoencoder([6, 5, 2], "linear")
    assert [weight.shape for weight in autoencoder.weights] == [(6, 5), (5,), (5, 2), (2,), (2, 5), (5,), (5, 6), (6,)]
    x = np.random.default_rng(0).uniform(size=(3, 6)).astype("float32")
    x_hat = decoder(encoder(x))
    np.testing.assert_allclose(autoencoder(x), x_hat, rtol=1e-5)
    hidden = [layer.activation.__name__ for layer in (encoder.layers[0], decoder.layers[0])]
    assert hidden == ["relu", "relu"]
    assert [model.layers[-1].activation.__name__ for model in (encoder, decoder)] == ["linear", "sigmoid"]


def test_codes_are_rounded_to_multiples_of_the_step():
    codes = np.random.default_rng(0).normal(size=(50, 3))
    step = np.array([0.5, 0.1, 2.0])
    rounded, _ = lessons.rounded_codes(codes, codes, step)
    assert rounded.dtype == np.float32
    assert np.all(np.abs(rounded - codes) <= step / 2 + 1e-6)
    np.testing.assert_allclose(rounded / step, np.round(rounded / step), atol=1e-5)


def test_a_code_takes_the_bits_of_its_values_probabilities():
    # The first number is one of four values that are equally frequent, 2 bits; the second is always the same, 0 bits.
    train = np.stack([np.arange(40_000) % 4, np.zeros(40_000)], axis=1)
    codes = np.array([[0.0, 0.0], [3.0, 0.0]])
    _, n_bytes = lessons.rounded_codes(codes, train, 1)
    assert n_bytes == pytest.approx(2 / 8, rel=1e-3)


def test_a_value_that_was_never_seen_takes_many_bits_but_not_infinitely_many():
    train = np.repeat([[0.0], [2.0]], 500, axis=0)
    counts = np.array([500.5, 0.5, 500.5])
    for value, count in [(0.0, 500.5), (1.0, 0.5), (2.0, 500.5)]:
        _, n_bytes = lessons.rounded_codes(np.array([[value]]), train, 1)
        assert n_bytes == pytest.approx(-np.log2(count / counts.sum()) / 8)
    _, outside = lessons.rounded_codes(np.array([[7.0]]), train, 1)
    assert np.isfinite(outside)
    assert outside > 1


@pytest.mark.parametrize("answer", [SHIFT_IN_CODE[0] - 5, SHIFT_IN_CODE[1] + 5, 0.4, "far", 140])
def test_a_prediction_outside_the_measured_range_is_refused(answer):
    assert what_is_missing("01.predict_shift", answer)
    assert what_is_missing("01.predict_shift", sum(SHIFT_IN_CODE) / 2) is None


def test_a_prediction_cannot_be_found_by_bisection():
    low, high = (what_is_missing("01.predict_shift", answer) for answer in (7, 77))
    assert low.replace("7%", "") == high.replace("77%", "")


def test_a_tied_layer_without_its_activation_is_refused():
    class Linear(keras.layers.Layer):
        def __init__(self, dense, activation=None):
            super().__init__()
            self.dense = dense

        def build(self, input_shape):
            self.bias = self.add_weight(shape=(self.dense.kernel.shape[0],), initializer="zeros")

        def call(self, z):
            return keras.ops.matmul(z, keras.ops.transpose(self.dense.kernel)) + self.bias

    assert "activation" in what_is_missing("01.tied", Linear)


@pytest.mark.slow
def test_the_ways_to_set_the_learning_rate_are_compared_on_equal_terms(monkeypatch):
    digits, models = np.random.default_rng(0).uniform(size=(300, 784)).astype("float32"), []

    def build(*arguments, **settings):
        models.append(lessons.build_autoencoder(*arguments, **settings)[0])
        return (models[-1],)

    monkeypatch.setattr(sweep, "flat_digits", lambda: (digits,))
    monkeypatch.setattr(sweep, "load_mnist", lambda flat: (None, (digits, None), None))
    monkeypatch.setattr(sweep, "build_autoencoder", build)
    results = sweep._patience(3)
    assert list(results) == ["constant rate 0.001", "constant rate 0.01", "warm-up and cosine"]
    rates = [float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) for model in models]
    assert rates == pytest.approx([0.001, 0.01, 0], abs=1e-6)
    assert [int(model.optimizer.iterations) for model in models] == [3 * 2] * 3
