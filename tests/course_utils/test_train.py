"""`train` learns, follows its schedule, and explains in words what it cannot train on."""

import contextlib
import gc
import io
import math
import re
import weakref

import numpy as np
import pytest

from course_utils import callbacks, evaluation, training
from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.training import TrainingError, train
from tests.processes import run_in_kernel

LAST_LINE = r"{epochs} in \d+\.\d s · loss \d+\.\d{{4}}{validation}"


@pytest.fixture
def x():
    """Twenty images of six pixels."""
    return np.random.default_rng(0).uniform(size=(20, 6)).astype("float32")


@pytest.fixture
def fit_is_never_called(monkeypatch):
    def fit(*arguments, **keywords):
        raise AssertionError("the model was trained")

    monkeypatch.setattr(keras.Model, "fit", fit)


def autoencoder(shape=(6,), activation="sigmoid"):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="relu"),
            keras.layers.Dense(math.prod(shape), activation=activation),
            keras.layers.Reshape(shape),
        ]
    )


def changed(x, value):
    x = x.copy()
    x[3, 2] = value
    return x


# ---------------------------------------------------------------------------------------------------------------------
# What a training gives
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(training.BACKEND != "tensorflow", reason="on the other backends Keras decides about compilation")
@pytest.mark.slow
def test_training_with_xla_learns_more_than_the_mean_image_and_returns_the_history(capsys):
    keras.utils.set_random_seed(0)
    (x_train, _), (x_val, _), _ = load_mnist(flat=True)
    x_train, x_val = x_train[:2000], x_val[:500]
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(784, activation="sigmoid")]
    model = keras.Sequential([keras.Input((784,)), *layers])
    history = train(
        model,
        x_train,
        x_train,
        validation_data=(x_val, x_val),
        loss="binary_crossentropy",
        metrics=["mse"],
        epochs=4,
        batch_size=8,
        learning_rate=2e-3,
    )
    assert model.jit_compile is True
    assert isinstance(history, keras.callbacks.History)
    assert set(history.history) == {"loss", "val_loss", "mse", "val_mse"}
    assert {len(values) for values in history.history.values()} == {4}
    assert np.all(np.diff(history.history["loss"]) < 0)
    reached = evaluation.bce(x_val, model.predict(x_val, verbose=0))
    assert history.history["val_loss"][-1] == pytest.approx(reached, rel=1e-3)
    assert reached < 0.75 * evaluation.bce(x_val, evaluation.mean_image(x_train, 500))


@pytest.mark.parametrize("steps", [10, 100, pytest.param(1234, marks=pytest.mark.slow)])
def test_the_learning_rate_peaks_after_a_tenth_and_ends_at_zero(steps):
    schedule = training.warm_up_and_cosine(0.01, steps)
    rates = np.array([float(schedule(step)) for step in range(steps + 1)])
    peak = steps // 10
    assert rates[0] == 0
    assert rates.argmax() == peak
    assert rates[peak] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(rates[: peak + 1], 0.01 * np.arange(peak + 1) / peak, rtol=1e-5)
    falling = np.arange(steps - peak + 1) / (steps - peak)
    np.testing.assert_allclose(rates[peak:], 0.01 * (1 + np.cos(np.pi * falling)) / 2, atol=1e-7)


def test_a_training_of_a_single_step_learns(x, capsys):
    model = autoencoder()
    before = model.get_weights()[0]
    train(model, x, x, loss="mse", epochs=1, batch_size=100)
    assert not np.array_equal(model.get_weights()[0], before)


@pytest.mark.parametrize(("batch_size", "steps_per_epoch"), [(6, 4), (1, 70), (100, 1)])
def test_every_example_is_used_and_the_schedule_spans_all_steps(batch_size, steps_per_epoch, x, capsys):
    x = np.tile(x, (4, 1))[:70] if batch_size == 1 else x
    model = autoencoder()
    train(model, x, x, loss="mse", epochs=2, batch_size=batch_size, learning_rate=0.01)
    assert int(model.optimizer.iterations) == 2 * steps_per_epoch
    assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-7)
    schedule = model.optimizer.get_config()["learning_rate"]["config"]
    assert schedule["warmup_steps"] + schedule["decay_steps"] == max(2, 2 * steps_per_epoch)
    assert schedule["warmup_target"] == 0.01


