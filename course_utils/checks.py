"""`checkpoint` compares a result with what was measured before.

The bands stand in `reference.json`, which `make reference` writes: for each named result the mean and the spread over
runs with different seeds, and the interval in which one further run falls with a probability of 99.99%.
"""

import functools
import json
import math
import os
import re

from course_utils import PACKAGE_FOLDER

REFERENCE_FILE = PACKAGE_FOLDER / "reference.json"

# How the words of a result's name are written.
WORDS = {
    "bce": "BCE",
    "mse": "MSE",
    "psnr": "PSNR",
    "nelbo": "−ELBO",
    "auroc": "AUROC",
    "frechet": "Fréchet distance",
    "db": "(dB)",
    "deg": "(degrees)",
    "sd": "(standard deviations)",
    "points": "(points)",
    "4px": "at 4 pixels",
    "ae": "AE",
    "vae": "VAE",
    "cvae": "conditional VAE",
    "pca": "PCA",
    "kl": "KL",
    "topk": "top-k",
    "iwae": "IWAE",
    "dense32": "dense, code of 32:",
    "deep32": "deep, code of 32:",
    "conv128": "convolutional, code of 128:",
    "plain20": "plain, code of 20:",
    "vae2": "VAE, 2 latents:",
    "vae20": "VAE, 20 latents:",
    "gauss05": "Gaussian 0.5:",
    "gauss10": "Gaussian 1.0:",
    "shift4": "shift by 4 pixels:",
    "labels100": "100 labels:",
    "conv": "convolutional",
    "superres": "super-resolution",
    "oneclass": "one class:",
    "tsne": "t-SNE",
    "jacobian": "Jacobian",
    "glorot": "Glorot",
    "px": "pixels",
}

ROUNDING = 1e-5  # relative spread up to which runs differ by rounding alone

# Results of this session by name, in the order in which they came: what `results_table` prints.
_results: dict[str, float] = {}


class CheckpointError(AssertionError):
    """A result lies outside its band, and `COURSE_STRICT=1` asks for an error."""


@functools.cache
def _reference() -> dict:
    return json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))


def expected_seconds(lesson: str) -> int | None:
    """Duration of a lesson on two CPU cores in seconds, rounded up to five; `None` if it was not measured."""
    seconds = _reference()["lessons"].get(lesson, {}).get("seconds")
    return None if seconds is None else rounded_up(seconds)


def rounded_up(seconds: float) -> int:
    """A duration as the course gives it, in steps of five seconds."""
    return 5 * math.ceil(seconds / 5)


def checkpoint(name: str, value: float, if_not: str, above: float | None = None, below: float | None = None) -> None:
    """Say whether a result is where it was found to be with other seeds, and if not, what the likely cause is.

    A band of few seeds is wide. Where it reaches past the value that would refute the lesson's claim, such as a gain of 0 or
    a ratio of 1, that value is given too, and the result must lie on the right side of it.

    Args:
        name: the result's name in `reference.json`, such as `"01.dense32.test_bce"`.
        value: the number found in this run.
        if_not: the likely cause of a number outside the band, as a sentence for the student.
        above: the claim is that the value is larger than this.
        below: the claim is that the value is smaller than this.

    Raises:
        CheckpointError: with the environment variable `COURSE_STRICT=1` (the tests set it), if the value lies outside its
            band or contradicts the claim, is not finite, or has no band.
    """
    value = float(value)
    _results[name] = value
    _record(name, value)
    band = _reference()["results"].get(name)
    if band is None:
        of_lesson = [other for other in _reference()["results"] if other.startswith(name[:3])]
        message = (
            f"{name} = {value:.4g} has no measured band yet (those of this lesson: {', '.join(of_lesson) or 'none'})."
        )
    elif above is not None and not value > above:
        message = f"{name} = {value:.4g} is not above {above:.4g}, as the lesson claims. {if_not}"
    elif below is not None and not value < below:
        message = f"{name} = {value:.4g} is not below {below:.4g}, as the lesson claims. {if_not}"
    elif band["low"] <= value <= band["high"]:
        is_claim = above is not None or below is not None
        print(f"✓ {readable(name)} {value:.4g} ({_mean(band) if is_claim else 'expected ' + _band(band)})")
        return
    else:
        side = "below" if value < band["low"] else "above" if value > band["high"] else "not in"
        message = f"{name} = {value:.4g} is {side} the band {_band(band)} of {band['seeds']} seeds. {if_not}"
    # With COURSE_RECORD the bands are being measured, so there is no band to compare with.
    if os.environ.get("COURSE_STRICT") == "1" and not os.environ.get("COURSE_RECORD"):
        raise CheckpointError(message)
    print(f"✗ {message}")


def readable(name: str) -> str:
    """A result's name as words: `"01.deep32.test_mse"` as "deep, code of 32: test MSE"."""
    words = re.split("[._]", name.partition(".")[2])
    return " ".join(WORDS.get(word, word) for word in words)


def _band(band: dict) -> str:
    return f"{band['low']:.4g}–{band['high']:.4g}"


def _mean(band: dict) -> str:
    mean = mean_and_std(band["mean"], band["std"])
    if is_same_for_all_seeds(band["mean"], band["std"]):
        return f"{mean}, whatever the seed"  # from stored weights or curves, or without any randomness
    return f"{band['seeds']} seeds: {mean}"


def is_same_for_all_seeds(mean: float, std: float) -> bool:
    """Whether a result spreads by no more than rounding does, because it comes from stored weights or curves."""
    return std <= ROUNDING * abs(mean)


def mean_and_std(mean: float, std: float, format_spec: str = "") -> str:
    """Both numbers with the same decimals: those of `format_spec`, otherwise as many as `std` gives a meaning to.

    A deviation that these decimals do not show is left out.
    """
    if not format_spec:
        if is_same_for_all_seeds(mean, std):
            return f"{mean:,.0f}" if abs(mean) >= 10_000 else f"{mean:.4g}"
        format_spec = f".{max(0, -math.floor(math.log10(float(f'{std:.0e}'))))}f"
    spread = format(std, format_spec)
    return format(mean, format_spec) + (f" ± {spread}" if re.search("[1-9]", spread) else "")


def _record(name: str, value: float) -> None:
    """Append the result to the file that `make reference` names in `COURSE_RECORD`."""
    if path := os.environ.get("COURSE_RECORD"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, "value": value}) + "\n")


def results_table() -> None:
    """Print every result of this session beside the mean of the reference runs."""
    if not _results:
        print("No checkpoint was reached yet: run the cells above first.")
        return
    width = max(len(readable(name)) for name in _results)
    print(f"{'result':{width}}{'this run':>12}   reference runs")
    for name, value in _results.items():
        band = _reference()["results"].get(name)
        print(f"{readable(name):{width}}{value:12.4g}   {_mean(band) if band else 'not measured'}")
