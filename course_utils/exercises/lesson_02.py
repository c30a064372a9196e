"""Checks of the exercises of lesson 02."""

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "02.upside_down",
    hints=(
        "which symmetry was built into the convolutional network, and is a rotation the same as this one?",
        "a stroke turned by 180° is a stroke of the same direction in another place, still in the middle of the picture; "
        "which of the two networks does that surprise?",
        "measure it: the error on `x_val[:, ::-1, ::-1]`, divided by the error on `x_val`, for `dense` and for `conv`.",
    ),
)
def _upside_down(prediction) -> None:
    choices = ("dense", "convolutional", "alike")
    require(prediction in choices, f"expected one of {choices}; it is {prediction!r}.")
    require(prediction == "alike", f"{prediction!r} was a sensible guess, but the measurement says something else.")


@register_exercise(
    "02.receptive_field",
    hints=(
        "follow one output number backwards: how many numbers of the layer below does it see, and how far apart are those "
        "in pixels?",
        "keep two numbers while you go through the layers: the width of the field so far, and the distance in pixels "
        "between two neighbors in the present layer.",
        "both start at 1; a layer widens the field by k - 1 times the distance between its own inputs, so think about when "
        "its stride comes in.",
    ),
)
def _receptive_field(receptive_field) -> None:
    cases = {
        ((3, 1),): 3,
        ((3, 1), (3, 1), (3, 1)): 7,
        ((5, 2),): 5,
        ((5, 2), (3, 2), (4, 1)): 21,
        ((3, 1), (2, 2), (3, 1), (2, 2), (3, 1), (2, 2)): 22,
        (): 1,
    }
    for steps, expected in cases.items():
        answer = receptive_field(list(steps))
        require(answer is not None, "the function returns nothing; it should return a number of pixels.")
        require(answer == expected, f"for the layers {list(steps)} it says {answer}, but the field is {expected} wide.")


@register_exercise(
    "02.bilinear_kernel",
    hints=(
        "begin in one dimension: enlarge the ramp 0, 1, 2, 3 by hand, and note which two inputs each output lies between.",
        "each output lies a quarter of the way from the nearer to the farther of two inputs; sort these weights by where "
        "they lie in the window of four.",
        "np.outer(row, row) with row = [1/4, 3/4, 3/4, 1/4].",
    ),
)
def _bilinear_kernel(bilinear_kernel) -> None:
    kernel = bilinear_kernel()
    require(kernel is not None, "the function returns nothing; it should return 4 × 4 weights.")
    kernel = np.asarray(keras.ops.convert_to_numpy(kernel), dtype="float32")
    require(kernel.shape == (4, 4), f"expected 4 × 4 weights; the shape is {kernel.shape}.")
    layer = keras.layers.Conv2DTranspose(1, 4, strides=2, padding="same", use_bias=False)
    layer.build((None, 8, 8, 1))
    layer.set_weights([kernel.reshape(4, 4, 1, 1)])
    columns = np.broadcast_to(np.arange(8, dtype="float32"), (8, 8))
    pictures = np.stack([np.ones((8, 8), "float32"), columns, columns.T])[..., np.newaxis]
    constant, across, down = keras.ops.convert_to_numpy(layer(pictures))[:, 4:12, 4:12, 0]
    require(
        np.allclose(constant, 1, atol=1e-5),
        f"a constant picture of 1 becomes one with values from {constant.min():.3g} to {constant.max():.3g}.",
    )
    for name, ramp in [("left to right", across), ("top to bottom", down.T)]:
        steps = np.diff(ramp, axis=1)
        require(
            np.allclose(steps, 0.5, atol=1e-5),
            f"a ramp from {name} should rise by 0.5 per pixel; it rises by {np.round(steps[0, :4], 3).tolist()} …",
        )
