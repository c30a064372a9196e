"""Definitions that the notebooks teach: generated, do not edit.

They come from 01_autoencoder.ipynb, 02_convolutional_autoencoder.ipynb, 03_denoising_autoencoder.ipynb, 04_sparse_autoencoder.ipynb, 05_contractive_autoencoder.ipynb, 06_variational_autoencoder.ipynb, 07_digit_generation.ipynb, 08_representation.ipynb, 09_anomaly_detection.ipynb.
To change one, edit its notebook and run `make lessons`.
"""

import numpy as np
from scipy import ndimage, optimize, sparse, special

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


def signed_pictures(arrays):
    """Arrays `(n, ...)` of any numbers as pictures: gray is zero, white positive, black negative.

    Each is divided by its own largest absolute value; one of zeros stays gray.
    """
    largest = np.abs(arrays).max(axis=tuple(range(1, arrays.ndim)), keepdims=True)
    return 0.5 + 0.5 * arrays / np.maximum(largest, 1e-9)


def rounded_codes(codes, train_codes, step):
    """Codes `(n, d)` rounded to multiples of `step`, and the bytes per row that they take.

    A value of probability p takes −log₂ p bits. For each of the d numbers, p is counted in the
    rounded `train_codes`, with half a count added to each value, so that none is impossible.
    `step` is one number, or one for each of the d.
    """
    q_train, q = (np.round(part / step).astype(int) for part in (train_codes, codes))
    low = np.minimum(q_train.min(axis=0), q.min(axis=0))
    bits = 0.0
    for seen, column in zip((q_train - low).T, (q - low).T, strict=True):
        counts = np.bincount(seen, minlength=column.max() + 1) + 0.5
        bits -= np.log2(counts / counts.sum())[column].sum()
    return (q * step).astype("float32"), bits / 8 / len(q)


# From notebooks/02_convolutional_autoencoder.ipynb


def shift_right(images, pixels):
    """Pictures `(n, height, width, 1)` shifted to the right; black comes in from the left."""
    moved = np.zeros_like(images)
    moved[:, :, pixels:] = images[:, :, : images.shape[2] - pixels]
    return moved


def build_pooling_autoencoder(third_padding="valid"):
    """The 16-8-8 autoencoder of the Keras blog for pictures `(28, 28, 1)`.

    Its code has the shape `(4, 4, 8)`. `third_padding` is the padding of the decoder's third
    convolution; with anything but `"valid"` the output does not have the input's size. Returns
    `autoencoder, encoder, decoder`, which share their weights.
    """
    encoder = keras.Sequential([keras.Input((28, 28, 1))], name="encoder")
    for channels in (16, 8, 8):
        encoder.add(layers.Conv2D(channels, 3, padding="same", activation="relu"))
        encoder.add(layers.MaxPooling2D(2, padding="same"))
    decoder = keras.Sequential([keras.Input((4, 4, 8))], name="decoder")
    for channels, padding in [(8, "same"), (8, "same"), (16, third_padding)]:
        decoder.add(layers.Conv2D(channels, 3, padding=padding, activation="relu"))
        decoder.add(layers.UpSampling2D(2))
    decoder.add(layers.Conv2D(1, 3, padding="same", activation="sigmoid"))
    x = keras.Input((28, 28, 1))
    return keras.Model(x, decoder(encoder(x))), encoder, decoder


def build_conv_encoder(code_channels=8, channels=(16, 32), size=28):
    """Encoder from pictures `(size, size, 1)` to linear codes; 28 pixels give `(4, 4, code_channels)`.

    `size` is a multiple of 4. Four pixels more make the code one number wider and higher.
    """
    encoder = keras.Sequential([keras.Input((size, size, 1))], name="encoder")
    for filters, k in zip(channels, (5, 3), strict=True):  # to 14 × 14, to 7 × 7
        encoder.add(layers.Conv2D(filters, k, strides=2, padding="same", activation="relu"))
    encoder.add(layers.Conv2D(code_channels, 4))  # to 4 × 4
    return encoder


def build_conv_decoder(code_channels=8, channels=(16, 32), size=28, upsampling="transposed"):
    """Decoder from codes to pictures `(size, size, 1)` in [0, 1], the encoder's steps in reverse.

    `upsampling` says how 7 × 7 becomes 14 × 14 and 28 × 28: `"transposed"` by transposed
    convolutions, `"resize"` by repeating pixels and then convolving.
    """
    if upsampling not in ("transposed", "resize"):
        raise ValueError(f"upsampling is {upsampling!r}; expected 'transposed' or 'resize'.")
    n = size // 4 - 3
    decoder = keras.Sequential([keras.Input((n, n, code_channels))], name="decoder")
    decoder.add(layers.Conv2DTranspose(channels[1], 4, activation="relu"))  # 7 × 7
    for filters, k, activation in [(channels[0], 3, "relu"), (1, 5, "sigmoid")]:  # 14, 28
        options = {"padding": "same", "activation": activation}
        if upsampling == "transposed":
            decoder.add(layers.Conv2DTranspose(filters, k, strides=2, **options))
        else:
            decoder.add(layers.UpSampling2D(2))
            decoder.add(layers.Conv2D(filters, 3, **options))
    return decoder


def build_conv_autoencoder(code_channels=8, channels=(16, 32), size=28, upsampling="transposed"):
    """Convolutional autoencoder for pictures `(size, size, 1)`; 28 pixels become a code of 128.

    Returns `autoencoder, encoder, decoder`, which share their weights.
    """
    encoder = build_conv_encoder(code_channels, channels, size)
    decoder = build_conv_decoder(code_channels, channels, size, upsampling)
    x = keras.Input((size, size, 1))
    return keras.Model(x, decoder(encoder(x))), encoder, decoder


def moved_at_random(images, most, rng):
    """A copy in which each picture is shifted by up to `most` pixels in both directions, at random."""
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    moved = np.empty_like(images)
    rows, columns = rng.integers(2 * most + 1, size=(2, n))
    for i in range(n):
        moved[i] = padded[i, rows[i] : rows[i] + height, columns[i] : columns[i] + width]
    return moved


def downscale(images):
    """The mean of each block of 2 × 2 pixels: `(n, 28, 28, 1)` to `(n, 14, 14, 1)`."""
    n, height, width, _ = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, 1).mean(axis=(2, 4))


