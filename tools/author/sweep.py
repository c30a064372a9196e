"""Repeat a training over one setting and several seeds, and store the curve for `load_curve`: `make curves`.

    python -m tools.author.sweep                    # those that are missing or whose sweep changed
    python -m tools.author.sweep 01.code_size

Each training is kept as soon as it has ended, so that an interrupted sweep goes on where it was.
"""

import argparse
import contextlib
import functools
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import numpy as np

from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.devices import setup
from course_utils.evaluation import bce, fit_pca, judge_accuracy, load_judge, mse, psnr, reconstruct_pca
from course_utils.lessons import (
    AnyGaussianNoise,
    GaussianNoise,
    build_autoencoder,
    build_conv_autoencoder,
    build_conv_denoiser,
    build_deep,
    codes_moved,
    moved_at_random,
    noisy_copy,
    shift_right,
)
from course_utils.pretrained import CURVE_FOLDER, load_curve
from course_utils.training import TrainingError, compile_for_training, train, warm_up_and_cosine
from tools.author import neighborhoods, one_class, pretraining, sparse_grid, stacked_vaes, stacked_writers, strengths
from tools.author.pretrain import flat_digits
from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import ROOT, replace_file

PROGRESS_FOLDER = ROOT / "build" / "curves"


@dataclass(frozen=True)
class Sweep:
    """`measure(x_value)` trains anew and returns label → number, for each value of `x` and with each of `seeds` seeds.

    `settings` are what all trainings share, for the reader; a sweep whose settings changed is run again.
    """

    x: tuple
    measure: Callable[[float], dict[str, float]]
    settings: dict
    seeds: int = 5

    def identity(self) -> dict:
        """What tells this sweep from another one, as it is read from a file."""
        return json.loads(json.dumps({"x": self.x, "seeds": self.seeds, "settings": self.settings}))


def _reconstructed(sizes: list[int], **settings) -> tuple[np.ndarray, np.ndarray]:
    """Validation digits, and their reconstruction by a new dense autoencoder that `train` trained with these settings."""
    (x_train,), (_, (x_val, _), _) = flat_digits(), load_mnist(flat=True)
    model = build_autoencoder(sizes, code_activation="linear")[0]
    train(model, x_train, x_train, loss="binary_crossentropy", **settings)
    return x_val, model.predict(x_val, batch_size=1000, verbose=0)


def _patience(epochs: int) -> dict[str, float]:
    """Validation BCE of lesson 01's smallest autoencoder after so many epochs, with constant rates and with a cosine."""
    results = {}
    for rate in (0.001, 0.01):
        with mock.patch("course_utils.training.warm_up_and_cosine", lambda highest, steps: highest):
            results[f"constant rate {rate:g}"] = bce(*_reconstructed(**PATIENCE, epochs=epochs, learning_rate=rate))
    results["warm-up and cosine"] = bce(*_reconstructed(**PATIENCE, epochs=epochs, learning_rate=HIGHEST))
    return results


def _code_size(size: int) -> dict[str, float]:
    """MSE on the validation digits of an autoencoder with one hidden layer and a code of this size."""
    settings = {key: value for key, value in CODE_SIZE.items() if key != "hidden"}
    return {"autoencoder": mse(*_reconstructed([784, *CODE_SIZE["hidden"], size], **settings))}


PATIENCE = {"sizes": [784, 32], "batch_size": 256}
HIGHEST = 0.02
CODE_SIZE = {"hidden": [128], "epochs": 18, "batch_size": 500, "learning_rate": 0.015}


def _from_one_training(train_all: Callable[[int], dict]) -> Callable[[float], dict[str, float]]:
    """A sweep's measure: `train_all(seed)`, which must be cached, trains once per seed and gives the results for all x."""
    # NumPy's first draw names the seed.
    return lambda x: train_all(int(np.random.randint(2**31)))[x]  # noqa: NPY002


# Lesson 02: networks with codes of 128 numbers, from and to pictures `(28, 28, 1)`, trained as in the lesson.
CODE_128 = {"code": 128, "epochs": 6, "batch_size": 64, "schedule": "warm-up and cosine"}
CODE_128_RATES = (0.008, 0.016, 0.032, 0.064)
WIDE = (64, 140)  # channels: 200,737 parameters, and the dense network has 201,616
MOVED = 4  # pixels
SHIFTS = range(MOVED + 1)
PARTS = 10  # of a training on few digits: after each one the error is measured
FEW_DIGITS = {
    **CODE_128,
    "rates": "the best of 02.rates",
    "scored": "lowest validation MSE of ten on the way",
    "scored on": 2000,
}


