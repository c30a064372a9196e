"""`setup` says on what a lesson runs, makes it repeatable, and keeps TensorFlow's noise out of the notebook."""

import json
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from course_utils import checks, devices
from course_utils.backend import keras
from course_utils.training import train
from tests.processes import run_python

LINE = (
    r"Lesson 01 · Keras \d+\.\d+\.\d+ with TensorFlow \d+\.\d+\.\d+ · {device} · seed {seed} · "
    r"expected time: (about \d+ s on two CPU cores|not measured yet)\n"
)

DEFINITIONS = '''
import json
import os
import numpy as np
from course_utils.backend import keras
from course_utils.devices import replicas, setup
from course_utils.training import train

def draw(rng):
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return rng.uniform(size=3).tolist() + layer.kernel.numpy().ravel().tolist()

def losses(n, n_val, layers, *, epochs=3, batch_size=16):
    """Train what `layers()` makes after the seed was set."""
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(0).uniform(size=(n + n_val, 6)).astype("float32")
    x, x_val = x[:n], x[n:]
    history = train(
        keras.Sequential([keras.Input((6,)), *layers()]), x, x, validation_data=(x_val, x_val),
        loss="binary_crossentropy", epochs=epochs, batch_size=batch_size, learning_rate=0.02,
    )
    return history.history

def dense():
    return [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(6, activation="sigmoid")]

def noisy():
    return [keras.layers.GaussianNoise(0.1), *dense()]

def conv():
    return [
        keras.layers.Reshape((2, 3, 1)), keras.layers.Conv2D(2, 2, padding="same"), keras.layers.Flatten(),
        keras.layers.Dense(6, activation="sigmoid"),
    ]
'''

SEPARATOR = "-----\n"


@pytest.fixture(scope="module")
def one_device():
    """What a student's process writes: at `setup`, in seven trainings, at a second `setup`; then what it found."""
    return run_python(
        DEFINITIONS
        + """
rng = setup("01")
first = draw(rng)
print("-----")
found = losses(64, 32, dense)
losses(1000, 32, dense, epochs=1, batch_size=1)  # long enough for XLA
for layers in (conv, noisy, noisy, noisy, noisy):
    losses(64, 32, layers, epochs=1)
print("-----")
again = draw(setup("01"))
print("-----")
print(json.dumps({"losses": found, "first": first, "again": again, "replicas": replicas()}))
"""
    )


@pytest.fixture(scope="module")
def two_devices():
    return run_python(
        DEFINITIONS
        + """
setup("01")
print("-----")
found, uneven = losses(64, 32, dense), losses(65, 33, dense)

from course_utils.lessons import VAE, build_vae_networks
vae = VAE(*build_vae_networks([8], latent=2, n_pixels=6))
x = np.random.default_rng(0).uniform(size=(64, 6)).astype("float32")
own = [train(vae, x, epochs=1, batch_size=16).history for _ in range(2)][1]
own = [{name: values[0] for name, values in own.items()}, vae.evaluate(x, return_dict=True, verbose=0)]
beta = vae.get_config()["beta"]
print("-----")
print(json.dumps({"losses": found, "uneven": uneven, "own": own, "beta": beta, "replicas": replicas()}))
""",
        COURSE_LOGICAL_CPUS="2",
        COURSE_SEED="5",
    )


@pytest.fixture
def fake_gpus(monkeypatch):
    """A function that makes `setup` find the given graphics cards."""
    monkeypatch.setattr(devices, "BACKEND", "tensorflow")

    def install(*gpus):
        monkeypatch.setattr(devices, "_prepare_tensorflow", lambda logical_cpus: list(gpus))

    yield install
    keras.mixed_precision.set_global_policy("float32")


def parts(run):
    return run.stdout.split(SEPARATOR)


def result(run):
    return json.loads(parts(run)[-1])


def initial_weights():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return keras.ops.convert_to_numpy(layer.kernel).ravel().tolist()


def test_setup_prints_exactly_one_line_with_versions_device_seed_and_time(one_device):
    assert re.fullmatch(LINE.format(device=r"\d+ CPU cores", seed=0), parts(one_device)[0])


def test_nothing_reaches_stderr_even_in_many_trainings(one_device, two_devices):
    assert one_device.stderr == ""
    assert two_devices.stderr == ""


def test_a_second_setup_prints_the_same_and_repeats_the_random_numbers(one_device):
    first, _, second, _ = parts(one_device)
    assert first == second
    assert result(one_device)["first"] == result(one_device)["again"]


def test_the_same_seed_gives_the_same_numbers_in_another_process(one_device, monkeypatch, capsys):
    monkeypatch.delenv("COURSE_SEED", raising=False)
    numbers = devices.setup("01").uniform(size=3).tolist()
    assert numbers + initial_weights() == result(one_device)["first"]


def test_another_seed_changes_the_generator_and_the_initial_weights(monkeypatch, capsys):
    drawn = []
    for seed in ("0", "7"):
        monkeypatch.setenv("COURSE_SEED", seed)
        drawn.append((devices.setup("01").uniform(), initial_weights()[0]))
        assert f"· seed {seed} ·" in capsys.readouterr().out
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "", " 3", "²", str(2**32)])
def test_a_bad_seed_is_refused_with_variable_and_value(text, monkeypatch):
    monkeypatch.setenv("COURSE_SEED", text)
    with pytest.raises(ValueError, match=rf"COURSE_SEED is {re.escape(repr(text))}; expected a whole number from 0 to"):
        devices.setup("01")


