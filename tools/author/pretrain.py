"""Train the models that take longer than a lesson should, and store them for `load_pretrained`: `make pretrained`.

    python -m tools.author.pretrain                  # those whose files are missing or whose recipe changed
    python -m tools.author.pretrain --again 06.vae20

An interrupted training goes on where it was when the program is called again. Weights are stored in half precision, and
the test figures are those of the stored weights.
"""

import argparse
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.devices import setup
from course_utils.evaluation import bce, build_judge, judge_accuracy, load_judge, mse, psnr
from course_utils.lessons import (
    VAE,
    AnyGaussianNoise,
    ConditionalVAE,
    GaussianNoise,
    build_autoencoder,
    build_conv_autoencoder,
    build_filter_bank,
    build_pooling_autoencoder,
    build_probe,
    build_strokes,
    build_unet,
    build_upscaler,
    build_vae_networks,
    build_writer_networks,
    downscale,
    noisy_copy,
    stroke_windows,
    wavelength,
)
from course_utils.pretrained import PRETRAINED_FOLDER, pretrained_names
from course_utils.training import train
from tools.author import sparse_grid
from tools.author.sparse_grid import N_PARTS
from tools.author.stacked_writers import judged
from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import ROOT, replace_file

PROGRESS_FOLDER = ROOT / "build" / "pretrained"
LARGEST_TOTAL = 8_000_000  # bytes of all stored weights


def flat_digits() -> tuple[np.ndarray]:
    """The inputs of a model that learns from flat digits alone."""
    (x_train, _), _, _ = load_mnist(flat=True)
    return (x_train,)


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    `build()` gives the model; `training` are the arguments with which `train` is called, and describe the training to
    the reader; `data()` gives the inputs, and the targets where there are any; `figures(model)` the results on the test
    digits, by name. What the names of the layers do not tell of the model belongs into `sizes`.
    """

    build: Callable[[], keras.Model]
    training: dict
    figures: Callable[[keras.Model], dict[str, float]]
    data: Callable[[], tuple[np.ndarray, ...]] = flat_digits
    sizes: dict = field(default_factory=dict)

    @property
    def settings(self) -> dict:
        """What tells this training from another one, as it is read from a file."""
        return json.loads(json.dumps({**self.sizes, **self.training}))


def _nelbo(vae: VAE) -> dict[str, float]:
    _, _, (x_test, _) = load_mnist(flat=True)
    parts = vae.evaluate(x_test, batch_size=1000, verbose=0, return_dict=True)
    return {"test_nelbo": round(parts["reconstruction"] + parts["kl"], 3), "test_kl": round(parts["kl"], 3)}


def _pictures() -> tuple[np.ndarray, np.ndarray]:
    (x_train, _), _, _ = load_mnist()
    return x_train, x_train


def _small_and_large() -> tuple[np.ndarray, np.ndarray]:
    x_train, _ = _pictures()
    return downscale(x_train), x_train


def _reconstruction(model: keras.Model, prepare: Callable = lambda x: x) -> dict[str, float]:
    """MSE and BCE on the test digits x, of a network from `prepare(x)` to x."""
    _, _, (x_test, _) = load_mnist(flat=len(model.input_shape) == 2)
    x_hat = model.predict(prepare(x_test), batch_size=1000, verbose=0)
    return {"test_mse": round(mse(x_test, x_hat), 6), "test_bce": round(bce(x_test, x_hat), 5)}


# Lesson 03: each picture gets Gaussian noise of a strength of its own between half of this and this.
STRONGEST_NOISE = 1.0
FILTER_BANK = (0.0, 0.5, 1.0)


def _noisy_judge() -> keras.Model:
    """The course's judge, untrained, behind noise. Its weights are those of `build_judge`: the noise has none."""
    before = [keras.Input((784,)), AnyGaussianNoise(STRONGEST_NOISE), keras.layers.Reshape((28, 28, 1))]
    return keras.Sequential([*before, build_judge()])


