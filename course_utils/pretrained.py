"""What was trained in advance, because it takes longer than a lesson should: models, and curves over many trainings.

`make pretrained` trains the models and stores two files each in `pretrained_files/`: the weights in half precision, and a
description with their SHA-256 digest, the settings and duration of the training, and its results on the test digits.
`make curves` repeats trainings with other settings and seeds, and stores mean and spread in `curve_files/`.
"""

import hashlib
import io
import json

import numpy as np

from course_utils import PACKAGE_FOLDER
from course_utils.backend import keras
from course_utils.devices import divide_own_loss_by_devices

PRETRAINED_FOLDER = PACKAGE_FOLDER / "pretrained_files"
CURVE_FOLDER = PACKAGE_FOLDER / "curve_files"

REMEDY = (
    "restore it with `git checkout -- course_utils/pretrained_files`, install the course again, or train it with "
    "`make pretrained`"
)


class PretrainedError(RuntimeError):
    """Weights that were trained in advance are missing or damaged, or belong to another model."""


def pretrained_names() -> list[str]:
    """The names of all models that were trained in advance."""
    return sorted(path.stem for path in PRETRAINED_FOLDER.glob("*.json"))


def load_curve(name: str) -> dict:
    """Results of many trainings that were run in advance, over one setting.

    Args:
        name: such as `"01.code_size"`, the lesson and what was varied.

    Returns:
        `x`, the values of the setting; `mean` and `std`, a dict each, label → one number per value of `x`, over as many
        trainings as `seeds` says; `settings` that all trainings share; `seconds` of all trainings together; `machine`.

    Raises:
        PretrainedError: there is no such curve.
    """
    path = CURVE_FOLDER / f"{name}.json"
    if not path.exists():
        known = sorted(path.stem for path in CURVE_FOLDER.glob("*.json"))
        raise PretrainedError(f"No curve {name!r} was measured in advance; expected one of {known}.")
    return json.loads(path.read_text(encoding="utf-8"))


def load_pretrained(name: str, model: keras.Model) -> dict:
    """Put the weights that were trained in advance into `model`, after comparing their file with its digest.

    Args:
        name: such as `"06.vae20"`, the lesson and the model.
        model: a built model of the layers that were trained; its own weights are replaced.

    Returns:
        What is known about the training: `settings` (epochs, batch size, learning rate), `seconds`, `machine`, and
        `figures`, the results on the test digits by name.

    Raises:
        PretrainedError: there is no such model, its file is missing or damaged, or `model` has other layers. The
            message says what to do; `model` is unchanged then.
    """
    if name not in pretrained_names():
        raise PretrainedError(
            f"No model {name!r} was trained in advance; expected one of {pretrained_names()}. If it belongs to the course, "
            f"its description file is missing: {REMEDY}."
        )
    description = _read_description(name)
    weights = _read_verified(name, description.pop("sha256"))
    shapes = [tuple(weight.shape) for weight in model.weights]
    if [weight.shape for weight in weights] != shapes:
        raise PretrainedError(
            f"The weights {name!r} were trained with layers of the shapes {[weight.shape for weight in weights]}, but "
            f"this model has {shapes}: build it as the lesson does."
        )
    model.set_weights([weight.astype("float32") for weight in weights])
    divide_own_loss_by_devices(model)
    return description


def _read_description(name: str) -> dict:
    path = PRETRAINED_FOLDER / f"{name}.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        return {key: description[key] for key in ("sha256", "settings", "seconds", "machine", "figures")}
    except (OSError, ValueError, KeyError, TypeError):
        raise PretrainedError(f"The description {path} is damaged: {REMEDY}.") from None


def _read_verified(name: str, sha256: str) -> list[np.ndarray]:
    path = PRETRAINED_FOLDER / f"{name}.npz"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PretrainedError(f"The weights {path} cannot be read ({error.strerror}): {REMEDY}.") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise PretrainedError(f"The weights {path} are damaged or were changed: {REMEDY}.")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return [arrays[key] for key in sorted(arrays.files)]
