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


def beside(x, y):
    """Pictures and one-hot labels as the stack takes them."""
    return np.concatenate([x, np.eye(10, dtype="float32")[y]], axis=1)


def test_the_loss_of_the_stack_is_the_sum_of_the_losses_of_its_networks(digits):
    x, y = digits
    betas = (0.5, 2.0)
    model = StackedWriters([Kind(conditional=True, beta=beta) for beta in betas], [12, 6], 2)
    for weight in model.encoders[-2:]:
        weight.assign(0 * weight - 30 * (len(weight.shape) == 2))
    found = float(model.compute_loss(beside(x, y)))
    expected = 0
    for kind, beta in enumerate(betas):
        single = ConditionalVAE(*model.single(kind), beta=beta)
        still(single.encoder)
        single.compile()
        expected += single.evaluate([x, np.eye(10)[y]], batch_size=60, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_every_network_learns_and_knows_labels_only_if_it_is_conditional(digits):
    keras.utils.set_random_seed(0)
    start = StackedWriters(KINDS, SETTINGS["hidden"], SETTINGS["latent"])
    keras.utils.set_random_seed(0)
    model = train_writers(KINDS, *digits, SETTINGS)
    for kind, single in enumerate(KINDS):
        encoder, decoder = model.single(kind)
        assert (len(encoder.inputs) == 2) == (len(decoder.inputs) == 2) == single.conditional
        inputs = [digits[0], np.eye(10)[digits[1]]] if single.conditional else digits[0]
        mu, before = (network.predict(inputs, verbose=0)[0] for network in (encoder, start.single(kind)[0]))
        assert np.isfinite(mu).all()
        assert not np.allclose(mu, before, atol=1e-3)


def test_a_network_without_labels_gives_the_same_whatever_the_labels_in_the_stack(digits):
    x, y = digits
    keras.utils.set_random_seed(0)
    model = StackedWriters([Kind(beta=0.0, noise=0.0)], [12, 6], 2)
    loss = float(model.compute_loss(beside(x, y)))
    assert float(model.compute_loss(beside(x, (y + 3) % 10))) == pytest.approx(loss, rel=1e-6)
    encoder, decoder = model.single(0)
    reference = build_writer_networks([12, 6], 2)
    assert [w.shape for w in encoder.get_weights()] == [w.shape for w in reference[0].get_weights()]
    x_hat = np.clip(decoder.predict(encoder.predict(x, verbose=0)[0], verbose=0).astype("float64"), 1e-7, 1 - 1e-7)
    assert loss == pytest.approx(-(x * np.log(x_hat) + (1 - x) * np.log1p(-x_hat)).sum(axis=1).mean(), rel=1e-4)