def _digits_and_labels() -> tuple[np.ndarray, np.ndarray]:
    (x_train, y_train), _, _ = load_mnist(flat=True)
    return x_train, y_train


def _wavelengths(bank: keras.Model) -> dict[str, float]:
    kernels = [weight for weight in bank.get_weights() if weight.ndim == 2]
    return {f"wavelength.{sigma}": round(wavelength(w.T), 3) for sigma, w in zip(FILTER_BANK, kernels, strict=True)}


def _restoration(denoiser: keras.Model) -> dict[str, float]:
    """PSNR of restored test digits at both strengths of noise, and the share that the judge reads."""
    _, _, (x_test, y_test) = load_mnist(flat=True)
    figures, judge = {}, load_judge()
    for label, sigma in [("gauss05", 0.5), ("gauss10", 1.0)]:
        x_hat = denoiser.predict(noisy_copy(GaussianNoise(sigma), x_test, seed=2), batch_size=500, verbose=0)
        figures[f"{label}.psnr_db"] = round(psnr(x_test, x_hat), 3)
        figures[f"{label}.judge_accuracy"] = round(judge_accuracy(judge, x_hat, y_test), 4)
    return figures


def _strokes(model: keras.Model) -> dict[str, float]:
    """Error and mean number of parts in use, on the test digits."""
    _, _, (x_test, _) = load_mnist(flat=True)
    z = [model.layers[-1].pursue(x_test[i : i + 500])[1] for i in range(0, len(x_test), 500)]
    parts_in_use = np.mean([keras.ops.convert_to_numpy(some) > 0 for some in z]) * z[0].shape[1]
    x_hat = model.predict(x_test, batch_size=500, verbose=0)
    return {"test_mse": round(mse(x_test, x_hat), 6), "parts_in_use": round(float(parts_in_use), 3)}


def _noisy_reading(model: keras.Model) -> dict[str, float]:
    """Share of noisy test digits that the classifier at the end of `model` reads."""
    _, _, (x_test, y_test) = load_mnist(flat=True)
    noisy = {label: noisy_copy(GaussianNoise(s), x_test, seed=2) for label, s in [("gauss05", 0.5), ("gauss10", 1.0)]}
    return {f"{label}.accuracy": round(judge_accuracy(model.layers[-1], x, y_test), 4) for label, x in noisy.items()}


def _pictures_with_labels() -> tuple[list[np.ndarray]]:
    (x_train, y_train), _, _ = load_mnist(flat=True)
    return ([x_train, np.eye(10, dtype="float32")[y_train]],)


def _written(writer: ConditionalVAE) -> dict[str, float]:
    """−ELBO of the test digits, and what the judge says about digits whose codes come from N(0, I)."""
    _, _, (x_test, y_test) = load_mnist(flat=True)
    parts = writer.evaluate([x_test, np.eye(10)[y_test]], batch_size=1000, verbose=0, return_dict=True)
    latent, wanted = writer.decoder.input_shape[0][-1], np.arange(10_000) % 10
    results = judged(writer.decoder, np.random.default_rng(0).normal(size=(10_000, latent)), wanted)
    figures = {"test_nelbo": parts["reconstruction"] + parts["kl"], "test_kl": parts["kl"], **results}
    return {name: round(float(value), 4) for name, value in figures.items() if "validation" not in name}


# The explorer's four models have two latents, the same layers and the same training, and are small, for they are part of a page.
MAP_HIDDEN = (44, 64)
MAP_SIZES = {"hidden": MAP_HIDDEN, "latent": 2}
MAP_TRAINING = {"epochs": 40, "batch_size": 250, "learning_rate": 5e-3}

