"""Every measure agrees with a computation of another kind, and refuses what it cannot measure."""

import re

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.decomposition import PCA

from course_utils import evaluation
from course_utils.backend import keras


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def flat_images(rng):
    """Images with a few strong directions, a weak one in each remaining, and a mean that is not zero."""
    codes = rng.normal(size=(200, 6)) * [5, 4, 3, 2, 1, 0.5]
    return codes @ rng.normal(size=(6, 12)) + 0.1 * rng.normal(size=(200, 12)) + 3


@pytest.mark.parametrize("shape", [(5, 12), (5, 4, 4, 1)])
def test_mse_and_bce_equal_those_of_keras(shape, rng):
    x = rng.uniform(size=shape).astype("float32")
    x_hat = rng.uniform(0.01, 0.99, size=shape).astype("float32")
    assert evaluation.mse(x, x_hat) == pytest.approx(float(keras.ops.mean(keras.losses.mean_squared_error(x, x_hat))))
    assert evaluation.bce(x, x_hat) == pytest.approx(
        float(keras.ops.mean(keras.losses.binary_crossentropy(x, x_hat))), rel=1e-5
    )


def test_mse_of_a_known_error():
    x = np.zeros((2, 3))
    assert evaluation.mse(x, np.array([[0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])) == pytest.approx(9 / 6)


def test_bce_of_a_case_done_by_hand():
    x = np.array([[1.0, 0.0, 0.25]])
    x_hat = np.array([[0.5, 0.5, 0.75]])
    expected = (np.log(2) + np.log(2) - 0.25 * np.log(0.75) - 0.75 * np.log(0.25)) / 3
    assert evaluation.bce(x, x_hat) == pytest.approx(expected)


def test_bce_of_a_certain_and_wrong_prediction_is_finite():
    x, x_hat = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    assert evaluation.bce(x, x_hat) == pytest.approx(-np.log(1e-7))


def test_the_floor_is_the_mean_entropy_of_the_pixels(rng):
    x = rng.uniform(size=(4, 7))
    assert evaluation.bce_floor(x) == pytest.approx(float(np.mean(entropy([x, 1 - x], axis=0))))


def test_the_floor_is_reached_by_the_images_and_by_nothing_else(rng):
    x = rng.uniform(0.01, 0.99, size=(4, 7))
    floor = evaluation.bce_floor(x)
    assert floor == pytest.approx(evaluation.bce(x, x))
    assert floor < evaluation.bce(x, x + 0.005)
    assert floor < evaluation.bce(x, x - 0.005)


def test_the_floor_of_black_and_white_images_is_zero(rng):
    assert evaluation.bce_floor((rng.uniform(size=(4, 7)) > 0.5).astype("float32")) == 0


@pytest.mark.parametrize("wrong", [-0.01, 1.01, 255.0])
def test_the_floor_refuses_pixels_outside_the_unit_interval(wrong):
    with pytest.raises(ValueError, match=rf"in \[0, 1\].*{wrong:.4g}"):
        evaluation.bce_floor(np.array([0.5, wrong]))


@pytest.mark.parametrize(("error", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0)])
def test_psnr_of_a_known_error(error, decibels):
    x = np.full((3, 28, 28, 1), 0.5)
    assert evaluation.psnr(x, x + error) == pytest.approx(decibels)


def test_psnr_is_averaged_over_the_images_and_not_over_the_errors():
    x = np.zeros((2, 4, 4, 1))
    x_hat = np.stack([np.full((4, 4, 1), 0.1), np.full((4, 4, 1), 0.01)])
    assert evaluation.psnr(x, x_hat) == pytest.approx((20 + 40) / 2)


def test_psnr_of_an_image_without_error_is_infinite_and_warns_of_nothing(recwarn):
    x = np.ones((2, 4))
    assert evaluation.psnr(x, x) == np.inf
    assert len(recwarn) == 0


@pytest.mark.parametrize("shape", [(3, 1), (4,), (3, 2, 2)])
@pytest.mark.parametrize("measure", [evaluation.mse, evaluation.bce, evaluation.psnr])
def test_measures_refuse_different_shapes(measure, shape):
    with pytest.raises(ValueError, match=rf"\(3, 4\).*{re.escape(str(shape))}.*equal"):
        measure(np.full((3, 4), 0.5), np.full(shape, 0.5))


def test_the_mean_image_is_the_best_of_all_constant_reconstructions(rng):
    x_train = rng.uniform(size=(50, 2, 2, 1))
    constant = evaluation.mean_image(x_train, 50)
    assert constant.shape == (50, 2, 2, 1)
    assert (constant == constant[0]).all()
    assert evaluation.mse(x_train, constant) == pytest.approx(float(np.mean(np.var(x_train, axis=0))))


def test_pca_reconstruction_equals_that_of_scikit_learn(flat_images):
    pca = evaluation.fit_pca(flat_images[:150], 4)
    expected = pca.inverse_transform(pca.transform(flat_images))
    np.testing.assert_allclose(evaluation.reconstruct_pca(pca, flat_images), expected, atol=1e-10)


@pytest.mark.parametrize("n_components", [1, 3, 5])
def test_fewer_components_give_what_a_fresh_pca_of_that_size_gives(n_components, flat_images):
    large = evaluation.fit_pca(flat_images, 5)
    fresh = PCA(n_components, svd_solver="full").fit(flat_images)
    np.testing.assert_allclose(
        evaluation.reconstruct_pca(large, flat_images, n_components),
        fresh.inverse_transform(fresh.transform(flat_images)),
        atol=1e-8,
    )


def test_the_error_of_pca_falls_with_every_component(flat_images):
    pca = evaluation.fit_pca(flat_images, 12)
    errors = [evaluation.mse(flat_images, evaluation.reconstruct_pca(pca, flat_images, n)) for n in range(1, 13)]
    assert np.all(np.diff(errors) < 0)
    assert errors[-1] == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("n_components", [0, -1, 6])
def test_a_number_of_components_that_was_not_fitted_is_refused(n_components, flat_images):
    pca = evaluation.fit_pca(flat_images, 5)
    with pytest.raises(ValueError, match=rf"n_components is {n_components};.*1 to 5"):
        evaluation.reconstruct_pca(pca, flat_images, n_components)


def test_relative_shift_is_a_ratio_of_mean_distances_whatever_the_scale():
    before = np.zeros((2, 1, 2))
    after = np.array([[[3.0, 4.0]], [[0.0, 1.0]]])  # distances 5 and 1
    others = np.array([[[0.0, 6.0]], [[6.0, 0.0]]])
    assert evaluation.relative_shift(before, after, others) == pytest.approx(0.5)
    assert evaluation.relative_shift(7 * before, 7 * after, 7 * others) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="must be equal"):
        evaluation.relative_shift(before, after[:1], others)
    with pytest.raises(ValueError, match="must be equal"):
        evaluation.relative_shift(before, after, others[:, 0])
