"""A training that is interrupted goes on where it was: `train(…, resume="progress.npz")`."""

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np

from course_utils.backend import keras
from course_utils.batches import Shuffler
from course_utils.callbacks import TrainingError
from course_utils.input_checks import loss_name


class SavedProgress(keras.callbacks.Callback):
    """Save the complete state of a training after each epoch in one file, replaced atomically.

    Keras' `BackupAndRestore` writes weights and epoch number in place and into two files, so that a kill in between loses
    the training or repeats an epoch; and HDF5 brings the process down on a full disk. Here the new state is complete in
    a file of its own before it takes the old one's name. It consists of weights, seed generators, optimizer, shuffle seed and history,
    so that on a CPU with TensorFlow the resumed training ends with the very weights of an undisturbed one.

    Args:
        path: the file; a missing folder is made.
        settings: what must agree between a saved training and the one that resumes it; JSON-serializable.
        shuffler: whose seed decides the order of the examples.
    """

    def __init__(self, path: Path, settings: dict, shuffler: Shuffler):
        super().__init__()
        self.path = path
        self.settings = settings
        self.shuffler = shuffler
        self.history: dict[str, list[float]] = {}

    def restore(self, model: keras.Model) -> int:
        """Load the saved state into `model`, which is built and compiled.

        Returns:
            The number of finished epochs, 0 without a saved state.

        Raises:
            TrainingError: the file is not a saved training, or it is one of another; nothing has been changed then.
        """
        if not self.path.exists():
            return 0
        state, values = self._read()
        model.optimizer.build(model.trainable_variables)
        self._require_same_training(state["settings"], values, model)
        for variable, value in zip(_state_variables(model), values, strict=True):
            variable.assign(value)
        self.shuffler.seed = state["shuffle_seed"]
        self.history = state["history"]
        finished = len(self.history["loss"])
        print(f"Resumed from {self.path.name} after epoch {finished} of {self.settings['epochs']}.")
        return finished

    def _read(self) -> tuple[dict, list[np.ndarray]]:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                state = json.loads(str(file["progress"]))
                values = [file[f"value_{i}"] for i in range(len(file.files) - 1)]
            if missing := {"settings", "history", "shuffle_seed"} - set(state):
                raise KeyError(missing)
        except Exception:  # whatever a damaged archive raises, which is much; nothing has been changed yet
            raise TrainingError(f"{self.path} is not a training saved by `train`. {_REMEDY}") from None
        return state, values

    def _require_same_training(self, saved: dict, values: list[np.ndarray], model: keras.Model) -> None:
        settings, variables = self.settings, _state_variables(model)
        differing = [key for key in settings if saved.get(key) != settings[key]]
        difference = ", ".join(f"{key} {saved.get(key)} instead of {settings[key]}" for key in differing)
        if not differing and [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            difference = (
                f"{len(values)} arrays of other shapes than the {len(variables)} of this model and its optimizer"
            )
        if difference:
            raise TrainingError(f"{self.path} was saved by another training ({difference}). {_REMEDY}")

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        state = {"settings": self.settings, "history": self.history, "shuffle_seed": self.shuffler.seed}
        values = [keras.ops.convert_to_numpy(variable) for variable in _state_variables(self.model)]
        content = io.BytesIO()
        np.savez(content, progress=json.dumps(state), **{f"value_{i}": value for i, value in enumerate(values)})
        unfinished = self.path.with_name("unfinished." + self.path.name)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content.getbuffer())
            os.replace(unfinished, self.path)
        except OSError as error:
            _delete(unfinished)
            print(f"The progress could not be saved in {self.path} ({error.strerror}); the training goes on without.")

    def delete(self) -> None:
        """Delete the file if it is there; where that is not allowed, as on a read-only disk, it stays."""
        _delete(self.path)


_REMEDY = "Delete the file to begin anew, or give another path."


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _state_variables(model: keras.Model) -> list[keras.Variable]:
    """What a training consists of at the end of an epoch: weights, seed generators, the optimizer's counter and moments."""
    return [*model.variables, *model.optimizer.variables]


# ---------------------------------------------------------------------------------------------------------------------
# What tells one training from another
# ---------------------------------------------------------------------------------------------------------------------


def identity(model: keras.Model, x, y, validation_data, loss, metrics) -> dict:
    """What tells a training from another with the same epochs, batches and rate; JSON-serializable.

    `model` is built; all else is as `train` takes it.
    """
    return {
        "loss": [_description(part) for part in keras.tree.flatten(loss)] if loss is not None else type(model).__name__,
        "metrics": [loss_name(metric) for metric in metrics or []],
        "precision": keras.config.dtype_policy().name,
        "examples": len(keras.tree.flatten(x)[0]),
        "data": _digest(x, y),
        "validation data": _digest(validation_data),
        "weights": [list(weight.shape) for weight in model.weights],
        "layers": hashlib.sha256(repr(_layer_settings(model)).encode()).hexdigest()[:12],
    }


def _digest(*arrays) -> str:
    """Twelve hexadecimal digits that tell other data of the same size apart; `None` and nested arrays may be among them."""
    found = hashlib.sha256()
    for array in keras.tree.flatten(arrays):
        found.update(np.ascontiguousarray(array).data if array is not None else b"none")
    return found.hexdigest()[:12]


def _description(loss) -> str:
    """Name and settings of a loss; one that is given by its name, or as a function, has no settings.

    The settings are the attributes, because `get_config` leaves some out, that of Keras' Huber loss for example.
    """
    if not isinstance(loss, keras.losses.Loss):
        return loss_name(loss)
    # Keras may number the name, so that it differs when the same cell runs again.
    settings = [(name, _plain(value)) for name, value in sorted(vars(loss).items()) if name != "name"]
    return ", ".join([loss_name(loss), *(f"{name}={value}" for name, value in settings if value)])


def _plain(value) -> str:
    """A setting as text; empty where it would differ in the next kernel, as that of a function does."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, dict):
        return str({key: _plain(value[key]) for key in sorted(value, key=str)})
    if isinstance(value, (list, tuple)):
        return str([_plain(part) for part in value])
    if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        return _digest(keras.ops.convert_to_numpy(value))
    return ""


def _layer_settings(model: keras.Model) -> list[tuple[str, list]]:
    """Class and settings of a model and of its layers, such as units, activation or beta, but not names and seeds."""
    try:
        config = model.get_config()
    except NotImplementedError:  # a subclass that does not say
        config = {}
    plain = [(key, value) for key, value in config.items() if isinstance(value, (str, int, float, bool))]
    settings = sorted((key, str(value)) for key, value in plain if key not in ("name", "seed"))
    inner = [entry for layer in getattr(model, "layers", []) for entry in _layer_settings(layer)]
    return [(type(model).__name__, settings), *inner]
