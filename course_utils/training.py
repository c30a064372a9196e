"""`setup` prepares a notebook, `train` fits a model: what every lesson needs and none is about."""

import contextlib
import functools
import io
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from course_utils import PACKAGE_FOLDER
from course_utils.backend import BACKEND, keras, silenced_stderr
from course_utils.checks import expected_seconds

DEFAULT_SEED = 0

_STEPS_THAT_PAY_FOR_XLA = 1000

_BATCHES_PER_READ = 20

# Layers that XLA speeds up on a CPU. Convolutions and random numbers get slower there, so `train` leaves them alone.
_DENSE_LAYERS = (
    keras.layers.InputLayer,
    keras.layers.Dense,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
)


class TrainingError(RuntimeError):
    """A training could not go on: the loss is no longer a number, or the saved progress is not usable."""


# ---------------------------------------------------------------------------------------------------------------------
# setup
# ---------------------------------------------------------------------------------------------------------------------


def setup(lesson: str, mixed_precision: bool = False) -> np.random.Generator:
    """Prepare a notebook: seeds, devices, and one line that says on what it runs and how long that takes.

    All GPUs are used: one directly, several through `tf.distribute.MirroredStrategy`, which becomes the default for
    every model built afterwards. GPU memory is taken as needed, so that two notebooks can share a card. Call it before
    anything else touches TensorFlow; its start-up messages are silenced (`COURSE_DEBUG=1` shows them).

    Args:
        lesson: the lesson's number as in the notebook's name, such as `"01"`.
        mixed_precision: compute in float16 where that pays, which is on a GPU with tensor cores (compute capability 7.0
            or more) and with models large enough to keep it busy, that is the convolutional ones. The output layer of
            such a model must be made with `dtype="float32"`.

    Returns:
        A NumPy generator for all random choices of the notebook. Its seed, and that of Keras, is 0, or the value of the
        environment variable `COURSE_SEED`.

    Environment:
        COURSE_SEED: another seed. COURSE_LOGICAL_CPUS: split the CPU into so many devices and mirror over them, to see
        on a laptop what happens with several GPUs (TensorFlow only).

    Raises:
        ValueError: `COURSE_SEED` or `COURSE_LOGICAL_CPUS` is not a whole number in its range.
        RuntimeError: the locale cannot express the name of the course's folder.
    """
    _require_expressible(PACKAGE_FOLDER)
    seed = _whole_number("COURSE_SEED", DEFAULT_SEED, 0, 2**32 - 1)
    with silenced_stderr():  # Keras imports TensorFlow here on the other backends too
        keras.utils.set_random_seed(seed)
    gpus = _prepare_devices(_whole_number("COURSE_LOGICAL_CPUS", 1, 1, 16))
    pays = mixed_precision and bool(gpus) and all(capability >= (7, 0) for _, capability in gpus)
    keras.mixed_precision.set_global_policy("mixed_float16" if pays else "float32")

    device = ", ".join(sorted({name for name, _ in gpus})) if gpus else f"{_usable_cores()} CPU cores"
    if _replicas() > 1:
        device = f"{_replicas()} × {device}" if gpus else f"{_replicas()} logical CPU devices"
    device += " in mixed precision" if pays else ""
    seconds = expected_seconds(lesson)
    duration = f"about {seconds} s on two CPU cores" if seconds else "not measured yet"
    print(
        f"Lesson {lesson} · Keras {keras.__version__} with {_backend_name()} · {device} · seed {seed} · "
        f"expected time: {duration}"
    )
    if "google.colab" in sys.modules and not gpus:
        print("No GPU is switched on. To get one: Runtime → Change runtime type → T4 GPU → Save, then run all again.")
    return np.random.default_rng(seed)


def _require_expressible(folder: Path) -> None:
    """TensorFlow ends the process in its first training if its own traces hold a name with undecoded bytes."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise RuntimeError(
            f"The course's folder {os.fsencode(folder)} has a name that cannot be read in this locale "
            f"({sys.getfilesystemencoding()}): start Jupyter with the environment variable PYTHONUTF8=1, or move the "
            "course to a folder with an ASCII name."
        ) from None


def _whole_number(variable: str, default: int, lowest: int, highest: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
        raise ValueError(
            f"The environment variable {variable} is {text!r}; expected a whole number from {lowest} to {highest}."
        )
    return int(text)


def _prepare_devices(logical_cpus: int) -> list[tuple[str, tuple[int, int]]]:
    """Start the backend's devices; return name and compute capability of each GPU."""
    if BACKEND == "tensorflow":
        with silenced_stderr():
            return _prepare_tensorflow(logical_cpus)
    if BACKEND == "jax":
        import jax

        gpus = [device for device in jax.devices() if device.platform == "gpu"]
        return [(gpu.device_kind, _capability(getattr(gpu, "compute_capability", "0.0"))) for gpu in gpus]
    import torch

    indices = range(torch.cuda.device_count())
    return [(torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i)) for i in indices]


