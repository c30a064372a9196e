"""`setup` prepares a notebook: seeds, devices, the style of figures, and a line that names device and expected time."""

import os
import re
import sys
from pathlib import Path

import numpy as np

from course_utils import PACKAGE_FOLDER, plotting, usable_cores
from course_utils.backend import BACKEND, BACKENDS, keras, silenced_stderr
from course_utils.checks import expected_seconds

DEFAULT_SEED = 0
TENSOR_CORES = (7, 0)  # NVIDIA's compute capability from which on float16 is faster than float32

Gpu = tuple[str, tuple[int, int]]  # name, compute capability; (0, 0) where there is none


def setup(lesson: str, mixed_precision: bool = False) -> np.random.Generator:
    """Prepare a notebook: seeds, devices, the style of figures, and a line that names the device and the expected time.

    On TensorFlow all GPUs are used: one directly, several through `tf.distribute.MirroredStrategy`, which becomes the
    default for every model built afterwards; GPU memory is taken as needed, so that two notebooks can share a card. JAX
    and PyTorch use the first GPU. Call it before anything else touches TensorFlow; its start-up messages are silenced
    (`COURSE_DEBUG=1` shows them).

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
    plotting.use_style()
    seed = _whole_number("COURSE_SEED", DEFAULT_SEED, 0, 2**32 - 1)
    with silenced_stderr():  # Keras imports TensorFlow here on the other backends too
        keras.utils.set_random_seed(seed)
    gpus = prepare_devices(_whole_number("COURSE_LOGICAL_CPUS", 1, 1, 16))
    use_mixed_precision = mixed_precision and bool(gpus) and all(capability >= TENSOR_CORES for _, capability in gpus)
    keras.mixed_precision.set_global_policy("mixed_float16" if use_mixed_precision else "float32")

    device = _described(gpus) + (" in mixed precision" if use_mixed_precision else "")
    seconds = expected_seconds(lesson)
    duration = f"about {seconds} s on two CPU cores" if seconds else "not measured yet"
    backend = f"{BACKENDS[BACKEND]} {sys.modules[BACKEND].__version__}"
    print(
        f"Lesson {lesson} · Keras {keras.__version__} with {backend} · {device} · seed {seed} · expected time: {duration}"
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
            f"The course's folder {os.fsencode(folder)!r} has a name that cannot be read in this locale "
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


def _described(gpus: list[Gpu]) -> str:
    n_devices = replicas()
    if not gpus:
        return f"{n_devices} logical CPU devices" if n_devices > 1 else f"{usable_cores()} CPU cores"
    names = ", ".join(sorted({name for name, _ in (gpus if n_devices > 1 else gpus[:1])}))
    return f"{n_devices} × {names}" if n_devices > 1 else names


# ---------------------------------------------------------------------------------------------------------------------
# The backend's devices
# ---------------------------------------------------------------------------------------------------------------------


def prepare_devices(logical_cpus: int = 1) -> list[Gpu]:
    """Start the backend's devices; return name and compute capability of each GPU.

    Args:
        logical_cpus: into how many devices TensorFlow splits the CPU; 1 leaves it whole.
    """
    with silenced_stderr():
        if BACKEND == "tensorflow":
            return _prepare_tensorflow(logical_cpus)
        return _jax_gpus() if BACKEND == "jax" else _torch_gpus()


def _jax_gpus() -> list[Gpu]:
    import jax

    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    return [(gpu.device_kind, _capability(str(getattr(gpu, "compute_capability", "")))) for gpu in gpus]


def _torch_gpus() -> list[Gpu]:
    import torch

    if torch.backends.mps.is_available():
        return [("Apple GPU", (0, 0))]
    indices = range(torch.cuda.device_count())
    return [(torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i)) for i in indices]


def _capability(text: str) -> tuple[int, int]:
    """NVIDIA's compute capability, such as `"7.5"`; (0, 0) for what other makers write there, such as `"gfx90a"`."""
    numbers = re.fullmatch(r"(\d+)\.(\d+)", text)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _prepare_tensorflow(logical_cpus: int) -> list[Gpu]:
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
    if logical_cpus > 1:
        return []
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [(detail.get("device_name", "GPU"), detail.get("compute_capability", (0, 0))) for detail in details]


# ---------------------------------------------------------------------------------------------------------------------
# Several devices share a training step
# ---------------------------------------------------------------------------------------------------------------------


def replicas() -> int:
    """Number of devices that one training step is spread over."""
    if BACKEND != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def shared_evenly(batch_size: int, n_examples: int) -> int:
    """The batch size; on several devices a multiple of their number, smaller where possible.

    Keras 3.15 needs that to build a model under `MirroredStrategy`. The last, smaller batch may be uneven, but every device
    gets some of it: the mean over no example would be NaN.
    """
    n_devices = replicas()
    if n_devices == 1:
        return batch_size
    shared = max(1, min(batch_size, n_examples) // n_devices) * n_devices

    def leaves_one_without() -> bool:
        rest = n_examples % shared
        return 0 < rest <= (n_devices - 1) * -(-rest // n_devices)

    while shared > n_devices and leaves_one_without():
        shared -= n_devices
    return shared


def divide_own_loss_by_devices(model: keras.Model) -> None:
    """Where several devices share a batch, let `model`'s own `compute_loss` give each its part of the mean.

    Keras divides its own losses so, because it adds up what the devices give. Without it the loss is as many times too
    large as there are devices, in training and in `evaluate`.
    """
    n_devices = replicas()
    own_loss = type(model).compute_loss is not keras.Model.compute_loss
    if n_devices == 1 or not own_loss or "compute_loss" in vars(model):
        return
    whole_loss = model.compute_loss

    def part_of_loss(*arguments, **keywords):
        return whole_loss(*arguments, **keywords) / n_devices

    model.compute_loss = part_of_loss
