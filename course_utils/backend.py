"""Import Keras quietly, with a memory allocator that keeps what it has.

Import Keras from here inside the package: `from course_utils.backend import keras`.

**Messages.** TensorFlow 2.21 writes to file descriptor 2 before any Python setting can stop it, at the import and again at
the first use of a device. A notebook would store these lines as errors. Here both happen once, with the descriptor turned
away. `COURSE_DEBUG=1` shows the messages, for example when a GPU is not found.

**Memory.** A training step needs large arrays for a moment, thousands of times. glibc's `malloc` can return each of them to
the kernel at once, and the kernel then clears every page anew when the next step asks for it. Where TensorFlow computes
without oneDNN, as it does by itself on processors older than VNNI, that takes more than a third of a convolutional training;
with oneDNN it takes little (`reports/ALLOCATOR.md`). So two settings are made before TensorFlow starts: its own caching
allocator, and a `malloc` that keeps free memory. When a training ends, `train` gives back what is free. JAX has nothing to
gain, and one of three trainings got slower, so nothing is set where `KERAS_BACKEND` asks for it, nor where there is no glibc.
`COURSE_ALLOCATOR=system` or `=keep` decides otherwise.
"""

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}

# Parameters of glibc's mallopt(3), with the names of <malloc.h>.
_MALLOC_SETTINGS = {
    "M_ARENA_MAX": (-8, 1),  # one heap, so that what one thread frees another one can use
    "M_MMAP_THRESHOLD": (-3, 2**30),  # from the heap, not from the kernel: every array below 1 GiB
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),  # a free end of the heap is not given back
    "M_TOP_PAD": (-2, 64 * 2**20),  # the heap grows by 64 MiB at a time
}


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Send what this process writes to file descriptor 2, from C++ too, to nowhere; a Python error still gets out."""
    if os.environ.get("COURSE_DEBUG") == "1":
        yield
        return
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(nowhere)
        os.close(saved)


def keep_freed_memory() -> bool:
    """Let TensorFlow and glibc keep the memory that is freed, for the next step; call it before TensorFlow is imported.

    Returns:
        Whether it was set: not with `COURSE_ALLOCATOR=system`, which is the default for JAX, and not where the C library is
        not glibc.

    Raises:
        ValueError: `COURSE_ALLOCATOR` is neither `"keep"` nor `"system"`.
    """
    default = "system" if os.environ.get("KERAS_BACKEND") == "jax" else "keep"
    choice = os.environ.get("COURSE_ALLOCATOR", default)
    if choice not in ("keep", "system"):
        raise ValueError(f"The environment variable COURSE_ALLOCATOR is {choice!r}; expected 'keep' or 'system'.")
    if choice == "system" or not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    for parameter, value in _MALLOC_SETTINGS.values():
        libc.mallopt(parameter, value)
    threshold, _ = _MALLOC_SETTINGS["M_MMAP_THRESHOLD"]
    if not libc.mallopt(threshold, 2**30):
        libc.mallopt(threshold, 2**25)  # glibc before 2.35 takes no more, and would otherwise stay at 128 KiB
    return True


def give_back_freed_memory() -> None:
    """Give the memory that is free now back to the system, once; nothing happens where none is kept."""
    if KEEPS_FREED_MEMORY:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def _require_supported(backend: str, where: str, otherwise: str) -> None:
    if backend not in BACKENDS:
        raise ImportError(
            f"The Keras backend is {backend!r} ({where}), but the course trains models, which only {', '.join(BACKENDS)} "
            f"can do: start Python with the environment variable KERAS_BACKEND set to one of them, or {otherwise}."
        )


_require_supported(os.environ.get("KERAS_BACKEND") or "tensorflow", "from the environment", "without it")
KEEPS_FREED_MEMORY = keep_freed_memory()
if os.environ.get("COURSE_DEBUG") != "1":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with silenced_stderr():
    import keras

BACKEND = keras.backend.backend()  # chosen by KERAS_BACKEND or keras.json before the first import
_require_supported(BACKEND, "from the file keras.json in Keras' own folder", "correct that file")

__all__ = ["BACKEND", "BACKENDS", "give_back_freed_memory", "keep_freed_memory", "keras", "silenced_stderr"]
