"""The variational autoencoder of lesson 06: its draws, its KL, its loss and its bounds, each against another computation."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from course_utils.backend import keras
from course_utils.evaluation import bce
from course_utils.lessons import (
    VAE,
    Sampling,
    build_vae_networks,
    iwae_bound,
    kl_to_standard_normal,
    log_aggregate,
    log_weights,
)
from tools.author import stacked_vaes
from tools.author.stacked_vaes import Kind, StackedVAEs, autoencoder, measure_stack, train_stack
from tools.shared.notebook_files import cell_sources

PIXELS, LATENTS = 12, 3


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def x(rng):
    """Seven pictures: no batch size divides them evenly."""
    return rng.uniform(size=(7, PIXELS)).astype("float32")


def networks(rng, latent=LATENTS):
    """Networks with weights large enough that codes differ, and biases that are not zero."""
    encoder, decoder = build_vae_networks([9], latent, PIXELS)
    for network in (encoder, decoder):
        network.set_weights([rng.normal(scale=0.5, size=weight.shape) for weight in network.get_weights()])
    return encoder, decoder


def without_noise(encoder):
    """Set log σ² to −60 everywhere, so that each draw is the mean."""
    kernel, bias = encoder.get_layer("log_var").get_weights()
    encoder.get_layer("log_var").set_weights([0 * kernel, 0 * bias - 60])


def kl_by_integration(mu, log_var):
    """KL of one latent: the integral of q (log q − log p)."""
    sigma = np.exp(log_var / 2)

    def integrand(z):
        return norm.pdf(z, mu, sigma) * (norm.logpdf(z, mu, sigma) - norm.logpdf(z))

    return quad(integrand, mu - 12 * sigma, mu + 12 * sigma)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Sampling
# ---------------------------------------------------------------------------------------------------------------------


def test_draws_have_mean_mu_and_variance_exp_log_var():
    mu, log_var = np.array([1.0, -2.0, 0.0]), np.log([4.0, 0.25, 1.0])
    many = [np.tile(part, (100_000, 1)).astype("float32") for part in (mu, log_var)]
    z = numbers(Sampling(seed=0)(many))
    assert z.mean(axis=0) == pytest.approx(mu, abs=0.03)
    assert z.var(axis=0) == pytest.approx(np.exp(log_var), rel=0.03)
    assert np.abs(np.corrcoef(z.T) - np.eye(3)).max() < 0.02


def test_draws_are_fresh_and_follow_the_seed(x):
    layer = Sampling(seed=3)
    first, second = numbers(layer([x, x])), numbers(layer([x, x]))
    assert not np.allclose(first, second)
    again = Sampling.from_config(layer.get_config())
    assert np.array_equal(first, numbers(again([x, x])))
    assert not np.allclose(first, numbers(Sampling(seed=4)([x, x])))


def test_gradient_passes_the_draw():
    """One step of descent on the mean of z moves mu by the gradient 1, and log_var by σ ε / 2."""
    inputs = keras.Input((1,))
    mu = keras.layers.Dense(1, kernel_initializer="zeros", name="mu")(inputs)
    log_var = keras.layers.Dense(
        1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(np.log(4)), name="log_var"
    )(inputs)
    model = keras.Model(inputs, Sampling(seed=5)([mu, log_var]))
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=lambda y, z: keras.ops.mean(z, axis=-1))
    ones, zeros = np.ones((50, 1), "float32"), np.zeros((50, 1), "float32")
    epsilon = numbers(Sampling(seed=5)([zeros, zeros]))
    model.fit(ones, ones, batch_size=50, epochs=1, shuffle=False, verbose=0)
    assert float(model.get_layer("mu").bias[0]) == pytest.approx(-1, rel=1e-5)
    moved = float(model.get_layer("log_var").bias[0]) - np.log(4)
    assert moved == pytest.approx(-epsilon.mean(), rel=1e-3)  # σ / 2 is 1


# ---------------------------------------------------------------------------------------------------------------------
# KL
# ---------------------------------------------------------------------------------------------------------------------


def test_kl_is_the_integral_summed_over_latents(rng):
    mu, log_var = rng.normal(size=(4, LATENTS)), rng.normal(size=(4, LATENTS))
    kl = numbers(kl_to_standard_normal(mu, log_var))
    expected = [sum(map(kl_by_integration, *row)) for row in zip(mu, log_var, strict=True)]
    assert kl.shape == (4,)
    assert kl == pytest.approx(expected, rel=1e-4)


def test_kl_is_zero_for_the_prior_and_doubles_with_the_latents(rng):
    assert numbers(kl_to_standard_normal(np.zeros((2, 5)), np.zeros((2, 5)))) == pytest.approx(0, abs=1e-7)
    mu, log_var = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    once = numbers(kl_to_standard_normal(mu, log_var))
    twice = numbers(kl_to_standard_normal(np.tile(mu, 2), np.tile(log_var, 2)))
    assert twice == pytest.approx(2 * once, rel=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------------------


def test_networks_have_the_layers_asked_for():
    encoder, decoder = build_vae_networks([30, 20], 4)
    mu, log_var = encoder(np.zeros((5, 784), "float32"))
    assert mu.shape == log_var.shape == (5, 4)
    assert decoder(mu).shape == (5, 784)
    assert encoder.count_params() == 784 * 30 + 30 + 30 * 20 + 20 + 2 * (20 * 4 + 4)
    assert decoder.count_params() == 4 * 20 + 20 + 20 * 30 + 30 + 30 * 784 + 784


def test_networks_have_the_activation_asked_for(x):
    sizes = ([30, 20], 4, PIXELS)
    smooth, plain = build_vae_networks(*sizes, activation="silu"), build_vae_networks(*sizes)
    for same, other in zip(plain, smooth, strict=True):
        other.set_weights(same.get_weights())
    assert np.abs(numbers(smooth[0](x)[0]) - numbers(plain[0](x)[0])).max() > 1e-3
    assert plain[1].layers[0].activation is keras.activations.relu


def test_networks_start_with_small_clouds_and_can_give_any_sign(rng, x):
    encoder, _ = build_vae_networks([9], LATENTS, PIXELS)
    log_var = numbers(encoder(0 * x)[1])
    assert log_var == pytest.approx(-3)
    outputs = [numbers(part) for part in networks(rng)[0](x)]
    assert all(part.min() < 0 < part.max() for part in outputs)


def test_pixels_lie_between_0_and_1(rng):
    pixels = numbers(networks(rng)[1](10 * rng.normal(size=(50, LATENTS)).astype("float32")))
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels.sum(axis=1).max() > 1.5


# ---------------------------------------------------------------------------------------------------------------------
# VAE
# ---------------------------------------------------------------------------------------------------------------------


def test_evaluate_is_what_one_computes_by_hand(rng, x):
    """Without noise, and in batches of unequal size."""
    encoder, decoder = networks(rng)
    without_noise(encoder)
    vae = VAE(encoder, decoder, beta=0.3)
    vae.compile(optimizer="sgd")
    result = vae.evaluate(x, batch_size=3, verbose=0, return_dict=True)
    mu, log_var = (numbers(part).astype("float64") for part in encoder(x))
    reconstruction = PIXELS * bce(x, numbers(decoder(mu)))
    kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=1).mean()
    assert result["reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
    assert result["kl"] == pytest.approx(kl, rel=1e-5)
    assert result["loss"] == pytest.approx(reconstruction + 0.3 * kl, rel=1e-5)


def test_loss_takes_a_draw_of_each_code(rng, x):
    encoder, decoder = networks(rng)
    vae = VAE(encoder, decoder, seed=8)
    loss = float(vae.compute_loss(x))
    mu, log_var = encoder(x)
    z = Sampling(seed=8)([mu, log_var])
    by_hand = PIXELS * bce(x, numbers(decoder(z))) + numbers(kl_to_standard_normal(mu, log_var)).mean()
    assert loss == pytest.approx(by_hand, rel=1e-5)
    assert float(vae.compute_loss(x)) != loss


def test_evaluate_draws_too(rng, x):
    vae = VAE(*networks(rng))
    vae.compile(optimizer="sgd")
    first, second = (vae.evaluate(x, verbose=0, return_dict=True) for _ in range(2))
    assert first["reconstruction"] != second["reconstruction"]
    assert first["kl"] == pytest.approx(second["kl"], rel=1e-6)


def test_repeating_the_batch_changes_nothing(rng, x):
    encoder, decoder = networks(rng)
    without_noise(encoder)
    vae = VAE(encoder, decoder)
    assert float(vae.compute_loss(np.tile(x, (5, 1)))) == pytest.approx(float(vae.compute_loss(x)), rel=1e-5)


def test_call_reconstructs_from_the_mean_and_draws_in_training(rng, x):
    encoder, decoder = networks(rng)
    vae = VAE(encoder, decoder)
    from_mean = numbers(decoder(encoder(x)[0]))
    assert numbers(vae(x)) == pytest.approx(from_mean, abs=1e-6)
    assert vae.predict(x, verbose=0) == pytest.approx(from_mean, abs=1e-6)
    assert np.abs(numbers(vae(x, training=True)) - from_mean).max() > 0.01


@pytest.mark.slow
def test_fit_learns_and_reports_its_parts(rng):
    keras.utils.set_random_seed(0)
    x = np.repeat(rng.integers(0, 2, size=(4, PIXELS)), 100, axis=0).astype("float32")
    vae = VAE(*build_vae_networks([16], 2, PIXELS))
    vae.compile(optimizer=keras.optimizers.Adam(0.02))
    history = vae.fit(x, validation_data=(x[::5], None), batch_size=50, epochs=15, verbose=0).history
    assert set(history) == {a + b for a in ("", "val_") for b in ("loss", "reconstruction", "kl")}
    lazy = PIXELS * bce(x, np.broadcast_to(x.mean(axis=0), x.shape))
    assert history["val_loss"][-1] < 0.8 * lazy
    total = history["val_reconstruction"][-1] + history["val_kl"][-1]
    assert history["val_loss"][-1] == pytest.approx(total, rel=1e-5)


def test_saved_model_is_the_same(rng, x, tmp_path):
    vae = VAE(*networks(rng), beta=2.0, seed=6)
    vae(x)
    vae.beta.assign(0.25)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert type(loaded).__name__ == "VAE"  # in one session with the notebooks there are several classes of that name
    assert np.array_equal(vae.predict(x, verbose=0), loaded.predict(x, verbose=0))
    assert float(loaded.beta) == 0.25
    again = VAE.from_config(vae.get_config())
    assert again.sampling.seed == 6
    assert [w.shape for w in again.encoder.get_weights()] == [w.shape for w in vae.encoder.get_weights()]


# ---------------------------------------------------------------------------------------------------------------------
# Bounds
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mean_weight_is_the_elbo(rng, x):
    encoder, decoder = networks(rng)
    draws = log_weights(VAE(encoder, decoder), x, 4000, seed=1)
    assert draws.shape == (7, 4000)
    assert iwae_bound(draws, 1) == pytest.approx(draws.mean(axis=1))
    mu, log_var = (np.repeat(numbers(part), 4000, axis=0) for part in encoder(x))
    z = mu + np.exp(log_var / 2) * rng.normal(size=mu.shape)
    x_hat = numbers(decoder(z.astype("float32"))).reshape(7, 4000, PIXELS).astype("float64")
    x_hat = np.clip(x_hat, 1e-7, 1 - 1e-7)
    pictures = x[:, np.newaxis]
    likelihood = (pictures * np.log(x_hat) + (1 - pictures) * np.log(1 - x_hat)).sum(axis=2)
    elbo = likelihood.mean(axis=1) - numbers(kl_to_standard_normal(*encoder(x)))
    error = np.sqrt((draws.var(axis=1) + likelihood.var(axis=1)) / 4000)
    assert np.all(np.abs(draws.mean(axis=1) - elbo) < 4.5 * error)


@pytest.mark.slow
def test_bound_grows_to_the_exact_likelihood(rng, x):
    """With one latent the integral over all codes can be done on a grid."""
    encoder, decoder = networks(rng, latent=1)
    z = np.linspace(-9, 9, 20_001)
    x_hat = numbers(decoder(z[:, np.newaxis].astype("float32"))).astype("float64")
    x_hat = np.clip(x_hat, 1e-7, 1 - 1e-7)
    log_likelihood = np.log(x_hat) @ x.T + np.log(1 - x_hat) @ (1 - x.T)
    exact = np.log(np.sum(np.exp(log_likelihood) * norm.pdf(z)[:, np.newaxis], axis=0) * (z[1] - z[0]))
    draws = log_weights(VAE(encoder, decoder), x, 4096, seed=2)
    bounds = np.array([iwae_bound(draws, k) for k in (1, 4, 64, 4096)])
    assert np.all(np.diff(bounds, axis=0) >= 0)
    assert bounds[-1].mean() == pytest.approx(exact.mean(), abs=0.1)
    assert bounds[0].mean() < exact.mean() - 0.1


def test_bound_of_weights_known_by_hand():
    log_w = np.log([[1.0, 3.0, 2.0, 6.0]])
    assert iwae_bound(log_w, 2) == pytest.approx([(np.log(2) + np.log(4)) / 2])
    assert iwae_bound(log_w, 4) == pytest.approx([np.log(3)])
    assert iwae_bound(log_w - 2000, 4) == pytest.approx([np.log(3) - 2000])


def test_bound_refuses_groups_that_do_not_fit():
    with pytest.raises(ValueError, match="10 samples"):
        iwae_bound(np.zeros((2, 10)), 4)


def test_weights_of_own_clouds(rng, x):
    """Clouds of one's own take the place of the encoder's, and a cloud far away from the posterior has a lower ELBO."""
    vae = VAE(*networks(rng))
    clouds = vae.encoder(x)
    assert log_weights(vae, x, 3, seed=4, clouds=clouds) == pytest.approx(log_weights(vae, x, 3, seed=4))
    far = log_weights(vae, x, 50, seed=4, clouds=(clouds[0] + 9.0, clouds[1]))
    assert far.mean() < log_weights(vae, x, 50, seed=4).mean() - 10


# ---------------------------------------------------------------------------------------------------------------------
# The aggregate posterior
# ---------------------------------------------------------------------------------------------------------------------


def test_aggregate_is_the_mean_of_the_clouds_densities(rng):
    z, mu, log_var = rng.normal(size=(5, 2)), rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    densities = norm.pdf(z[:, np.newaxis], mu, np.exp(log_var / 2)).prod(axis=2)
    assert log_aggregate(z, mu, log_var) == pytest.approx(np.log(densities.mean(axis=1)))


def test_aggregate_of_the_prior_is_the_prior(rng):
    z = rng.normal(size=(6, 3))
    assert log_aggregate(z, np.zeros((4, 3)), np.zeros((4, 3))) == pytest.approx(norm.logpdf(z).sum(axis=1))


# ---------------------------------------------------------------------------------------------------------------------
# Networks that learn at the same time, for the stored curves
# ---------------------------------------------------------------------------------------------------------------------

KINDS = [Kind(0.001), autoencoder(0.001), Kind(0.001, beta=2.0, free_nats=0.5)]


@pytest.fixture
def stack():
    keras.utils.set_random_seed(0)
    return StackedVAEs(KINDS, PIXELS, hidden=[9], latent=LATENTS)


def same_vae(stack, place):
    """The network of a stack as a model of the lesson."""
    encoder, decoder = build_vae_networks([9], LATENTS, PIXELS, activation="silu")

    def of(layer):
        return [numbers(layer.kernel)[place], numbers(layer.bias)[place, 0]]

    hidden, last = stack.encoder_layers[0], stack.decoder_layers[0]
    encoder.set_weights([*of(hidden), *of(stack.mu_layer), *of(stack.log_var_layer)])
    decoder.set_weights([*of(last), *of(stack.logits_layer)])
    return VAE(encoder, decoder)


def with_hardly_any_noise(stack):
    stack.log_var_layer.bias.assign(stack.log_var_layer.bias - 57)


def test_each_network_of_a_stack_is_a_vae_of_the_lesson(stack, x):
    with_hardly_any_noise(stack)
    for place, result in enumerate(measure_stack(stack, x, batch_size=3)):
        vae = same_vae(stack, place)
        vae.compile()
        expected = vae.evaluate(x, verbose=0, return_dict=True)
        assert result["distortion"] == pytest.approx(expected["reconstruction"], rel=1e-4)
        assert result["rate"] == pytest.approx(expected["kl"], rel=1e-4)
        assert result["mse"] == pytest.approx(np.mean((x - vae.predict(x, verbose=0)) ** 2), rel=1e-4)


def test_loss_of_a_stack_adds_up_each_networks_own(stack, x):
    with_hardly_any_noise(stack)
    expected = 0
    for place, kind in enumerate(KINDS):
        vae = same_vae(stack, place)
        mu, log_var = (numbers(part) for part in vae.encoder(x))
        kl = (mu**2 + np.exp(log_var) - 1 - log_var).mean(axis=0) / 2
        expected += PIXELS * bce(x, vae.predict(x, verbose=0)) + kind.beta * np.maximum(kl, kind.free_nats).sum()
    assert float(stack.compute_loss(x)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_networks_in_a_stack_learn_and_weights_of_zero_switch_their_part_off(rng):
    keras.utils.set_random_seed(0)
    x = np.repeat(rng.integers(0, 2, size=(4, PIXELS)), 50, axis=0).astype("float32")
    kinds = [Kind(0.02), autoencoder(0.02), Kind(0.02, beta=1000.0), Kind(0.0)]
    model = train_stack(kinds, x, hidden=[16], latent=2, epochs=20, batch_size=20)
    vae, plain, silent, untrained = measure_stack(model, x)
    assert plain["bce"] < vae["bce"] < untrained["bce"]
    assert vae["distortion"] + vae["rate"] < 0.9 * silent["distortion"]
    assert silent["rate"] < 0.05


def test_rates_and_weights_are_compared_on_validation_digits(monkeypatch):
    seen = []
    result = dict.fromkeys(("distortion", "rate", "active", "sigma", "mse", "bce"), 1.0)

    def training(kinds, x, **settings):
        seen.append(("trained", len(x), len(kinds), settings["epochs"]))
        return len(kinds)

    def score(model, x):
        seen.append(("scored", len(x)))
        return [result] * model

    curve = {"x": list(stacked_vaes.RATES), "mean": {"VAE, −ELBO": [3, 2, 1, 2, 3]}}
    replacements = {"train_stack": training, "measure_stack": score, "load_curve": lambda name: curve}
    for name, replacement in replacements.items():
        monkeypatch.setattr(stacked_vaes, name, replacement)
    measure = [function.__wrapped__ for function in (stacked_vaes.measure_rates, stacked_vaes.measure_betas)]
    assert measure[0](3)[0.002]["VAE, −ELBO"] == 2
    assert measure[1](8)[5.0]["−ELBO, free bits"] == 2
    assert stacked_vaes.best_rate("VAE, −ELBO") == 0.002
    expected = [("trained", 55_000, 10, 60), ("scored", 5_000), ("trained", 55_000, 18, 40), ("scored", 5_000)]
    assert seen == expected


def test_only_the_autoencoder_of_a_stack_is_free_of_noise(stack, x):
    mu, log_var = (numbers(part) for part in stack.encode(x[np.newaxis]))
    noise = np.abs(numbers(stack.draw(mu, log_var)) - mu).max(axis=(1, 2))
    assert noise[1] == pytest.approx(0)
    assert noise[[0, 2]].min() > 0.1


def test_the_mixture_of_the_rival_sees_as_many_codes_as_that_of_the_vae():
    cells = cell_sources("06")
    rng, seen = np.random.default_rng(0), []

    class Encoder:
        def predict(self, x, **settings):
            seen.append(len(x))
            return rng.normal(size=(len(x), 3))

    namespace = {"np": np, "rng": rng, "x_train": np.zeros((55_000, 1)), "plain20_encoder": Encoder()}
    exec("from sklearn.mixture import GaussianMixture\n" + cells["mixture-fit"], namespace)
    assert seen == [10_000]
    assert "encoder(x_train[:10_000])" in cells["rivals-draw"]
