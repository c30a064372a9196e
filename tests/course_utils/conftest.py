"""What makes the tests of trainings quick."""

import gc

import pytest

from course_utils.backend import BACKEND

# `train` collects garbage at its end; what the import of TensorFlow made stays anyway, and need not be searched each time.
gc.freeze()


@pytest.fixture
def eagerly():
    """Trainings of a few steps: on TensorFlow, building their graph would take longer than running them without one."""
    if BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