def _capability(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _prepare_tensorflow(logical_cpus: int) -> list[tuple[str, tuple[int, int]]]:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of retracing whenever several models predict
    gpus = tf.config.list_physical_devices("GPU")
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        if logical_cpus > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * logical_cpus)
    except RuntimeError:
        # The devices are already in use: `setup` is run a second time, and what it set the first time holds.
        pass
    names = [device.name for device in tf.config.list_logical_devices("CPU" if logical_cpus > 1 else "GPU")]
    if len(names) > 1 and not tf.distribute.has_strategy():
        tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(names))
    tf.constant(0.0)  # the first use of a device also writes messages
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [(detail.get("device_name", "GPU"), detail.get("compute_capability", (0, 0))) for detail in details]


def _replicas() -> int:
    """Number of devices that one training step is spread over."""
    if BACKEND != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _backend_name() -> str:
    module = sys.modules[BACKEND]
    return f"{ {'tensorflow': 'TensorFlow', 'jax': 'JAX', 'torch': 'PyTorch'}[BACKEND] } {module.__version__}"


def _usable_cores() -> int:
    """Cores that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------------------------------------------------------------
# train
# ---------------------------------------------------------------------------------------------------------------------


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

    Returns:
        Keras' `History`; its `history` holds a list per quantity, one number per epoch, also those before a resumption.

    Raises:
        ValueError: empty data, other shapes than the model's, values that are not finite, or values outside [0, 1] where
            the loss is a binary cross-entropy. The message says what came and what was expected.
        TrainingError: the loss became NaN or infinite, or `resume` belongs to another training.
    """
    _require_positive(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    epochs, batch_size, learning_rate = int(epochs), int(batch_size), float(learning_rate)
    n_examples = _check_data(model, x, y, loss, "training data")
    n_validation = 0
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise ValueError("validation_data: expected a pair (x_val, y_val).")
        n_validation = _check_data(model, *validation_data, loss, "validation_data")

    _divide_own_loss_by_devices(model)
    batch_size = _shared_evenly(batch_size, n_examples)
    steps_per_epoch = math.ceil(n_examples / batch_size)
    jit_compile = _jit_compile(model, epochs * steps_per_epoch)
    if jit_compile is True:
        _start_xla()
    model.compile(
        optimizer=keras.optimizers.Adam(_warm_up_and_cosine(learning_rate, epochs * steps_per_epoch)),
        loss=loss,
        metrics=metrics,
        jit_compile=jit_compile,
    )
    callbacks = [_StopWhenNotFinite(resume), _ProgressLine(epochs, steps_per_epoch)]
    first_epoch = 0
    if resume is not None:
        if not model.built:
            model(keras.tree.map_structure(lambda array: array[:1], x))  # a saved state needs weights to go into
        settings = {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "examples": n_examples,
            "weights": [list(weight.shape) for weight in model.weights],
        }
        saver = _SaveProgress(Path(resume), settings)
        first_epoch = saver.restore(model)
        callbacks.append(saver)
    validation_batch_size = _shared_evenly(1000, n_validation)
    data = {"x": x, "y": y, "batch_size": batch_size}
    readers = []
    if BACKEND == "tensorflow":
        shuffler = _Shuffler()
        callbacks.append(shuffler)
        readers.append(_Reader(x, y, batch_size, shuffler.order))
        data = {"x": readers[0].dataset(), "shuffle": False}  # they are shuffled already
        if validation_data is not None:
            readers.append(_Reader(*validation_data, validation_batch_size, np.arange))
            validation_data = readers[1].dataset()
    elif validation_data is not None:
        data["validation_batch_size"] = validation_batch_size
    # PyTorch runs one step at a time, and TensorFlow 2.21 fails with more on several devices; elsewhere 50 at once leave
    # little overhead and still a line that moves.
    model.steps_per_execution = 1 if BACKEND == "torch" or _replicas() > 1 else min(50, steps_per_epoch)
    try:
        history = model.fit(
            **data,
            epochs=epochs,
            initial_epoch=first_epoch,
            validation_data=validation_data,
            callbacks=callbacks,
            verbose=0,
        )
    finally:
        for reader in readers:
            reader.close()
        # `predict` would put as many steps into one graph, where TensorFlow computes several at once, each with memory of
        # its own that is never given back. The graphs of the training are not needed any more either.
        model.steps_per_execution = 1
        model.train_function = model.test_function = None
    if resume is not None:
        history.history = saver.history
        _delete(saver.path)
    return history


class _Reader:
    """Reads batches `(x, y)`, or `(x,)`, from the arrays in the rows' `order(n_examples)`, a new order in each epoch.

    TensorFlow keeps what it is given as arrays in copies of about twice their size, and some of it for ever. Here only a
    few batches exist beside the arrays themselves. TensorFlow 2.21 never lets go of a dataset's generator either, hence
    `close`.
    """

    def __init__(self, x, y, batch_size: int, order: Callable[[int], np.ndarray]):
        parts = (x,) if y is None or y is x else (x, y)
        parts = tuple(tuple(part) if isinstance(part, list) else part for part in parts)  # tf.data would stack a list
        self.parts = keras.tree.map_structure(np.asarray, parts)
        self.repeat_inputs = y is x
        self.n_examples = len(keras.tree.flatten(self.parts)[0])
        self.batch_size = batch_size
        self.order = order

    def read(self):
        """Pieces of many batches, in one pass over the examples."""
        parts, rows = self.parts, self.order(self.n_examples)
        n_read = _BATCHES_PER_READ * self.batch_size
        for start in range(0, self.n_examples, n_read):
            some = rows[start : start + n_read]
            yield keras.tree.map_structure(
                lambda array, some=some: array[some].astype(_dtype(array), copy=False), parts
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
        self.parts = self.order = None


class _Shuffler(keras.callbacks.Callback):
    """A new order of the examples for each epoch, the same after a resumption and on any number of devices."""

    def __init__(self):
        super().__init__()
        # `setup` seeds NumPy's old global generator too, and Keras draws nothing from it.
        self.seed = np.random.randint(2**31)  # noqa: NPY002
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def order(self, n_examples: int) -> np.ndarray:
        return np.random.default_rng([self.seed, self.epoch]).permutation(n_examples)


def _dtype(array: np.ndarray):
    """The type in which Keras computes with `array`: its own float type instead of any other float."""
    return keras.config.floatx() if np.issubdtype(array.dtype, np.floating) else array.dtype


def _shared_evenly(batch_size: int, n_examples: int) -> int:
    """The batch size, made a little smaller where several devices cannot share the first batch evenly.

    Keras 3.15 needs that to build a model under `MirroredStrategy`; the last, smaller batch may be uneven.
    """
    replicas = _replicas()
    return batch_size if replicas == 1 else max(1, min(batch_size, n_examples) // replicas) * replicas


def _divide_own_loss_by_devices(model: keras.Model) -> None:
    """Where several devices share a batch, let `model`'s own `compute_loss` give each its part of the mean.

    Keras divides its own losses so, because it adds up what the devices give. Without it the loss is as many times too
    large as there are devices.
    """
    n_devices = _replicas()
    own_loss = type(model).compute_loss is not keras.Model.compute_loss
    if n_devices > 1 and own_loss and "compute_loss" not in vars(model):
        compute_loss = model.compute_loss
        model.compute_loss = lambda *arguments, **keywords: compute_loss(*arguments, **keywords) / n_devices


def _require_positive(**arguments: float) -> None:
    for name, value in arguments.items():
        whole = name != "learning_rate"
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise ValueError(f"{name} is {value!r}; expected a number above 0.")
        if whole and value != int(value):
            raise ValueError(f"{name} is {value!r}; expected a whole number.")


def _check_data(model: keras.Model, x, y, loss, where: str) -> int:
    """Raise a `ValueError` that explains itself unless `model` can be trained on `x` and `y`; return their length."""
    inputs = _check_arrays(x, getattr(model, "input_shape", None), f"{where}, x")
    lengths = {len(array) for array in inputs}
    if y is not None:
        # Labels as whole numbers have one axis less than the model's output.
        sparse = _loss_name(loss) in ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
        targets = _check_arrays(y, None if sparse else getattr(model, "output_shape", None), f"{where}, y")
        lengths |= {len(array) for array in targets}
        if _loss_name(loss) in ("binary_crossentropy", "bce", "BCE", "BinaryCrossentropy"):
            _check_unit_interval(targets, f"{where}, y")
    if len(lengths) > 1:
        raise ValueError(f"{where}: x and y must have one entry per example; their lengths are {sorted(lengths)}.")
    return lengths.pop()


def _check_arrays(arrays, model_shapes, where: str) -> list[np.ndarray]:
    flat = [np.asarray(array) for array in keras.tree.flatten(arrays)]
    if not flat:
        raise ValueError(f"{where}: expected at least one example, but it is empty.")
    shapes = [model_shapes] * len(flat)
    if isinstance(model_shapes, (list, dict)):
        shapes = list(model_shapes.values() if isinstance(model_shapes, dict) else model_shapes)
    for array, shape in zip(flat, shapes, strict=False):
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"{where}: expected at least one example, but it is empty (shape {array.shape}).")
        if shape is not None and not _fits(array.shape, shape):
            expected = ", ".join("n" if size is None else str(size) for size in shape)
            hint = ""
            if math.prod(array.shape[1:]) == math.prod(size or 1 for size in shape[1:]):
                hint = " The sizes agree: reshape it, or load the data with or without flat=True."
            raise ValueError(f"{where}: the model expects the shape ({expected}), but it is {array.shape}.{hint}")
        if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            raise ValueError(f"{where}: expected numbers, but the type is {array.dtype}.")
        # The sum is NaN or infinite if any entry is; that needs no second array of the same size.
        with np.errstate(invalid="ignore"):
            total = np.sum(array, dtype=np.float64)
        if not np.isfinite(total):
            bad = int(np.size(array) - np.isfinite(array).sum())
            raise ValueError(f"{where}: expected finite numbers, but {bad:,} of {array.size:,} are NaN or infinite.")
    return flat


def _fits(shape: tuple, model_shape: tuple) -> bool:
    return len(shape) == len(model_shape) and all(
        expected in (None, size) for size, expected in zip(shape[1:], model_shape[1:], strict=True)
    )


def _loss_name(loss) -> str:
    """The name of a loss given as a string, a function, a class or an object (then that of its class)."""
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def _check_unit_interval(arrays: list[np.ndarray], where: str) -> None:
    for array in arrays:
        lowest, highest = array.min(), array.max()
        if lowest < 0 or highest > 1:
            hint = " Divide grey values 0…255 by 255." if lowest >= 0 and 1 < highest <= 255 else ""
            raise ValueError(
                f"{where}: a binary cross-entropy needs targets in [0, 1], but they reach from {lowest:.4g} to "
                f"{highest:.4g}.{hint}"
            )


def _warm_up_and_cosine(highest: float, steps: int) -> keras.optimizers.schedules.CosineDecay:
    """The schedule of Loshchilov & Hutter 2017 (SGDR, without restarts) after a linear warm-up over a tenth of it."""
    warm_up = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0, warmup_target=highest, warmup_steps=warm_up, decay_steps=max(1, steps - warm_up)
    )


def _jit_compile(model: keras.Model, n_steps: int) -> bool | str:
    """XLA for long trainings of dense stacks, on one device of TensorFlow; Keras' own choice for everything else.

    On two CPU cores compiling costs a second or two and then saves up to a third of each step.
    """
    dense = all(isinstance(layer, _DENSE_LAYERS) for layer in _all_layers(model))
    if BACKEND == "tensorflow" and _replicas() == 1 and dense and n_steps >= _STEPS_THAT_PAY_FOR_XLA:
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


class _StopWhenNotFinite(keras.callbacks.Callback):
    """End a training whose loss is NaN or infinite with a sentence instead of useless epochs."""

    def __init__(self, resume):
        super().__init__()
        self.resume = resume

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            if self.resume is not None:
                _delete(Path(self.resume))  # going on from there would end the same way
            raise TrainingError(
                f"The loss became {loss}, so the training was stopped. The usual cause is a learning rate that is too "
                "high: try a tenth of it. Otherwise look for a logarithm of zero or a division by zero in your own loss "
                "or layer. Build the model again before you go on: its weights are no longer numbers."
            )


class _SaveProgress(keras.callbacks.Callback):
    """Save weights, optimizer and history after each epoch in one file, replaced atomically.

    Keras' `BackupAndRestore` writes weights and epoch number in place and into two files, so that a kill in between loses
    the training or repeats an epoch; and HDF5 brings the process down on a full disk. Here the new state is complete on
    disk before it takes the old one's name.
    """

    def __init__(self, path: Path, settings: dict):
        super().__init__()
        self.path = path
        self.settings = settings
        self.history: dict[str, list[float]] = {}

    def restore(self, model: keras.Model) -> int:
        """Load the saved state into `model`; return the number of finished epochs, 0 without a saved state."""
        if not self.path.exists():
            return 0
        remedy = "Delete the file to begin anew, or give another path."
        try:
            with np.load(self.path, allow_pickle=False) as file:
                state = json.loads(str(file["progress"]))
                settings, history = state["settings"], state["history"]
                values = [file[f"value_{i}"] for i in range(len(file.files) - 1)]
        except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile):
            raise TrainingError(f"{self.path} is not a training saved by `train`. {remedy}") from None
        differing = [key for key, value in self.settings.items() if settings.get(key) != value]
        if differing:
            came = ", ".join(f"{key} {settings.get(key)} instead of {self.settings[key]}" for key in differing)
            raise TrainingError(f"{self.path} was saved by another training ({came}). {remedy}")
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(_state_variables(model), values, strict=True):
            variable.assign(value)
        self.history = history
        finished = len(self.history["loss"])
        print(f"Resumed from {self.path.name} after epoch {finished} of {self.settings['epochs']}.")
        return finished

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        progress = json.dumps({"settings": self.settings, "history": self.history})
        values = [keras.ops.convert_to_numpy(variable) for variable in _state_variables(self.model)]
        content = io.BytesIO()
        np.savez(content, progress=progress, **{f"value_{i}": value for i, value in enumerate(values)})
        unfinished = self.path.with_name("unfinished." + self.path.name)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content.getbuffer())
            os.replace(unfinished, self.path)
        except OSError as error:
            _delete(unfinished)
            print(f"The progress could not be saved in {self.path} ({error.strerror}); the training goes on without.")


