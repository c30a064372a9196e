"""A training that was killed goes on where it was, and a file that cannot serve for that is neither used nor lost."""

import contextlib
import json
import os
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest

from course_utils import callbacks, resume
from course_utils.backend import BACKEND, keras
from course_utils.lessons import VAE, build_vae_networks
from course_utils.training import TrainingError, train
from tests.processes import environment, run_python

# Six epochs of 64 steps. With STALL it stops in the middle of the fourth epoch, says so and waits for its end.
SCRIPT = """
import json
import os
import time
import numpy as np
from course_utils import training
from course_utils.backend import keras

def fit(seed, resume=None):
    rng = np.random.default_rng(0)
    x = np.tanh(rng.normal(size=(640, 3)) @ rng.normal(size=(3, 20))).astype("float32")
    keras.utils.set_random_seed(seed)
    sizes = [(16, "relu"), (3, None), (16, "relu"), (20, None)]
    layers = [keras.layers.Dense(units, activation=activation) for units, activation in sizes]
    model = keras.Sequential([keras.Input((20,)), keras.layers.GaussianNoise(0.1), *layers])
    history = training.train(
        model, x[:512], x[:512], validation_data=(x[512:], x[512:]), loss="mse", epochs=6, batch_size=8,
        learning_rate=0.01, resume=resume,
    )
    return history.history, int(model.optimizer.iterations)

class Stalling(training.ProgressLine):
    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (3, 49):
            print("in the middle of epoch 4", flush=True)
            time.sleep(600)

if __name__ == "__main__":
    if "STALL" in os.environ:
        training.ProgressLine = Stalling
    history, iterations = fit(int(os.environ.get("SEED", 0)), "progress.npz")
    print(json.dumps({"history": history, "iterations": iterations}))
"""


def examples():
    return np.random.default_rng(0).uniform(size=(20, 6)).astype("float32")


@pytest.fixture(autouse=True)
def without_graphs(request):
    """The slow tests train with graphs, as the lessons do."""
    if request.node.get_closest_marker("slow") is None:
        request.getfixturevalue("eagerly")


@pytest.fixture
def x():
    return examples()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.npz"


def model(units=3):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(units), keras.layers.Dense(6)])


def fit(x, path, made=None, **changes):
    made = made or model()
    arguments = {"epochs": 4, "batch_size": 5, "learning_rate": 0.01, "loss": "mse", "validation_data": (x, x)}
    return train(made, x, x, resume=path, **(arguments | changes)).history


def saved_history(path):
    with np.load(path) as file:
        return json.loads(str(file["progress"]))["history"]


@contextlib.contextmanager
def interrupted(when, epoch=None):
    """The student stops the training inside, in the callback `when`, of epoch number `epoch` (from 0) if it has one."""
    original = getattr(callbacks.ProgressLine, when)

    def interrupt(self, *arguments):
        if epoch is None or arguments[0] == epoch:
            raise KeyboardInterrupt
        original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.ProgressLine, when, interrupt)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.fixture(scope="module")
def saved_after_two_epochs(tmp_path_factory):
    """The bytes that a training of four epochs leaves when it is stopped in the third."""
    path = tmp_path_factory.mktemp("interrupted") / "progress.npz"
    with interrupted("on_epoch_begin", epoch=2):
        fit(examples(), path)
    return path.read_bytes()


@pytest.fixture
def after_two_epochs(saved_after_two_epochs, path):
    """Put the file of the interrupted training in its place, and give the history up to there."""
    path.write_bytes(saved_after_two_epochs)
    return saved_history(path)