def build_upscaler(channels=24, layers_before=3):
    """Network from pictures `(14, 14, 1)` to `(28, 28, 1)`; all but its last layer work on 14 × 14."""
    upscaler = keras.Sequential([keras.Input((14, 14, 1))], name="upscaler")
    for _ in range(layers_before):
        upscaler.add(layers.Conv2D(channels, 3, padding="same", activation="relu"))
    upscaler.add(layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid"))
    return upscaler


def phase_spread(images, margin=4):
    """How strong a checkerboard of period two is: the spread of the four phases' means.

    `images` has the shape `(n, height, width, 1)`. The pixels of each image are sorted by
    even or odd row and column; the result is the standard deviation of the four means,
    divided by that of all pixels, mean over the images. A `margin` of pixels is left out,
    because padding affects it.
    """
    inner = images[:, margin : images.shape[1] - margin, margin : images.shape[2] - margin, 0]
    phases = [inner[:, i::2, j::2].mean(axis=(1, 2)) for i in (0, 1) for j in (0, 1)]
    contrast = np.maximum(inner.std(axis=(1, 2)), 1e-9)
    return float(np.mean(np.std(phases, axis=0) / contrast))


# From notebooks/03_denoising_autoencoder.ipynb


class Noise(layers.Layer):
    """Corrupts pictures in [0, 1] in training, and passes them on unchanged otherwise.

    `amount` is the strength. Each call draws new noise. Two layers with the same `seed` draw
    the same sequence. Subclasses define the corruption in `corrupt(x)`.
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
    """Corrupt `x` as the layer `noise` does in training, in the same way for the same `seed`."""
    layer = type(noise).from_config({**noise.get_config(), "seed": seed})
    parts = np.split(x, range(1000, len(x), 1000))  # in chunks, to limit peak memory
    return np.concatenate([ops.convert_to_numpy(layer(part, training=True)) for part in parts])


def log_likelihood(x_noisy, x, sigma):
    """log p(x_noisy | x) for clipped Gaussian noise, up to a constant: (n noisy, n clean)."""
    black, white = (np.float32(x_noisy == end) for end in (0, 1))
    gray = 1 - black - white
    clipped = black @ special.log_ndtr(-x / sigma).T
    clipped += white @ special.log_ndtr((x - 1) / sigma).T
    between = (gray * x_noisy) @ x.T - gray @ np.square(x).T / 2
    return clipped + between / sigma**2


def posterior(x_noisy, candidates, sigma):
    """Probability of each of the `candidates`, given each noisy picture."""
    return special.softmax(log_likelihood(x_noisy, candidates, sigma), axis=1)


def build_deep(noise, n_code):
    """Noise (in training), then 784-400-`n_code`-400-784.

    Returns the whole, the encoder and the decoder, which share their weights.
    """
    encoder = keras.Sequential([keras.Input((784,))])
    encoder.add(layers.Dense(400, activation="relu"))
    encoder.add(layers.Dense(n_code))
    decoder = keras.Sequential([keras.Input((n_code,))])
    decoder.add(layers.Dense(400, activation="relu"))
    decoder.add(layers.Dense(784, activation="sigmoid"))
    x = keras.Input((784,))
    return keras.Model(x, decoder(encoder(noise(x)))), encoder, decoder


class TiedDenoiser(keras.Model):
    """One hidden layer of sigmoid units; the decoder uses their weights again, transposed."""

    def __init__(self, noise, n_units=100, **kwargs):
        super().__init__(**kwargs)
        self.noise = noise
        small = keras.initializers.RandomNormal(stddev=0.01)
        self.units = layers.Dense(n_units, activation="sigmoid", kernel_initializer=small)
        self.bias = self.add_weight(shape=(784,), initializer="zeros", name="bias")

    def call(self, x, training=False):
        z = self.units(self.noise(x, training=training))
        return ops.sigmoid(z @ ops.transpose(self.units.kernel) + self.bias)


def build_filter_bank(noises, n_units=100):
    """A `TiedDenoiser` for each layer of `noises`, from the same input to a list of outputs."""
    x = keras.Input((784,))
    return keras.Model(x, [TiedDenoiser(noise, n_units)(x) for noise in noises])


def wavelength(filters):
    """Mean wavelength in pixels of the patterns in `filters` `(n, 784)`, by their spectra."""
    power = np.square(np.abs(np.fft.fft2(filters.reshape(-1, 28, 28))))
    rows, columns = np.meshgrid(np.fft.fftfreq(28), np.fft.fftfreq(28), indexing="ij")
    frequency = np.hypot(rows, columns)
    floor = np.median(power[:, frequency > 0.35], axis=1)  # the pixels' noise, at all frequencies
    power = np.maximum(power - 2 * floor[:, np.newaxis, np.newaxis], 0)
    mean_frequency = (power * frequency).sum(axis=(1, 2)) / power.sum(axis=(1, 2))
    return float(1 / np.median(mean_frequency))


@keras.saving.register_keras_serializable(package="course")
class AnyGaussianNoise(Noise):
    """Gaussian noise of a strength between half of `amount` and `amount` for each picture."""

    def corrupt(self, x):
        one_each = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        share = keras.random.uniform(one_each, 0.5, 1.0, seed=self.seed_generator)
        noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        return ops.clip(x + share * self.amount * noise, 0.0, 1.0)


def build_conv_denoiser(noise, skips=True):
    """Convolutional denoiser of flat pictures `(n, 784)`; `noise` is a layer for `(n, 28, 28, 1)`.

    `skips=False` leaves the two skip connections out.
    """
    x = keras.Input((784,))
    x_noisy = noise(layers.Reshape((28, 28, 1))(x))
    half = layers.Conv2D(32, 5, strides=2, padding="same", activation="relu")(x_noisy)
    quarter = layers.Conv2D(48, 3, strides=2, padding="same", activation="relu")(half)
    code = layers.Dense(256, activation="relu")(layers.Flatten()(quarter))
    up = layers.Reshape((7, 7, 48))(layers.Dense(7 * 7 * 48, activation="relu")(code))
    up = layers.Concatenate()([quarter, up]) if skips else up
    up = layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu")(up)
    up = layers.Concatenate()([half, up]) if skips else up
    up = layers.Conv2DTranspose(1, 6, strides=2, padding="same", activation="sigmoid")(up)
    return keras.Model(x, layers.Flatten()(up))


def two_convolutions(x, channels):
    """Two 3×3 convolutions that keep the resolution."""
    for _ in range(2):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
    return x


def build_unet(noise):
    """U-Net for flat pictures `(n, 784)`, with a skip connection at 28×28 and at 14×14."""
    x = keras.Input((784,))
    full = two_convolutions(layers.Reshape((28, 28, 1))(noise(x)), 24)
    half = two_convolutions(layers.MaxPooling2D()(full), 48)
    deep = two_convolutions(layers.MaxPooling2D()(half), 96)
    deep = layers.Conv2D(96, 3, padding="same", activation="relu")(deep)
    up = layers.Concatenate()([half, layers.UpSampling2D()(deep)])
    up = two_convolutions(up, 48)
    up = layers.Concatenate()([full, layers.UpSampling2D()(up)])
    up = two_convolutions(up, 24)
    pixels = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(up)
    return keras.Model(x, layers.Flatten()(pixels))


def codes_moved(z, share, rng):
    """Codes `(n, d)`, each moved by `share` of the difference between two codes drawn at random."""
    return (z + share * (rng.permutation(z) - rng.permutation(z))).astype("float32")


# From notebooks/04_sparse_autoencoder.ipynb


def build_sparse(*code_layers):
    """784 → code → 784: `code_layers` make the code, one dense sigmoid layer decodes it.

    Returns `autoencoder, encoder, decoder`, which share their weights.
    """
    encoder = keras.Sequential([keras.Input((784,)), *code_layers], name="encoder")
    n_code = encoder.output_shape[-1]
    output = layers.Dense(784, activation="sigmoid")
    decoder = keras.Sequential([keras.Input((n_code,)), output], name="decoder")
    x = keras.Input((784,))
    return keras.Model(x, decoder(encoder(x))), encoder, decoder


def describe_code(z):
    """How sparse a code of shape `(n, units)` is: a dict with `active`, `mean` and `dead`.

    `active` is the share of units above a tenth of their own maximum, mean over the pictures;
    `mean` the mean activation; `dead` the number of units that are the same for all pictures.
    """
    high, low = z.max(axis=0), z.min(axis=0)
    dead = high - low < 0.01 * z.max()
    active = (z > 0.1 * high) & ~dead
    return {"active": active.mean(), "mean": z.mean(), "dead": int(dead.sum())}


@keras.saving.register_keras_serializable(package="course")
class L1Sparsity(layers.Layer):
    """Passes a code on and adds strength · Σ_j |z_j|, mean over the batch, to the loss."""

    def __init__(self, strength=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.strength = strength

    def call(self, z):
        self.add_loss(self.strength * ops.mean(ops.sum(ops.abs(z), axis=-1)))
        return z

    def get_config(self):
        return {**super().get_config(), "strength": self.strength}


def bernoulli_kl(rho, rho_hat):
    """KL divergence in nats between two coins with probabilities `rho` and `rho_hat`."""
    heads = rho * ops.log(rho / rho_hat)
    tails = (1 - rho) * ops.log((1 - rho) / (1 - rho_hat))
    return heads + tails


@keras.saving.register_keras_serializable(package="course")
class KLSparsity(layers.Layer):
    """Passes a sigmoid code on and adds beta · Σ_j KL(rho ‖ mean of unit j) to the loss.

    The code has the shape `(n, units)`; the mean is over the batch, for each unit.
    """

    def __init__(self, rho=0.05, beta=0.003, **kwargs):
        super().__init__(**kwargs)
        self.rho, self.beta = rho, beta

    def call(self, z):
        rho_hat = ops.clip(ops.mean(z, axis=0), 1e-6, 1 - 1e-6)
        self.add_loss(self.beta * ops.sum(bernoulli_kl(self.rho, rho_hat)))
        return z

    def get_config(self):
        return {**super().get_config(), "rho": self.rho, "beta": self.beta}


def sigmoid_code(n_code=1024, rho=0.05):
    """A dense sigmoid layer whose units start near the mean activation `rho`."""
    return layers.Dense(
        n_code,
        activation="sigmoid",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
        bias_initializer=keras.initializers.Constant(np.log(rho / (1 - rho))),
    )


@keras.saving.register_keras_serializable(package="course")
class TopK(layers.Layer):
    """Keeps the `k` largest numbers of each row and sets the others to zero.

    Never more than `k` are kept: of equal ones the first. The gradient is 1 for the kept, 0 else.
    """

    def __init__(self, k, **kwargs):
        super().__init__(**kwargs)
        self.k = k

    def call(self, z):
        kth = ops.top_k(z, self.k)[0][:, -1:]
        above, tied = z > kth, ops.equal(z, kth)
        free = self.k - ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
        first = ops.cumsum(ops.cast(tied, "int32"), axis=-1) <= free
        return ops.where(above | (tied & first), z, 0.0)

    def get_config(self):
        return {**super().get_config(), "k": self.k}


def topk_code(k, n_code=1024):
    """The layers of a top-k code: dense, normalized per unit, the `k` largest kept."""
    return (
        layers.Dense(n_code, use_bias=False),
        layers.BatchNormalization(center=False, scale=False, momentum=0.9),
        TopK(k),
    )


def stroke_windows(x, n, seed=None, width=3.5):
    """`n` small pieces of ink: random pictures of `x`, dimmed around a random inked pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :28]
    windows = np.empty((n, 784), dtype="float32")
    for i, picture in enumerate(x[rng.choice(len(x), n)].reshape(-1, 28, 28)):
        row, column = rng.choice(np.argwhere(picture > 0.5))
        distance = (rows - row) ** 2 + (columns - column) ** 2
        windows[i] = (picture * np.exp(-distance / (2 * width**2))).ravel()
    return windows