RECIPES = {
    "01.two": Recipe(
        build=lambda: build_autoencoder([784, 128, 32, 2], code_activation="linear")[0],
        sizes={"hidden": (128, 32), "code": 2},
        training={"loss": "binary_crossentropy", "epochs": 60, "batch_size": 250, "learning_rate": 5e-3},
        figures=_reconstruction,
        data=lambda: 2 * flat_digits(),
    ),
    "02.dense128": Recipe(
        build=lambda: build_autoencoder([784, 128], code_activation="linear")[0],
        data=lambda: 2 * flat_digits(),
        training={"loss": "binary_crossentropy", "epochs": 6, "batch_size": 64, "learning_rate": 0.016},
        figures=_reconstruction,
    ),
    "02.conv128": Recipe(
        build=lambda: build_conv_autoencoder()[0],
        data=_pictures,
        training={"loss": "binary_crossentropy", "epochs": 6, "batch_size": 64, "learning_rate": 0.016},
        figures=_reconstruction,
    ),
    "02.book": Recipe(
        build=lambda: build_pooling_autoencoder()[0],
        data=_pictures,
        training={"loss": "binary_crossentropy", "epochs": 6, "batch_size": 64, "learning_rate": 0.016},
        figures=_reconstruction,
    ),
    "02.upscaler": Recipe(
        build=build_upscaler,
        data=_small_and_large,
        training={"loss": "binary_crossentropy", "epochs": 3, "batch_size": 64, "learning_rate": 0.01},
        figures=lambda model: _reconstruction(model, downscale),
    ),
    "03.unet": Recipe(
        build=lambda: build_unet(AnyGaussianNoise(STRONGEST_NOISE)),
        sizes={"strongest noise": STRONGEST_NOISE},
        data=lambda: 2 * flat_digits(),
        training={"loss": "binary_crossentropy", "epochs": 24, "batch_size": 100, "learning_rate": 3e-3},
        figures=_restoration,
    ),
    "03.noisy_judge": Recipe(
        build=_noisy_judge,
        sizes={"strongest noise": STRONGEST_NOISE},
        data=_digits_and_labels,
        training={"loss": "sparse_categorical_crossentropy", "epochs": 24, "batch_size": 125, "learning_rate": 4e-3},
        figures=_noisy_reading,
    ),
    "04.strokes": Recipe(
        build=lambda: build_strokes(stroke_windows(*flat_digits(), N_PARTS, seed=4)),
        data=lambda: 2 * flat_digits(),
        training={"loss": "mse", "epochs": 12, "batch_size": 250, "learning_rate": 1e-2},
        figures=_strokes,
        sizes={"parts": N_PARTS, "at most": 12, "adjustments": 20},
    ),
    "04.probe": Recipe(  # after the strokes, whose codes it reads
        build=lambda: build_probe(N_PARTS),
        data=sparse_grid.probe_data,
        training={"loss": "sparse_categorical_crossentropy", "epochs": 6, "batch_size": 500, "learning_rate": 3e-3},
        figures=sparse_grid.probe_error,
        sizes={"parts": N_PARTS, "matched": 600, "shifts": 1},
    ),
    "03.filter_bank": Recipe(
        build=lambda: build_filter_bank([GaussianNoise(sigma) for sigma in FILTER_BANK]),
        sizes={"units": 100, "noise": FILTER_BANK},
        data=lambda: (flat_digits()[0], [flat_digits()[0]] * len(FILTER_BANK)),
        training={"loss": "binary_crossentropy", "epochs": 12, "batch_size": 250, "learning_rate": 0.01},
        figures=_wavelengths,
    ),
    "06.vae20": Recipe(
        build=lambda: VAE(*build_vae_networks(hidden=(400, 200), latent=20, activation="silu")),
        sizes={"hidden": (400, 200), "latent": 20, "activation": "silu"},
        training={"epochs": 120, "batch_size": 200, "learning_rate": 3e-3},
        figures=_nelbo,
    ),
    "06.map_ae": Recipe(
        build=lambda: build_autoencoder([784, *MAP_HIDDEN, 2], code_activation="linear")[0],
        sizes=MAP_SIZES,
        data=lambda: 2 * flat_digits(),
        training={"loss": "binary_crossentropy", **MAP_TRAINING},
        figures=_reconstruction,
    ),
    "06.map_vae": Recipe(
        build=lambda: VAE(*build_vae_networks(MAP_HIDDEN, latent=2)),
        sizes=MAP_SIZES,
        training=MAP_TRAINING,
        figures=_nelbo,
    ),
    "06.map_beta": Recipe(
        build=lambda: VAE(*build_vae_networks(MAP_HIDDEN, latent=2), beta=4.0),
        sizes={**MAP_SIZES, "beta": 4.0},
        training=MAP_TRAINING,
        figures=_nelbo,
    ),
    "06.map_cvae": Recipe(
        build=lambda: ConditionalVAE(*build_writer_networks(MAP_HIDDEN, latent=2, n_labels=10)),
        data=_pictures_with_labels,
        sizes={**MAP_SIZES, "labels": 10},
        training=MAP_TRAINING,
        figures=_written,
    ),
    "07.writer": Recipe(
        build=lambda: ConditionalVAE(*build_writer_networks([480, 240], latent=16, n_labels=10), beta=0.5),
        data=_pictures_with_labels,
        sizes={"hidden": (480, 240), "latent": 16, "labels": 10, "beta": 0.5},
        training={"epochs": 120, "batch_size": 200, "learning_rate": 3e-3},
        figures=_written,
    ),
}


