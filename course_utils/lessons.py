"""Definitions that the notebooks teach: generated, do not edit.

They come from 01_autoencoder.ipynb, 03_denoising_autoencoder.ipynb.
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


# From notebooks/03_denoising_autoencoder.ipynb


class Noise(layers.Layer):
    """Corrupts pictures in [0, 1] in training, and passes them on unchanged otherwise.

    `amount` is the strength. With a `seed` a new layer gives the same noises in the same
    order; each call gives the next one. Subclasses say in `corrupt(x)` what is done.
    """

    def __init__(self, amount, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.amount = amount
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        return self.corrupt(x) if training else x

    def get_config(self):
        return {**super().get_config(), "amount": self.amount, "seed": self.seed}


@keras.saving.register_keras_serializable(package="course")
class GaussianNoise(Noise):
    """Adds normal noise of standard deviation `amount` and clips to [0, 1]."""

    def corrupt(self, x):
        noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        return ops.clip(x + self.amount * noise, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="course")
class Masking(Noise):
    """Sets each pixel to 0 with probability `amount`."""

    def corrupt(self, x):
        u = keras.random.uniform(ops.shape(x), seed=self.seed_generator)
        return ops.where(u < self.amount, 0.0, x)


@keras.saving.register_keras_serializable(package="course")
class SaltAndPepper(Noise):
    """Makes each pixel black with probability `amount` / 2, and white with the same."""

    def corrupt(self, x):
        u = keras.random.uniform(ops.shape(x), seed=self.seed_generator)
        return ops.where(u < self.amount / 2, 0.0, ops.where(u < self.amount, 1.0, x))


def noisy_copy(noise, x, seed):
    """Corrupt `x` as the layer `noise` does in training, always alike for the same `seed`."""
    layer = type(noise).from_config({**noise.get_config(), "seed": seed})
    return ops.convert_to_numpy(layer(x, training=True))