def growing_sums(strokes, x, steps):
    """Each flat picture of `x` drawn with its first 1, 2, … parts: shape `(n, len(steps), 784)`."""
    _, z, chosen = (ops.convert_to_numpy(array) for array in strokes.pursue(x))
    drawn = np.cumsum(z[..., None] * chosen, axis=1)
    return np.clip(drawn[:, np.array(steps) - 1], 0, 1)


@keras.saving.register_keras_serializable(package="course")
class Strokes(layers.Layer):
    """Draws flat pictures as sums of at most `k` of its `n_parts` parts (matching pursuit)."""

    def __init__(self, n_parts=2048, k=12, n_adjust=20, **kwargs):
        super().__init__(**kwargs)
        self.n_parts, self.k, self.n_adjust = n_parts, k, n_adjust

    def build(self, shape):
        self.kernel = self.add_weight(shape=(self.n_parts, shape[-1]), initializer="uniform", constraint="non_neg")

    def parts(self):
        """The parts, shape `(n_parts, pixels)`: no negative ink, and each of length 1."""
        return self.kernel / (ops.norm(self.kernel, axis=1, keepdims=True) + 1e-6)

    def pursue(self, x, k=None):
        """Which `k` parts draw `x`, in which order, and how strongly.

        Returns `units` and `z`, both of shape `(n, k)`, and the chosen parts `(n, k, pixels)`.
        """
        parts = self.parts()
        frozen = ops.stop_gradient(parts)
        overlaps = ops.matmul(frozen, ops.transpose(frozen))
        match, taken, units, z = ops.matmul(x, ops.transpose(frozen)), 0.0, [], []
        for _ in range(k or self.k):
            unit = ops.argmax(match - 1e6 * taken, axis=1)
            strength = ops.relu(ops.take_along_axis(match, unit[:, None], axis=1))
            match = match - strength * ops.take(overlaps, unit, axis=0)
            taken = taken + ops.one_hot(unit, self.n_parts)
            units, z = [*units, unit], [*z, strength]
        units = ops.stack(units, axis=1)
        chosen = ops.take(parts, units, axis=0)
        z = self.adjust(x, ops.concatenate(z, axis=1), ops.stop_gradient(chosen))
        return units, z, chosen

    def adjust(self, x, z, chosen):
        """Improve all strengths together: gradient steps on the squared error, none below zero."""
        matches = ops.sum(chosen * x[:, None], axis=2)
        overlaps = ops.matmul(chosen, ops.transpose(chosen, (0, 2, 1)))
        step = 1 / ops.max(ops.sum(overlaps, axis=2), axis=1, keepdims=True)
        for _ in range(self.n_adjust):
            z = ops.relu(z + step * (matches - ops.sum(overlaps * z[:, None], axis=2)))
        return z

    def call(self, x):
        _, z, chosen = self.pursue(x)
        return ops.sum(z[..., None] * chosen, axis=1)

    def get_config(self):
        settings = {"n_parts": self.n_parts, "k": self.k, "n_adjust": self.n_adjust}
        return {**super().get_config(), **settings}