def packed(model: keras.Model) -> bytes:
    """The weights in half precision, as a NumPy archive in memory; `model` is left with these weights."""
    content = io.BytesIO()
    weights = [weight.astype("float16") for weight in model.get_weights()]
    np.savez_compressed(content, **{f"{index:03}": weight for index, weight in enumerate(weights)})
    model.set_weights([weight.astype("float32") for weight in weights])
    return content.getvalue()


def pretrain(name: str) -> None:
    """Train the model `name`, and replace its two files."""
    recipe = RECIPES[name]
    setup(name.partition(".")[0])
    model = recipe.build()
    clock = Clock(PROGRESS_FOLDER / f"{name}.seconds")
    with clock:
        train(model, *recipe.data(), **recipe.training, resume=PROGRESS_FOLDER / f"{name}.npz")
    content = packed(model)
    others = sum(path.stat().st_size for path in PRETRAINED_FOLDER.glob("*.npz") if path.stem != name)
    if len(content) + others > LARGEST_TOTAL:
        sys.exit(f"{name} has {len(content):,} bytes; with the others that is more than {LARGEST_TOTAL:,}.")
    description = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "settings": recipe.settings,
        "seconds": round(clock.seconds),
        "machine": machine_and_versions(),
        "figures": recipe.figures(model),
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    replace_file(PRETRAINED_FOLDER / f"{name}.npz", content)
    replace_file(PRETRAINED_FOLDER / f"{name}.json", text)
    print(f"{name}: {len(content):,} bytes; {text}")


class Clock:
    """Adds up the seconds of a training over its interruptions, in a file."""

    def __init__(self, path: Path):
        self.path = path
        self.seconds = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0

    def __enter__(self) -> "Clock":
        self.start = time.perf_counter()
        return self

    def __exit__(self, error_type, *_) -> None:
        self.seconds += time.perf_counter() - self.start
        if error_type is None:
            self.path.unlink(missing_ok=True)
        else:
            replace_file(self.path, str(self.seconds))


def is_current(name: str) -> bool:
    """Whether the stored model was trained with the present settings."""
    if name not in pretrained_names():
        return False
    stored = json.loads((PRETRAINED_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return stored["settings"] == RECIPES[name].settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", nargs="+", choices=RECIPES, metavar="NAME", help="train these anew")
    arguments = parser.parse_args()
    for name in arguments.again or [name for name in RECIPES if not is_current(name)]:
        pretrain(name)


if __name__ == "__main__":
    main()
