"""Measure the bands of `course_utils/reference.json`, with which the checkpoints compare: `make reference`.

    python tools/reference.py                    # all lessons
    python tools/reference.py --lessons 01 02    # these; the others keep their bands
    python tools/reference.py --seeds 5          # quicker, and wider bands

Each lesson runs once per seed in a fresh kernel. What a run gave is kept in `.reference/`, so an interrupted measurement
goes on where it stopped, and a lesson is measured again only when something changed that can change a result.
"""

import argparse
import ast
import contextlib
import datetime
import hashlib
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from importlib.metadata import version
from pathlib import Path

from tools.shared.notebook_runs import CellFailed, run_notebook
from IPython.core.inputtransformer2 import TransformerManager
from tools.shared.notebook_files import (
    ROOT,
    code_cells,
    has_tag,
    lesson_of,
    notebook_paths,
    read_notebook,
    replace_file,
)
from scipy import stats

SEEDS = range(101, 109)
FEWEST_SEEDS = 5
PROBABILITY = 0.9999

PACKAGE = ROOT / "course_utils"
REFERENCE_FILE = PACKAGE / "reference.json"
RUNS_FOLDER = ROOT / ".reference"

# Modules that check, draw or describe; none of them can change a number.
HARMLESS = {"__main__.py", "checks.py", "plotting.py"}
LIBRARIES = ("keras", "tensorflow", "numpy", "scipy", "scikit-learn")


class MeasurementError(RuntimeError):
    """The runs do not make a band; the message says why."""


# ---------------------------------------------------------------------------------------------------------------------
# Bands
# ---------------------------------------------------------------------------------------------------------------------


def band(values: list[float]) -> dict:
    """Mean, spread and the interval in which one further run falls with a probability of 99.99 %.

    It is Student's prediction interval, mean ± t·s·√(1 + 1/n), which is wide when the seeds are few. For a result that
    does not depend on the seed it is a millionth of the mean, for rounding differs between processors.

    Raises:
        MeasurementError: fewer than five values, or one that is not finite.
    """
    n = len(values)
    if n < FEWEST_SEEDS:
        raise MeasurementError(f"{n} values are too few for a band; at least {FEWEST_SEEDS} are needed.")
    if not all(map(math.isfinite, values)):
        raise MeasurementError(f"the values {values} are not all finite.")
    mean, std = statistics.fmean(values), statistics.stdev(values)
    t = stats.t.ppf((1 + PROBABILITY) / 2, n - 1)
    half_width = max(t * std * math.sqrt(1 + 1 / n), 1e-6 * abs(mean))
    return {
        "mean": _six_digits(mean),
        "std": _six_digits(std),
        "low": _six_digits(mean - half_width, ROUND_FLOOR),
        "high": _six_digits(mean + half_width, ROUND_CEILING),
        "seeds": n,
        "values": [_six_digits(value) for value in values],
    }


def _six_digits(value: float, rounding: str = ROUND_HALF_EVEN) -> float:
    return float(Context(prec=6, rounding=rounding).create_decimal_from_float(float(value)))


# ---------------------------------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------------------------------


def fingerprint(path: Path, package: Path = PACKAGE) -> str:
    """A digest of everything that can change the results of a lesson: its code, the helper package, the libraries."""
    cells = [cell.source for cell in code_cells(read_notebook(path)) if not has_tag(cell, "bootstrap")]
    uses_lessons = any("course_utils.lessons" in source for source in cells)
    skipped = HARMLESS if uses_lessons else HARMLESS | {"lessons.py"}
    modules = [
        module.read_text(encoding="utf-8") for module in sorted(package.glob("*.py")) if module.name not in skipped
    ]
    code = [_without_comments(source) for source in cells + modules]
    return hashlib.sha256(json.dumps([code, [version(name) for name in LIBRARIES]]).encode()).hexdigest()[:12]