def _code_128_networks() -> dict[str, keras.Model]:
    """Label → a new network."""
    dense, _, _ = build_autoencoder([784, 128], code_activation="linear")
    reshapes = keras.layers.Flatten(), keras.layers.Reshape((28, 28, 1))
    return {
        "dense": keras.Sequential([keras.Input((28, 28, 1)), reshapes[0], dense, reshapes[1]]),
        "convolutional": build_conv_autoencoder()[0],
    }


def _fit_code_128(networks: dict, rates: dict, x_train: np.ndarray, epochs: int | None = None) -> None:
    training = {"epochs": epochs or CODE_128["epochs"], "batch_size": CODE_128["batch_size"]}
    for label, network in networks.items():
        with contextlib.suppress(TrainingError):  # it diverged, and its error will say so
            train(network, x_train, x_train, loss="binary_crossentropy", learning_rate=rates[label], **training)


def _picture_errors(networks: dict, x: np.ndarray) -> dict[str, float]:
    """Label → MSE; 1 for a training that diverged, which is more than that of any other network."""
    errors = {label: mse(x, network.predict(x, batch_size=500, verbose=0)) for label, network in networks.items()}
    return {label: error if math.isfinite(error) else 1.0 for label, error in errors.items()}


def _pca_error(x_train: np.ndarray, x: np.ndarray, n_components: int = 128) -> float:
    flat_train, flat = x_train.reshape(len(x_train), -1), x.reshape(len(x), -1)
    return mse(flat, np.clip(reconstruct_pca(fit_pca(flat_train, n_components), flat), 0, 1))


def _at_every_shift(errors_of: Callable[[np.ndarray], dict[str, float]], x: np.ndarray) -> dict[str, float]:
    """The errors of `x`, moved to the right by each of `SHIFTS`; the pixels become part of the label."""
    found = {pixels: errors_of(shift_right(x, pixels)) for pixels in SHIFTS}
    return {f"{label}, {pixels} px": error for pixels, errors in found.items() for label, error in errors.items()}


def best_rates(curve: dict) -> dict[str, float]:
    """Label → the learning rate with the lowest mean error, of the curve "02.rates"."""
    return {label: curve["x"][int(np.argmin(errors))] for label, errors in curve["mean"].items()}


def _rates(rate: float) -> dict[str, float]:
    (x_train, _), (x_val, _), _ = load_mnist()
    networks = _code_128_networks()
    _fit_code_128(networks, dict.fromkeys(networks, rate), x_train)
    return _picture_errors(networks, x_val)


def _shift(most: int) -> dict[str, float]:
    """Validation MSE of every network at every shift, trained on digits that were moved by up to `most` pixels."""
    (x_train, _), (x_val, _), _ = load_mnist()
    x_train = moved_at_random(x_train, most, np.random.default_rng(np.random.randint(2**31)))  # noqa: NPY002
    networks = _code_128_networks()
    _fit_code_128(networks, best_rates(load_curve("02.rates")), x_train)
    return _at_every_shift(lambda moved: {"PCA": _pca_error(x_train, moved), **_picture_errors(networks, moved)}, x_val)


def _wide(rate: float) -> dict[str, float]:
    """Validation MSE at every shift, of a convolutional network with about as many parameters as the dense one."""
    (x_train, _), (x_val, _), _ = load_mnist()
    networks = {"convolutional, wide": build_conv_autoencoder(channels=WIDE)[0]}
    _fit_code_128(networks, dict.fromkeys(networks, rate), x_train)
    return _at_every_shift(lambda moved: _picture_errors(networks, moved), x_val)


def _long(epochs: int) -> dict[str, float]:
    """Validation MSE of both networks at their best rates after so many epochs."""
    (x_train, _), (x_val, _), _ = load_mnist()
    networks = _code_128_networks()
    _fit_code_128(networks, best_rates(load_curve("02.rates")), x_train, epochs)
    return _picture_errors(networks, x_val)


