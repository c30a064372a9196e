"""The networks of lesson 07's curves learn together as if each were alone."""

import numpy as np
import pytest

from course_utils.backend import keras
from course_utils.lessons import ConditionalVAE, build_writer_networks
from tools.author.stacked_writers import Kind, StackedWriters, train_writers

KINDS = [Kind(beta=0.0, noise=0.0), Kind(), Kind(conditional=True, beta=0.5)]
SETTINGS = {"hidden": [12, 6], "latent": 2, "epochs": 2, "batch_size": 20, "learning_rate": 0.01}


@pytest.fixture
def digits():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(60, 784)).astype("float32"), rng.integers(10, size=60)


def still(encoder):
    """Without spread, so that the loss does not depend on random numbers."""
    kernel, bias = encoder.get_layer("log_var").get_weights()
    encoder.get_layer("log_var").set_weights([0 * kernel, 0 * bias - 30])


def test_the_loss_of_the_stack_is_the_sum_of_the_losses_of_its_networks(digits):
    x, y = digits
    model = StackedWriters([Kind(conditional=True, beta=0.5)], 2, x, y, [12, 6], 2)
    for weight in model.encoders[-2:]:
        weight.assign(0 * weight - 30 * (len(weight.shape) == 2))
    rows = np.stack([np.arange(60), np.arange(60)[::-1]], axis=1).astype("int32")
    found = float(model.compute_loss(rows))
    expected = 0
    for seed in range(2):
        single = ConditionalVAE(*model.single(seed, 0), beta=0.5)
        still(single.encoder)
        single.compile()
        expected += single.evaluate([x, np.eye(10)[y]], batch_size=60, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_every_network_learns_and_knows_labels_only_if_it_is_conditional(digits):
    model = train_writers(KINDS, 2, *digits, SETTINGS)
    seen = []
    for seed in range(2):
        for kind, single in enumerate(KINDS):
            encoder, decoder = model.single(seed, kind)
            assert (len(encoder.inputs) == 2) == (len(decoder.inputs) == 2) == single.conditional
            inputs = [digits[0], np.eye(10)[digits[1]]] if single.conditional else digits[0]
            mu, _ = encoder.predict(inputs, verbose=0)
            assert np.isfinite(mu).all()
            seen.append(mu)
    assert all(not np.allclose(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_a_network_without_labels_gives_the_same_whatever_the_labels_in_the_stack(digits):
    x, y = digits
    keras.utils.set_random_seed(0)
    model = StackedWriters([Kind(beta=0.0, noise=0.0)], 1, x, y, [12, 6], 2)
    rows = np.arange(60, dtype="int32")[:, np.newaxis]
    loss = float(model.compute_loss(rows))
    model.labels.assign(np.eye(10)[(y + 3) % 10])
    assert float(model.compute_loss(rows)) == pytest.approx(loss, rel=1e-6)
    encoder, decoder = model.single(0, 0)
    reference = build_writer_networks([12, 6], 2)
    assert [w.shape for w in encoder.get_weights()] == [w.shape for w in reference[0].get_weights()]
    x_hat = np.clip(decoder.predict(encoder.predict(x, verbose=0)[0], verbose=0).astype("float64"), 1e-7, 1 - 1e-7)
    assert loss == pytest.approx(-(x * np.log(x_hat) + (1 - x) * np.log1p(-x_hat)).sum(axis=1).mean(), rel=1e-4)
