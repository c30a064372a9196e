"""The contractive penalty of lesson 05 is the squared norm of the Jacobian, by three other computations, and it trains."""

import numpy as np
import pytest

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.lessons import (
    ContractiveDense,
    build_one_layer_autoencoder,
    contractive_penalty,
    estimate_squared_norm,
    jacobian_by_autodiff,
)
from course_utils.pretrained import load_curve
from tools.author import strengths
from tools.shared.notebook_files import cell_sources

ops = keras.ops

INPUTS, UNITS = 7, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def x(rng):
    return rng.uniform(size=(5, INPUTS)).astype("float32")


@pytest.fixture
def layer(rng):
    """A layer whose sigmoids are well bent, with a bias that is not zero."""
    layer = ContractiveDense(UNITS, strength=0.3)
    layer.build((None, INPUTS))
    layer.set_weights([rng.normal(size=(INPUTS, UNITS)), rng.normal(size=UNITS)])
    return layer


def encode(x, kernel, bias):
    return 1 / (1 + np.exp(-(x @ kernel + bias)))


def squared_norms(x, kernel, bias):
    """Squared Frobenius norm of each Jacobian: every input moved by itself, in double precision."""
    step = 1e-5 * np.eye(x.shape[1])
    return np.array(
        [
            np.square((encode(row + step, kernel, bias) - encode(row - step, kernel, bias)) / 2e-5).sum()
            for row in x.astype("float64")
        ]
    )


def numbers(layer):
    return [keras.ops.convert_to_numpy(weight).astype("float64") for weight in layer.weights]


def added_loss(layer, x):
    layer(x)
    (loss,) = layer.losses
    return float(loss)


def test_the_case_done_by_hand():
    h = np.array([[1 / 2, 3 / 4]], dtype="float32")
    kernel = np.array([[0, 1], [4, -4]], dtype="float32")
    assert float(contractive_penalty(h, kernel)[0]) == pytest.approx(409 / 256, rel=1e-6)


def test_penalty_is_the_squared_norm_for_each_picture(layer, x):
    penalty = keras.ops.convert_to_numpy(contractive_penalty(layer(x), layer.kernel))
    assert penalty.shape == (5,)
    assert penalty == pytest.approx(squared_norms(x, *numbers(layer)), rel=1e-4)


def test_penalty_equals_that_of_automatic_differentiation(layer, x):
    jacobians = [jacobian_by_autodiff(layer, row) for row in x]
    assert jacobians[0].shape == (UNITS, INPUTS)
    penalty = keras.ops.convert_to_numpy(contractive_penalty(layer(x), layer.kernel))
    assert penalty == pytest.approx([np.square(jacobian).sum() for jacobian in jacobians], rel=1e-5)


def test_jacobian_of_a_deep_encoder(rng, x):
    deep = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3, "sigmoid")])
    first, first_bias, second, second_bias = (weight.astype("float64") for weight in deep.get_weights())
    hidden = np.tanh(x[0] @ first + first_bias)
    z = encode(hidden, second, second_bias)
    expected = (z * (1 - z))[:, np.newaxis] * second.T @ ((1 - hidden**2)[:, np.newaxis] * first.T)
    assert jacobian_by_autodiff(deep, x[0]) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_layer_is_a_sigmoid_layer(layer, x):
    assert keras.ops.convert_to_numpy(layer(x)) == pytest.approx(encode(x, *numbers(layer)), rel=1e-5)


def test_layer_adds_strength_times_the_mean(layer, x):
    assert added_loss(layer, x) == pytest.approx(0.3 * squared_norms(x, *numbers(layer)).mean(), rel=1e-4)


def test_relative_penalty_is_divided_by_the_spread(layer, x):
    layer.relative = True
    spread = np.var(encode(x, *numbers(layer)), axis=0).sum()
    assert added_loss(layer, x) == pytest.approx(0.3 * squared_norms(x, *numbers(layer)).mean() / spread, rel=1e-4)


def test_relative_penalty_gains_nothing_by_smaller_codes(rng, x):
    """Near zero a sigmoid is linear, so that weights of a tenth shrink norm and spread alike."""
    kernel = 0.05 * rng.normal(size=(INPUTS, UNITS))
    losses = {}
    for relative in (False, True):
        for scale in (1, 0.1):
            layer = ContractiveDense(UNITS, strength=1.0, relative=relative)
            layer.build((None, INPUTS))
            layer.set_weights([scale * kernel, np.zeros(UNITS)])
            losses[relative, scale] = added_loss(layer, x)
    assert losses[False, 0.1] == pytest.approx(losses[False, 1] / 100, rel=0.02)
    assert losses[True, 0.1] == pytest.approx(losses[True, 1], rel=0.02)


