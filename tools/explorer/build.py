"""Put the explorer together, one web page that needs no network, and take its picture: `make explorer`.

    python -m tools.explorer.build            # -> images/explorer.html, images/explorer.webp

The page contains the weights of four models that `make pretrained` trained. The kernels next to the pixels are nearly all
of them, and become whole numbers of eight bits with one scale per unit; the others stay as they are, for rounding them too
would cost up to 0.7 nats. Everything that is computed here for the page uses the rounded weights.
"""

import base64
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from course_utils import plotting
from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.devices import setup
from course_utils.evaluation import bce
from course_utils.lessons import VAE, ConditionalVAE
from course_utils.pretrained import load_pretrained
from tools.author.pretrain import MAP_HIDDEN, RECIPES
from tools.shared.browser import CHROMIUM, started_browser
from tools.shared.notebook_files import ROOT, replace_file

FOLDER = Path(__file__).resolve().parent
FILE = ROOT / "images" / "explorer.html"
PICTURE = FILE.with_suffix(".webp")
WIDTH, HEIGHT, QUALITY = 1280, 720, 45  # of the picture: pixels, and how much of it is kept, of 100
SCRIPTS = ("network.js", "drawing.js", "map.js", "explorer.js")

N_POINTS = 2000  # training digits whose codes are shown
EXAMPLES_PER_DIGIT = 3
N_PIXELS = 784
LARGEST = 127  # of a whole number in place of a weight
SHOWN = 98.5  # percent of the codes that a map has room for


@dataclass(frozen=True)
class Entry:
    """A model of the page: the name of its recipe, and what the page says about it."""

    recipe: str
    title: str
    about: str = ""

    @property
    def name(self) -> str:
        return self.recipe.partition("_")[2]


ENTRIES = (
    Entry("06.map_ae", "Autoencoder", "Nothing says where codes should lie."),
    Entry("06.map_vae", "VAE", "Clouds, pulled toward N(0, I)."),
    Entry("06.map_beta", "β-VAE, β = 4", "A nat of KL costs four times as much."),
    Entry("06.map_cvae", "Conditional VAE"),
)


def rounded_model(recipe: str) -> keras.Model:
    """A stored model with the weights that the page has."""
    model = RECIPES[recipe].build()
    load_pretrained(recipe, model)
    model.set_weights([restored(*as_whole_numbers(w)) if is_large(w) else w for w in model.get_weights()])
    return model


def is_large(weight: np.ndarray) -> bool:
    """Whether these are the weights of connections with the pixels."""
    return weight.ndim == 2 and max(weight.shape) >= N_PIXELS


