"""Definitions that the notebooks teach: generated, do not edit.

They come from 01_autoencoder.ipynb.
To change one, edit its notebook and run `make lessons`.
"""

from course_utils.backend import keras

from keras import layers  # isort: skip


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