def build_strokes(windows, k=12):
    """A model whose only layer draws with `k` parts that start as the given `windows`."""
    x = keras.Input((windows.shape[1],))
    model = keras.Model(x, Strokes(len(windows), k, name="strokes")(x))
    model.set_weights([windows])
    return model


def matched(x, parts, n=600):
    """How much better the `n` best of `parts` match each picture than the next one; else zero.

    `x` has the shape `(batch, pixels)`, `parts` `(units, pixels)` with rows of length 1.
    """
    matches = ops.matmul(x, ops.transpose(parts))
    return ops.relu(matches - ops.top_k(matches, n + 1)[0][:, -1:])


def build_probe(n_units):
    """A softmax layer that reads digits from codes of `n_units`, each unit scaled to the same spread."""
    return keras.Sequential(
        [
            keras.Input((n_units,)),
            layers.BatchNormalization(center=False, scale=False),
            layers.Dense(10, activation="softmax", kernel_regularizer=keras.regularizers.L2(1e-5)),
        ]
    )


# From notebooks/05_contractive_autoencoder.ipynb


def contractive_penalty(h, kernel):
    """Squared Frobenius norm of the Jacobian of h = sigmoid(x W + b), for each picture.

    `h` has the shape `(n, units)`, `kernel` is W with the shape `(inputs, units)`; the
    result has the shape `(n,)`.
    It holds for a single sigmoid layer only.
    """
    squared_slopes = ops.square(h * (1 - h))
    squared_columns = ops.sum(ops.square(kernel), axis=-2, keepdims=True)
    return ops.sum(squared_slopes * squared_columns, axis=-1)


def estimate_squared_norm(encoder, x, v, epsilon=0.01):
    """Estimate the squared Frobenius norm of any encoder's Jacobian, for each picture.

    `x` and `v` have the same shape `(n, ...)`; the entries of `v` are independent with mean
    0 and variance 1. Returns `‖(f(x + εv) − f(x − εv)) / 2ε‖²` with the shape `(n,)`: one
    draw, whose mean over many `v` is the squared norm, up to an error of the order ε².
    """
    difference = (encoder(x + epsilon * v) - encoder(x - epsilon * v)) / (2 * epsilon)
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


@keras.saving.register_keras_serializable(package="course")
class ContractiveDense(layers.Dense):
    """Sigmoid layer that adds `strength` times its mean squared Jacobian norm to the loss.

    With `relative=True` the norm is divided by the squared spread of the batch's codes, the
    sum of their variances, so that making all codes smaller does not make the loss smaller.
    """

    def __init__(self, units, strength=0.0, relative=False, **kwargs):
        kwargs["activation"] = "sigmoid"  # the formula holds for no other
        super().__init__(units, **kwargs)
        self.strength = strength
        self.relative = relative

    def call(self, x):
        h = super().call(x)
        if self.strength:
            squared_norm = ops.mean(contractive_penalty(h, self.kernel))
            if self.relative:
                squared_norm = squared_norm / ops.sum(ops.var(h, axis=0))
            self.add_loss(self.strength * squared_norm)
        return h

    def get_config(self):
        return super().get_config() | {"strength": self.strength, "relative": self.relative}


def build_one_layer_autoencoder(code_layer, mean_image, disturb=None):
    """784 → minus the mean image → `code_layer` → 784; returns the autoencoder and its encoder.

    `disturb` is a layer that changes the pictures in training, such as `GaussianNoise`.
    """
    x = keras.Input((784,))
    encoder = keras.Model(x, code_layer(layers.Rescaling(1.0, offset=-mean_image)(x)))
    z = encoder(disturb(x) if disturb else x)
    return keras.Model(x, layers.Dense(784, activation="sigmoid")(z)), encoder


# From notebooks/06_variational_autoencoder.ipynb


def kl_to_standard_normal(mu, log_var):
    """KL(N(mu, σ²) ‖ N(0, I)) in nats, for each picture: summed over the latents.

    `mu` and `log_var` = log σ² have the shape `(n, latents)`; the result has the shape `(n,)`.
    """
    return 0.5 * ops.sum(ops.square(mu) + ops.exp(log_var) - 1 - log_var, axis=-1)


