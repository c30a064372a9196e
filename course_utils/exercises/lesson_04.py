"""Checks of the exercises of lesson 04."""

import inspect

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "04.thriftiest",
    hints=(
        "think of how people write: which digit takes the least ink?",
        "look at the parts in the figure above: which digit could a single one of them already be?",
    ),
)
def _thriftiest(prediction) -> None:
    whole = isinstance(prediction, (int, np.integer)) and not isinstance(prediction, bool)
    require(whole and 0 <= prediction <= 9, "expected one of the ten digits, 0 to 9.")
    require(prediction == 1, f"another digit needs fewer parts than the {prediction}.")


@register_exercise(
    "04.share_of_pictures",
    hints=(
        "a share is the mean of true and false. Over which axis are the pictures?",
        "each unit has a threshold of its own: a tenth of the largest number in its column, z.max(axis=0).",
        "np.mean(z > 0.1 * z.max(axis=0), axis=0), with a strict comparison so that silent units get 0.",
    ),
)
def _share_of_pictures(share_of_pictures) -> None:
    # By construction the units are active for 1, 2, 4 and 0 of the four pictures; the second one is quiet.
    z = np.array([[9.0, 0.02, 5.0, 0.0], [0.9, 0.01, 4.0, 0.0], [0.1, 0.001, 3.0, 0.0], [0.0, 0.0, 6.0, 0.0]])
    answer = share_of_pictures(z)
    require(answer is not None, "the function returns nothing; it should return an array of shares.")
    answer = np.asarray(answer)
    require(answer.shape == (4,), f"expected one share for each of 4 units; the shape is {answer.shape}.")
    require(
        np.allclose(answer, [0.25, 0.5, 1, 0]),
        f"the 4 units speak for 1, 2, 4 and 0 of 4 pictures; it returned {np.round(answer, 3).tolist()}.",
    )
    wide = np.random.default_rng(0).uniform(size=(6, 9))
    require(
        np.shape(share_of_pictures(wide)) == (9,), "with 6 pictures and 9 units the answer should have the shape (9,)."
    )


@register_exercise(
    "04.one_stroke",
    hints=(
        "a longer part has a larger product r · d with everything, so the product alone does not say how well it fits.",
        "for one part d, find the z that makes the squared error smallest: set the derivative to zero.",
        "z = max(0, r · d) / (d · d); the squared error falls by max(0, r · d)² / (d · d): choose the largest.",
    ),
)
def _one_stroke(one_stroke) -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        parts = rng.normal(size=(7, 12)) * rng.uniform(0.1, 10, size=(7, 1))
        r = rng.normal(size=12)
        answer = one_stroke(r.copy(), parts.copy())
        require(answer is not None and len(answer) == 3, "expected three results: index, strength and new remainder.")
        j, z, rest = answer
        strengths = np.maximum(parts @ r, 0) / np.sum(parts**2, axis=1)
        errors = np.sum(np.square(r - strengths[:, np.newaxis] * parts), axis=1)
        require(int(j) == errors.argmin(), f"part {int(j)} is not the one that lowers the squared error most.")
        require(
            np.isclose(z, strengths[j]), f"the part is right; its best strength is {strengths[j]:.4g}, not {z:.4g}."
        )
        require(np.allclose(rest, r - z * parts[j]), "the remainder should be r minus the strength times the part.")
    _, z, rest = one_stroke(np.array([1.0, 0.0]), np.array([[-1.0, 0.0]]))
    require(
        z == 0 and np.allclose(rest, [1, 0]), "a part that would need a negative strength should get the strength 0."
    )


@register_exercise(
    "04.winners",
    hints=(
        "in which direction do you compare: the units of one picture, or the pictures of one unit?",
        "ops.top_k works along the last axis: give it ops.transpose(z), so that the pictures are the last axis.",
        "kth = ops.top_k(ops.transpose(z), k)[0][:, -1] is a threshold for each column; outside training return z.",
    ),
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