def _few_digits(n: int) -> dict[str, float]:
    """Lowest validation MSE on the way, of networks that see as many pictures as the others, drawn from `n` digits."""
    (x_train, _), (x_val, _), _ = load_mnist()
    x_val = x_val[: FEW_DIGITS["scored on"]]
    rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
    few = x_train[rng.permutation(len(x_train))[:n]]
    drawn = rng.integers(n, size=(PARTS, CODE_128["epochs"] * len(x_train) // PARTS))
    steps = PARTS * math.ceil(drawn.shape[1] / CODE_128["batch_size"])
    rates = best_rates(load_curve("02.rates"))
    lowest = {"PCA": _pca_error(few, x_val, min(128, n - 1))}
    for label, network in _code_128_networks().items():
        compile_for_training(network, steps, rates[label], loss="binary_crossentropy")
        for part in drawn:
            network.fit(few[part], few[part], batch_size=CODE_128["batch_size"], verbose=0)
            error = _picture_errors({label: network}, x_val)[label]
            lowest[label] = min(lowest.get(label, error), error)
    return lowest


# Lesson 03: narrow and wide codes, trained to copy clean digits or to restore noisy ones.
class SideBySide(keras.Model):
    """Several networks of the same input that learn at the same time, each as if it were alone: Adam treats every weight by
    itself, and the loss, a sum of binary cross-entropies, mixes no two networks."""

    def __init__(self, networks: list[keras.Model]):
        super().__init__()
        self.networks = networks

    def build(self, input_shape):
        """Nothing is left to build."""

    def call(self, x, training=False):
        return [network(x, training=training) for network in self.networks]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return sum(keras.ops.mean(keras.ops.binary_crossentropy(x, x_hat)) for x_hat in y_pred)


def _fit_denoisers(networks: list, epochs: int, settings: dict) -> None:
    """Train all networks for that many epochs."""
    x, batch_size = flat_digits()[0][: settings["digits"]], settings["batch_size"]
    schedule = warm_up_and_cosine(settings["highest rate"], epochs * math.ceil(len(x) / batch_size))
    model = SideBySide(networks)
    model.compile(optimizer=keras.optimizers.Adam(schedule), jit_compile="auto")
    model.fit(x, batch_size=batch_size, epochs=epochs, verbose=0)


CODE_AND_TASK = {
    "network": [784, 400, "size", 400, 784],
    "noise": 0.5,
    "digits": 55_000,
    "batch_size": 100,
    "highest rate": 0.002,
}
CODE_AND_TASK_EPOCHS = {"": 30, ", a third of the epochs": 10}
CODE_AND_TASK_SIZES = (8, 32, 800)
MOVES = (0.0, 0.25, 0.5, 0.75, 1.0)


@functools.cache
def _code_and_task(seed: int) -> dict[int, dict[str, float]]:
    """Size of the code → what was trained, how it was scored → PSNR on validation digits, and what the codes are like."""
    _, (x_val, y_val), _ = load_mnist(flat=True)
    keras.utils.set_random_seed(seed)
    rng, judge, sigma = np.random.default_rng(seed), load_judge(), CODE_AND_TASK["noise"]
    inputs = {"clean": x_val, "noisy": noisy_copy(GaussianNoise(sigma), x_val, seed=1)}
    cases = [(size, task, label) for size in CODE_AND_TASK_SIZES for task in inputs for label in CODE_AND_TASK_EPOCHS]
    built = [build_deep(GaussianNoise(sigma if task == "noisy" else 0.0), size) for size, task, _ in cases]
    for label, epochs in CODE_AND_TASK_EPOCHS.items():
        chosen = [whole for (_, _, other), (whole, _, _) in zip(cases, built, strict=True) if other == label]
        _fit_denoisers(chosen, epochs, CODE_AND_TASK)
    results: dict[int, dict[str, float]] = {size: {} for size in CODE_AND_TASK_SIZES}
    for (size, task, label), (network, encoder, decoder) in zip(cases, built, strict=True):
        found = results[size]
        for name, x in inputs.items():
            x_hat = network.predict(x, batch_size=1000, verbose=0)
            found[f"trained on {task}, tested on {name}{label}"] = psnr(x_val, x_hat)
        if label:
            continue
        z, z_noisy = (encoder.predict(x, batch_size=1000, verbose=0) for x in inputs.values())
        others = np.linalg.norm(z - rng.permutation(z), axis=1).mean()
        found[f"trained on {task}, shift of codes by noise"] = np.linalg.norm(z_noisy - z, axis=1).mean() / others
        z = z_noisy if task == "noisy" else z  # the codes that the decoder was trained with
        for share in MOVES:
            x_hat = decoder.predict(codes_moved(z, share, rng), batch_size=1000, verbose=0)
            found[f"trained on {task}, read after a move of {share}"] = judge_accuracy(judge, x_hat, y_val)
    return results


SKIPS = {"noise": 1.0, "epochs": 2, "batch_size": 64, "schedule": "warm-up and cosine", "scored": "validation PSNR"}


def _skips(rate: float) -> dict[str, float]:
    """PSNR on noisy validation digits of lesson 03's small convolutional denoiser, with its skip connections and without."""
    (x_train,), (_, (x_val, _), _) = flat_digits(), load_mnist(flat=True)
    training = {name: SKIPS[name] for name in ("epochs", "batch_size")}
    results = {}
    for label, skips in {"with skip connections": True, "without": False}.items():
        model = build_conv_denoiser(AnyGaussianNoise(SKIPS["noise"]), skips)
        train(model, x_train, x_train, loss="binary_crossentropy", learning_rate=rate, **training)
        for amount in (0.5, 1.0):
            x_noisy = noisy_copy(GaussianNoise(amount), x_val, seed=1)
            results[f"{label}, noise {amount}"] = psnr(x_val, model.predict(x_noisy, batch_size=1000, verbose=0))
    return results


SWEEPS: dict[str, Sweep] = {
    "01.patience": Sweep(
        x=(1, 3, 10, 30), measure=_patience, settings={**PATIENCE, "highest rate of the cosine": HIGHEST}
    ),
    "01.code_size": Sweep(x=(2, 4, 8, 16, 32, 64), measure=_code_size, settings=CODE_SIZE),
    "02.rates": Sweep(x=CODE_128_RATES, measure=_rates, settings={**CODE_128, "scored": "validation MSE"}, seeds=3),
    "02.shift": Sweep(x=(0, MOVED), measure=_shift, settings={**CODE_128, "rates": "the best of 02.rates"}),
    "02.wide": Sweep(
        x=CODE_128_RATES[:3],
        measure=_wide,
        settings={**CODE_128, "channels": WIDE, "scored": "validation MSE"},
        seeds=3,
    ),
    "02.long": Sweep(
        x=(18,),
        measure=_long,
        settings={"code": 128, "batch_size": 64, "rates": "the best of 02.rates", "scored": "validation MSE"},
        seeds=3,
    ),
    "02.few_digits": Sweep(x=(100,), measure=_few_digits, settings=FEW_DIGITS),
    "03.code_and_task": Sweep(
        x=CODE_AND_TASK_SIZES,
        measure=_from_one_training(_code_and_task),
        settings={**CODE_AND_TASK, "epochs": CODE_AND_TASK_EPOCHS},
    ),
    "03.skips": Sweep(x=(0.002, 0.004, 0.008), measure=_skips, settings=SKIPS, seeds=3),
    "04.rates": Sweep(x=(1,), measure=sparse_grid.measure_rates, settings=sparse_grid.LIVE),
    "04.tradeoff": Sweep(x=(1,), measure=sparse_grid.measure_tradeoff, settings=sparse_grid.TRADEOFF),
    "04.rho": Sweep(x=(1,), measure=sparse_grid.measure_rho, settings=sparse_grid.RHO, seeds=3),
    "04.overfit": Sweep(x=(1000,), measure=sparse_grid.measure_overfitting, settings=sparse_grid.OVERFIT),
    "05.strengths": Sweep(
        x=tuple(range(len(strengths.STRENGTHS["contractive"]))),
        measure=_from_one_training(strengths.measure_strengths),
        settings=strengths.SETTINGS,
    ),
    "06.rates": Sweep(
        x=stacked_vaes.RATES,
        measure=_from_one_training(stacked_vaes.measure_rates),
        settings=stacked_vaes.RATES_SETTINGS,
        seeds=8,
    ),
    "06.beta": Sweep(
        x=stacked_vaes.BETAS,
        measure=_from_one_training(stacked_vaes.measure_betas),
        settings=stacked_vaes.BETA_SETTINGS,
        seeds=8,
    ),
    "07.temperature": Sweep(
        x=stacked_writers.TEMPERATURES,
        measure=_from_one_training(stacked_writers.measure_temperatures),
        settings={**stacked_writers.SETTINGS, **stacked_writers.JUDGED},
        seeds=8,
    ),
    "07.beta": Sweep(
        x=stacked_writers.BETAS,
        measure=_from_one_training(stacked_writers.measure_betas),
        settings={**stacked_writers.SETTINGS, **stacked_writers.JUDGED},
        seeds=8,
    ),
    "08.pretraining": Sweep(
        x=pretraining.LABELS,
        measure=_from_one_training(pretraining.measure_pretraining),
        settings=pretraining.SETTINGS,
    ),
    "08.labels": Sweep(
        x=neighborhoods.LABELS,
        measure=_from_one_training(neighborhoods.measure_labels),
        settings=neighborhoods.SETTINGS,
    ),
    "08.clusters": Sweep(
        x=(10,),
        measure=_from_one_training(neighborhoods.measure_clusters),
        settings=neighborhoods.CLUSTER_SETTINGS,
        seeds=2,
    ),
    "09.tuning": Sweep(
        x=tuple(range(len(one_class.TRIED["PCA"]))),
        measure=_from_one_training(one_class.measure_tuning),
        settings=one_class.TUNING,
        seeds=2,
    ),
    "09.oneclass": Sweep(
        x=(0.0,),
        measure=_from_one_training(one_class.measure_one_class),
        settings=one_class.ONE_CLASS,
        seeds=3,
    ),
    "09.contamination": Sweep(
        x=one_class.SHARES,
        measure=_from_one_training(one_class.measure_contamination),
        settings=one_class.ONE_CLASS,
        seeds=2,
    ),
    "09.neighbors": Sweep(
        x=(0.0, *one_class.SHARES),
        measure=_from_one_training(one_class.measure_neighbors),
        settings=one_class.NEIGHBOR_SETTINGS,
    ),
    "09.convolutional": Sweep(
        x=(0.0,),
        measure=_from_one_training(one_class.measure_convolutional),
        settings=one_class.CONVOLUTIONAL,
        seeds=2,
    ),
}


def sweep(name: str) -> None:
    """Run what is missing of the sweep `name`, and replace its curve."""
    chosen = SWEEPS[name]
    setup(name.partition(".")[0])
    done = _read_progress(name, chosen)
    for x in chosen.x:
        for seed in range(1, chosen.seeds + 1):
            if (x, seed) not in done:
                done[x, seed] = _measured(chosen, x, seed)
                _keep(name, chosen, done)
                print(f"{name}: {x}, seed {seed} of {chosen.seeds}: {done[x, seed]}", flush=True)
    labels = next(iter(done.values()))["values"]
    over_seeds = {
        label: [[done[x, seed]["values"][label] for seed in range(1, chosen.seeds + 1)] for x in chosen.x]
        for label in labels
    }
    curve = {
        "x": list(chosen.x),
        "mean": {label: [_rounded(statistics.mean(values)) for values in row] for label, row in over_seeds.items()},
        "std": {label: [_rounded(statistics.stdev(values)) for values in row] for label, row in over_seeds.items()},
        "seeds": chosen.seeds,
        "seconds": round(sum(result["seconds"] for result in done.values())),
        "settings": chosen.settings,
        "machine": machine_and_versions(),
    }
    replace_file(CURVE_FOLDER / f"{name}.json", json.dumps(curve, indent=1, ensure_ascii=False) + "\n")
    (PROGRESS_FOLDER / f"{name}.json").unlink()


def _measured(chosen: Sweep, x: float, seed: int) -> dict:
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    values = {label: float(value) for label, value in chosen.measure(x).items()}
    return {"values": values, "seconds": time.perf_counter() - start}


def _read_progress(name: str, chosen: Sweep) -> dict[tuple, dict]:
    """(x, seed) → result, of an interrupted run of the same sweep."""
    path = PROGRESS_FOLDER / f"{name}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {(x, seed): result for x, seed, result in stored.get("done", []) if stored["sweep"] == chosen.identity()}


def _keep(name: str, chosen: Sweep, done: dict[tuple, dict]) -> None:
    progress = {"sweep": chosen.identity(), "done": [[x, seed, result] for (x, seed), result in done.items()]}
    replace_file(PROGRESS_FOLDER / f"{name}.json", json.dumps(progress))


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def is_current(name: str) -> bool:
    """Whether the stored curve belongs to the present sweep."""
    path = CURVE_FOLDER / f"{name}.json"
    if not path.exists():
        return False
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {key: stored[key] for key in ("x", "seeds", "settings")} == SWEEPS[name].identity()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="run these anew")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(SWEEPS)):
        parser.error(f"there is no sweep {', '.join(unknown)}; expected some of: {', '.join(SWEEPS)}")
    for name in arguments.names or [name for name in SWEEPS if not is_current(name)]:
        sweep(name)


if __name__ == "__main__":
    main()
