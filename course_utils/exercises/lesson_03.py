"""Checks of the exercises of lesson 03."""

import inspect

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "03.snr",
    hints=("the noise is the difference noisy - clean; ten decibels are a factor of ten in energy.",),
)
def _snr(signal_to_noise) -> None:
    t = np.arange(1000)
    clean = np.sqrt(2) * np.sin(2 * np.pi * t / 50)  # energy 1 per sample over whole periods
    other = np.sqrt(2) * np.cos(2 * np.pi * t / 50)
    for share, decibels in [(1.0, 0.0), (0.1, 20.0), (2.0, -6.0206)]:
        answer = signal_to_noise(clean, clean + share * other)
        require(answer is not None, "the function returns nothing; it should return a number of decibels.")
        require(
            np.shape(answer) == () and np.isclose(answer, decibels, atol=1e-3),
            f"noise with {share:g} times the amplitude of the signal is {decibels:.1f} dB; it says {answer}.",
        )


@register_exercise(
    "03.speckle",
    hints=(
        "multiply by 1 + amount · normal numbers, one for each pixel, drawn with seed=self.seed_generator, then ops.clip.",
    ),
)
def _speckle(speckle) -> None:
    require(
        inspect.isclass(speckle) and issubclass(speckle, keras.layers.Layer),
        "expected a class that inherits from the lesson's Noise.",
    )
    layer = speckle(0.2, seed=5)
    x = np.tile(np.array([0.0, 0.25, 0.5, 1.0], np.float32), (2000, 50))

    def corrupted() -> np.ndarray:
        return keras.ops.convert_to_numpy(layer(x, training=True))

    require(np.array_equal(keras.ops.convert_to_numpy(layer(x)), x), "without training the picture must not change.")
    first, second = corrupted(), corrupted()
    require(first.shape == x.shape, f"pictures of shape {x.shape} came back with the shape {first.shape}.")
    require(first.min() >= 0 and first.max() <= 1, "some pixels lie outside [0, 1].")
    require(not np.array_equal(first, second), "two calls give the same noise; it must be new every time.")
    require(not np.allclose(first[0], first[1]), "all pictures of a batch get the same noise.")
    require(bool(np.all(first[:, ::4] == 0)), "a black pixel stays black when it is multiplied; it did not.")
    # Five standard deviations of 0.25 and two and a half of 0.5 lie inside [0, 1]: clipping hardly matters there.
    for column, value in [(1, 0.25), (2, 0.5)]:
        pixels = first[:, column::4]
        require(
            abs(pixels.mean() - value) < 0.005 and abs(pixels.std() / (0.2 * value) - 1) < 0.03,
            f"pixels of {value} with the strength 0.2 should get a standard deviation of {0.2 * value:.3f} around "
            f"{value}; they have {pixels.std():.3f} around {pixels.mean():.3f}.",
        )


@register_exercise(
    "03.langevin",
    hints=(
        "in each step: the score (denoise(x) - x) / sigma², then x + step · score + sqrt(2 · step) · rng.normal(size=x.shape).",
    ),
)
def _langevin(langevin_walk) -> None:
    # Data N(center, spread²): the best denoiser is known, and noisy data are N(center, spread² + sigma²).
    center, spread, sigma = np.array([3.0, -1.0]), 0.6, 0.8
    total = spread**2 + sigma**2

    def denoise(x: np.ndarray) -> np.ndarray:
        return center + (x - center) * spread**2 / total

    start = np.full((4000, 2), 5.0)
    end = langevin_walk(denoise, start, sigma, 0.05, 150, np.random.default_rng(0))
    require(end is not None, "the function returns nothing; it should return the points after the last step.")
    end = np.asarray(end)
    require(end.shape == start.shape, f"points of shape {start.shape} came back with the shape {end.shape}.")
    require((start == 5.0).all(), "it changes the array of starting points in place.")
    require(
        np.allclose(end.mean(axis=0), center, atol=0.1),
        f"the points should gather around {center.tolist()}; their mean is {end.mean(axis=0).round(2).tolist()}.",
    )
    variance = end.var(axis=0).mean()
    require(
        abs(variance / total - 1) < 0.1,
        f"the points should end with a variance of {total:.2f}, that of the noisy data; it is {variance:.3f}.",
    )