@keras.saving.register_keras_serializable(package="course")
class Sampling(layers.Layer):
    """Draws z = mu + sigma · ε with σ = exp(log_var / 2) and fresh ε ~ N(0, I) in each call.

    Takes `[mu, log_var]`, both of shape `(n, latents)`. With a `seed` a new layer gives the
    same draws in the same order.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        mu, log_var = inputs
        epsilon = keras.random.normal(ops.shape(mu), seed=self.seed_generator)
        return mu + ops.exp(log_var / 2) * epsilon

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def build_vae_networks(hidden, latent, n_pixels=784, activation="relu"):
    """Dense encoder and decoder of a VAE, with the layers `hidden` (decoder: in reverse).

    The encoder takes flat pictures `(n, n_pixels)` and gives `[mu, log_var]`, each of shape
    `(n, latent)`; the decoder takes codes `(n, latent)` and gives pixels in [0, 1].
    """
    x = keras.Input((n_pixels,))
    h = x
    for size in hidden:
        h = layers.Dense(size, activation=activation)(h)
    mu = layers.Dense(latent, name="mu")(h)
    small_noise = keras.initializers.Constant(-3.0)
    log_var = layers.Dense(latent, name="log_var", bias_initializer=small_noise)(h)
    encoder = keras.Model(x, [mu, log_var], name="encoder")
    decoder = keras.Sequential([keras.Input((latent,))], name="decoder")
    for size in reversed(hidden):
        decoder.add(layers.Dense(size, activation=activation))
    decoder.add(layers.Dense(n_pixels, activation="sigmoid"))
    return encoder, decoder


@keras.saving.register_keras_serializable(package="course")
class VAE(keras.Model):
    """Variational autoencoder. Its loss is reconstruction + beta · KL, in nats per picture.

    `encoder` gives `[mu, log_var]`, `decoder` gives pixels in [0, 1]. Reconstruction is the
    binary cross-entropy summed over pixels; both parts are means over the batch.
    """

    def __init__(self, encoder, decoder, beta=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.sampling = Sampling(seed)
        self.beta = keras.Variable(beta, trainable=False, name="beta")
        self.reconstruction = keras.metrics.Mean(name="reconstruction")
        self.kl = keras.metrics.Mean(name="kl")

    def build(self, input_shape):
        """Nothing is left to build: both networks have their weights already."""

    def call(self, x, training=False):
        mu, log_var = self.encoder(x)
        return self.decoder(self.sampling([mu, log_var]) if training else mu)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        mu, log_var = self.encoder(x)
        return self.add_up(x, self.decoder(self.sampling([mu, log_var])), mu, log_var)

    def add_up(self, x, x_hat, mu, log_var):
        """Reconstruction + beta · KL, mean over the batch; tells both parts to the metrics."""
        reconstruction = ops.sum(ops.binary_crossentropy(x, x_hat), axis=-1)
        kl = kl_to_standard_normal(mu, log_var)
        self.reconstruction.update_state(reconstruction)
        self.kl.update_state(kl)
        return ops.mean(reconstruction) + self.beta * ops.mean(kl)

    def get_config(self):
        networks = {"encoder": self.encoder, "decoder": self.decoder}
        beta = float(ops.convert_to_numpy(self.beta))
        numbers = {"beta": beta, "seed": self.sampling.seed}
        serialized = keras.saving.serialize_keras_object(networks)
        return {**super().get_config(), **serialized, **numbers}

    @classmethod
    def from_config(cls, config):
        parts = {name: config.pop(name) for name in ("encoder", "decoder")}
        return cls(**keras.saving.deserialize_keras_object(parts), **config)


def log_aggregate(z, mu, log_var):
    """Log of the aggregate posterior, the mean of the clouds N(mu, σ²), at the points z.

    `z` has the shape `(n, latents)`, `mu` and `log_var` `(clouds, latents)`; the result `(n,)`.
    """
    squares = np.square(z[:, np.newaxis] - mu) / np.exp(log_var)
    log_q = -0.5 * np.sum(squares + log_var + np.log(2 * np.pi), axis=2)
    return np.logaddexp.reduce(log_q, axis=1) - np.log(len(mu))


def log_weights(vae, x, n_samples, seed=None, clouds=None):
    """log p(x, z) − log q(z | x) for `n_samples` draws of z from q: shape `(n, n_samples)`.

    `x` are flat pictures `(n, pixels)`. The mean over the draws estimates the ELBO in nats.
    `clouds`: `(mu, log_var)` of a q of one's own; by default the encoder's.
    """
    sampling = Sampling(seed)
    mu, log_var = vae.encoder(x) if clouds is None else clouds
    results = []
    for _ in range(n_samples):
        z = sampling([mu, log_var])
        epsilon = (z - mu) / ops.exp(log_var / 2)
        log_likelihood = -ops.sum(ops.binary_crossentropy(x, vae.decoder(z)), axis=-1)
        # log N(z; 0, I) − log N(z; mu, σ²); the constants cancel
        difference = ops.sum(ops.square(epsilon) + log_var - ops.square(z), axis=-1) / 2
        results.append(ops.convert_to_numpy(log_likelihood + difference))
    return np.stack(results, axis=1)


def iwae_bound(log_w, k):
    """The bound with k samples on log p(x), for each picture, from `log_weights`.

    `log_w` has the shape `(n, n_samples)`; its rows are cut into groups of `k`, and the
    bounds log(mean of the group's weights) are averaged. Returns shape `(n,)`; k = 1: ELBO.
    """
    if log_w.shape[1] % k:
        raise ValueError(f"{log_w.shape[1]} samples cannot be cut into groups of {k}.")
    groups = log_w.reshape(len(log_w), -1, k)
    return (np.logaddexp.reduce(groups, axis=2) - np.log(k)).mean(axis=1)


# From notebooks/07_digit_generation.ipynb


def build_writer_networks(hidden, latent, n_labels=0):
    """Dense encoder and decoder for flat digits, with the SiLU layers `hidden`.

    Without labels: encoder `x → [mu, log_var]`, decoder `z → x_hat`. With `n_labels` both take
    a one-hot label as second input: `[x, y] → [mu, log_var]` and `[z, y] → x_hat`.
    """
    x, z, y = keras.Input((784,)), keras.Input((latent,)), keras.Input((n_labels,))
    h, g = (layers.Concatenate()([part, y]) if n_labels else part for part in (x, z))
    for size in hidden:
        h = layers.Dense(size, activation="silu")(h)
    for size in reversed(hidden):
        g = layers.Dense(size, activation="silu")(g)
    codes = [layers.Dense(latent, name="mu")(h), layers.Dense(latent, name="log_var")(h)]
    pixels = layers.Dense(784, activation="sigmoid")(g)
    encoder = keras.Model([x, y] if n_labels else x, codes, name="encoder")
    return encoder, keras.Model([z, y] if n_labels else z, pixels, name="decoder")


def draw_from_mixture(mixture, n, rng, temperature=1.0):
    """`n` codes from a fitted mixture; the distances from the components' means are scaled by T.

    `rng` is a NumPy generator. The codes come in random order, shape `(n, d)`.
    """
    component = rng.choice(len(mixture.weights_), size=n, p=mixture.weights_)
    roots = np.linalg.cholesky(mixture.covariances_)[component]
    noise = rng.normal(size=(n, roots.shape[-1]))
    return mixture.means_[component] + temperature * np.einsum("nij,nj->ni", roots, noise)


def inception_score(probabilities):
    """exp of the mean KL divergence between each row of probabilities `(n, classes)` and their mean."""
    p = np.asarray(probabilities, dtype="float64")
    if p.ndim != 2 or not np.allclose(p.sum(axis=1), 1, atol=1e-3):
        raise ValueError("expected rows of probabilities that sum to 1.")
    tiny = np.finfo("float64").tiny  # 0 · log 0 counts as 0
    divergence = p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(p.mean(axis=0), tiny)))
    return float(np.exp(divergence.sum(axis=1).mean()))


def frechet_distance(features, others):
    """Squared Fréchet distance between two sets of features, taken as normally distributed.

    Both have the shape `(n, d)`, with at least two rows each; `n` may differ. It is
    ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) for means m and covariances C.
    """
    a, b = np.asarray(features, "float64"), np.asarray(others, "float64")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"expected two sets (n, d) with the same d, not {a.shape}, {b.shape}.")
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # C₁ C₂ and C₁^½ C₂ C₁^½ have the same eigenvalues, and the latter is symmetric
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    spread = np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    return float(max(np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + spread, 0.0))


def variety(x, digits):
    """Variance of the pixels of flat pictures within each digit: summed over pixels, mean over digits.

    `digits` are the labels 0…9, shape `(n,)`. A digit that occurs less than twice counts as zero.
    """
    x, groups = np.asarray(x), [np.asarray(digits) == digit for digit in range(10)]
    return float(np.mean([x[g].var(axis=0).sum() if g.sum() > 1 else 0.0 for g in groups]))


def nearest(x, pool):
    """For each flat picture, the row of the picture in `pool` with the smallest squared difference."""
    half_norms = 0.5 * np.einsum("ij,ij->i", pool, pool)
    parts = [x[start : start + 100] for start in range(0, len(x), 100)]  # limits peak memory
    return np.concatenate([np.argmax(part @ pool.T - half_norms, axis=1) for part in parts])


@keras.saving.register_keras_serializable(package="course")
class ConditionalVAE(VAE):
    """VAE of pictures given their labels; its input is the pair `[pictures, labels]`.

    `encoder` takes `[x, y]` and gives `[mu, log_var]`, `decoder` takes `[z, y]`. The loss is
    as for `VAE`: BCE summed over pixels + beta · KL, mean over the batch, in nats.
    """

    def call(self, inputs, training=False):
        x, y = inputs
        mu, log_var = self.encoder([x, y])
        return self.decoder([self.sampling([mu, log_var]) if training else mu, y])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        pictures, labels = x
        mu, log_var = self.encoder([pictures, labels])
        x_hat = self.decoder([self.sampling([mu, log_var]), labels])
        return self.add_up(pictures, x_hat, mu, log_var)


def fit_each_digit(codes, y):
    """Mean `(10, d)` and symmetric root of the covariance `(10, d, d)` of the codes of each digit."""
    means, roots = [], []
    for digit in range(10):
        values, vectors = np.linalg.eigh(np.cov(codes[y == digit], rowvar=False))
        means.append(codes[y == digit].mean(axis=0))
        roots.append((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
    return np.stack(means), np.stack(roots)


def with_fitted_prior(decoder, means, roots):
    """Network from `[epsilon, y]` to pictures: `decoder` for the code z = m_y + C_y^½ epsilon."""
    n_labels, latent = means.shape
    epsilon, y = keras.Input((latent,)), keras.Input((n_labels,))
    mean = layers.Dense(latent, use_bias=False, name="means")
    root = layers.Dense(latent * latent, use_bias=False, name="roots")
    spread = layers.Dot(axes=(2, 1))([layers.Reshape((latent, latent))(root(y)), epsilon])
    model = keras.Model([epsilon, y], decoder([layers.Add()([mean(y), spread]), y]))
    mean.set_weights([means])
    root.set_weights([roots.reshape(n_labels, -1)])
    return model


def slant_degrees(x):
    """Slant of flat digits `(n, 784)` in degrees, from second moments; positive: to the right.

    A picture sheared by that angle about its center has no correlation of row and column.
    """
    row, column = (axis.ravel() for axis in np.mgrid[:28, :28])
    up, right = -row, column  # rows are counted downwards
    x = np.asarray(x, "float64")
    moments = x @ np.stack([up, right, up * right, up * up], axis=1)
    moments /= np.maximum(x.sum(axis=1, keepdims=True), 1e-9)
    covariance = moments[:, 2] - moments[:, 0] * moments[:, 1]
    variance = moments[:, 3] - moments[:, 0] ** 2
    return np.degrees(np.arctan(covariance / np.maximum(variance, 1e-9)))


def ink(x):
    """Amount of ink of flat digits `(n, 784)`: the sum of the pixels, in white pixels."""
    return np.asarray(x).sum(axis=1)


def write_digits(text, generator="digit_writer.keras", seed=None, temperature=1.0):
    """Write a number in one handwriting: a picture `(28, 28 · length)` of pixels in [0, 1].

    `generator` is a network from `[noise, labels]` to digits, or the file that it was saved in.
    The same `seed` gives the same hand; a lower `temperature` a more ordinary one.
    """
    text = str(text)
    if not text or not set(text) <= set("0123456789"):
        raise ValueError(f"expected a text of digits 0 to 9, but it is {text!r}.")
    if not isinstance(generator, keras.Model):
        generator = keras.models.load_model(generator)
    n_latent = generator.input_shape[0][-1]
    z = temperature * np.random.default_rng(seed).normal(size=(1, n_latent))
    labels = np.eye(10)[[int(character) for character in text]]
    pictures = generator([np.repeat(z, len(text), axis=0), labels])
    return np.hstack(ops.convert_to_numpy(pictures).reshape(-1, 28, 28))


# From notebooks/08_representation.ipynb


def balanced_rows(y, n, rng):
    """Row numbers of `n` examples drawn at random, `n / 10` of each digit."""
    rows = [rng.choice(np.flatnonzero(y == digit), n // 10, replace=False) for digit in range(10)]
    return np.concatenate(rows)


def small_weights():  # uniform from -1/√n to 1/√n for n inputs, as was usual before 2010
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def build_stack(start=small_weights, sizes=(784, 256, 128, 64, 32)):
    stack = keras.Sequential([keras.Input((sizes[0],))])
    for size in sizes[1:]:
        stack.add(layers.Dense(size, activation="sigmoid", kernel_initializer=start()))
    stack.add(layers.Dense(10, activation="softmax", kernel_initializer=start()))
    return stack


def descend(model, x, y, loss, rate, batch_size, epochs):
    """Fit `model` by plain gradient descent; returns the loss of each epoch."""
    model.compile(keras.optimizers.SGD(rate), loss)
    if keras.backend.backend() != "torch":  # which takes one step at a time
        model.steps_per_execution = 50  # in one call into the backend, which is much faster
    losses = model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0).history["loss"]
    model.steps_per_execution = 1
    return losses


def pretrain_layers(stack, x, rate, epochs=2):
    """Train the hidden layers of `stack` one after the other as encoders, by gradient descent.

    `x` are flat pictures; no labels are needed. `rate` is meant for the cross-entropy summed
    over the outputs.
    """
    h = x
    for layer in stack.layers[:-1]:
        n = h.shape[1]
        decoder = layers.Dense(n, activation="sigmoid", kernel_initializer=small_weights())
        encoder = keras.Sequential([keras.Input((n,)), layer])
        autoencoder = keras.Sequential([keras.Input((n,)), layer, decoder])
        descend(autoencoder, h, h, "binary_crossentropy", rate * n, 100, epochs)  # of the mean
        h = encoder.predict(h, batch_size=1000, verbose=0)


def neighbors(z, pool, k):
    """Row numbers of the `k` codes of `pool` that are nearest to each code of `z`, nearest first."""
    pool = ops.convert_to_tensor(pool, "float32")
    half_norms = ops.sum(ops.square(pool), axis=1) / 2
    parts = [z[start : start + 500] for start in range(0, len(z), 500)]  # limits peak memory
    nearness = (ops.matmul(part, ops.transpose(pool)) - half_norms for part in parts)
    return np.concatenate([ops.convert_to_numpy(ops.top_k(some, k)[1]) for some in nearness])


def neighbor_graph(z, k):
    """Sparse matrix `(n, n)`: 1 where one of two codes is among the `k` nearest of the other, else 0."""
    n = len(z)
    columns = neighbors(z, z, k + 1).ravel()  # one more, because each code is its own nearest
    rows = np.repeat(np.arange(n), k + 1)
    W = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    W.setdiag(0)
    W.eliminate_zeros()
    return W.maximum(W.T)


def normalized(W):
    """The graph with each entry divided by the roots of both degrees."""
    roots = np.sqrt(np.maximum(np.asarray(W.sum(axis=1)).ravel(), 1))
    return sparse.diags(1 / roots) @ W @ sparse.diags(1 / roots)


def spread_labels(W, y_known, alpha=0.99, steps=50):
    """Pass labels along the edges of a graph; `y_known` and the result have the shape `(n, columns)`.

    A row of `y_known` is one-hot where the label is known, else zero. Each node takes `alpha` of its
    neighbors' scores and `1 - alpha` of its own label; at the end all columns have the same sum."""
    S, scores = normalized(W), y_known
    for _ in range(steps):
        scores = alpha * (S @ scores) + (1 - alpha) * y_known
    return scores / np.maximum(scores.sum(axis=0), 1e-12)


