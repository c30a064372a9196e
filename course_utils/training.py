"""`train` fits a model in the way that every lesson needs. Lesson 01 does it by hand first."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from course_utils.backend import BACKEND, give_back_freed_memory, keras, silenced_stderr
from course_utils.batches import Shuffler, TrainingData
from course_utils.callbacks import ProgressLine, StopWhenNotFinite, TrainingError
from course_utils.devices import divide_own_loss_by_devices, replicas, shared_evenly
from course_utils.input_checks import check_examples, check_validation, require_positive
from course_utils.resume import SavedProgress, identity
from course_utils.splits import refuse_test_digits

__all__ = ["TrainingError", "compile_for_training", "train", "warm_up_and_cosine"]

STEPS_THAT_PAY_FOR_XLA = 1000
VALIDATION_BATCH_SIZE = 1000

# Layers that XLA speeds up on a CPU. Convolutions and random numbers get slower there, so `train` leaves them alone.
DENSE_LAYERS = (
    keras.layers.InputLayer,
    keras.layers.Dense,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
)


def train(
    model: keras.Model,
    x,
    y=None,
    *,
    epochs: int,
    validation_data: tuple | None = None,
    loss: str | Callable | None = None,
    metrics: Sequence | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    resume: str | Path | None = None,
    allow_test_digits: bool = False,
) -> keras.callbacks.History:
    """Compile `model` with Adam and fit it, with a learning rate that warms up and then falls along a cosine.

    The learning rate rises linearly over the first tenth of all steps to `learning_rate` and then falls to zero. That
    reaches in a few epochs what a constant rate reaches in dozens. Several steps run per call into the backend
    (`steps_per_execution`), and long trainings of dense layers alone are compiled with XLA. One line shows the progress.

    Args:
        model: a built model, or one that builds itself in its first step.
        x: inputs, an array of shape `(n, ...)` as the model takes them, or a list or dict of arrays.
        y: targets, alike; `None` for a model that computes its loss from `x` alone.
        epochs: passes over the data, at least 1.
        validation_data: `(x_val, y_val)`, evaluated after each epoch.
        loss: as in `model.compile`; `None` for a model with a `compute_loss` of its own.
        metrics: as in `model.compile`.
        batch_size: examples per step, at least 1.
        learning_rate: the highest learning rate, above 0.
        resume: a file in which the state is saved after each epoch (replaced in one step, so never half-written) and
            from which an interrupted training goes on when the same cell is run again. It is deleted at the end.
        allow_test_digits: train on MNIST's test digits all the same, to see what leaking does.

    Returns:
        Keras' `History`; its `history` holds a list per quantity, one number per epoch, also those before a resumption.

    Raises:
        ValueError: empty data, other shapes than the model's, values that are not finite, or values outside [0, 1] where
            the loss is a binary cross-entropy. The message says what came and what was expected.
        TestDigitsError: MNIST's test digits are among the training or validation data.
        TrainingError: the loss became NaN or infinite, or `resume` belongs to another training.
    """
    require_positive(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    epochs, batch_size, learning_rate = int(epochs), int(batch_size), float(learning_rate)
    n_examples = check_examples(model, x, y, loss, "training data")
    n_validation = check_validation(model, validation_data, loss)
    if not allow_test_digits:
        refuse_test_digits("training data", x, None if y is x else y)
        refuse_test_digits("validation_data", validation_data)

    divide_own_loss_by_devices(model)
    batch_size = shared_evenly(batch_size, n_examples)
    steps_per_epoch = math.ceil(n_examples / batch_size)
    compile_for_training(model, epochs * steps_per_epoch, learning_rate, loss=loss, metrics=metrics)

    shuffler, progress, saved, first_epoch = Shuffler(), ProgressLine(epochs, steps_per_epoch), None, 0
    if resume is not None:
        if not model.built:
            model(keras.tree.map_structure(lambda array: array[:1], x))  # a saved state needs weights to go into
        settings = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
        saved = SavedProgress(Path(resume), settings | identity(model, x, y, validation_data, loss, metrics), shuffler)
        first_epoch = saved.restore(model)
    callbacks = [StopWhenNotFinite(saved), progress, shuffler, *([saved] if saved else [])]

    validation_batch_size = shared_evenly(VALIDATION_BATCH_SIZE, n_validation)
    data = TrainingData(x, y, validation_data, batch_size, validation_batch_size, shuffler.order)
    # PyTorch runs one step at a time, and TensorFlow 2.21 fails with more on several devices; elsewhere 50 at once leave
    # little overhead and still a line that moves.
    model.steps_per_execution = 1 if BACKEND == "torch" or replicas() > 1 else min(50, steps_per_epoch)
    try:
        history = model.fit(**data.arguments, epochs=epochs, initial_epoch=first_epoch, callbacks=callbacks, verbose=0)
    except BaseException as error:
        progress.interrupted("interrupted" if isinstance(error, KeyboardInterrupt) else "stopped")
        raise
    finally:
        _release(model, data)
    if saved:
        history.history = saved.history
        saved.delete()
    return history


def _release(model: keras.Model, data: TrainingData) -> None:
    """Let go of arrays and graphs that only the training needed."""
    data.close()
    # `predict` would put as many steps into one graph as the training did, where TensorFlow computes several at once, each
    # with memory of its own. The graphs of the training are not needed any more either.
    model.steps_per_execution = 1
    model.train_function = model.test_function = None
    give_back_freed_memory()


# ---------------------------------------------------------------------------------------------------------------------
# How a model is compiled
# ---------------------------------------------------------------------------------------------------------------------


def compile_for_training(model: keras.Model, n_steps: int, learning_rate: float, loss=None, metrics=None) -> None:
    """Compile `model` as `train` does: Adam, a rate that warms up and falls over `n_steps`, XLA where it pays."""
    jit_compile = _jit_compile(model, n_steps)
    if jit_compile is True:
        _start_xla()
    optimizer = keras.optimizers.Adam(warm_up_and_cosine(learning_rate, n_steps))
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile)


def warm_up_and_cosine(highest: float, steps: int) -> keras.optimizers.schedules.CosineDecay:
    """The schedule of Loshchilov & Hutter 2017 (SGDR, without restarts) after a linear warm-up over a tenth of it."""
    warm_up = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if steps > 1 else highest,
        warmup_target=highest,
        warmup_steps=warm_up,
        decay_steps=max(1, steps - warm_up),
    )


def _jit_compile(model: keras.Model, n_steps: int) -> bool | str:
    """XLA for long trainings of dense stacks, on one device of TensorFlow; Keras' own choice for everything else.

    On two CPU cores compiling costs a second or two and then saves up to a third of each step.
    """
    dense = all(isinstance(layer, DENSE_LAYERS) for layer in _all_layers(model))
    if BACKEND == "tensorflow" and replicas() == 1 and dense and n_steps >= STEPS_THAT_PAY_FOR_XLA:
        return True
    return "auto"


@functools.cache
def _start_xla() -> None:
    """Compile something small in silence: TensorFlow 2.20 writes to stderr when XLA compiles for the first time."""
    import tensorflow as tf

    with silenced_stderr():
        tf.function(lambda x: x + 1, autograph=False, jit_compile=True)(tf.zeros(1))


def _all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model, those of nested models in place of the latter; a subclassed model counts as a layer."""
    if type(model).__name__ not in ("Functional", "Sequential"):
        return [model]
    return [inner for layer in model.layers for inner in _all_layers(layer)]
