"""Checks of the exercises of lesson 04."""

import inspect

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "04.active_share",
    hints=("z > threshold is True or False for each unit; the mean of that over the units (axis 1) is a share.",),
)
def _active_share(active_share) -> None:
    # By construction 0, 1, 3 and 4 of the four units are above 0.1; one is exactly at the threshold, and sizes differ.
    z = np.array([[0.0, 0.1, 0.0, -2.0], [0.9, 0.0, 0.0, 0.0], [0.2, 5.0, 0.3, 0.05], [0.2, 0.2, 0.2, 0.2]])
    answer = active_share(z, 0.1)
    require(answer is not None, "the function returns nothing; it should return an array of shares.")
    answer = np.asarray(answer)
    require(answer.shape == (4,), f"expected one share for each of 4 pictures; the shape is {answer.shape}.")
    require(
        np.allclose(answer, [0, 0.25, 0.75, 1]),
        f"of 4 units 0, 1, 3 and 4 are above the threshold; it returned {np.round(answer, 3).tolist()}.",
    )


@register_exercise(
    "04.strongest",
    hints=("multiply |z_j| with the norm of row j of the kernel (np.linalg.norm with axis=1), then sort downwards.",),
)
def _strongest(strongest_units) -> None:
    # Lengths of the rows 1, 5, 2, 10, 4; so the units add 3, 2.5, 8 (a negative activation), 0 and 4.
    kernel = np.array([[1.0, 0.0], [3.0, -4.0], [0.0, 2.0], [6.0, 8.0], [-4.0, 0.0]])
    z = np.array([3.0, 0.5, -4.0, 0.0, 1.0])
    answer = strongest_units(z, kernel, 3)
    require(answer is not None, "the function returns nothing; it should return the indices of the units.")
    answer = np.asarray(answer)
    require(answer.shape == (3,), f"asked for 3 of 5 units, it returned an array of shape {answer.shape}.")
    require(
        answer.tolist() == [2, 4, 0],
        f"in a test with known strengths the order is 2, 4, 0; it returned {answer.tolist()}.",
    )


@register_exercise(
    "04.winners",
    hints=("ops.top_k works along the last axis: give it ops.transpose(z), so that the last axis are the pictures.",),
)
def _winners(winners_per_unit) -> None:
    require(
        inspect.isclass(winners_per_unit) and issubclass(winners_per_unit, keras.layers.Layer),
        "expected a class that inherits from keras.layers.Layer.",
    )
    z = np.array([[1.0, 9.0, 2.0], [5.0, 8.0, 1.0], [6.0, 7.0, 3.0], [2.0, 6.0, 4.0]], dtype="float32")
    expected = np.array([[0, 9, 0], [5, 8, 0], [6, 0, 3], [0, 0, 4]], dtype="float32")
    layer = winners_per_unit(2)
    answer = layer(z, training=True)
    require(answer is not None, "`call` returns nothing; it should return the code.")
    answer = keras.ops.convert_to_numpy(answer)
    require(answer.shape == z.shape, f"the code has the shape {z.shape}, and what came back {answer.shape}.")
    require(
        np.allclose(answer, expected),
        "in training each unit (column) should keep its 2 largest of the 4 pictures unchanged, and be zero for the others.",
    )
    require(
        np.allclose(keras.ops.convert_to_numpy(layer(z, training=False)), z),
        "outside training the code should pass unchanged.",
    )
