"""Repeat a training over one setting and several seeds, and store the curve for `load_curve`: `make curves`.

    python -m tools.author.sweep                    # those that are missing or whose sweep changed
    python -m tools.author.sweep 01.code_size

Each training is kept as soon as it has ended, so that an interrupted sweep goes on where it was.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from course_utils.backend import keras
from course_utils.devices import setup
from course_utils.pretrained import CURVE_FOLDER
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


SWEEPS: dict[str, Sweep] = {}


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
