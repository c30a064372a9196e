"""What `setup` and `train` do in a student's process, on one device and on two."""

import json
import re

import numpy as np
import pytest

from course_utils import devices
from tests.course_utils.test_devices import initial_weights
from tests.processes import run_python

pytestmark = pytest.mark.slow


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
""",
        CUDA_VISIBLE_DEVICES="-1",
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
rest = train(vae, np.concatenate([x, x[:1]]), epochs=1, batch_size=16).history["loss"][0]
own = [{name: values[0] for name, values in own.items()}, vae.evaluate(x, return_dict=True, verbose=0)]
beta = vae.get_config()["beta"]
print("-----")
print(json.dumps({"losses": found, "uneven": uneven, "own": own, "rest": rest, "beta": beta, "replicas": replicas()}))
""",
        COURSE_LOGICAL_CPUS="2",
        COURSE_SEED="5",
        CUDA_VISIBLE_DEVICES="-1",
    )


def parts(run):
    return run.stdout.split(SEPARATOR)


def result(run):
    return json.loads(parts(run)[-1])


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


def test_no_device_is_left_without_an_example_in_the_last_batch(two_devices):
    assert np.isfinite(result(two_devices)["rest"])


def test_a_model_on_two_devices_has_a_configuration_of_numbers(two_devices):
    assert result(two_devices)["beta"] == 1.0


def test_two_devices_train_on_a_number_of_examples_that_they_cannot_share(two_devices):
    losses = result(two_devices)["uneven"]
    assert len(losses["val_loss"]) == 3
    assert losses["val_loss"][-1] < losses["val_loss"][0]
