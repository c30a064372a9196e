"""Repeat a training over one setting and several seeds, and store the curve for `load_curve`: `make curves`.

    python -m tools.author.sweep                    # those that are missing or whose sweep changed
    python -m tools.author.sweep 01.code_size

Each training is kept as soon as it has ended, so that an interrupted sweep goes on where it was.
"""

import argparse
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
from course_utils.evaluation import bce, judge_accuracy, load_judge, mse, psnr
from course_utils.lessons import (
    AnyGaussianNoise,
    GaussianNoise,
    build_autoencoder,
    build_conv_denoiser,
    build_deep,
    codes_moved,
    noisy_copy,
)
from course_utils.pretrained import CURVE_FOLDER
from course_utils.training import train, warm_up_and_cosine
from tools.author import (
    codes_of_128,
    neighborhoods,
    one_class,
    pretraining,
    sparse_grid,
    stacked_vaes,
    stacked_writers,
    strengths,
)
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
    "02.rates": Sweep(
        x=codes_of_128.RATES,
        measure=codes_of_128.measure_rate,
        settings={**codes_of_128.SETTINGS, "scored": "validation MSE"},
        seeds=3,
    ),
    "02.wide": Sweep(
        x=codes_of_128.RATES[:3],
        measure=codes_of_128.measure_wide_rate,
        settings={**codes_of_128.SETTINGS, "channels": codes_of_128.WIDE, "scored": "validation MSE"},
        seeds=3,
    ),
    "02.long": Sweep(x=(18,), measure=codes_of_128.measure_long, settings=codes_of_128.LONG, seeds=3),
    "02.shift": Sweep(
        x=(0, codes_of_128.MOVED),
        measure=codes_of_128.measure_shift,
        settings={**codes_of_128.SETTINGS, "rates": "the best of 02.rates"},
    ),
    "02.shift_wide": Sweep(
        x=(codes_of_128.MOVED,),
        measure=codes_of_128.measure_shift_wide,
        settings={**codes_of_128.SETTINGS, "channels": codes_of_128.WIDE, "rates": "the best of 02.wide"},
        seeds=2,
    ),
    "02.shift_long": Sweep(
        x=(18,),
        measure=codes_of_128.measure_shift_long,
        settings={**codes_of_128.LONG, "moved": codes_of_128.MOVED},
        seeds=2,
    ),
    "02.few_digits": Sweep(x=(100,), measure=codes_of_128.measure_few, settings=codes_of_128.FEW_DIGITS),
    "02.few_digits_wide": Sweep(
        x=(100,),
        measure=codes_of_128.measure_few_wide,
        settings={**codes_of_128.FEW_DIGITS, "channels": codes_of_128.WIDE, "rates": "the best of 02.wide"},
        seeds=2,
    ),
    "02.few_digits_rates": Sweep(
        x=codes_of_128.FEW_RATES,
        measure=codes_of_128.measure_few_rate,
        settings={**codes_of_128.FEW_DIGITS, "digits": 100, "rates": "those of x, for the dense network"},
        seeds=3,
    ),
    "03.code_and_task": Sweep(
        x=CODE_AND_TASK_SIZES,
        measure=_from_one_training(_code_and_task),
        settings={**CODE_AND_TASK, "epochs": CODE_AND_TASK_EPOCHS},
    ),
    "03.skips": Sweep(x=(0.002, 0.004, 0.008), measure=_skips, settings=SKIPS, seeds=3),
    "04.rates": Sweep(x=(1,), measure=sparse_grid.measure_rates, settings=sparse_grid.LIVE),
    "04.tradeoff": Sweep(x=(1,), measure=sparse_grid.measure_tradeoff, settings=sparse_grid.TRADEOFF),
    "04.rho": Sweep(x=(1,), measure=sparse_grid.measure_rho, settings=sparse_grid.RHO, seeds=3),
    "04.random_sigmoid": Sweep(
        x=(sparse_grid.TRADEOFF["probe_epochs"],),
        measure=sparse_grid.measure_random_sigmoid,
        settings=sparse_grid.RANDOM_SIGMOID,
    ),
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
