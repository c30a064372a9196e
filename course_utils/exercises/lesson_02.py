"""Checks of the exercises of lesson 02."""

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "02.size",
    hints=('the four rules stand under "Sizes on paper"; with padding="same" a convolution rounds up.',),
)
def _size(output_size) -> None:
    cases = [(28, 5, 2), (7, 3, 2), (7, 4, 1), (16, 3, 1), (9, 4, 3)]
    for transposed, layer in [(False, keras.layers.Conv1D), (True, keras.layers.Conv1DTranspose)]:
        for padding in ("valid", "same"):
            for n, k, s in cases:
                answer = output_size(n, k, s, padding, transposed)
                require(answer is not None, "the function returns nothing; it should return a number.")
                expected = layer(1, k, strides=s, padding=padding).compute_output_shape((None, n, 1))[1]
                kind = "transposed convolution" if transposed else "convolution"
                require(
                    answer == expected,
                    f"for a {kind} with n={n}, k={k}, s={s}, padding={padding!r} it says {answer}, but Keras says {expected}.",
                )


@register_exercise(
    "02.block",
    hints=(
        "every output pixel of a flat area has to see the same numbers with the same weights: first make the picture "
        "larger without any weights, then convolve.",
    ),
)
def _block(upsampling_block) -> None:
    block = upsampling_block(3)
    require(
        isinstance(block, keras.layers.Layer),
        f"expected a Keras layer or model, but the function returned {type(block).__name__}.",
    )
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, 8, 8, 2)).astype("float32")
    y = keras.ops.convert_to_numpy(block(x))
    require(
        y.shape == (2, 16, 16, 3), f"an input of shape {x.shape} should give (2, 16, 16, 3); the shape is {y.shape}."
    )
    kernels = [weight for weight in block.trainable_weights if len(weight.shape) > 1]
    require(bool(kernels), "there is no trainable kernel: enlarging alone cannot learn anything.")
    # Weights between 0.1 and 1, so that no activation function hides a pattern.
    for weight in block.trainable_weights:
        weight.assign(rng.uniform(0.1, 1, size=weight.shape))
    inner = keras.ops.convert_to_numpy(block(np.ones((1, 8, 8, 2), "float32")))[0, 5:11, 5:11]
    require(
        np.allclose(inner, inner[:1, :1], rtol=1e-4),
        "with random weights a flat input gives an output that is not flat: the four phases have different weights.",
    )
    x[:, :, 4:] = 0
    y = keras.ops.convert_to_numpy(block(x))
    require(
        not np.allclose(y[:, :, :4], y[:, :, -4:], rtol=1e-4),
        "the output does not depend on where the input is bright.",
    )


@register_exercise(
    "02.pixel_shuffle",
    hints=(
        "reshape the channels to (2, 2), which are row and column inside the block; transpose so that the axes come in the "
        "order image, row, row in the block, column, column in the block; reshape again.",
    ),
)
def _pixel_shuffle(pixel_shuffle) -> None:
    x = np.arange(2 * 2 * 3 * 4, dtype="float32").reshape(2, 2, 3, 4)
    answer = pixel_shuffle(x)
    require(answer is not None, "the function returns nothing; it should return the rearranged numbers.")
    answer = keras.ops.convert_to_numpy(answer)
    require(
        answer.shape == (2, 4, 6, 1),
        f"an input of shape (2, 2, 3, 4) should give (2, 4, 6, 1); the shape is {answer.shape}.",
    )
    expected = np.zeros((2, 4, 6), dtype="float32")
    for channel, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[:, i::2, j::2] = x[..., channel]
    require(
        np.array_equal(answer[..., 0], expected),
        "the shape is right, but the numbers are not in their places: the first pixel's channels 0 1 2 3 should become the "
        f"block {expected[0, :2, :2].astype(int).tolist()}; it is {answer[0, :2, :2, 0].astype(int).tolist()}.",
    )
