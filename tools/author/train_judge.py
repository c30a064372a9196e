"""Train the judge of the course, the fixed digit classifier behind `evaluation.load_judge`.

    python tools/train_judge.py            # writes course_utils/data/judge.npz, two to four minutes on two CPU cores

It is trained on the 55,000 training digits alone, each moved by up to two pixels at random. Seeds and TensorFlow's
deterministic operations make a run repeatable on the same machine; another processor may round differently, which is why
the file belongs to the course. The digest is printed and belongs into `course_utils/data.py` and
`course_utils/data/README.md`. The test accuracy is printed only; nothing was chosen by it.
"""

import argparse
import hashlib
import math

import numpy as np

from course_utils.backend import keras
from course_utils.data import DATA_FOLDER, load_mnist
from course_utils.evaluation import JUDGE_FILE, build_judge, judge_accuracy

SEED = 0
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
    steps = epochs * len(digits)
    warm_up = max(1, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=HIGHEST_RATE, warmup_steps=warm_up
    )
    judge.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    judge.fit(digits, epochs=epochs, shuffle=False, verbose=2)
    return judge


def write_weights(judge: keras.Model, path) -> str:
    """Store the weights as arrays `00`, `01`, … in their order; return the file's SHA-256 digest."""
    np.savez(path, **{f"{index:02}": weight for index, weight in enumerate(judge.get_weights())})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=7)
    arguments = parser.parse_args()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = load_mnist()
    judge = train_judge(x_train, y_train, arguments.epochs)
    print(f"validation accuracy {judge_accuracy(judge, x_val, y_val):.4f}")
    print(f"test accuracy       {judge_accuracy(judge, x_test, y_test):.4f}")
    output = DATA_FOLDER / JUDGE_FILE
    digest = write_weights(judge, output)
    print(f"{output.name}: {output.stat().st_size:,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
