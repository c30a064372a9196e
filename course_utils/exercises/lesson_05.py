"""Checks of the exercises of lesson 05."""

import inspect

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


def _squared_norm_by_differences(encode, x: np.ndarray) -> float:
    """Squared Frobenius norm of the Jacobian of `encode` at one `x`: each input moved by itself, in double precision."""
    step = 1e-5 * np.eye(len(x))
    return float(np.square((encode(x + step) - encode(x - step)) / 2e-5).sum())


@register_exercise(
    "05.linear",
    hints=(
        "the derivative of output j with respect to input i is W[i, j]; square each, then sum over all, without a root.",
    ),
)
def _linear(linear_squared_norm) -> None:
    rng = np.random.default_rng(0)
    for shape in ((2, 3), (5, 1), (4, 4)):
        W, x = rng.normal(size=shape), rng.normal(size=shape[0])
        answer = linear_squared_norm(W)
        require(answer is not None, "the function returns nothing; it should return a number.")
        require(np.ndim(answer) == 0, f"it should return one number; the result has the shape {np.shape(answer)}.")
        expected = _squared_norm_by_differences(lambda x, W=W: x @ W + 1, x)
        require(
            np.isclose(answer, expected, rtol=1e-5),
            f"for a kernel of shape {shape} it says {float(answer):.4f}, but moving the inputs one by one gives {expected:.4f}.",
        )


@register_exercise(
    "05.tanh",
    hints=(
        "row j of the Jacobian is the slope 1 − h_j² times column j of W; square both factors, sum over inputs and units.",
    ),
)
def _tanh(tanh_penalty) -> None:
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(6, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)

    def encode(x):
        return np.tanh(x @ W + b)

    answer = tanh_penalty(encode(x), W)
    require(answer is not None, "the function returns nothing; it should return one number per picture.")
    answer = np.asarray(answer)
    require(answer.shape == (6,), f"6 pictures should give 6 numbers; the result has the shape {answer.shape}.")
    expected = np.array([_squared_norm_by_differences(encode, one) for one in x])
    require(
        np.allclose(answer, expected, rtol=1e-4),
        f"for the first picture it says {answer[0]:.4f}, but moving the inputs one by one gives {expected[0]:.4f}.",
    )


@register_exercise(
    "05.contraction",
    hints=(
        "v = keras.random.normal(ops.shape(x), seed=self.seed_generator); add the mean of estimate_squared_norm(self.encoder, "
        "x, v), times the strength, with self.add_loss; return self.encoder(x).",
    ),
)
def _contraction(contraction) -> None:
    require(
        inspect.isclass(contraction) and issubclass(contraction, keras.layers.Layer),
        "expected a class that inherits from keras.layers.Layer.",
    )
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(50, 40)).astype("float32")
    encoder = keras.Sequential([keras.Input((50,)), keras.layers.Dense(40, use_bias=False)])
    encoder.set_weights([kernel])
    layer = contraction(encoder, 0.5)
    x = rng.uniform(size=(400, 50)).astype("float32")
    z = layer(x)
    require(z is not None, "call returns nothing; it should return the codes.")
    z = keras.ops.convert_to_numpy(z)
    require(
        z.shape == (400, 40) and np.allclose(z, x @ kernel, atol=1e-3),
        "the layer should return encoder(x), undisturbed.",
    )
    require(len(layer.losses) == 1, f"one call should add one loss; there are {len(layer.losses)}.")
    first = float(layer.losses[0])
    # For a linear encoder the squared norm is the sum of the squared weights.
    expected = 0.5 * float(np.square(kernel).sum())
    require(
        abs(first / expected - 1) < 0.1,
        f"for a linear encoder the added loss should be near {expected:.0f}, strength times the sum of the squared weights; "
        f"it is {first:.0f}. Are the directions normal, and is it a mean over the pictures?",
    )
    layer(x)
    require(
        float(layer.losses[-1]) != first,
        "a second call gives exactly the same estimate: the direction should be fresh.",
    )
    inputs = keras.Input((50,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer=keras.optimizers.SGD(1e-4), loss=lambda y, z: 0.0 * keras.ops.mean(z, axis=-1))
    model.fit(x, x[:, :40], epochs=1, batch_size=100, verbose=0)
    after = keras.ops.convert_to_numpy(encoder.weights[0])
    require(
        np.square(after).sum() < np.square(kernel).sum(),
        "in training the penalty does not make the encoder's weights smaller: no gradient reaches them.",
    )