def cluster_accuracy(clusters, y):
    """Share of right digits if each cluster stands for another digit, under the best such pairing."""
    table = np.zeros((10, 10))
    np.add.at(table, (clusters, y), 1)
    rows, columns = optimize.linear_sum_assignment(table, maximize=True)
    return table[rows, columns].sum() / len(y)


def spectral_code(W, n):
    """`n` numbers for each node: the graph's leading eigenvectors, each row scaled to length 1."""
    S = normalized(W)
    _, vectors = sparse.linalg.eigsh(S, k=n, which="LA", v0=np.ones(S.shape[0]))
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


# From notebooks/09_anomaly_detection.ipynb


@keras.saving.register_keras_serializable(package="course")
class SideBySideDense(layers.Dense):
    """Dense layers of several networks that do not see each other: `(batch, networks, inputs)` to `(batch, networks, units)`."""

    def build(self, input_shape):
        _, networks, inputs = input_shape
        limit = (6 / (inputs + self.units)) ** 0.5  # as for a single dense layer
        uniform = keras.initializers.RandomUniform(-limit, limit)
        self.kernels = self.add_weight(shape=(networks, inputs, self.units), initializer=uniform)
        self.biases = self.add_weight(shape=(networks, self.units), initializer="zeros")
        self.built = True

    def call(self, x):
        return self.activation(ops.einsum("bni,nio->bno", x, self.kernels) + self.biases)