@pytest.mark.parametrize("stopped", [False, True])
def test_arrays_and_model_are_freed_after_a_training_even_a_stopped_one(stopped, monkeypatch):
    class Stop(callbacks.ProgressLine):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    if stopped:
        monkeypatch.setattr(training, "ProgressLine", Stop)
    arrays = [np.random.default_rng(seed).uniform(size=(50, 6)).astype("float32") for seed in range(4)]
    model = autoencoder()
    with pytest.raises(KeyboardInterrupt) if stopped else contextlib.nullcontext():
        train(model, *arrays[:2], loss="mse", epochs=2, validation_data=tuple(arrays[2:]))
    assert model.train_function is model.test_function is None  # their graphs too
    left = [weakref.ref(thing) for thing in (model, *arrays)]
    del model, arrays
    gc.collect()
    assert [ref() is None for ref in left] == [True] * 5


@pytest.mark.skipif(training.BACKEND == "torch", reason="PyTorch builds no graph")
def test_a_trained_model_predicts_in_a_graph_of_one_step(x, capsys):
    """Of as many as in a training, TensorFlow would compute several at once and need the memory of all of them."""
    shapes = []

    class Watch(keras.layers.Layer):
        def call(self, x):
            shapes.append(x.shape)
            return x

    model = keras.Sequential([keras.Input((6,)), Watch(), keras.layers.Dense(6)])
    train(model, x, x, loss="mse", epochs=2, batch_size=2, validation_data=(x, x))
    shapes.clear()
    predicted = model.predict(x, batch_size=2, verbose=0)
    assert 1 <= len(shapes) <= 2  # Keras may look at the shapes of the output before
    np.testing.assert_allclose(predicted, keras.ops.convert_to_numpy(model(x)), rtol=1e-5, atol=1e-6)
    assert model.evaluate(x, x, batch_size=3, verbose=0) == pytest.approx(np.mean((predicted - x) ** 2), rel=1e-5)


def test_a_model_that_computes_its_loss_itself_needs_no_targets(x, capsys):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = autoencoder()

        def call(self, x):
            return self.inner(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            assert y is None
            return 7 + keras.ops.mean(keras.ops.square(x - y_pred))

    history = train(Own(), x, epochs=3, learning_rate=0.01, validation_data=(x, None))
    assert 7 < history.history["loss"][-1] < history.history["loss"][0] < 8
    assert 7 < history.history["val_loss"][-1] < 8


@pytest.mark.usefixtures("eagerly")
def test_a_squared_error_takes_values_outside_the_unit_interval(x, capsys):
    history = train(autoencoder(activation="linear"), x, 300 * x - 100, loss="mse", epochs=1)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.usefixtures("eagerly")
def test_whole_number_labels_are_accepted_by_a_sparse_loss(x, capsys):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    history = train(model, x, np.arange(20) % 3, loss="sparse_categorical_crossentropy", epochs=1)
    assert history.history["loss"][0] > 0


@pytest.mark.parametrize("as_given", [dict, lambda pairs: [value for _, value in pairs]], ids=["dict", "list"])
@pytest.mark.usefixtures("eagerly")
def test_models_with_several_inputs_take_a_dict_or_a_list(as_given, x, capsys):
    inputs = [("wide", keras.Input((6,), name="wide")), ("narrow", keras.Input((2,), name="narrow"))]
    outputs = keras.layers.Dense(6)(keras.layers.Concatenate()([tensor for _, tensor in inputs]))
    model = keras.Model(as_given(inputs), outputs)
    history = train(model, as_given([("wide", x), ("narrow", x[:, :2])]), x, loss="mse", epochs=1)
    assert len(history.history["loss"]) == 1


@pytest.mark.parametrize("number", [np.int64, np.float64, float])
@pytest.mark.usefixtures("eagerly")
def test_whole_numbers_of_any_type_are_taken_as_such(number, x, capsys):
    history = train(autoencoder(), x, x, loss="mse", epochs=number(2), batch_size=number(5))
    assert len(history.history["loss"]) == 2


@pytest.mark.usefixtures("eagerly")
def test_inputs_that_are_their_own_targets_may_be_several_arrays(x, capsys):
    wide, narrow = keras.Input((6,)), keras.Input((2,))
    both = keras.layers.Concatenate()([wide, narrow])
    model = keras.Model([wide, narrow], [keras.layers.Dense(6)(both), keras.layers.Dense(2)(both)])
    arrays = [x, x[:, :2]]
    assert len(train(model, arrays, arrays, loss=["mse", "mse"], epochs=1).history["loss"]) == 1


def test_a_model_that_builds_itself_in_its_first_step_is_trained(x, capsys):
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(6)])
    assert len(train(model, x, x, loss="mse", epochs=1).history["loss"]) == 1


