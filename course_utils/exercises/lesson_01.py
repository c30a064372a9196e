"""Checks of the exercises of lesson 01."""

import inspect

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


def _stack(sizes: list[int]) -> keras.Model:
    return keras.Sequential([keras.Input((sizes[0],)), *(keras.layers.Dense(size) for size in sizes[1:])])


@register_exercise(
    "01.parameters",
    hints=("a dense layer from n to m units has one weight per pair and one bias per output unit.",),
)
def _parameters(count_parameters) -> None:
    for sizes in ([784, 32, 784], [784, 128, 64, 32, 64, 128, 784], [5, 1]):
        answer = count_parameters(sizes)
        require(answer is not None, "the function returns nothing; it should return a number.")
        expected = _stack(sizes).count_params()
        require(
            answer == expected,
            f"for the layers {sizes} it says {answer}, but Keras counts {expected} (a difference of {answer - expected}).",
        )


@register_exercise(
    "01.hardest",
    hints=("average the squared difference over the pixels of each image (axis 1), then sort with np.argsort.",),
)
def _hardest(hardest_images) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(6, 9)).astype("float32")
    # Squared errors per image by construction: 0, 0.04, 0.16, 0.01, 0.09, 0.25; one of them is too dark, not too bright.
    offsets = np.array([0.0, 0.2, -0.4, 0.1, 0.3, 0.5], dtype="float32")
    answer = hardest_images(x, x + offsets[:, np.newaxis], 3)
    require(answer is not None, "the function returns nothing; it should return the indices of the images.")
    answer = np.asarray(answer)
    require(answer.shape == (3,), f"asked for 3 of 6 images, it returned an array of shape {answer.shape}.")
    require(
        answer.tolist() == [5, 2, 4],
        f"in a test with known errors the three hardest images are 5, 2, 4, in this order; it returned {answer.tolist()}.",
    )


@register_exercise(
    "01.tied",
    hints=(
        "keep the encoder's layer, not its numbers: multiply by ops.transpose(self.dense.kernel) inside call, and create "
        "only the bias with self.add_weight.",
    ),
)
def _tied(tied_dense) -> None:
    require(
        inspect.isclass(tied_dense) and issubclass(tied_dense, keras.layers.Layer),
        "expected a class that inherits from keras.layers.Layer.",
    )
    encoder = keras.layers.Dense(3, use_bias=False)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, tied_dense(encoder)(encoder(inputs)))
    x = np.eye(5, dtype="float32")
    kernel = np.arange(15, dtype="float32").reshape(5, 3) / 10
    encoder.set_weights([kernel])
    x_hat = keras.ops.convert_to_numpy(model(x))
    require(x_hat.shape == (5, 5), f"five inputs should come back as five outputs; the shape is {x_hat.shape}.")
    require(
        np.allclose(x_hat, kernel @ kernel.T, atol=1e-5),
        "after the encoder's kernel was changed, the output is not z·Wᵀ: the layer must use the live kernel, transposed.",
    )
    require(
        len(model.trainable_weights) == 2 and model.count_params() == 15 + 5,
        f"expected one kernel of 15 numbers and one bias of 5 to be trained; there are {model.count_params()} numbers in "
        f"{len(model.trainable_weights)} trainable weights.",
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.fit(x, x, epochs=1, verbose=0)
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in (encoder.kernel, model.trainable_weights[-1]))
    require(
        np.allclose(keras.ops.convert_to_numpy(model(x)), x @ kernel @ kernel.T + bias, atol=1e-5),
        "after a training step the decoder no longer uses the encoder's kernel.",
    )