def build_detectors(code_size, networks=10, hidden=128):
    """Autoencoders 784 → `hidden` → `code_size` → `hidden` → 784 side by side, for pictures `(batch, networks, 784)`."""
    x = keras.Input((networks, 784))
    h = SideBySideDense(hidden, activation="relu")(x)
    z = SideBySideDense(code_size)(h)
    h = SideBySideDense(hidden, activation="relu")(z)
    return keras.Model(x, SideBySideDense(784, activation="sigmoid")(h))


def detector_errors(detectors, x):
    """Squared error of each flat picture in each of the networks side by side: `(n, 784)` to `(n, networks)`."""
    networks = detectors.input_shape[1]
    errors = []
    for some in np.array_split(x, max(1, len(x) // 1000)):
        x_10 = np.repeat(some[:, np.newaxis], networks, axis=1)
        residual = x_10 - ops.convert_to_numpy(detectors.predict_on_batch(x_10))
        errors.append(np.square(residual).sum(axis=-1))
    return np.concatenate(errors)


def blurred(x, sigma=1.0):
    """Flat pictures `(n, 784)`, or differences of pictures, after a Gaussian filter of width `sigma` in pixels."""
    pictures = np.reshape(x, (-1, 28, 28))
    return ndimage.gaussian_filter(pictures, (0, sigma, sigma)).reshape(np.shape(x))


def general_errors(x, x_normal, sigma=1.0):
    """Squared error of each flat picture in `x` if a blur reconstructs it, plus a twentieth of the median for `x_normal`."""
    usual = np.median(np.square(x_normal - blurred(x_normal, sigma)).sum(axis=1))
    return np.square(x - blurred(x, sigma)).sum(axis=1) + 0.05 * usual


def neighbor_errors(x_normal, x, k=2):
    """Square of the mean distance of each flat picture in `x` to its `k` nearest ones in `x_normal`."""
    squares = np.square(x_normal).sum(axis=1)
    distances = []
    for some in np.array_split(x, max(1, len(x) // 1000)):
        squared = np.square(some).sum(axis=1, keepdims=True) + squares - 2 * some @ x_normal.T
        nearest = np.partition(squared, k - 1, axis=1)[:, :k]
        distances.append(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
    return np.square(np.concatenate(distances))


def mean_over_tasks(measure, scores, y):
    """Mean of `measure(anomalous, scores)` over tasks; column t of `scores` has the scores of the task with normal digit t."""
    return float(np.mean([measure(y != digit, scores[:, digit]) for digit in range(scores.shape[1])]))


def threshold_for(scores_of_normal, rate):
    """The score that a share `rate` of normal examples exceeds."""
    return float(np.quantile(scores_of_normal, 1 - rate))


def precision_of_alarms(base_rate, recall, false_alarm_rate):
    """The share of alarms that are anomalies, by Bayes' rule."""
    right = base_rate * recall
    return right / (right + (1 - base_rate) * false_alarm_rate)


def damage(x, rng):
    """Flat pictures with a scratch or a blot each, and masks of the pixels that changed; two arrays `(n, 784)`."""
    pictures = x.reshape(-1, 28, 28).copy()
    rows, columns = np.mgrid[:28, :28]
    for i, picture in enumerate(pictures):
        row, column = rng.uniform(8, 20, size=2)
        if i % 2:  # a blot
            picture[np.hypot(rows - row, columns - column) < 2] = 1
        else:  # a scratch
            angle = rng.uniform(0, np.pi)
            across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
            along = (rows - row) * np.sin(angle) + (columns - column) * np.cos(angle)
            picture[(np.abs(across) < 0.6) & (np.abs(along) < 5)] = 1
    damaged = pictures.reshape(len(x), 784)
    return damaged, np.abs(damaged - x) > 0.2


RATE = 8000  # samples per second
STRENGTHS = np.array([1, 0.7, 0.9, 0.35, 0.5, 0.25, 0.3, 0.15, 0.2, 0.12, 0.1, 0.12])  # of the harmonics


def drift(rng, n, size, seconds):
    """A slow random curve of `n` samples: straight lines between random points that are `seconds` apart."""
    points = rng.normal(size=int(n / RATE / seconds) + 3)
    return size * np.interp(np.linspace(0, len(points) - 1, n), np.arange(len(points)), points)


def machine_hum(rng, fault=None, seconds=4):
    """A recording of the machine, and for each sample whether it is faulty: from the first to the third second."""
    t = np.arange(seconds * RATE) / RATE
    faulty = (t >= 1) & (t < 3) & (fault is not None)
    load = np.clip(rng.uniform() + drift(rng, len(t), 0.1, 1.0), 0, 1)
    speed = 40 + 25 * load + drift(rng, len(t), 0.3, 1.0)  # turns per second
    speed = speed + (1.2 * faulty * np.sin(2 * np.pi * 6 * t) if fault == "wobble" else 0)
    turns = np.cumsum(speed) / RATE
    k = np.arange(1, 13)[:, np.newaxis]
    strengths = STRENGTHS[:, np.newaxis] * np.exp((load - 0.5) * np.where(k % 2, -0.6, 1.2))
    strengths *= np.exp(np.stack([drift(rng, len(t), 0.06, 0.7) for _ in k]))
    if fault == "missing harmonic":
        strengths[4] *= 1 - 0.85 * faulty
    waves = np.sin(2 * np.pi * (k * turns + rng.uniform(size=k.shape)))
    hum = (strengths * waves).sum(axis=0) + 0.15 * rng.normal(size=len(t))
    sound = 0.12 * np.exp(load - 0.5) * hum
    if fault == "rubbing":
        sound += 0.02 * faulty * np.diff(rng.normal(size=len(t)), prepend=0) * np.sin(np.pi * turns) ** 2
    if fault == "clicks":
        ringing = 0.1 * np.exp(-np.arange(200) / 20) * np.sin(2 * np.pi * 2200 * np.arange(200) / RATE)
        for start in rng.integers(RATE, 3 * RATE, size=26):
            sound[start : start + 200] += ringing
    return sound.astype("float32"), faulty


WINDOW, HOP, PART = 2048, 1024, 1024


def in_windows(values):
    """Windows of `WINDOW` samples that overlap by half: shape `(windows, WINDOW)`."""
    return np.lib.stride_tricks.sliding_window_view(values, WINDOW)[::HOP]


def log_spectra(sound):
    """Logarithm of the power in 136 bands, for each window; five overlapping parts are averaged to reduce the noise."""
    windows = in_windows(sound)
    parts = [windows[:, i : i + PART] * np.hanning(PART) for i in range(0, WINDOW - PART + 1, 256)]
    power = np.mean([np.abs(np.fft.rfft(part)) ** 2 for part in parts], axis=0)
    wide = power[:, 113:497].reshape(len(power), 24, 16).mean(axis=-1)
    return np.log(np.concatenate([power[:, 1:113], wide], axis=1) + 0.02).astype("float32")
