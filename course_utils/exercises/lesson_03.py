"""Checks of the exercises of lesson 03."""

import inspect

import numpy as np

from course_utils.backend import keras
from course_utils.exercises.registry import register_exercise, require


@register_exercise(
    "03.averaging",
    hints=(
        "Decibels of the PSNR count squared errors, so ask how the mean squared error changes.",
        "Independent errors add up in their variances: the mean of n numbers has the n-th part of the variance of one.",
        "A factor of 100 in the MSE is 20 decibels. Which factor do 16 pictures bring, and how many decibels is it?",
    ),
)
def _averaging(gain) -> None:
    require(np.shape(gain) == () and np.isreal(gain), f"expected a number of decibels; it is {gain!r}.")
    expected = 10 * np.log10(16)
    require(gain > 0, "averaging removes noise, so the PSNR rises.")
    require(abs(gain - expected) > 0.25 or abs(gain - expected) <= 0.1, "you are close; give one more decimal place.")
    require(gain > expected - 0.1, f"the average is better than {gain:.4g} dB above a single picture.")
    require(gain < expected + 0.1, f"{gain:.4g} dB are more than the average of 16 pictures gains.")


@register_exercise(
    "03.pixel",
    hints=(
        "Only two values are possible, so the posterior mean is the probability that the pixel is ink, given what you see.",
        "Bayes' rule: weigh each of the two values by its prior and by the density of what you see, if it were the value.",
        "The density of x_noisy around a value x is proportional to exp(-(x_noisy - x)² / (2 sigma²)). Write it for x = 1 "
        "and for x = 0. Then two weights become a probability when they are divided by their sum.",
    ),
)
def _pixel(best_pixel) -> None:
    x_noisy = np.linspace(-1, 2, 31)
    for ink, sigma in [(0.5, 0.5), (0.2, 0.5), (0.2, 1.0), (0.7, 0.3)]:
        answer = best_pixel(x_noisy, ink, sigma)
        require(answer is not None, "the function returns nothing; it should return an array like x_noisy.")
        answer = np.asarray(answer)
        require(
            answer.shape == x_noisy.shape, f"for 31 pixels the answer has the shape {answer.shape}, expected (31,)."
        )
        odds = ink / (1 - ink) * np.exp((2 * x_noisy - 1) / (2 * sigma**2))
        if not np.allclose(answer, odds / (1 + odds), atol=1e-3):
            worst = int(np.argmax(np.abs(answer - odds / (1 + odds))))
            require(
                condition=False,
                missing=f"with ink = {ink} and sigma = {sigma}, a pixel seen as {x_noisy[worst]:.1f} should give "
                f"{(odds / (1 + odds))[worst]:.3f}; it gives {answer[worst]:.3f}.",
            )


@register_exercise(
    "03.speckle",
    hints=(
        "The lesson's GaussianNoise adds a random number to each pixel; here each pixel is multiplied by one.",
        "Look at where GaussianNoise takes its seed from: with self.seed_generator each call gives new numbers.",
        "Draw normal numbers of the shape of x with keras.random.normal. Which factor of mean 1 can you make of them?",
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
        "Two things happen in each step: the points move along the score, and they get new noise.",
        "The score is (denoise(x) - x) / sigma²; compute it anew in each step, at the points where they are then.",
        "The noise of one step has the variance 2 · step, so ask by what a normal number is multiplied. Make a new array "
        "in each step, so that the starting points stay as they are.",
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