def test_a_loss_that_is_no_longer_a_number_is_explained(x, capsys):
    model = autoencoder(activation="linear")
    with pytest.raises(
        TrainingError, match=r"loss became (nan|inf), so the training was stopped.*learning rate.*tenth"
    ):
        train(model, x, 1e6 * x, loss="mse", epochs=50, batch_size=2, learning_rate=1e30)


@pytest.mark.skipif(training.BACKEND == "jax", reason="a loss in a compiled step cannot read the optimizer's counter")
def test_a_loss_of_ones_own_that_turns_nan_later_is_explained(x, capsys):
    model = autoencoder()

    def turns_nan(y, y_pred):
        late = keras.ops.cast(model.optimizer.iterations > 25, "float32")
        return keras.ops.mean(keras.ops.square(y - y_pred)) / (1 - late) * (1 - late)

    with pytest.raises(TrainingError, match=r"logarithm of zero or a division by zero in your own loss"):
        train(model, x, x, loss=turns_nan, epochs=10, batch_size=5)
    assert 25 < int(model.optimizer.iterations) < 40


# ---------------------------------------------------------------------------------------------------------------------
# What it compiles with XLA
# ---------------------------------------------------------------------------------------------------------------------


LONG = 1_000_000


def stack(*layers):
    return keras.Sequential([keras.Input((4, 4, 1)), *layers])


class Subclassed(keras.Model):
    pass


@pytest.mark.skipif(training.BACKEND != "tensorflow", reason="on the other backends Keras decides about compilation")
@pytest.mark.parametrize(
    ("make_model", "choice"),
    [
        (autoencoder, True),
        (lambda: stack(keras.layers.Flatten(), autoencoder((16,))), True),
        (lambda: stack(keras.layers.Conv2D(2, 3)), "auto"),
        (lambda: stack(keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])), "auto"),
        (lambda: stack(keras.layers.GaussianNoise(0.1), keras.layers.Flatten(), keras.layers.Dense(3)), "auto"),
        (lambda: stack(keras.layers.Flatten(), keras.layers.Dropout(0.1)), "auto"),
        (Subclassed, "auto"),
    ],
    ids=["dense", "nested dense", "convolution", "nested convolution", "noise", "dropout", "subclassed"],
)
def test_xla_compiles_long_trainings_of_dense_layers_and_nothing_else(make_model, choice):
    assert training._jit_compile(make_model(), LONG) == choice


def test_xla_is_left_alone_in_short_trainings_and_on_several_devices(monkeypatch):
    assert training._jit_compile(autoencoder(), 100) == "auto"
    monkeypatch.setattr(training, "replicas", lambda: 2)
    assert training._jit_compile(autoencoder(), LONG) == "auto"


