"""Train the judge of the course, the fixed digit classifier behind `evaluation.load_judge`.

    python -m tools.author.train_judge     # writes course_utils/data_files/judge.npz, two to four minutes on two CPU cores

It is trained on the 55,000 training digits alone, each moved by up to two pixels at random. Seeds and TensorFlow's
deterministic operations make a run repeatable on the same machine; another processor may round differently, which is why
the file belongs to the course. The digest is printed and belongs into `course_utils/data.py` and
`course_utils/data_files/README.md`. The test accuracy is printed only; nothing was chosen by it.
"""

import argparse
import hashlib
import io
import math

import numpy as np

from course_utils.backend import keras
from course_utils.data import DATA_FOLDER, load_mnist
from course_utils.evaluation import JUDGE_FILE, build_judge, judge_accuracy
from course_utils.training import compile_for_training
from tools.shared.notebook_files import replace_file

SEED = 0
EPOCHS = 7
BATCH_SIZE = 128
HIGHEST_RATE = 4e-3
LONGEST_SHIFT = 2  # pixels


class ShiftedDigits(keras.utils.PyDataset):
    """The training digits in a new order and at new places in every epoch."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        super().__init__()
        margin = (LONGEST_SHIFT, LONGEST_SHIFT)
        self.padded = np.pad(x, [(0, 0), margin, margin, (0, 0)])
        self.y = y
        self.rng = np.random.default_rng(SEED)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.y) / BATCH_SIZE)

    def on_epoch_end(self) -> None:
        self.order = self.rng.permutation(len(self.y))
        self.shifts = self.rng.integers(0, 2 * LONGEST_SHIFT + 1, size=(2, len(self.y)))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        down, right = self.shifts[:, chosen]
        rows = down[:, np.newaxis] + np.arange(28)
        columns = right[:, np.newaxis] + np.arange(28)
        pictures = self.padded[chosen[:, np.newaxis, np.newaxis], rows[:, :, np.newaxis], columns[:, np.newaxis, :]]
        return pictures, self.y[chosen]


def train_judge(x: np.ndarray, y: np.ndarray, epochs: int) -> keras.Model:
    """A judge trained on the pictures `x` of shape `(n, 28, 28, 1)` with the digits `y`; repeatable."""
    keras.utils.set_random_seed(SEED)
    judge = build_judge()
    digits = ShiftedDigits(x, y)
    compile_for_training(judge, epochs * len(digits), HIGHEST_RATE, loss="sparse_categorical_crossentropy")
    judge.fit(digits, epochs=epochs, shuffle=False, verbose=2)
    return judge


def write_weights(judge: keras.Model, path) -> str:
    """Store the weights as arrays `00`, `01`, … in their order; return the file's SHA-256 digest."""
    content = io.BytesIO()
    np.savez(content, **{f"{index:02}": weight for index, weight in enumerate(judge.get_weights())})
    replace_file(path, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = load_mnist()
    judge = train_judge(x_train, y_train, EPOCHS)
    print(f"validation accuracy {judge_accuracy(judge, x_val, y_val):.4f}")
    print(f"test accuracy       {judge_accuracy(judge, x_test, y_test):.4f}")
    print(f"{JUDGE_FILE}: SHA-256 {write_weights(judge, DATA_FOLDER / JUDGE_FILE)}")


if __name__ == "__main__":
    main()