def as_whole_numbers(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A kernel in eight bits, and the scale of each of its units."""
    scale = np.maximum(np.abs(kernel).max(axis=0), 1e-12).astype("float32") / np.float32(LARGEST)
    return np.round(kernel / scale).astype("int8"), scale


def restored(whole_numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The kernel that whole numbers and scales stand for."""
    return whole_numbers * scale


def text_of(array: np.ndarray) -> str:
    """The bytes of an array, in base64."""
    return base64.b64encode(array.tobytes()).decode("ascii")


def packed_layers(network: keras.Model) -> list[dict]:
    """The dense layers of an encoder or decoder; the center and the width of a cloud become one layer of four units."""
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    n_last = len(network.outputs)
    stages = [[layer] for layer in dense[:-n_last]] + [dense[-n_last:]]
    return [_packed_layer(stage) for stage in stages]


def _packed_layer(stage: list[keras.layers.Dense]) -> dict:
    kernel, bias = (
        np.concatenate(parts, axis=-1) for parts in zip(*(layer.get_weights() for layer in stage), strict=True)
    )
    packed = {"bias": text_of(bias), "activation": stage[0].activation.__name__}
    if not is_large(kernel):
        return {**packed, "kernel": text_of(kernel)}
    whole_numbers, scale = as_whole_numbers(kernel)
    return {**packed, "wholeNumbers": text_of(whole_numbers), "scale": text_of(scale)}


def codes_of(model: keras.Model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The codes of digits, for a VAE the centers of their clouds."""
    inputs = [x, np.eye(10, dtype="float32")[y]] if isinstance(model, ConditionalVAE) else x
    outputs = model.get_layer("encoder").predict(inputs, batch_size=1000, verbose=0)
    return outputs[0] if isinstance(model, VAE) else outputs


def means_over_test_digits(model: keras.Model) -> tuple[float, float | None, float | None]:
    """Error, KL and −ELBO of the test digits in nats; a plain autoencoder has the first only."""
    _, _, (x_test, y_test) = load_mnist(flat=True)
    if not isinstance(model, VAE):
        return N_PIXELS * bce(x_test, model.predict(x_test, batch_size=1000, verbose=0)), None, None
    model.compile()
    inputs = [x_test, np.eye(10)[y_test]] if isinstance(model, ConditionalVAE) else x_test
    parts = model.evaluate(inputs, batch_size=1000, verbose=0, return_dict=True)
    return parts["reconstruction"], parts["kl"], parts["reconstruction"] + parts["kl"]


def shown_square(codes: np.ndarray, cloudy: bool) -> tuple[list[float], float]:
    """Center and half of the side of the square of codes that a map shows; the maps of VAEs are centered on the prior."""
    if cloudy:
        return [0.0, 0.0], float(1.1 * np.percentile(np.abs(codes), SHOWN))
    low, high = np.percentile(codes, [100 - SHOWN, SHOWN], axis=0)
    return ((low + high) / 2).tolist(), float(1.1 * (high - low).max() / 2)


def packed_model(entry: Entry, model: keras.Model) -> dict:
    """What the page's script needs to know about a model."""
    (x_train, y_train), _, _ = load_mnist(flat=True)
    codes = codes_of(model, x_train, y_train)
    cloudy = isinstance(model, VAE)
    center, half = shown_square(codes, cloudy)
    mean, covariance = (np.zeros(2), np.eye(2)) if cloudy else (codes.mean(axis=0), np.cov(codes, rowvar=False))
    return {
        "name": entry.name,
        "title": entry.title,
        "conditional": isinstance(model, ConditionalVAE),
        "cloudy": cloudy,
        "center": center,
        "half": half,
        "mean": mean.tolist(),
        "root": np.linalg.cholesky(covariance).tolist(),  # samples are mean + T · root · epsilon
        "points": text_of(codes[:N_POINTS].astype("float32")),
        "encoder": packed_layers(model.get_layer("encoder")),
        "decoder": packed_layers(model.get_layer("decoder")),
    }


def picked_digits() -> tuple[np.ndarray, np.ndarray]:
    """Test digits to choose from, in rows of 0 to 9: the first ones of each, as gray values 0…255, and their labels."""
    _, _, (x_test, y_test) = load_mnist(flat=True)
    rows = np.stack([np.flatnonzero(y_test == digit)[:EXAMPLES_PER_DIGIT] for digit in range(10)], axis=1).ravel()
    return np.round(255 * x_test[rows]).astype("uint8"), y_test[rows]


def page() -> str:
    """The explorer as HTML."""
    (_, y_train), _, _ = load_mnist(flat=True)
    pictures, labels = picked_digits()
    models = [(entry, rounded_model(entry.recipe)) for entry in ENTRIES]
    data = {
        "models": [packed_model(entry, model) for entry, model in models],
        "pointLabels": "".join(map(str, y_train[:N_POINTS])),
        "digits": text_of(pictures),
        "digitLabels": "".join(map(str, labels)),
    }
    described = [
        {
            "name": entry.name,
            "title": entry.title,
            "about": entry.about,
            "conditional": isinstance(model, ConditionalVAE),
            "cloudy": isinstance(model, VAE),
            "figures": means_over_test_digits(model),
        }
        for entry, model in models
    ]
    environment = Environment(loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html").render(
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        script="\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS),
        data=json.dumps(data, separators=(",", ":")),
        models=described,
        picked=[int(label) for label in labels],
        colors=plotting.COLORS,
        hidden=MAP_HIDDEN,
    )


def picture() -> bytes:
    """The page as WebP, as it looks when it is opened; for those who see it where no script runs."""
    with started_browser() as browser:
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.goto(FILE.as_uri())
        content = tab.screenshot()
    stored = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(stored, "WEBP", quality=QUALITY, method=6)
    return stored.getvalue()


def main() -> None:
    setup("06")
    replace_file(FILE, page())
    print(f"{FILE.relative_to(ROOT)}: {FILE.stat().st_size / 1000:.0f} kB")
    if CHROMIUM is None:
        sys.exit(
            f"{PICTURE.relative_to(ROOT)} is the old one, because there is no Chromium here to take a new picture."
        )
    PICTURE.write_bytes(picture())
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