# ---------------------------------------------------------------------------------------------------------------------
# What it refuses
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: {"x": x[:, :5]}, r"training data, x: the model expects the shape \(n, 6\), but it is \(20, 5\)\.$"),
        (lambda x: {"y": x[:, :5]}, r"training data, y: the model expects the shape \(n, 6\), but it is \(20, 5\)\.$"),
        (
            lambda x: {"x": x.reshape(20, 2, 3, 1)},
            r"x: the model expects the shape \(n, 6\), but it is \(20, 2, 3, 1\)\. The sizes agree: reshape it",
        ),
        (
            lambda x: {"y": x.reshape(20, 2, 3, 1)},
            r"y: the model expects the shape \(n, 6\), but it is \(20, 2, 3, 1\)\. The sizes agree: reshape it",
        ),
        (lambda x: {"x": changed(x, np.nan)}, "x: expected finite numbers, but 1 of 120 are NaN or infinite"),
        (lambda x: {"x": changed(x, np.inf)}, "x: expected finite numbers, but 1 of 120 are NaN or infinite"),
        (lambda x: {"x": changed(changed(x, np.inf).T[::-1].T, -np.inf)}, "but 2 of 120 are NaN or infinite"),
        (lambda x: {"y": changed(x, np.nan)}, "y: expected finite numbers, but 1 of 120 are NaN or infinite"),
        (lambda x: {"x": x[:0], "y": x[:0]}, r"x: expected at least one example, but it is empty \(shape \(0, 6\)\)"),
        (lambda x: {"x": []}, "x: expected at least one example, but it is empty"),
        (lambda x: {"x": None}, "x: expected at least one example, but it is empty"),
        (lambda x: {"y": x[:19]}, r"one entry per example; their lengths are \[19, 20\]"),
        (lambda x: {"x": x.astype(str)}, "x: expected numbers, but the type is <U"),
        (lambda x: {"x": x.astype(object)}, "x: expected numbers, but the type is object"),
        (lambda x: {"validation_data": x}, r"validation_data: expected a pair \(x_val, y_val\)"),
        (lambda x: {"validation_data": (x,)}, r"validation_data: expected a pair \(x_val, y_val\)"),
        (lambda x: {"validation_data": (x[:, :5], x)}, r"validation_data, x: .* \(n, 6\), but it is \(20, 5\)"),
        (lambda x: {"validation_data": (x, x[:, :5])}, r"validation_data, y: .* \(n, 6\), but it is \(20, 5\)"),
        (lambda x: {"validation_data": (x, changed(x, np.nan))}, "validation_data, y: .* 1 of 120 are NaN"),
        (lambda x: {"validation_data": (x, 255 * x)}, "validation_data, y: .*Divide gray values 0…255 by 255"),
        (lambda x: {"epochs": 0}, "epochs is 0; expected a number above 0"),
        (lambda x: {"epochs": -1}, "epochs is -1; expected a number above 0"),
        (lambda x: {"epochs": 1.5}, "epochs is 1.5; expected a whole number"),
        (lambda x: {"epochs": True}, "epochs is True; expected a number above 0"),
        (lambda x: {"epochs": "2"}, "epochs is '2'; expected a number above 0"),
        (lambda x: {"epochs": math.inf}, "epochs is inf; expected a number above 0"),
        (lambda x: {"batch_size": 0}, "batch_size is 0; expected a number above 0"),
        (lambda x: {"batch_size": 2.5}, "batch_size is 2.5; expected a whole number"),
        (lambda x: {"learning_rate": 0}, "learning_rate is 0; expected a number above 0"),
        (lambda x: {"learning_rate": -0.1}, "learning_rate is -0.1; expected a number above 0"),
        (lambda x: {"learning_rate": math.nan}, "learning_rate is nan; expected a number above 0"),
        (lambda x: {"learning_rate": math.inf}, "learning_rate is inf; expected a number above 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(change, words, x, fit_is_never_called):
    arguments = {"x": x, "y": x, "loss": "binary_crossentropy", "epochs": 1} | change(x)
    with pytest.raises(ValueError, match=words):
        train(autoencoder(), **arguments)


def test_flat_images_for_a_convolutional_model_get_the_same_hint(fit_is_never_called):
    flat = np.zeros((5, 16), dtype="float32")
    with pytest.raises(ValueError, match=r"shape \(n, 4, 4, 1\), but it is \(5, 16\)\. The sizes agree.*flat=True"):
        train(stack(keras.layers.Conv2D(1, 3)), flat, flat, loss="mse", epochs=1)


def with_own_name(y, y_pred):
    return keras.losses.binary_crossentropy(y, y_pred)


with_own_name.__name__ = "binary_crossentropy"


@pytest.mark.parametrize(
    "loss",
    [
        "binary_crossentropy",
        "bce",
        "BCE",
        "BinaryCrossentropy",
        keras.losses.binary_crossentropy,
        keras.losses.BinaryCrossentropy(),
        keras.losses.BinaryCrossentropy(name="reconstruction"),
        with_own_name,
    ],
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x: 255 * x,
            r"needs targets in \[0, 1\], but they reach from .* to 2\d\d.*Divide gray values 0…255 by 255",
        ),
        (lambda x: (255 * x).astype("uint8"), "Divide gray values 0…255 by 255"),
        (lambda x: x - 0.5, r"needs targets in \[0, 1\], but they reach from -0\.4\d* to 0\.\d+\.$"),
    ],
    ids=["gray values", "bytes", "negative"],
)
def test_binary_cross_entropy_refuses_targets_outside_the_unit_interval(loss, change, words, x, fit_is_never_called):
    with pytest.raises(ValueError, match=words):
        train(autoencoder(), x, change(x), loss=loss, epochs=1)


