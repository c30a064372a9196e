"""The recipes of `make bench` train what they say, on few digits and with one epoch in place of theirs."""

import math

import numpy as np
import pytest

from course_utils.backend import keras
from tools.prove import recipes

DENSE, POOLING, OURS, DENOISER, UNET = 50992, 4385, 18313, 28353, 1273025


@pytest.fixture
def fit_calls(monkeypatch):
    """What `fit` was fit_calls for: epochs and the model's parameters that are trained."""

    def few_digits(flat=False):
        shape = (64, 784) if flat else (64, 28, 28, 1)
        digits = np.random.default_rng(0).uniform(size=shape).astype("float32")
        return ((digits, None),) * 3

    monkeypatch.setattr(recipes, "load_mnist", few_digits)
    fit, fit_calls = keras.Model.fit, []

    def fit_once(self, *arguments, epochs=1, **options):
        fit_calls.append((epochs, sum(math.prod(weight.shape) for weight in self.trainable_weights)))
        return fit(self, *arguments, epochs=1, **options)

    monkeypatch.setattr(keras.Model, "fit", fit_once)
    return fit_calls


@pytest.mark.slow
def test_recipes_run_with_the_networks_and_epochs_of_their_names(fit_calls):
    expected = {
        "dense": [(50, DENSE), (50, DENSE), (5, DENSE)],
        "convolutional": [(1, POOLING), (2, OURS)],
        "denoising": [(1, DENOISER), (2, UNET)],
        "vae2": [(1, 134165), (1, 134165), (7, 485396)],
        "vae20": [(10, 652824), (5, 801224)],
    }
    assert set(recipes.COMPARISONS) == set(expected)
    for key, comparison in recipes.COMPARISONS.items():
        fit_calls.clear()
        for recipe in (*comparison.published, comparison.ours):
            if isinstance(recipe, recipes.Recipe):  # not PyTorch's own
                result = recipe.run(0, timed_epochs=recipe.known_loss and 1)
                assert 0 < result.loss < (900 if key.startswith("vae") else 1)
                assert key == "denoising" or str(recipe.epochs) in recipe.name
        assert fit_calls == expected[key]


def test_half_the_kl_is_for_the_training_and_not_for_the_score():
    digits = np.random.default_rng(0).uniform(size=(20, 784)).astype("float32")
    half = recipes._tutorial_vae(beta=0.5)
    half.compile()
    for mu_or_log_var in half.encoder.layers[-2:]:
        mu_or_log_var.bias.assign([3.0, 3.0])  # a KL that counts
    loss, reconstruction, kl = half.evaluate(digits, verbose=0)
    assert kl > 10
    assert loss == pytest.approx(reconstruction + kl / 2, rel=1e-5)

    class Evaluated:
        def evaluate(self, x, **settings):
            return {"loss": 12.0, "reconstruction": 10.0, "kl": 4.0}

    assert recipes._nelbo(Evaluated(), digits) == 14