def _without_comments(source: str) -> str:
    """Code without comments and docstrings, which are often improved and change no result."""
    tree = ast.parse(TransformerManager().transform_cell(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@contextlib.contextmanager
def recorded_results() -> Iterator[tuple[dict[str, str], list[dict]]]:
    """Variables for a notebook to run with, and a list with its results, name and value, after the `with` block."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "results.jsonl"
        record.touch()
        results: list[dict] = []
        yield {"COURSE_RECORD": str(record)}, results
        results += [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def run_once(path: Path, seed: int) -> dict:
    """Run a lesson with another seed; return its results, seconds, peak memory and on what it ran."""
    with recorded_results() as (variables, results):
        run = run_notebook(read_notebook(path), path.parent, COURSE_SEED=str(seed), **variables)
    names = [result["name"] for result in results]
    foreign = [name for name in names if not name.startswith(f"{lesson_of(path)}.")]
    if len(set(names)) != len(names) or foreign:
        raise MeasurementError(f"each result needs a name of its own that begins with the lesson's number: {names}.")
    return {
        "seconds": round(run.seconds, 1),
        "peak_memory_mb": round(run.peak_memory_mb),
        "results": {result["name"]: result["value"] for result in results},
        "measured": {
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "tensorflow", "numpy")},
            "cores": os.cpu_count(),
        },
    }


def measure(
    path: Path,
    runs_folder: Path = RUNS_FOLDER,
    run: Callable[[Path, int], dict] = run_once,
    seeds: range = SEEDS,
) -> list[dict]:
    """One run per seed; those that are already in `runs_folder` are read from there."""
    digest = fingerprint(path)
    files = {seed: runs_folder / f"{lesson_of(path)}-{digest}-{seed}.json" for seed in seeds}
    missing = [seed for seed, file in files.items() if not file.exists()]
    print(f"lesson {lesson_of(path)}: {len(files) - len(missing)} of {len(files)} runs are there already", flush=True)
    for done, seed in enumerate(missing, start=1):
        result = run(path, seed)
        replace_file(files[seed], json.dumps(result, indent=1))
        left = (len(missing) - done) * result["seconds"] / 60
        print(
            f"lesson {lesson_of(path)}, seed {seed}, run {done} of {len(missing)}: {result['seconds']:.0f} s, "
            f"{result['peak_memory_mb']:,} MB; about {left:.0f} min left for this lesson",
            flush=True,
        )
    return [json.loads(file.read_text(encoding="utf-8")) for file in files.values()]


# ---------------------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------------------


def updated(reference: dict, lesson: str, runs: list[dict]) -> dict:
    """`reference` with the entries of one lesson replaced.

    Raises:
        MeasurementError: the runs reached different checkpoints, or their values make no band.
    """
    names = list(runs[0]["results"])
    if any(list(run["results"]) != names for run in runs):
        raise MeasurementError("the checkpoints that were reached differ from seed to seed.")
    results = {name: entry for name, entry in reference["results"].items() if not name.startswith(f"{lesson}.")}
    for name in names:
        results[name] = band([run["results"][name] for run in runs])
    entry = {
        "seconds": round(min(run["seconds"] for run in runs), 1),  # the run that was disturbed least
        "measured": max((run["measured"] for run in runs), key=lambda measured: measured["date"]),
    }
    return {"lessons": {**reference["lessons"], lesson: entry}, "results": results}


def main() -> None:
    lessons = {lesson_of(path): path for path in notebook_paths()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", nargs="+", choices=lessons, default=list(lessons), metavar="NN")
    parser.add_argument("--seeds", type=int, choices=range(FEWEST_SEEDS, len(SEEDS) + 1), default=len(SEEDS))
    arguments = parser.parse_args()
    for lesson in arguments.lessons:
        try:
            runs = measure(lessons[lesson], seeds=SEEDS[: arguments.seeds])
            reference = updated(json.loads(REFERENCE_FILE.read_text(encoding="utf-8")), lesson, runs)
        except (CellFailed, MeasurementError) as error:
            sys.exit(f"Lesson {lesson}: {error}")
        replace_file(REFERENCE_FILE, json.dumps(reference, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        print(f"lesson {lesson}: {REFERENCE_FILE.name} is written", flush=True)


if __name__ == "__main__":
    main()