@pytest.mark.parametrize("text", ["abc", "0", "-2", "2.0", "17"])
def test_a_bad_number_of_logical_devices_is_refused_with_variable_and_value(text, monkeypatch):
    monkeypatch.setenv("COURSE_LOGICAL_CPUS", text)
    with pytest.raises(ValueError, match=rf"COURSE_LOGICAL_CPUS is {text!r}; expected a whole number from 1 to 16"):
        devices.setup("01")


def test_a_folder_that_the_locale_cannot_express_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(devices, "PACKAGE_FOLDER", Path(os.fsdecode(b"/home/\xff/course")))
    with pytest.raises(RuntimeError, match=r"xff/course.*PYTHONUTF8=1"):
        devices.setup("01")


def test_two_logical_devices_are_mirrored_and_named(one_device, two_devices):
    assert result(one_device)["replicas"] == 1
    assert result(two_devices)["replicas"] == 2
    assert re.fullmatch(LINE.format(device="2 logical CPU devices", seed=5), parts(two_devices)[0])


def test_two_devices_train_as_one_does(one_device, two_devices):
    one, two = result(one_device)["losses"], result(two_devices)["losses"]
    assert one["loss"][-1] < one["loss"][0] - 1e-3
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-5)


def test_a_loss_of_the_models_own_is_shared_by_two_devices(two_devices):
    for found in result(two_devices)["own"]:
        assert found["loss"] == pytest.approx(found["reconstruction"] + found["kl"], rel=1e-5)


def test_a_model_on_two_devices_has_a_configuration_of_numbers(two_devices):
    assert result(two_devices)["beta"] == 1.0


def test_two_devices_train_on_a_number_of_examples_that_they_cannot_share(two_devices):
    losses = result(two_devices)["uneven"]
    assert len(losses["val_loss"]) == 3
    assert losses["val_loss"][-1] < losses["val_loss"][0]


def test_on_colab_without_a_gpu_it_says_where_to_click(fake_gpus, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    fake_gpus()
    devices.setup("01")
    advice = capsys.readouterr().out.splitlines()[1:]
    assert advice == [
        "No GPU is switched on. To get one: Runtime → Change runtime type → T4 GPU → Save, then run all again."
    ]


@pytest.mark.parametrize("gpus", [[], [("Tesla T4", (7, 5))]])
@pytest.mark.parametrize("on_colab", [False, True])
def test_the_advice_appears_only_on_colab_and_only_without_a_gpu(gpus, on_colab, fake_gpus, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    if on_colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    fake_gpus(*gpus)
    devices.setup("01")
    assert ("Runtime →" in capsys.readouterr().out) == (on_colab and not gpus)


@pytest.mark.parametrize(
    ("gpus", "requested", "policy"),
    [
        ([("Tesla T4", (7, 5))], True, "mixed_float16"),
        ([("Tesla V100", (7, 0))], True, "mixed_float16"),
        ([("Tesla T4", (7, 5))], False, "float32"),
        ([("Tesla P100", (6, 0))], True, "float32"),
        ([("Tesla T4", (7, 5)), ("Tesla P100", (6, 0))], True, "float32"),
        ([], True, "float32"),
    ],
)
def test_mixed_precision_is_used_where_requested_and_where_it_pays(gpus, requested, policy, fake_gpus, capsys):
    fake_gpus(*gpus)
    devices.setup("01", mixed_precision=requested)
    line = capsys.readouterr().out
    assert keras.mixed_precision.global_policy().name == policy
    assert ("in mixed precision" in line) == (policy == "mixed_float16")
    for name, _ in gpus:
        assert name in line


def test_a_model_is_trained_in_mixed_precision(capsys):
    keras.config.set_dtype_policy("mixed_bfloat16")  # float16 alike, but slower on a CPU
    try:
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(6, dtype="float32")])
        x = np.random.default_rng(0).uniform(size=(64, 6)).astype("float32")
        history = train(model, x, x, validation_data=(x, x), loss="mse", epochs=5, learning_rate=0.02).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.layers[0].compute_dtype == "bfloat16"
    assert model.layers[0].kernel.dtype == "float32"
    assert history["val_loss"][-1] < 0.9 * history["val_loss"][0]


@pytest.mark.parametrize(("text", "capability"), [("7.5", (7, 5)), ("12.0", (12, 0)), ("gfx90a", (0, 0)), ("", (0, 0))])
def test_what_other_makers_write_is_no_compute_capability(text, capability):
    assert devices._capability(text) == capability


def test_a_setup_without_mixed_precision_switches_it_off_again(fake_gpus, capsys):
    fake_gpus(("Tesla T4", (7, 5)))
    devices.setup("01", mixed_precision=True)
    devices.setup("02")
    assert keras.mixed_precision.global_policy().name == "float32"


def test_the_expected_time_comes_from_the_reference(fake_gpus, monkeypatch, capsys):
    fake_gpus()
    monkeypatch.setattr(checks, "_reference", lambda: {"lessons": {"01": {"seconds": 41.2}}, "results": {}})
    devices.setup("01")
    devices.setup("02")
    known, unknown = capsys.readouterr().out.splitlines()
    assert known.endswith("expected time: about 45 s on two CPU cores")
    assert unknown.endswith("expected time: not measured yet")


def test_what_the_start_of_the_devices_writes_is_not_shown(monkeypatch, capfd):
    def noisy(logical_cpus):
        os.write(2, b"noise")
        return []

    monkeypatch.delenv("COURSE_DEBUG", raising=False)
    monkeypatch.setattr(devices, "_prepare_tensorflow", noisy)
    devices.setup("01")
    assert capfd.readouterr().err == ""
