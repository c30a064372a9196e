"""Measure the bands of `course_utils/reference.json`, with which the checkpoints compare: `make reference`.

    python -m tools.author.reference                      # all lessons, twelve seeds each
    python -m tools.author.reference --lessons 01 02      # these; the others keep their bands
    python -m tools.author.reference --seeds 8            # quicker, and wider bands
    python -m tools.author.reference --same-as HEAD~1     # the code changed and no number should: compare, and confirm

Each lesson runs once per seed in a fresh kernel. What a run gave is kept in `.reference/`, so an interrupted measurement
goes on where it stopped, and a lesson is measured again only when something changed that can change a result. The file
keeps a fingerprint of that code for each lesson, and `make test` fails when it no longer fits. With `--same-as` a lesson
runs once as it was in another commit and once as it is, on this machine and with the same seed; if all results agree to
the last digit, its bands hold for the present code. A result that no seed changes may differ: its band is renewed, if a
third run with another seed agrees.
"""

import argparse
import datetime
import hashlib
import json
import math
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from importlib.metadata import version
from pathlib import Path

from scipy import stats

from course_utils import usable_cores
from course_utils.checks import ROUNDING, is_same_for_all_seeds
from tools.shared.fingerprint import fingerprint
from tools.shared.notebook_files import (
    REFERENCE_FILE,
    ROOT,
    lesson_of,
    lesson_path,
    notebook_paths,
    read_notebook,
    replace_file,
)
from tools.shared.notebook_runs import CellFailed, recorded_results, run_notebook

SEEDS = range(101, 113)
FEWEST_SEEDS = 8
PROBABILITY = 0.9999
TOLERANCE_OF_SAME = 0.02

RUNS_FOLDER = ROOT / ".reference"
LIBRARIES = ("keras", "tensorflow", "numpy", "scipy", "scikit-learn")

# What a result can be at all, by the end of its name; a band does not reach beyond.
POSSIBLE = (
    (r"\w*db|log10_ratio|gain_over_\w+|\w+_points", -math.inf, math.inf),
    (r"inception_score", 1, 10),
    (r"accuracy|share|accuracy_at_t1|auroc|power", 0, 1),
    (r"cosine|agreement|correlation", -1, 1),
    (r"units_in_use", 0, 128),  # lesson 05 has 128
    (
        r"mse|bce|error|ratio|nelbo|rate|score|difference|activation|deg|pixels|over_\w+|copying|frechet|variety|error_4px",
        0,
        math.inf,
    ),
)


class MeasurementError(RuntimeError):
    """The runs do not make a band; the message says why."""


# ---------------------------------------------------------------------------------------------------------------------
# Bands
# ---------------------------------------------------------------------------------------------------------------------


def band(values: list[float], name: str = "") -> dict:
    """Mean, spread and the interval in which one further run falls with a probability of 99.99%.

    It is Student's prediction interval, mean ± t·s·√(1 + 1/n), which is wide when the seeds are few. Eight runs on one
    machine say nothing about other machines if the result does not depend on the seed, because it comes from stored weights
    or curves: rounding differs between processors, and may flip the class of a picture that is on the edge. Such a result
    may differ by 2%. The interval is cut off where the result `name` cannot be: a share above 1, an error below 0.

    Raises:
        MeasurementError: fewer than eight values, or one that is not finite.
    """
    n = len(values)
    if n < FEWEST_SEEDS:
        raise MeasurementError(f"{n} values are too few for a band; at least {FEWEST_SEEDS} are needed.")
    if not all(map(math.isfinite, values)):
        raise MeasurementError(f"the values {values} are not all finite.")
    mean, std = statistics.fmean(values), statistics.stdev(values)
    t = stats.t.ppf((1 + PROBABILITY) / 2, n - 1)
    half_width = t * std * math.sqrt(1 + 1 / n)
    if is_same_for_all_seeds(mean, std):
        half_width = max(half_width, TOLERANCE_OF_SAME * abs(mean) + ROUNDING)
    lowest, highest = possible_range(name)
    return {
        "mean": _six_digits(mean),
        "std": _six_digits(std),
        "low": _six_digits(max(mean - half_width, lowest), ROUND_FLOOR),
        "high": _six_digits(min(mean + half_width, highest), ROUND_CEILING),
        "seeds": n,
        "values": [_six_digits(value) for value in values],
    }


