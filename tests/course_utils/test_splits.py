"""What learns from data refuses test digits in every disguise, and nothing else."""

import numpy as np
import pytest

from course_utils import evaluation
from course_utils.backend import keras
from course_utils.data import load_fashion_mnist, load_mnist
from course_utils.splits import TestDigitsError, count_test_digits, refuse_test_digits
from course_utils.training import train


@pytest.fixture(scope="module")
def mnist():
    return load_mnist(flat=True)


def gray(x):
    return np.rint(255 * x)


def noisy(x):
    return x + np.random.default_rng(0).normal(0, 0.5, x.shape).astype("float32")


DISGUISES = {
    "flat": (lambda train, test: test, 1000),
    "pictures": (lambda train, test: test.reshape(-1, 28, 28, 1), 1000),
    "shuffled": (lambda train, test: np.random.default_rng(0).permutation(test), 1000),
    "in part": (lambda train, test: test[7:20], 13),
    "mixed": (lambda train, test: np.concatenate([train[:50], test[:3], train[50:90]]), 3),
    "beside noise": (lambda train, test: np.concatenate([noisy(train[:30]), test[:7]]), 7),
    "beside gray values": (lambda train, test: np.concatenate([gray(train[:30]), test[:7]]), 7),
    "one": (lambda train, test: np.concatenate([train[:50], test[42:43]]), 1),
    "double precision": (lambda train, test: test.astype("float64"), 1000),
    "half precision": (lambda train, test: test.astype("float16"), 1000),
    "gray values": (lambda train, test: gray(test), 1000),
    "bytes": (lambda train, test: gray(test).astype("uint8"), 1000),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_test_digits_are_counted_in_every_disguise(name, mnist):
    disguise, count = DISGUISES[name]
    (x_train, _), _, (x_test, _) = mnist
    assert count_test_digits(disguise(x_train, x_test[:1000])) == count


def test_no_other_picture_is_taken_for_a_test_digit(mnist):
    (x_train, y_train), (x_val, _), (x_test, _) = mnist
    garments, _ = load_fashion_mnist(flat=True)
    noise = np.random.default_rng(0).normal(size=(100, 784))
    others = [x_train, x_val, garments, x_test[:, ::-1], x_test[:, :400], y_train, noise, np.zeros((5, 784)), None, 3.5]
    assert [count_test_digits(other) for other in [*others, np.full((2, 784), np.nan), x_test[:0]]] == [0] * 12


@pytest.fixture
def learners(mnist):
    """Everything of the helper that learns from data, as functions of the data and of keyword arguments."""
    (x_train, _), _, _ = mnist

    def fit(x, y, validation=None, **arguments):
        model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(2), keras.layers.Dense(784)])
        return train(model, x, y, validation_data=validation, loss="mse", epochs=1, **arguments)

    return {
        "inputs": lambda x, **more: fit(x, np.zeros_like(x), **more),
        "targets": lambda x, **more: fit(np.zeros_like(x), x, **more),
        "validation": lambda x, **more: fit(x_train[:20], x_train[:20], (x, x), **more),
        "PCA": lambda x, **more: evaluation.fit_pca(x, 2, **more),
        "mean": lambda x, **more: evaluation.mean_image(x, 3, **more),
    }


@pytest.mark.parametrize("name", ["inputs", "targets", "validation", "PCA", "mean"])
@pytest.mark.usefixtures("eagerly")
def test_whatever_learns_refuses_test_digits_and_says_how_many_and_why(name, learners, mnist, capsys):
    (x_train, _), _, (x_test, _) = mnist
    leaking = np.concatenate([x_train[:30], x_test[:10]])
    with pytest.raises(TestDigitsError, match=r"10 of 40 examples are test digits.*can no longer be judged"):
        learners[name](leaking)
    assert capsys.readouterr().out == ""
    learners[name](leaking, allow_test_digits=True)
    learners[name](leaking[:30])


def test_nested_inputs_are_searched_too(mnist):
    _, (x_val, y_val), (x_test, _) = mnist
    refuse_test_digits("data", {"x": x_val, "y": y_val}, None, [x_val])
    with pytest.raises(TestDigitsError, match="data: 5,000 of 5,000"):
        refuse_test_digits("data", {"y": y_val, "x": x_val}, [x_test[:5000]])
