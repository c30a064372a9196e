"""The mathematics of lesson 04: penalties, the top-k layer, and what counts as active and dead."""

import numpy as np
import pytest
from scipy.stats import entropy

from course_utils import lessons
from course_utils.backend import keras

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