def _delete(path: Path) -> None:
    """Delete a file if it is there; where that is not allowed, as on a read-only disk, it stays."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _state_variables(model: keras.Model) -> list[keras.Variable]:
    """What a training consists of at the end of an epoch: the weights, and the optimizer's counter and moments."""
    return [*model.weights, *model.optimizer.variables]


class _ProgressLine(keras.callbacks.Callback):
    """One line that updates in place: epoch, loss, validation loss, time left. A notebook stores its last state."""

    def __init__(self, epochs: int, steps_per_epoch: int):
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.validation = ""

    def on_train_begin(self, logs=None):
        self.line = _UpdatingLine()
        self.start = self.last_update = time.perf_counter()
        self.first_epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.first_epoch is None:
            self.first_epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.last_update < 0.3:
            return
        self.last_update = now
        done = self.epoch - self.first_epoch + (batch + 1) / self.steps_per_epoch
        left = (self.epochs - self.first_epoch - done) * (now - self.start) / done
        self.line.update(
            f"epoch {self.epoch + 1} of {self.epochs} · loss {logs['loss']:.4f}{self.validation} · {left:.0f} s left"
        )

    def on_epoch_end(self, epoch, logs=None):
        self.loss = logs["loss"]
        if "val_loss" in logs:
            self.validation = f" · validation loss {logs['val_loss']:.4f}"

    def on_train_end(self, logs=None):
        if self.first_epoch is None:  # resumed after the last epoch: nothing was left to do
            return
        seconds = time.perf_counter() - self.start
        epochs = self.epochs - self.first_epoch
        self.line.finish(
            f"{epochs} epoch{'s' * (epochs > 1)} in {seconds:.1f} s · loss {self.loss:.4f}{self.validation}"
        )


class _UpdatingLine:
    """A line of output that can be replaced: through the display protocol in Jupyter, by carriage return in a terminal."""

    def __init__(self):
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython else None
        self.handle = None
        if hasattr(shell, "kernel"):
            self.handle = ipython.display.display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, text: str) -> None:
        if self.handle:
            self.handle.update({"text/plain": text}, raw=True)
        elif sys.stdout.isatty():
            print(f"\r\033[K{text}", end="", flush=True)

    def finish(self, text: str) -> None:
        if self.handle:
            self.update(text)
        else:
            self.update("")
            print(text)
