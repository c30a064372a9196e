"""Run the lessons on JAX, PyTorch and two devices of TensorFlow, and compare their results with the bands.

    python -m tools.prove.backends                            # writes reports/BACKENDS.md
    python -m tools.prove.backends --only jax                 # this section; the others stay
    python -m tools.prove.backends --only jax --lessons 06    # no unit tests; prints, and writes nothing

JAX and PyTorch must be installed beside the course's packages: `make test-backends` (see noxfile.py) does that. Each
section is written when its backend has been run, so that after an interruption `--only` goes on with the others.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import (
    REFERENCE_FILE,
    REPORTS_FOLDER,
    ROOT,
    lesson_of,
    lesson_path,
    notebook_paths,
    read_notebook,
)
from tools.shared.notebook_runs import CellFailed, recorded_results, run_notebook
from tools.shared.pytest_runs import run_pytest
from tools.shared.report_pages import replace_section, table

PAGE = REPORTS_FOLDER / "BACKENDS.md"

# The unit tests about what is computed. Those about files, figures and TensorFlow's own devices need no other backend.
TRAINING = "tests/course_utils/test_train.py"
NUMBERS = (
    TRAINING, "tests/course_utils/test_evaluation.py", "tests/course_utils/test_resume.py", "tests/lessons",
    "tests/notebooks/test_exercises.py", "tests/tools/test_data_parallel.py",
)  # fmt: skip


WHAT_CANNOT_BE_EQUAL = """\
- **Single numbers.** The same seed draws other random numbers on each backend, so weights, noise and results differ as they
  do between seeds. That is why results are compared with bands.
- **The order of the examples.** On TensorFlow `train` draws it, anew for each epoch and the same after a resumption. On the
  others Keras does.
- **Compilation.** JAX compiles every model, PyTorch none, TensorFlow only long trainings of dense layers, and none on several
  devices. The seconds differ accordingly.
- **Noise on several devices.** Under `MirroredStrategy` each device has its own copy of the random numbers' state, so all draw
  the same noise, each for its part of a batch.
- **Means over the batch on several devices.** Each device takes the mean of its own part: batch normalization, and the
  sparsity penalty of lesson 04, which is not linear in that mean. With that penalty, the error differs from that of one
  device with the same batch. It is close to that of one device that computes the penalty on each half of the batch. Where
  neither noise nor such a mean is in the loss, several devices train as one does
  (`tests/course_utils/test_devices_in_a_process.py`).
"""


class Backend(NamedTuple):
    """What lessons run on: the variables that choose it for the lessons, and the unit tests that are about it."""

    title: str
    variables: dict[str, str]
    unit_tests: tuple[str, ...]


TWO_DEVICES = {"KERAS_BACKEND": "tensorflow", "COURSE_LOGICAL_CPUS": "2"}
BACKENDS = {
    "jax": Backend("JAX", {"KERAS_BACKEND": "jax"}, (*NUMBERS, "tests/course_utils/test_backend.py")),
    "torch": Backend("PyTorch", {"KERAS_BACKEND": "torch"}, NUMBERS),
    "devices": Backend(
        "TensorFlow on two logical devices", TWO_DEVICES, (TRAINING, "tests/course_utils/test_devices_in_a_process.py")
    ),
}


class LessonRun(NamedTuple):
    """The results of a lesson by name, its seconds unless it failed, and which cell failed if one did."""

    results: dict[str, float]
    seconds: float | None = None
    failure: str | None = None


def run_lesson(path: Path, **variables: str) -> LessonRun:
    """Run the lesson in the file `path` in a kernel with these variables."""
    seconds, failure = None, None
    with recorded_results() as (recording, recorded):
        try:
            seconds = run_notebook(read_notebook(path), path.parent, **variables, **recording).seconds
        except CellFailed as error:
            failure = str(error)
    return LessonRun({result["name"]: result["value"] for result in recorded}, seconds, failure)


def outside(results: dict[str, float], bands: dict[str, dict]) -> list[str]:
    """The results that are not inside their bands, each with its band, in words."""
    found = []
    for name, value in results.items():
        if name not in bands:
            found.append(f"`{name}` = {value:.4g} has no band")
        elif not bands[name]["low"] <= value <= bands[name]["high"]:
            found.append(f"`{name}` = {value:.4g}, band {bands[name]['low']:.4g} … {bands[name]['high']:.4g}")
    return found


def lesson_row(lesson: str, run: LessonRun, bands: dict[str, dict]) -> list[str]:
    """The cells of a row: lesson, seconds, how many results are inside their bands, and what is not as expected."""
    expected = [name for name in bands if name.startswith(f"{lesson}.")]
    wrong = outside(run.results, bands)
    n_inside = len(run.results) - len(wrong)
    if run.failure:
        wrong.append(f"failed: {run.failure.splitlines()[0]}")
    elif absent := [name for name in expected if name not in run.results]:
        wrong.append("not reached: " + ", ".join(f"`{name}`" for name in absent))
    seconds = "" if run.seconds is None else f"{run.seconds:.0f}"
    return [lesson, seconds, f"{n_inside} of {len(expected)}", "; ".join(wrong)]


def main() -> None:
    all_lessons = [lesson_of(path) for path in notebook_paths()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BACKENDS, default=list(BACKENDS), metavar="BACKEND")
    parser.add_argument("--lessons", nargs="+", choices=all_lessons, metavar="NN")
    arguments = parser.parse_args()
    bands = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))["results"]
    for key in arguments.only:
        backend, rows = BACKENDS[key], []
        for lesson in arguments.lessons or all_lessons:
            run = run_lesson(lesson_path(lesson), **backend.variables, PYTHONPATH=str(ROOT))
            rows.append(lesson_row(lesson, run, bands))
            print(key, *rows[-1], run.failure or "", sep=" | ", flush=True)
        if arguments.lessons is None:
            # The tests choose their devices themselves.
            tests = run_pytest(ROOT, *backend.unit_tests, KERAS_BACKEND=backend.variables["KERAS_BACKEND"])
            used = f", {key} {version(key)}" if key != "devices" else ""
            results = table(["lesson", "seconds", "results inside their bands", "not as expected"], rows)
            text = f"{machine_and_versions()}{used}. Unit tests: {tests}.\n\n{results}"
            replace_section(PAGE, backend.title, text)
            replace_section(PAGE, "What cannot be equal", WHAT_CANNOT_BE_EQUAL)


if __name__ == "__main__":
    main()
