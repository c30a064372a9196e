"""`setup` says on what a lesson runs, makes it repeatable, and keeps TensorFlow's noise out of the notebook."""

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


@pytest.fixture
def fake_gpus(monkeypatch):
    """A function that makes `setup` find the given graphics cards."""
    monkeypatch.setattr(devices, "BACKEND", "tensorflow")

    def install(*gpus):
        monkeypatch.setattr(devices, "_prepare_tensorflow", lambda logical_cpus: list(gpus))

    yield install
    keras.mixed_precision.set_global_policy("float32")


def initial_weights():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return keras.ops.convert_to_numpy(layer.kernel).ravel().tolist()


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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no undecodable names")
def test_a_folder_that_the_locale_cannot_express_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(devices, "PACKAGE_FOLDER", Path(os.fsdecode(b"/home/\xff/course")))
    with pytest.raises(RuntimeError, match=r"xff/course.*PYTHONUTF8=1"):
        devices.setup("01")


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
    for name, _ in gpus[:1]:
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