# ---------------------------------------------------------------------------------------------------------------------
# What it prints
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "words"), [(1, "1 epoch"), (3, "3 epochs")])
@pytest.mark.usefixtures("eagerly")
def test_outside_jupyter_and_without_a_terminal_it_prints_one_line(epochs, words, x, capsys):
    train(autoencoder(), x, x, loss="mse", epochs=epochs)
    assert re.fullmatch(LAST_LINE.format(epochs=words, validation="") + "\n", capsys.readouterr().out)
    train(autoencoder(), x, x, loss="mse", epochs=epochs, validation_data=(x, x))
    expected = LAST_LINE.format(epochs=words, validation=r" · validation loss \d+\.\d{4}") + "\n"
    assert re.fullmatch(expected, capsys.readouterr().out)


def test_in_a_terminal_the_line_replaces_itself(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    line = callbacks.UpdatingLine()
    line.update("epoch 1 of 2")
    line.finish("2 epochs")
    assert terminal.getvalue() == "\r\033[Kepoch 1 of 2\r\033[K2 epochs\n"


@pytest.mark.usefixtures("eagerly")
def test_while_training_the_line_shows_epoch_losses_and_time_left(monkeypatch, x, capsys):
    shown = []
    clock = iter(range(10**6))
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(callbacks.UpdatingLine, "update", lambda self, text: shown.append(text))
    train(autoencoder(), x, x, loss="mse", epochs=2, batch_size=5, validation_data=(x, x))
    assert re.fullmatch(r"epoch 1 of 2 · loss \d\.\d{4} · \d+ s left", shown[0])
    assert re.fullmatch(r"epoch 2 of 2 · loss \d\.\d{4} · validation loss \d\.\d{4} · 0 s left", shown[-2])


@pytest.mark.slow
def test_a_notebook_stores_one_line_per_training_and_no_stderr(tmp_path):
    setup_outputs, first, second = run_in_kernel(
        "import numpy as np\n"
        "from course_utils.devices import setup\nfrom course_utils.training import train\n"
        "from course_utils.backend import keras\n"
        "rng = setup('01')\n"
        "x = rng.uniform(size=(2000, 6)).astype('float32')\n"
        "model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])",
        "history = train(model, x, x, validation_data=(x, x), loss='mse', epochs=5, batch_size=4)",
        "history = train(model, x, x, loss='mse', epochs=1, batch_size=100)",
        folder=tmp_path,
    )
    (line,) = setup_outputs
    assert (line.output_type, line.name) == ("stream", "stdout")
    assert line.text.startswith("Lesson 01")
    assert line.text.count("\n") == 1
    validation = r" · validation loss \d+\.\d{4}"
    for outputs, epochs, suffix in ((first, "5 epochs", validation), (second, "1 epoch", "")):
        (output,) = outputs
        assert output.output_type == "display_data"
        assert set(output.data) == {"text/plain"}
        assert re.fullmatch(LAST_LINE.format(epochs=epochs, validation=suffix), output.data["text/plain"])