def possible_range(name: str) -> tuple[float, float]:
    """Lowest and highest value that the result `name` can have."""
    last = name.rpartition(".")[2]
    found = [(low, high) for end, low, high in POSSIBLE if re.search(rf"(^|_)({end})$", last)]
    return found[0] if found else (-math.inf, math.inf)


def _six_digits(value: float, rounding: str = ROUND_HALF_EVEN) -> float:
    return float(Context(prec=6, rounding=rounding).create_decimal_from_float(float(value)))


# ---------------------------------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------------------------------


def run_once(path: Path, seed: int) -> dict:
    """Run a lesson with another seed; return its results, seconds, private memory and on what it ran."""
    with recorded_results() as (variables, results):
        run = run_notebook(read_notebook(path), path.parent, COURSE_SEED=str(seed), **variables)
    names = [result["name"] for result in results]
    foreign = [name for name in names if not name.startswith(f"{lesson_of(path)}.")]
    if len(set(names)) != len(names) or foreign:
        raise MeasurementError(f"each result needs a name of its own that begins with the lesson's number: {names}.")
    return {
        "seconds": round(run.seconds, 1),
        "private_mb": round(run.private_mb),
        "results": {result["name"]: result["value"] for result in results},
        "measured": {
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "tensorflow", "numpy")},
            "cores": usable_cores(),
        },
    }


def measure(
    path: Path,
    runs_folder: Path = RUNS_FOLDER,
    run: Callable[[Path, int], dict] = run_once,
    seeds: range = SEEDS,
) -> list[dict]:
    """One run per seed; those that are already in `runs_folder` are read from there."""
    code = [fingerprint(path), *(version(name) for name in LIBRARIES)]
    digest = hashlib.sha256(json.dumps(code).encode()).hexdigest()[:12]
    files = {seed: runs_folder / f"{lesson_of(path)}-{digest}-{seed}.json" for seed in seeds}
    missing = [seed for seed, file in files.items() if not file.exists()]
    print(f"lesson {lesson_of(path)}: {len(files) - len(missing)} of {len(files)} runs are there already", flush=True)
    for done, seed in enumerate(missing, start=1):
        result = run(path, seed)
        replace_file(files[seed], json.dumps(result, indent=1))
        left = (len(missing) - done) * result["seconds"] / 60
        print(
            f"lesson {lesson_of(path)}, seed {seed}, run {done} of {len(missing)}: {result['seconds']:.0f} s, "
            f"{result['private_mb']:,} MB; about {left:.0f} min left for this lesson",
            flush=True,
        )
    return [json.loads(file.read_text(encoding="utf-8")) for file in files.values()]


# ---------------------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------------------


def updated(reference: dict, lesson: str, runs: list[dict], code: str) -> dict:
    """`reference` with the entries of one lesson replaced; `code` is the fingerprint of what was run.

    Raises:
        MeasurementError: the runs reached different checkpoints, or their values make no band.
    """
    names = list(runs[0]["results"])
    if any(list(run["results"]) != names for run in runs):
        raise MeasurementError("the checkpoints that were reached differ from seed to seed.")
    results = {name: entry for name, entry in reference["results"].items() if not name.startswith(f"{lesson}.")}
    for name in names:
        results[name] = band([run["results"][name] for run in runs], name)
    entry = {
        "seconds": round(min(run["seconds"] for run in runs), 1),  # the run that was disturbed least
        "measured": max((run["measured"] for run in runs), key=lambda measured: measured["date"]),
        "fingerprint": code,
    }
    return {"lessons": {**reference["lessons"], lesson: entry}, "results": results}


