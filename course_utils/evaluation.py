"""What "good" means: error measures, and the trivial baselines that every model has to beat."""

import numpy as np
from scipy.special import entr
from sklearn.decomposition import PCA

from course_utils.backend import keras
from course_utils.data import read_verified
from course_utils.splits import refuse_test_digits

JUDGE_FILE = "judge.npz"


def mse(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Mean squared error over all pixels of all images; `x` and `x_hat` have the same shape `(n, ...)`.

    Raises:
        ValueError: the shapes differ (broadcasting would compare every image with every other).
    """
    _require_same_shape(x, x_hat)
    return float(np.mean(np.square(x - x_hat), dtype=np.float64))


def bce(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Binary cross-entropy −x·log x̂ − (1−x)·log(1−x̂) in nats, mean over all pixels of all images.

    Args:
        x: pixels in [0, 1], shape `(n, ...)`.
        x_hat: predicted pixels of the same shape; clipped to [1e-7, 1 − 1e-7] as Keras does.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(x, x_hat)
    x_hat = np.clip(x_hat, 1e-7, 1 - 1e-7)
    return float(np.mean(-x * np.log(x_hat) - (1 - x) * np.log1p(-x_hat), dtype=np.float64))


def bce_floor(x: np.ndarray) -> float:
    """The lowest binary cross-entropy that any reconstruction of the gray pixels `x` can have, in nats per pixel.

    It is the pixels' own entropy −x·log x − (1−x)·log(1−x), reached by x̂ = x; only for black and white pixels is it zero.

    Args:
        x: pixels in [0, 1], any shape.

    Raises:
        ValueError: a pixel lies outside [0, 1].
    """
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"expected pixels in [0, 1], but they reach from {x.min():.4g} to {x.max():.4g}.")
    return float(np.mean(entr(x) + entr(1 - x), dtype=np.float64))


def psnr(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels, 10·log₁₀(1 / MSE) of each image with peak value 1, mean over the images.

    Args:
        x: images in [0, 1], shape `(n, ...)`.
        x_hat: their reconstructions, the same shape. An image without any error makes the mean infinite.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(x, x_hat)
    error = np.mean(np.square(x - x_hat).reshape(len(x), -1), axis=1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return float(np.mean(-10 * np.log10(error)))


def mean_image(x_train: np.ndarray, n: int, *, allow_test_digits: bool = False) -> np.ndarray:
    """The laziest reconstruction: the mean training image, for each of `n` images; shape `(n, ...)`.

    Raises:
        TestDigitsError: MNIST's test digits are in `x_train`, and `allow_test_digits` does not say that this is meant.
    """
    if not allow_test_digits:
        refuse_test_digits("mean_image", x_train)
    return np.broadcast_to(x_train.mean(axis=0), (n, *x_train.shape[1:]))


def fit_pca(x_train: np.ndarray, n_components: int, *, allow_test_digits: bool = False) -> PCA:
    """Principal component analysis of flat images `(n, pixels)` by scikit-learn, through the covariance matrix.

    The components come in the order of falling variance, so one fit with the largest number serves every smaller one.

    Raises:
        TestDigitsError: MNIST's test digits are in `x_train`, and `allow_test_digits` does not say that this is meant.
    """
    if not allow_test_digits:
        refuse_test_digits("fit_pca", x_train)
    return PCA(n_components=n_components, svd_solver="covariance_eigh").fit(x_train)


def reconstruct_pca(pca: PCA, x: np.ndarray, n_components: int | None = None) -> np.ndarray:
    """Project flat images `(n, pixels)` on the first `n_components` principal axes (default: all that were fitted).

    Returns:
        The reconstruction, same shape as `x`: the best one by squared error among all linear codes of that size.

    Raises:
        ValueError: more components are asked for than were fitted.
    """
    fitted = len(pca.components_)
    n_components = fitted if n_components is None else n_components
    if not 1 <= n_components <= fitted:
        raise ValueError(
            f"n_components is {n_components}; this PCA was fitted with {fitted}, so 1 to {fitted} are possible."
        )
    axes = pca.components_[:n_components]
    return (x - pca.mean_) @ axes.T @ axes + pca.mean_


def relative_shift(before: np.ndarray, after: np.ndarray, others: np.ndarray) -> float:
    """Mean distance between pictures or codes `before` and `after` a disturbance, as a share of that to another one.

    The share does not change when a code is multiplied by a number, so codes of different models can be compared.

    Args:
        before: shape `(n, ...)`.
        after: the same examples, disturbed, the same shape.
        others: other examples, the same shape, such as `rng.permutation(before)`.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(before, after)
    _require_same_shape(before, others)

    def distance(other: np.ndarray) -> float:
        return np.linalg.norm((before - other).reshape(len(before), -1), axis=1).mean()

    return float(distance(after) / distance(others))


def build_judge() -> keras.Model:
    """The untrained digit classifier that judges denoised and generated digits: pictures to ten probabilities.

    Three convolutions with batch normalization, each followed by pooling, then the layer `"features"` of 64 numbers and a
    softmax. `tools/author/train_judge.py` trains it once for the course; lessons take it from `load_judge`.
    """
    layers = keras.layers
    judge = keras.Sequential([keras.Input((28, 28, 1))], name="judge")
    for n_filters, size in [(24, 5), (48, 3), (64, 3)]:
        judge.add(layers.Conv2D(n_filters, size, padding="same", use_bias=False))
        judge.add(layers.BatchNormalization())
        judge.add(layers.ReLU())
        judge.add(layers.MaxPooling2D())
    judge.add(layers.Flatten())
    judge.add(layers.Dropout(0.3))
    judge.add(layers.Dense(64, activation="relu", name="features"))
    judge.add(layers.Dense(10, activation="softmax", name="digits"))
    return judge


def load_judge() -> keras.Model:
    """The judge of the course: a fixed classifier trained on the 55,000 training digits, never on generated ones.

    It is the same for every seed and backend. Its weights come from the file `judge.npz` in the package, whose digest is
    verified. It is not trainable, so that it can stand inside another model.

    Returns:
        A Keras model from pictures in [0, 1] of shape `(n, 28, 28, 1)` to the probabilities `(n, 10)` of the ten digits.

    Raises:
        DataFileError: the file in the package is missing or was changed.
    """
    judge = build_judge()
    arrays = read_verified(JUDGE_FILE)
    judge.set_weights([arrays[name] for name in sorted(arrays)])
    judge.trainable = False
    return judge


def judge_accuracy(judge: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Share of the pictures that the judge reads as the digit they are meant to be, between 0 and 1.

    Args:
        judge: from `load_judge`.
        x: pictures in [0, 1], shape `(n, 28, 28, 1)` or flat `(n, 784)`.
        y: the digits, integers 0…9 of shape `(n,)`.

    Raises:
        ValueError: the numbers of pictures and digits differ, there is none, or the pictures have another size.
    """
    x, y = np.asarray(x), np.asarray(y)
    if len(x) != len(y) or len(x) == 0 or y.ndim != 1:
        raise ValueError(f"expected one digit per picture; the shapes are {x.shape} and {y.shape}.")
    if x.shape[1:] not in ((784,), (28, 28), (28, 28, 1)):
        raise ValueError(f"expected pictures of 28×28 or 784 pixels, but the shape is {x.shape}.")
    probabilities = judge.predict(x.reshape(-1, 28, 28, 1), batch_size=500, verbose=0)
    return float(np.mean(probabilities.argmax(axis=1) == y))


def _require_same_shape(x: np.ndarray, x_hat: np.ndarray) -> None:
    if x.shape != x_hat.shape:
        raise ValueError(f"x has the shape {x.shape} and x_hat {x_hat.shape}; they must be equal.")
