"""The recipes of `make bench` train what they say, on few digits and with one epoch in place of theirs."""

import math
import sys

import numpy as np
import pytest
from tools.shared.notebook_files import ROOT

from course_utils import lessons
from course_utils.backend import keras

sys.path.insert(0, str(REPORTS_FOLDER))

from tools.prove import profiling
from tools.prove import recipes
from tools.prove import speed

DENSE, POOLING, OURS, DENOISER, UNET = 50992, 4385, 18313, 28353, 1273025


@pytest.fixture
def asked(monkeypatch):
    """What `fit` was asked for: epochs and the model's parameters that are trained."""

    def few_digits(flat=False):
        shape = (64, 784) if flat else (64, 28, 28, 1)
        digits = np.random.default_rng(0).uniform(size=shape).astype("float32")
        return ((digits, None),) * 3

    monkeypatch.setattr(recipes, "load_mnist", few_digits)
    fit, asked = keras.Model.fit, []

    def fit_once(self, *arguments, epochs=1, **options):
        asked.append((epochs, sum(math.prod(weight.shape) for weight in self.trainable_weights)))
        return fit(self, *arguments, epochs=1, **options)

    monkeypatch.setattr(keras.Model, "fit", fit_once)
    return asked


@pytest.mark.parametrize(
    ("key", "expected", "largest_loss"),
    [
        ("dense", [(50, DENSE), (50, DENSE), (5, DENSE)], 1),
        ("convolutional", [(50, POOLING), (2, OURS)], 1),
        ("denoising", [(1, DENOISER), (1, DENOISER), (2, UNET)], 1),
        ("vae2", [(30, 134165), (30, 134165), (7, 485396)], 900),
        ("vae20", [(10, 652824), (5, 801224)], 900),
    ],
)
def test_recipes_run_with_the_networks_and_epochs_of_their_names(key, expected, largest_loss, asked):
    comparison = recipes.COMPARISONS[key]
    assert set(recipes.COMPARISONS) == {"dense", "convolutional", "denoising", "vae2", "vae20"}
    results = [recipe.run() for recipe in (*comparison.published, comparison.ours)]
    assert asked == expected
    assert all(0 < result.loss < largest_loss and result.seconds > 0 for result in results)
    for recipe in (*comparison.published, comparison.ours):
        assert str(recipe.epochs) in recipe.name


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


def test_multiplications_of_a_training_are_counted_layer_by_layer():
    dense = keras.Sequential([keras.Input((784,)), keras.layers.Dense(32), keras.layers.Dense(784)])
    assert recipes.multiply_adds(dense) == 2 * 784 * 32
    picture = keras.Input((28, 28, 1))
    half = keras.layers.Conv2D(16, 5, strides=2, padding="same")(picture)
    back = keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same")(half)
    model = keras.Model(picture, keras.layers.Flatten()(back))
    assert recipes.multiply_adds(model) == 14 * 14 * 25 * 16 + 14 * 14 * 9 * 16
    outer = keras.Model(picture, model(picture))
    assert recipes.multiply_adds(outer) == recipes.multiply_adds(model)


def test_the_page_takes_ratios_within_repeats_and_shows_the_measured_comparisons():
    def runs(*seconds):
        names = ("slow", "ours")
        return [
            {"recipe": name, "loss": 0.1, "seconds": s, "share": 0.25}
            for name, s in zip(names * 2, seconds, strict=False)
        ]

    comparisons = {key: recipes.COMPARISONS[key] for key in ("dense", "convolutional")}
    text = run.page(comparisons, {"dense": {"machine": "a machine", "runs": runs(10, 1, 40, 2)}})
    assert "| slow | 0.1000 ± 0.0000 | 25.0 ± 21.2 | 15.0 ± 7.1 | 25 ± 0 % |" in text
    assert "| ours | 0.1000 ± 0.0000 | 1.5 ± 0.7 | 1.0 ± 0.0 | 25 ± 0 % |" in text
    assert "matrix products" in text
    assert comparisons["convolutional"].title not in text
    assert "one run of each" in run.page(comparisons, {"dense": {"machine": "a machine", "runs": runs(10, 1)}})


@pytest.mark.parametrize("reconstructs", [True, False])
def test_all_parts_of_a_training_step_are_timed(reconstructs, monkeypatch):
    monkeypatch.setattr(profiling, "STEPS", 3)
    autoencoder = lessons.build_autoencoder([784, 32])[0]
    vae = lessons.VAE(*lessons.build_vae_networks([784, 32], latent=2))
    model = autoencoder if reconstructs else vae
    timer = profiling.StepTimer("a model", model, batch_size=10, flat=True, reconstructs=reconstructs)
    times = timer.milliseconds()
    assert {"products", *times} == set(profiling.Step._fields)
    assert all(milliseconds > 0 for milliseconds in times.values())
    if reconstructs:
        assert timer.n_multiplications == 3 * 10 * 2 * 784 * 32
    # Steps of the training that compiles, of the update's first call, of its timing, and of the timed training.
    assert int(model.optimizer.iterations) == 3 + 1 + 3 + 3