def confirmed(reference: dict, lesson: str, before: dict, after: dict, other_seed: dict, code: str) -> dict:
    """`reference` with a new fingerprint of a lesson whose results `before` and `after` a change are the same.

    A result that was the same for all seeds, because it comes from stored weights or curves, may have changed with them. Its
    band is renewed from this one run if the run with another seed agrees. The duration stays that of the measurement.

    Raises:
        MeasurementError: a result that depends on the seed differs, or there is another set of results.
    """
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    bands = reference["results"]

    def may_change(name: str) -> bool:
        if name not in bands or name not in after:
            return False
        by_another_seed = abs(after[name] - other_seed.get(name, math.nan))
        pairs = [(bands[name]["mean"], bands[name]["std"]), (after[name], by_another_seed)]
        return all(is_same_for_all_seeds(value, spread) for value, spread in pairs)

    differing = [name for name in changed if not may_change(name)]
    if differing:
        described = "; ".join(
            f"{name}: {before.get(name)} and {after.get(name)}, with another seed {other_seed.get(name)}"
            for name in differing
        )
        raise MeasurementError(f"results differ, so the bands have to be measured again ({described}).")
    if set(after) != {name for name in reference["results"] if name.startswith(f"{lesson}.")}:
        raise MeasurementError("the lesson has other results than the bands, so these have to be measured.")
    entry = {**reference["lessons"][lesson], "fingerprint": code}
    renewed = {name: band([after[name]] * bands[name]["seeds"], name) for name in changed}
    return {"lessons": {**reference["lessons"], lesson: entry}, "results": {**bands, **renewed}}


def results_at(lesson: str, folder: Path) -> dict[str, float]:
    """The results of a lesson, with notebook and helper package as they are in the working tree `folder`."""
    path = lesson_path(lesson, folder / "notebooks")
    with recorded_results() as (variables, results):
        run_notebook(read_notebook(path), path.parent, PYTHONPATH=str(folder), **variables)
    return {result["name"]: result["value"] for result in results}


def write(reference: dict) -> None:
    replace_file(REFERENCE_FILE, json.dumps(reference, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def confirm(lessons: list[str], revision: str) -> None:
    """Renew the fingerprints of lessons whose results are those of `revision`."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(
            ["git", "worktree", "add", "--detach", "--quiet", other, revision], cwd=ROOT, check=True, timeout=60
        )
        try:
            for lesson in lessons:
                before, after = results_at(lesson, other), results_at(lesson, ROOT)
                other_seed = after if after == before else run_once(lesson_path(lesson), SEEDS[0])["results"]
                reference = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))
                write(confirmed(reference, lesson, before, after, other_seed, fingerprint(lesson_path(lesson))))
                print(f"lesson {lesson}: the bands hold for the present code", flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True, timeout=60)


def main() -> None:
    known = [lesson_of(path) for path in notebook_paths()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", nargs="+", choices=known, default=known, metavar="NN")
    parser.add_argument("--seeds", type=int, choices=range(FEWEST_SEEDS, len(SEEDS) + 1), default=len(SEEDS))
    parser.add_argument("--same-as", metavar="COMMIT")
    arguments = parser.parse_args()
    try:
        if arguments.same_as:
            return confirm(arguments.lessons, arguments.same_as)
        for lesson in arguments.lessons:
            path = lesson_path(lesson)
            code = fingerprint(path)
            runs = measure(path, seeds=SEEDS[: arguments.seeds])
            write(updated(json.loads(REFERENCE_FILE.read_text(encoding="utf-8")), lesson, runs, code))
            print(f"lesson {lesson}: {REFERENCE_FILE.name} is written", flush=True)
    except (CellFailed, MeasurementError) as error:
        sys.exit(f"Nothing was written for a lesson: {error}")


if __name__ == "__main__":
    main()
