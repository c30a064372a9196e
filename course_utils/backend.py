"""Import Keras without the messages that TensorFlow writes when it starts.

TensorFlow 2.21 writes to file descriptor 2 before any Python setting can stop it, at the import and again at the first
use of a device. A notebook would store these lines as errors. Here both happen once, with the descriptor turned away.
Set `COURSE_DEBUG=1` to see the messages, for example when a GPU is not found.

Import Keras from here inside the package: `from course_utils.backend import keras`.
"""

import contextlib
import os
from collections.abc import Iterator


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


if os.environ.get("COURSE_DEBUG") != "1":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with silenced_stderr():
    import keras

BACKEND = keras.backend.backend()  # "tensorflow", "jax" or "torch": chosen by KERAS_BACKEND before the first import

__all__ = ["BACKEND", "keras", "silenced_stderr"]