def test_penalty_of_many_networks_at_once(layer, x):
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    h = layer(x)
    both = contractive_penalty(keras.ops.stack([h, h]), keras.ops.stack([kernel, 2 * kernel]))
    one = keras.ops.convert_to_numpy(contractive_penalty(h, kernel))
    assert keras.ops.convert_to_numpy(both) == pytest.approx(np.stack([one, 4 * one]), rel=1e-5)


def test_autoencoder_subtracts_the_mean_image(rng):
    mean = rng.uniform(size=784).astype("float32")
    model, encoder = build_one_layer_autoencoder(ContractiveDense(3), mean)
    assert keras.ops.convert_to_numpy(encoder(mean[np.newaxis])) == pytest.approx(0.5, abs=1e-4)
    assert model.output_shape == (None, 784)


def test_disturbance_is_for_training_only_and_not_in_the_encoder(rng):
    mean, x = np.zeros(784, "float32"), rng.uniform(size=(2, 784)).astype("float32")
    model, encoder = build_one_layer_autoencoder(ContractiveDense(3), mean, keras.layers.GaussianNoise(0.5))
    clean = keras.ops.convert_to_numpy(encoder(x, training=True))
    assert clean == pytest.approx(keras.ops.convert_to_numpy(encoder(x)))
    predicted, trained = (keras.ops.convert_to_numpy(model(x, training=training)) for training in (False, True))
    assert np.abs(predicted - trained).max() > 1e-3


def test_layer_without_strength_adds_nothing(x):
    layer = ContractiveDense(UNITS)
    layer(x)
    assert layer.losses == []


def test_added_loss_follows_the_weights(layer, x):
    before = added_loss(layer, x)
    layer.set_weights([0.1 * layer.get_weights()[0], layer.get_weights()[1]])
    after = added_loss(layer, x)
    assert after == pytest.approx(0.3 * squared_norms(x, *numbers(layer)).mean(), rel=1e-4)
    assert after < before / 10


def test_gradient_reaches_kernel_and_bias(layer, x):
    """One step of gradient descent on the penalty alone moves the weights by its numerical gradient."""
    model = keras.Sequential([keras.Input((INPUTS,)), layer])
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=lambda y, z: 0.0 * keras.ops.mean(z, axis=-1))
    before = numbers(layer)
    model.fit(x, np.zeros((5, UNITS)), batch_size=5, epochs=1, verbose=0)
    for index, (old, new) in enumerate(zip(before, numbers(layer), strict=True)):
        expected = np.zeros_like(old)
        for place in np.ndindex(old.shape):
            values = []
            for step in (1e-4, -1e-4):
                weights = [weight.copy() for weight in before]
                weights[index][place] += step
                values.append(0.3 * squared_norms(x, *weights).mean())
            expected[place] = (values[0] - values[1]) / 2e-4
        assert old - new == pytest.approx(expected, abs=1e-4)


