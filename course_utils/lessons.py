"""Definitions that the notebooks teach: generated, do not edit.

They come from 01_autoencoder.ipynb, 05_contractive_autoencoder.ipynb.
To change one, edit its notebook and run `make lessons`.
"""

from course_utils.backend import keras

from keras import layers, ops  # isort: skip


# From notebooks/01_autoencoder.ipynb


def build_autoencoder(sizes, code_activation="relu", output_activation="sigmoid"):
    """Dense autoencoder: `sizes` are the encoder's units; the decoder has them in reverse.

    `sizes` goes from the number of inputs to the size of the code: `[784, 384, 32]` gives
    784-384-32-384-784. Hidden layers use ReLU. Returns `autoencoder, encoder, decoder`, which
    share their weights.
    """
    n_inputs, *hidden, n_code = sizes
    encoder = keras.Sequential([keras.Input((n_inputs,))], name="encoder")
    decoder = keras.Sequential([keras.Input((n_code,))], name="decoder")
    for size in hidden:
        encoder.add(layers.Dense(size, activation="relu"))
    for size in reversed(hidden):
        decoder.add(layers.Dense(size, activation="relu"))
    encoder.add(layers.Dense(n_code, activation=code_activation))
    decoder.add(layers.Dense(n_inputs, activation=output_activation))
    x = keras.Input((n_inputs,))
    return keras.Model(x, decoder(encoder(x))), encoder, decoder


# From notebooks/05_contractive_autoencoder.ipynb


def contractive_penalty(h, kernel):
    """Squared Frobenius norm of the Jacobian of h = sigmoid(x W + b), for each picture.

    `h` has the shape `(n, units)`, `kernel` is W with the shape `(inputs, units)`; the
    result has the shape `(n,)`. It holds for a single sigmoid layer only.
    """
    squared_slope = ops.square(h * (1 - h))
    return ops.sum(squared_slope * ops.sum(ops.square(kernel), axis=0), axis=-1)


@keras.saving.register_keras_serializable(package="course")
class ContractiveDense(layers.Dense):
    """Sigmoid layer that adds `strength` times its mean squared Jacobian norm to the loss."""

    def __init__(self, units, strength=0.0, **kwargs):
        kwargs["activation"] = "sigmoid"  # the formula holds for no other
        super().__init__(units, **kwargs)
        self.strength = strength

    def call(self, x):
        h = super().call(x)
        if self.strength:
            self.add_loss(self.strength * ops.mean(contractive_penalty(h, self.kernel)))
        return h

    def get_config(self):
        return super().get_config() | {"strength": self.strength}


def estimate_squared_norm(encoder, x, v, epsilon=0.01):
    """Estimate the squared Frobenius norm of any encoder's Jacobian, for each picture.

    `x` and `v` have the same shape `(n, ...)`; the entries of `v` are independent with mean
    0 and variance 1. Returns `‖(f(x + εv) − f(x)) / ε‖²` with the shape `(n,)`: one draw,
    whose mean over many `v` is the squared norm, up to terms of the order ε².
    """
    difference = (encoder(x + epsilon * v) - encoder(x)) / epsilon
    return ops.sum(ops.square(difference), axis=tuple(range(1, len(difference.shape))))


def jacobian_by_autodiff(encoder, x):
    """Jacobian of `encoder` at one flat picture `x` of shape `(inputs,)`, as NumPy array.

    The shape is `(units, inputs)`. Each backend differentiates in its own way.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = encoder(x[tf.newaxis])[0]
        return tape.jacobian(z, x).numpy()
    if keras.backend.backend() == "jax":
        import jax as transform
    else:
        import torch.func as transform
    jacobian = transform.jacrev(lambda x: encoder(x[None])[0])
    return ops.convert_to_numpy(jacobian(ops.convert_to_tensor(x)))
