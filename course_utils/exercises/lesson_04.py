"""Checks of the exercises of lesson 04."""

import inspect

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "04.thriftiest",
    hints=(
        "think of how people write: which digit is drawn in one movement without a turn?",
        "look at the parts in the figure above: which digit could a single one of them already be?",
    ),
)
def _thriftiest(prediction) -> None:
    whole = isinstance(prediction, (int, np.integer)) and not isinstance(prediction, bool)
    require(whole and 0 <= prediction <= 9, "expected one of the ten digits, 0 to 9.")
    require(prediction == 1, f"another digit needs fewer parts than the {prediction}.")


@register_exercise(
    "04.participation",
    hints=(
        "sum over the units first, for each picture, and take the mean over the pictures at the end.",
        "multiply a code by 2: what happens to the sum of z, and to the sum of z²? The factors must cancel.",
        "with m equal activations of 1 both sums are m, and the answer should be m too: square one of the sums and divide.",
    ),
)
def _participation(participation) -> None:
    answer = participation(np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.5, 0.0, 0.0]]))
    require(answer is not None, "the function returns nothing; it should return one number.")
    require(np.ndim(answer) == 0, f"expected one number for the whole code; the shape is {np.shape(answer)}.")
    require(
        np.isclose(answer, 2),
        f"one picture has 3 equal activations and the other one, so the mean count is 2; it returned {answer:.4g}.",
    )
    rng = np.random.default_rng(0)
    z = rng.uniform(size=(6, 9)) ** 3
    require(
        np.isclose(participation(5 * z), participation(z)),
        "the count should not change when the code is multiplied by 5.",
    )
    expected = np.mean([row.sum() ** 2 / (row @ row) for row in z])
    require(
        np.isclose(participation(z), expected),
        f"for unequal activations it should be {expected:.3f} here, and it returned {participation(z):.3f}: take the mean "
        "of the pictures' ratios, each with the square of a sum.",
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
        "you need a threshold for each column, of the shape (units,); outside training return z unchanged.",
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