def test_layer_is_saved_with_its_strength(layer, x, tmp_path):
    layer.relative = True
    model = keras.Sequential([keras.Input((INPUTS,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].relative
    assert added_loss(loaded.layers[-1], x) == pytest.approx(added_loss(layer, x), rel=1e-6)


def test_estimator_is_exact_for_a_linear_encoder_and_one_direction(rng, x):
    kernel = rng.normal(size=(INPUTS, UNITS)).astype("float32")
    v = rng.normal(size=x.shape).astype("float32")
    estimate = keras.ops.convert_to_numpy(estimate_squared_norm(lambda x: keras.ops.matmul(x, kernel), x, v, 1.0))
    assert estimate.shape == (5,)
    assert estimate == pytest.approx(np.square(v @ kernel).sum(axis=1), rel=1e-3)


def test_estimator_steps_both_ways(x):
    """The symmetric difference has no error of the order ε: it is exact for a square, and a one-sided one is not."""
    v = np.ones_like(x)
    estimate = keras.ops.convert_to_numpy(estimate_squared_norm(keras.ops.square, x, v, 0.5))
    assert estimate == pytest.approx(np.square(2 * x).sum(axis=1), rel=1e-4)


def test_mean_of_the_estimator_is_the_squared_norm(layer, rng, x):
    many = np.repeat(x, 4000, axis=0)
    v = rng.normal(size=many.shape).astype("float32")
    draws = keras.ops.convert_to_numpy(estimate_squared_norm(layer, many, v)).reshape(5, 4000)
    error = draws.std(axis=1) / np.sqrt(4000)
    expected = squared_norms(x, *numbers(layer))
    assert np.all(np.abs(draws.mean(axis=1) - expected) < 4.5 * error)
    assert np.all(error < 0.05 * expected)


def test_estimator_takes_pictures_and_feature_maps(rng):
    images = rng.uniform(size=(3, 4, 4, 1)).astype("float32")
    v = rng.normal(size=images.shape).astype("float32")
    estimate = keras.ops.convert_to_numpy(estimate_squared_norm(lambda x: 2 * x, images, v))
    assert estimate == pytest.approx(4 * np.square(v).sum(axis=(1, 2, 3)), rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# The stored curves
# ---------------------------------------------------------------------------------------------------------------------


def test_stacked_networks_have_the_losses_of_the_lesson(rng):
    x = rng.uniform(size=(10, 784)).astype("float32")
    mean = x.mean(axis=0)
    cases = [strengths.Case(method, 0.1, 0.04) for method in strengths.STRENGTHS if method != "denoising"]
    stack = strengths.StackedAutoencoders(cases, mean, units=6)
    losses = ops.convert_to_numpy(stack.losses_of_cases(x, x))
    kernels, kernels_back = (ops.convert_to_numpy(weight) for weight in (stack.kernel, stack.kernel_back))
    for i, case in enumerate(cases):
        decay = keras.regularizers.L2(0.1) if case.method.startswith("weight decay") else None
        layer = ContractiveDense(
            6,
            strength=0.1 if decay is None else 0.0,
            relative=case.method == "relative contraction",
            kernel_regularizer=decay,
        )
        model, _ = build_one_layer_autoencoder(layer, mean)
        layer.set_weights([kernels[i], np.zeros(6)])
        model.layers[-1].set_weights([kernels_back[i], np.zeros(784)])
        x_hat = model(x, training=True)
        loss = float(keras.losses.BinaryCrossentropy()(x, x_hat) + sum(model.losses))
        if case.method == "weight decay, both layers":
            loss += 0.1 * np.square(kernels_back[i]).sum()
        assert losses[i] == pytest.approx(loss, rel=1e-4), case.method


def test_all_methods_are_tried_with_the_same_rates_and_as_many_strengths():
    curve = load_curve("05.strengths")
    assert len(strengths.RATES) >= 4
    assert curve["seeds"] >= 5
    assert {len(values) for values in strengths.STRENGTHS.values()} == {8}
    chosen = [rate for label, rates in curve["mean"].items() if label.endswith(": rate") for rate in rates[:4]]
    assert min(strengths.RATES) < min(chosen)


@pytest.mark.slow
def test_rates_are_chosen_by_the_loss_on_validation_digits(monkeypatch):
    (x_train, y_train), (x_val, y_val), test = load_mnist(flat=True)
    small = (x_train[:500], y_train[:500]), (x_val[:250], y_val[:250]), test
    seen = []
    monkeypatch.setattr(strengths, "load_mnist", lambda flat: small)
    monkeypatch.setattr(strengths, "STRENGTHS", dict.fromkeys(strengths.STRENGTHS, (0.0, 0.1)))
    monkeypatch.setattr(strengths, "describe_case", lambda model, i: {"case": i})
    real = strengths.own_losses
    monkeypatch.setattr(strengths, "own_losses", lambda model, x: seen.append(x) or real(model, x))
    results = strengths.measure_strengths.__wrapped__(1, epochs=1)
    assert len(seen) == 1
    assert seen[0] is small[1][0]
    assert set(results) == {0, 1}
    assert all(results[1][f"{method}: rate"] in strengths.RATES for method in strengths.STRENGTHS)


def test_the_toy_adds_its_penalty_to_the_loss_relative_to_the_spread_of_the_codes_if_asked():
    namespace = {
        "keras": keras,
        "layers": keras.layers,
        "ops": keras.ops,
        "estimate_squared_norm": estimate_squared_norm,
    }
    exec(cell_sources("05")["toy-layer"], namespace)
    x = np.random.default_rng(0).normal(size=(500, 2)).astype("float32")
    kernel = np.array([[3.0, 0.0], [0.0, 4.0]], "float32")  # its squared norm is 25

    def penalty(strength, relative):
        layer = namespace["Contracted"](lambda some: some @ kernel, strength, relative)
        assert np.allclose(layer(x), x @ kernel)
        (loss,) = layer.losses
        return float(loss)

    assert penalty(2.0, relative=False) == pytest.approx(2 * 25, rel=0.1)
    variance = np.var(x @ kernel, axis=0).sum()
    assert penalty(2.0, relative=True) == pytest.approx(penalty(2.0, relative=False) / variance, rel=1e-3)