def test_an_undisturbed_training_has_the_full_history_and_leaves_no_file(x, path, capsys):
    history = fit(x, path)
    assert {name: len(values) for name, values in history.items()} == {"loss": 4, "val_loss": 4}
    assert history["val_loss"] == pytest.approx(fit(x, None)["val_loss"])
    assert list(path.parent.iterdir()) == []
    assert "Resumed" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_as_undisturbed_ones_do(tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command, path = [sys.executable, script.name], tmp_path / "progress.npz"

    stalled = subprocess.Popen(
        command, cwd=tmp_path, env=environment(STALL="1"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert stalled.stdout.readline() == "in the middle of epoch 4\n"
    finally:
        stalled.kill()
        stalled.communicate()
    assert stalled.returncode != 0
    assert path.exists()
    before = saved_history(path)
    assert len(before["loss"]) == 3

    # Another seed, as in a session that drew other random numbers before.
    again = subprocess.run(
        command, cwd=tmp_path, env=environment(SEED="1"), capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    resumed, line, result = again.stdout.splitlines()
    assert resumed == "Resumed from progress.npz after epoch 3 of 6."
    assert line.startswith("3 epochs in")
    result = json.loads(result)
    assert result["iterations"] == 6 * 64
    assert not path.exists()
    for name in ("loss", "val_loss"):
        assert result["history"][name][:3] == before[name]
        assert len(result["history"][name]) == 6

    undisturbed, _ = runpy.run_path(str(script))["fit"](0)
    if BACKEND == "tensorflow":  # on the other backends Keras draws the order of the examples
        assert result["history"] == undisturbed
    else:
        assert result["history"]["val_loss"][-1] == pytest.approx(undisturbed["val_loss"][-1], rel=0.5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="on the other backends Keras draws the order of the examples")
@pytest.mark.slow
def test_in_the_same_kernel_a_training_with_noise_goes_on_to_the_weights_of_an_undisturbed_one(x, path, capsys):
    def noisy():
        made = model()
        return keras.Sequential([keras.Input((6,)), keras.layers.GaussianNoise(0.3), *made.layers])

    undisturbed = noisy()
    expected = fit(x, None, undisturbed)
    first = noisy()
    with interrupted("on_epoch_begin", epoch=2):
        fit(x, path, first)
    again = noisy()
    np.random.uniform(size=7)  # noqa: NPY002  what a student does meanwhile changes nothing
    keras.random.normal((3,))
    assert fit(x, path, again) == expected
    for weight, other in zip(again.get_weights(), undisturbed.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_an_interrupted_training_finishes_its_line(x, path, capsys):
    with interrupted("on_epoch_begin", epoch=2):
        fit(x, path)
    line = capsys.readouterr().out
    assert re.fullmatch(r"2 epochs in \d+\.\d s, interrupted · loss \d\.\d{4} · validation loss \d\.\d{4}\n", line)


def test_an_interrupted_training_goes_on_with_its_weights_and_its_schedule(x, path, after_two_epochs, capsys):
    made = model()
    history = fit(x, path, made)
    out = capsys.readouterr().out
    assert out.startswith("Resumed from progress.npz after epoch 2 of 4.\n2 epochs in ")
    assert {name: values[:2] for name, values in history.items()} == after_two_epochs
    assert {len(values) for values in history.values()} == {4}
    assert history["val_loss"][2] < history["val_loss"][1]
    assert int(made.optimizer.iterations) == 4 * 4
    assert float(made.optimizer.learning_rate) == pytest.approx(0, abs=1e-7)
    assert not path.exists()


def test_a_training_that_ended_before_its_file_was_deleted_is_not_repeated(x, path, capsys):
    trained, restored = model(), model()
    with interrupted("on_train_end"):
        fit(x, path, trained)
    capsys.readouterr()
    history = fit(x, path, restored)
    assert capsys.readouterr().out == "Resumed from progress.npz after epoch 4 of 4.\n"
    assert len(history["loss"]) == 4
    for weight, expected in zip(restored.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert not path.exists()


@pytest.mark.slow
def test_a_model_that_builds_itself_goes_on_too(x, path, capsys):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(6)

        def call(self, x):
            return self.dense(x)

    with interrupted("on_epoch_begin", epoch=2):
        fit(x, path, Own())
    made = Own()
    assert len(fit(x, path, made)["loss"]) == 4
    assert int(made.optimizer.iterations) == 4 * 4
    assert "Resumed from" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 5}, "epochs 4 instead of 5"),
        ({"batch_size": 4}, "batch_size 5 instead of 4"),
        ({"learning_rate": 0.02}, "learning_rate 0.01 instead of 0.02"),
    ],
)
def test_the_file_of_a_training_with_other_settings_is_refused(changes, words, x, path, after_two_epochs):
    content = path.read_bytes()
    with pytest.raises(
        TrainingError, match=rf"saved by another training \({words}\)\. Delete the file .* another path"
    ):
        fit(x, path, **changes)
    assert path.read_bytes() == content


def test_the_file_of_a_training_with_other_data_is_refused(x, path, after_two_epochs):
    with pytest.raises(TrainingError, match="examples 20 instead of 19"):
        fit(x[:19], path)


def test_the_file_of_a_training_with_other_data_of_the_same_size_is_refused(x, path, after_two_epochs):
    with pytest.raises(TrainingError, match=r"data \w{12} instead of \w{12}"):
        fit(x[::-1], path)


def test_the_file_of_a_training_with_another_loss_is_refused(x, path, after_two_epochs):
    with pytest.raises(TrainingError, match=r"loss \['mse'\] instead of \['mae'\]"):
        fit(x, path, loss="mae")


class WeightedError(keras.losses.Loss):
    """A loss as a student writes it, without `get_config`."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def call(self, y_true, y_pred):
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1) * keras.ops.convert_to_tensor(self.weight, "float32")


def weights_in_an_array(weight):
    return WeightedError(np.full(1, weight, "float32"))


def weights_in_a_list(weight):
    return WeightedError([weight])


class SumOfErrors(WeightedError):
    """A loss whose weights have names."""

    def call(self, y_true, y_pred):
        return sum(WeightedError(weight).call(y_true, y_pred) for weight in self.weight.values())


def weights_in_a_dict(weight):
    return SumOfErrors({"first": np.full(1, weight, "float32")})


@pytest.mark.parametrize(
    ("loss", "first", "second"),
    [
        (keras.losses.Huber, r"Huber.*'delta': '1\.0'", r"Huber.*'delta': '2\.0'"),
        (WeightedError, r"WeightedError.*weight=1\.0", r"WeightedError.*weight=2\.0"),
        (weights_in_an_array, r"WeightedError.*weight=\w{12}", r"WeightedError.*weight=\w{12}"),
        (lambda weight: WeightedError(np.float32(weight)), r"weight=1\.0", r"weight=2\.0"),
        (weights_in_a_dict, r"weight=\{'first': '\w{12}'\}", r"weight=\{'first': '\w{12}'\}"),
        (weights_in_a_list, r"WeightedError.*weight=\['1\.0'", r"WeightedError.*weight=\['2\.0'"),
    ],
)
def test_the_file_of_a_training_with_another_setting_of_its_loss_is_refused(loss, first, second, x, path):
    with interrupted("on_epoch_begin", epoch=2):
        fit(x, path, loss=loss(1.0))
    with pytest.raises(TrainingError, match=rf"loss \[.*{first}.*\] instead of \[.*{second}"):
        fit(x, path, loss=loss(2.0))
    assert len(fit(x, path, loss=loss(1.0))["loss"]) == 4


def test_the_file_of_a_training_with_other_validation_or_metrics_is_refused(x, path, after_two_epochs):
    with pytest.raises(TrainingError, match=r"validation data \w{12} instead of \w{12}"):
        fit(x, path, validation_data=(x[:5], x[:5]))
    with pytest.raises(TrainingError, match=r"metrics \[\] instead of \['mae'\]"):
        fit(x, path, metrics=["mae"])


def test_the_file_of_a_model_of_the_same_shapes_with_other_settings_is_refused(x, path, after_two_epochs):
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(6)])
    with pytest.raises(TrainingError, match=r"layers \w{12} instead of \w{12}"):
        fit(x, path, other)
    vae = VAE(*build_vae_networks([4], latent=2, n_pixels=6))
    strong = VAE(*build_vae_networks([4], latent=2, n_pixels=6), beta=4.0)
    path.unlink()
    with interrupted("on_epoch_begin", epoch=2):
        train(vae, x, epochs=4, resume=path)
    with pytest.raises(TrainingError, match=r"layers \w{12} instead of \w{12}"):
        train(strong, x, epochs=4, resume=path)


def test_the_file_of_a_training_in_another_precision_is_refused(x, path, after_two_epochs):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(TrainingError, match="precision float32 instead of mixed_bfloat16"):
            fit(x, path)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_file_with_other_arrays_is_refused_before_anything_is_assigned(x, path, after_two_epochs):
    with np.load(path) as file:
        arrays = dict(file)
    last = f"value_{len(arrays) - 2}"
    np.savez(path, **{name: array for name, array in arrays.items() if name != last})
    made = model()
    before = made.get_weights()
    with pytest.raises(TrainingError, match=r"arrays of other shapes.*Delete the file"):
        fit(x, path, made)
    for weight, unchanged in zip(made.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, unchanged)


def test_the_file_of_another_model_is_refused(x, path, after_two_epochs):
    with pytest.raises(TrainingError, match=r"weights \[\[6, 3\], .* instead of \[\[6, 4\], "):
        fit(x, path, model(units=4))


def write_text(path):
    path.write_text("not a training", encoding="utf-8")


def write_nothing(path):
    path.touch()


def write_values_only(path):
    np.savez(path, value_0=np.zeros(3))


def write_truncated(path):
    np.savez(path, progress="{}", value_0=np.zeros(300))
    path.write_bytes(path.read_bytes()[:-500])


def write_progress_that_is_no_json(path):
    np.savez(path, progress="{", value_0=np.zeros(3))


def write_pickle(path):
    np.savez(path, progress="{}", value_0=np.array([{}], dtype=object))


def write_array_without_names(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def write_weights_of_keras(path):
    weights = path.with_name("keras.weights.h5")
    model().save_weights(weights)
    weights.replace(path)


def write_folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    "write",
    [
        write_text,
        write_nothing,
        write_values_only,
        write_truncated,
        write_progress_that_is_no_json,
        write_pickle,
        write_array_without_names,
        write_weights_of_keras,
        write_folder,
    ],
)
def test_a_file_that_is_no_saved_training_is_refused_and_left_alone(write, x, path):
    write(path)
    content = None if path.is_dir() else path.read_bytes()
    with pytest.raises(TrainingError, match=r"progress\.npz is not a training saved by `train`\. Delete the file"):
        fit(x, path)
    assert content is None or path.read_bytes() == content


def encrypt(content):
    """Flip the bit in the archive's directory that says that an entry is encrypted."""
    flipped = bytearray(content)
    flipped[content.rindex(b"PK\x01\x02") + 8] ^= 1
    return bytes(flipped)


def flip_a_byte_of_the_weights(content):
    flipped = bytearray(content)
    flipped[content.index(b"value_0.npy") + 200] ^= 1
    return bytes(flipped)


@pytest.mark.parametrize(
    "damage",
    [flip_a_byte_of_the_weights, encrypt, lambda content: content[:-500]],
    ids=["flipped byte", "encrypted", "truncated"],
)
def test_a_damaged_file_is_refused_and_left_alone(damage, x, path, after_two_epochs):
    content = damage(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"progress\.npz is not a training saved by `train`"):
        fit(x, path)
    assert path.read_bytes() == content


def test_a_missing_folder_is_made(x, tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "progress.npz"
    assert len(fit(x, path)["loss"]) == 4
    assert path.parent.is_dir()


def test_a_training_that_cannot_be_saved_goes_on_and_says_so(x, path, monkeypatch, capsys):
    def replace(unfinished, path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(resume.os, "replace", replace)
    assert len(fit(x, path)["loss"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"The progress could not be saved in {path} (Permission denied); the training goes on without."
    assert lines[-1].startswith("4 epochs in ")
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_ends_no_training_and_leaves_no_unfinished_file(tmp_path):
    pytest.importorskip("resource")
    run = run_python(
        f"""
import resource
import numpy as np
from course_utils.backend import keras
from course_utils.devices import setup
from course_utils.training import train

setup("01")
x = np.zeros((20, 6), dtype="float32")
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
history = train(model, x, x, loss="mse", epochs=3, resume="{tmp_path}/progress.npz")
print(len(history.history["loss"]))
"""
    )
    _, *failures, line, epochs = run.stdout.splitlines()
    assert len(failures) == 3
    for failure in failures:
        assert re.search(r"could not be saved in .*progress\.npz \([^()]+\); the training goes on", failure)
    assert line.startswith("3 epochs in ")
    assert epochs == "3"
    assert run.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_file_of_a_killed_training_is_ignored(x, path, after_two_epochs, capsys):
    unfinished = path.with_name("unfinished." + path.name)
    unfinished.write_bytes(os.urandom(1000))
    assert len(fit(x, path)["loss"]) == 4
    assert "Resumed from" in capsys.readouterr().out
    assert list(path.parent.iterdir()) == []


def test_the_file_is_replaced_only_by_a_complete_one(x, path, after_two_epochs, monkeypatch, capsys):
    content = path.read_bytes()

    def replace(unfinished, path):
        with np.load(unfinished) as file:
            assert len(file.files) > 1
        raise KeyboardInterrupt

    monkeypatch.setattr(resume.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        fit(x, path)
    assert path.read_bytes() == content


@pytest.mark.skipif(BACKEND == "jax", reason="a loss in a compiled step cannot read the optimizer's counter")
def test_a_loss_that_is_no_longer_a_number_deletes_the_file(x, path, monkeypatch, capsys):
    made = model()

    def turns_nan(y, y_pred):
        late = keras.ops.cast(made.optimizer.iterations >= 9, "float32")
        return keras.ops.mean(keras.ops.square(y - y_pred)) * (1 - late) / (1 - late)

    existed = []
    save = resume.SavedProgress.on_epoch_end

    def save_and_look(self, epoch, logs=None):
        save(self, epoch, logs)
        existed.append(path.exists())

    monkeypatch.setattr(resume.SavedProgress, "on_epoch_end", save_and_look)
    with pytest.raises(TrainingError, match="loss became nan"):
        fit(x, path, made, loss=turns_nan)
    assert existed == [True, True]
    assert not path.exists()


@pytest.mark.parametrize("folder", ["", "new"])
@pytest.mark.parametrize("factor", [1.0, np.nan])
def test_a_read_only_folder_changes_no_end_of_a_training(x, tmp_path, folder, factor, monkeypatch, capsys):
    def refuse(*arguments, **settings):
        raise OSError(30, "Read-only file system")

    for write in ("mkdir", "write_bytes", "unlink"):
        monkeypatch.setattr(resume.Path, write, refuse)
    path = tmp_path / folder / "progress.npz"
    if np.isnan(factor):
        with pytest.raises(TrainingError, match="loss became nan"):
            fit(x, path, loss=lambda y, y_pred: factor * keras.ops.mean(y_pred))
    else:
        assert len(fit(x, path)["loss"]) == 4
        assert "(Read-only file system); the training goes on without." in capsys.readouterr().out
