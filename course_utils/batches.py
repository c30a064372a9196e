"""How `train` reads its examples: batch by batch from the arrays themselves, in a new order in each epoch."""

import math
from collections.abc import Callable

import numpy as np

from course_utils.backend import BACKEND, keras

BATCHES_PER_READ = 20


class TrainingData:
    """The examples of a training, as `fit` takes them.

    On TensorFlow they are read by `BatchReader`. On JAX and PyTorch Keras reads the arrays itself, and shuffles them: there
    a dataset costs up to 1.8 times the time of a thin model's epoch. (`keras.utils.PyDataset`, which all three could share,
    takes 1.2 times the reader's time on TensorFlow, and its epochs wait for tf.data's tuner now and then.)

    Args:
        x: an array of shape `(n, ...)`, or a list or dict of such arrays.
        y: targets, alike, or `None`.
        validation_data: a pair like `(x, y)`, or `None`.
        batch_size: examples per step.
        validation_batch_size: examples per step of the validation.
        order: from the number of examples to the order of an epoch, called anew for each.
    """

    def __init__(self, x, y, validation_data, batch_size: int, validation_batch_size: int, order):
        self.readers = []
        if BACKEND != "tensorflow":
            self.arguments = {"x": x, "y": y, "batch_size": batch_size, "validation_data": validation_data}
            if validation_data is not None:
                self.arguments["validation_batch_size"] = validation_batch_size
            return
        self.readers.append(BatchReader(x, y, batch_size, order))
        if validation_data is not None:
            self.readers.append(BatchReader(validation_data[0], validation_data[1], validation_batch_size))
        training, *validation = (reader.dataset() for reader in self.readers)
        self.arguments = {"x": training, "validation_data": next(iter(validation), None), "shuffle": False}

    def close(self) -> None:
        """Let go of the arrays."""
        self.arguments = {}
        for reader in self.readers:
            reader.close()


class Shuffler(keras.callbacks.Callback):
    """On TensorFlow, a new order of the examples for each epoch, the same after a resumption and on several devices.

    On JAX and PyTorch Keras draws the order from the global generators, whose state a resumption does not restore.

    Args:
        seed: decides all orders, a whole number from 0. The default is drawn from NumPy's global generator, which
            `setup` seeds too.
    """

    def __init__(self, seed: int | None = None):
        super().__init__()
        self.seed = np.random.randint(2**31) if seed is None else seed  # noqa: NPY002
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def order(self, n_examples: int) -> np.ndarray:
        return np.random.default_rng([self.seed, self.epoch]).permutation(n_examples)


class BatchReader:
    """Reads batches `(x, y)`, or `(x,)`, from the arrays in the rows' `order(n_examples)`, called anew for each epoch.

    TensorFlow keeps what it is given as arrays in copies of about twice their size, and some of it forever. Here only a
    few batches exist beside the arrays themselves. TensorFlow 2.21 never lets go of a dataset's generator either, hence
    `close`.

    Args:
        x: an array of shape `(n, ...)`, or a list or dict of such arrays.
        y: targets, alike, or `None`.
        batch_size: examples per batch; the last batch may be smaller.
        order: from the number of examples to the row numbers in which they are read; `numpy.arange` keeps their order.
    """

    def __init__(self, x, y, batch_size: int, order: Callable[[int], np.ndarray] = np.arange):
        parts: tuple = (x,) if y is None or y is x else (x, y)
        parts = tuple(tuple(part) if isinstance(part, list) else part for part in parts)  # tf.data would stack a list
        self.parts = keras.tree.map_structure(np.asarray, parts)
        self.repeat_inputs = y is x
        self.n_examples = len(keras.tree.flatten(self.parts)[0])
        self.batch_size = batch_size
        self.order = order

    def read(self):
        """Pieces of many batches, in one pass over the examples."""
        parts, rows = self.parts, self.order(self.n_examples)
        n_read = BATCHES_PER_READ * self.batch_size
        for start in range(0, self.n_examples, n_read):
            chunk_rows = rows[start : start + n_read]
            yield keras.tree.map_structure(
                lambda array, chunk_rows=chunk_rows: array[chunk_rows].astype(_dtype(array), copy=False), parts
            )

    def dataset(self):
        """The batches as a `tf.data.Dataset` for `fit`."""
        import tensorflow as tf

        signature = keras.tree.map_structure(
            lambda array: tf.TensorSpec((None, *array.shape[1:]), _dtype(array)), self.parts
        )
        batches = tf.data.Dataset.from_generator(self.read, output_signature=signature).rebatch(self.batch_size)
        batches = batches.apply(tf.data.experimental.assert_cardinality(math.ceil(self.n_examples / self.batch_size)))
        if self.repeat_inputs:
            # There is nothing to convert; AutoGraph would warn where it cannot write a temporary file.
            batches = batches.map(tf.autograph.experimental.do_not_convert(lambda inputs: (inputs, inputs)))
        # There is one machine, so no files to share between machines; TensorFlow 2.20 would warn that it cannot.
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        # There is nothing to tune, and the tuner's thread sleeps on when an epoch has ended: now and then for a second,
        # for which the next epoch would have to wait (TensorFlow 2.21).
        options.autotune.enabled = False
        return batches.with_options(options).prefetch(2)

    def close(self) -> None:
        """Let go of the arrays, and of the model behind `order`."""
        self.parts, self.order = (), np.arange


def _dtype(array: np.ndarray):
    """The type in which Keras computes with `array`: its own float type instead of any other float."""
    return keras.config.floatx() if np.issubdtype(array.dtype, np.floating) else array.dtype
