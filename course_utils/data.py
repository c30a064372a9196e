"""MNIST and the Fashion-MNIST test images, read from files inside the package: no download, ever.

Every file is compared with its SHA-256 digest before it is opened, so a damaged copy cannot train a model unnoticed.
Where the files come from and under which licenses they are used is written in `data_files/README.md`.
"""

import hashlib
import io

import numpy as np

from course_utils import PACKAGE_FOLDER

DATA_FOLDER = PACKAGE_FOLDER / "data_files"

# The digest of each data file; `tools/author/make_data.py` and `tools/author/train_judge.py` print it when they build the file.
SHA256 = {
    "mnist.npz": "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",
    "fashion_mnist_test.npz": "40cc5f7c7185a3f578d2e072deede39bcb9b9eedb4b716e70d55777fd0a88138",
    "judge.npz": "783d57dff5d71e1b81255a3749d82847f3ef8105fd5b6a69f101e22e653f8c51",
}

# The last 5,000 of the 60,000 training images are for validation (choosing epochs, sizes, learning rates).
N_VALIDATION = 5_000

FASHION_NAMES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

Split = tuple[np.ndarray, np.ndarray]


class DataFileError(RuntimeError):
    """A data file of the course is missing or is not the file that the course was built with."""


def read_verified(name: str, *keys: str) -> dict[str, np.ndarray]:
    """Read the arrays `keys`, or all, of the data file `name` after comparing the file with its SHA-256 digest.

    Raises:
        DataFileError: the file is missing, cannot be read, or its digest differs. The message names the file, says what
            is wrong and what to do.
    """
    path = DATA_FOLDER / name
    remedy = "restore it with `git checkout -- course_utils/data_files`, or install the course again"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataFileError(f"The data file {path} is missing: {remedy}.") from None
    except OSError as error:
        raise DataFileError(f"The data file {path} cannot be read ({error.strerror}): {remedy}.") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise DataFileError(
            f"The data file {path} is damaged or was changed ({len(content):,} bytes with SHA-256 {digest[:12]}…, "
            f"expected {SHA256[name][:12]}…): {remedy}."
        )
    # The verified bytes themselves are opened, not the file again.
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in keys or arrays.files}


def _to_float(images: np.ndarray, flat: bool) -> np.ndarray:
    """Gray values 0…255 of shape `(n, 28, 28)` to float32 in [0, 1], `(n, 28, 28, 1)` or `(n, 784)`."""
    scaled = np.divide(images, np.float32(255), dtype=np.float32)
    return scaled.reshape(len(images), -1) if flat else scaled[..., np.newaxis]


def load_mnist(flat: bool = False) -> tuple[Split, Split, Split]:
    """Load the 70,000 handwritten digits of MNIST.

    Args:
        flat: give each image as one row of 784 numbers instead of a 28×28 picture with one channel.

    Returns:
        `(x_train, y_train), (x_val, y_val), (x_test, y_test)` with 55,000, 5,000 and 10,000 digits. The images `x` are
        float32 in [0, 1] (0 is background, 1 is ink) of shape `(n, 28, 28, 1)`, or `(n, 784)` with `flat=True`; the
        labels `y` are the digits 0…9 as int64 of shape `(n,)`. The validation digits are the last 5,000 of the
        original training set: use them for every decision, and the test set only for a model's final figure.

    Raises:
        DataFileError: the file in the package is missing or was changed.
    """
    arrays = read_verified("mnist.npz")
    x, y = _to_float(arrays["x_train"], flat), arrays["y_train"].astype(np.int64)
    test = _to_float(arrays["x_test"], flat), arrays["y_test"].astype(np.int64)
    n_train = len(x) - N_VALIDATION
    return (x[:n_train], y[:n_train]), (x[n_train:], y[n_train:]), test


def load_fashion_mnist(flat: bool = False) -> Split:
    """Load the 10,000 Fashion-MNIST test images: pictures of the same format as MNIST that are not digits.

    Args:
        flat: give each image as one row of 784 numbers instead of a 28×28 picture with one channel.

    Returns:
        `(x, y)`: images as float32 in [0, 1] of shape `(10000, 28, 28, 1)`, or `(10000, 784)` with `flat=True`; labels
        0…9 as int64 of shape `(10000,)`, whose meanings are `FASHION_NAMES`.

    Raises:
        DataFileError: the file in the package is missing or was changed.
    """
    arrays = read_verified("fashion_mnist_test.npz")
    return _to_float(arrays["x_test"], flat), arrays["y_test"].astype(np.int64)
