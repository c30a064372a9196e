"""Checks of the exercises of lesson 01."""

import inspect
import itertools

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require

# How far a shift of one pixel to the right moves the code, as a percentage of the distance to another digit's code.
SHIFT_IN_CODE = (28, 50)
SHIFT_IN_PIXELS = 52


@register_exercise(
    "01.predict_shift",
    hints=(
        "to the network, a moved digit is simply a picture with different pixels.",
        f"in pixels the shift is about {SHIFT_IN_PIXELS}% of the way to another digit; the code moves a little less than that.",
    ),
)
def _predict_shift(prediction) -> None:
    low, high = SHIFT_IN_CODE
    require(isinstance(prediction, (int, float)) and 0 <= prediction <= 100, "expected a percentage, 0 to 100.")
    require(
        prediction == 0 or prediction >= 1,
        f"expected a percentage, such as 7 for 7%; {prediction} looks like a fraction.",
    )
    # The same words for too low and too high, so that nobody can find the value by bisection.
    require(
        low <= prediction <= high,
        f"{prediction}% is far from the measured value. Run the cell below, compare, and find out where the difference comes from.",
    )


@register_exercise(
    "01.tied_parameters",
    hints=(
        "list the arrays that the network has: which of them exist once, and which in both halves?",
        "only matrices are shared. Every layer has a bias of its own, with one number per output of that layer.",
        "from n to m units: n * m weights that count once, m biases in the encoder, n biases in the decoder.",
    ),
)
def _tied_parameters(tied_parameters) -> None:
    for sizes in ([784, 32], [784, 384, 32], [5, 4, 3, 2]):
        answer = tied_parameters(sizes)
        require(answer is not None, "the function returns nothing; it should return a number.")
        layers = list(itertools.pairwise(sizes))
        matrices, biases = sum(n * m for n, m in layers), sum(n + m for n, m in layers)
        require(
            answer == matrices + biases,
            f"for the sizes {sizes} it says {answer}, which is too {'many' if answer > matrices + biases else 'few'}.",
        )


@register_exercise(
    "01.hardest",
    hints=(
        "first one error per picture: over which axis do you average?",
        "compare the digits by the mean error of their pictures, as some digits are more frequent than others.",
        "for each digit: error[y == digit].mean(), where error = np.square(x - x_hat).mean(axis=1).",
    ),
)
def _hardest(hardest_digit) -> None:
    rng = np.random.default_rng(0)
    # Squared errors by construction: digit 3 has the largest mean, 7 the worst picture, 1 the largest sum, and 5 the largest
    # mean of errors without the square, as its pictures are too bright everywhere and those of 3 too bright and too dark.
    y = np.array([3, 3, 7, 7, 7, 5, 5, *[1] * 12])
    offsets = np.array([0.4, -0.4, 0.55, 0.0, 0.1, 0.3, 0.3, *[0.25] * 12], dtype="float32")
    order = rng.permutation(len(y))
    x = rng.uniform(size=(len(y), 9)).astype("float32")
    answer = hardest_digit(x, x + offsets[order, np.newaxis], y[order])
    require(answer is not None, "the function returns nothing; it should return a digit.")
    require(np.ndim(answer) == 0, f"expected one digit; it returned {answer!r}.")
    reasons = {
        7: "that is the digit of the single worst picture; others of the same digit are easy.",
        1: "that digit is the most frequent: its errors have the largest sum, but not the largest mean.",
        5: "without the square, pixels that are too bright and too dark cancel.",
    }
    require(answer == 3, f"in a test with known errors it says {answer}. " + reasons.get(int(answer), "Expected 3."))


@register_exercise(
    "01.tied",
    hints=(
        "where is the kernel stored, and do you look it up on every call?",
        "create only the bias in build, with self.add_weight; its length is the number of inputs of the encoder's layer.",
        "in call: ops.matmul(z, ops.transpose(self.dense.kernel)) + self.bias, then the activation.",
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
        "after the encoder's kernel was changed, the output is not z·Wᵀ: use the live kernel, transposed, and a bias that starts at zero.",
    )
    require(
        len(model.trainable_weights) == 2 and model.count_params() == 15 + 5,
        f"expected one kernel of 15 numbers and one bias of 5 to be trained; there are {model.count_params()} numbers in "
        f"{len(model.trainable_weights)} trainable weights.",
    )
    squashed = keras.ops.convert_to_numpy(tied_dense(encoder, activation="sigmoid")(encoder(x)))
    require(
        np.allclose(squashed, 1 / (1 + np.exp(-kernel @ kernel.T)), atol=1e-5),
        "with activation='sigmoid' the output is not σ(z·Wᵀ + b): apply self.activation at the end of call.",
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.fit(x, x, epochs=1, verbose=0)
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in (encoder.kernel, model.trainable_weights[-1]))
    require(
        np.allclose(keras.ops.convert_to_numpy(model(x)), x @ kernel @ kernel.T + bias, atol=1e-5),
        "after a training step the decoder no longer uses the encoder's kernel.",
    )
