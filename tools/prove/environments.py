"""Run the course in other environments than the one it is written in: `make test-backends`, `make test-versions`.

    python tools/environments.py backends                            # JAX, PyTorch, two devices; an hour or more
    python tools/environments.py backends --only jax --lessons 06    # no unit tests; prints, and writes no page
    python tools/environments.py versions                            # oldest and newest packages; an hour or less
    python tools/environments.py versions --only oldest              # prints, and writes no page

Environments are made in `build/` with the Python that runs this program, and need the network; they are used again. A
lesson that ran to its end on a backend is kept in `build/` too, until something changes that can change its results, so an
interrupted run goes on where it stopped. The pages are `benchmarks/BACKENDS.md` and `benchmarks/VERSIONS.md`.

On Linux PyTorch comes with libraries for GPUs, several GB. To have its smaller build for CPUs, name the index of that build
in pip's own variable `PIP_EXTRA_INDEX_URL`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.shared.child import read_results, send_result
from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.working_copy import WorkingCopy
from tools.shared.machine import machine
from tools.shared.notebook_files import ROOT, lesson_of, lesson_path, notebook_paths, read_notebook, replace_file
from tools.shared.fingerprint import fingerprint
from tools.shared.notebook_runs import recorded_results
from tools.shared.notebook_files import REFERENCE_FILE

BUILD_FOLDER = ROOT / "build"
BACKENDS_PAGE = REPORTS_FOLDER / "BACKENDS.md"
VERSIONS_PAGE = REPORTS_FOLDER / "VERSIONS.md"

# What the lessons compute with. The other tests are about TensorFlow's devices, or about files, and do not need a backend.
UNIT_TESTS = (
    "test_data_parallel.py",
    "test_evaluation.py",
    "test_exercises.py",
    "test_resume.py",
    "test_train.py",
    *(f"test_lesson_{lesson_of(path)}.py" for path in notebook_paths()),
)


@dataclass(frozen=True)
class Backend:
    """What lessons run on: its name, the variables that choose it, and the unit tests that are about it."""

    title: str
    variables: dict[str, str]
    unit_tests: tuple[str, ...]


BACKENDS = {
    "jax": Backend("JAX", {"KERAS_BACKEND": "jax"}, UNIT_TESTS),
    "torch": Backend("PyTorch", {"KERAS_BACKEND": "torch"}, UNIT_TESTS),
    "devices": Backend(
        "TensorFlow on two logical devices",
        {"KERAS_BACKEND": "tensorflow", "COURSE_LOGICAL_CPUS": "2"},
        ("test_setup.py", "test_train.py"),
    ),
}

# Arguments of `pip install` for each end of what requirements.txt allows.
VERSIONS = {
    "oldest": ["-r", "requirements.txt", "-c", "requirements-oldest.txt"],
    "newest": ["-r", "requirements.txt", "--upgrade", "--upgrade-strategy", "eager"],
}

MAIN_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "scipy", "scikit-learn", "matplotlib", "ipykernel")

# Prints the versions of Python and of all packages beside it.
VERSIONS_PROBE = """
import importlib.metadata, json, platform
packages = {package.name.lower(): package.version for package in importlib.metadata.distributions()}
print(json.dumps({"Python": platform.python_version(), **packages}))
"""

UNEQUAL = """\
## What cannot be equal

- **Single numbers.** The same seed draws other random numbers on each backend, so weights, noise and results differ as they
  do between seeds. That is why results are held against bands.
- **The order of the examples.** On TensorFlow `train` draws it, anew for each epoch and the same after a resumption. On the
  others Keras does.
- **Compilation.** JAX compiles every model, PyTorch none, TensorFlow only long trainings of dense layers, and none on several
  devices. The seconds differ accordingly.
- **Noise on several devices.** Under `MirroredStrategy` each device has its own copy of the random numbers' state, so all draw
  the same noise, each for its part of a batch.
- **Means over the batch on several devices.** Each device takes the mean of its own part: batch normalisation, and the
  sparsity penalty of lesson 04, which is not linear in that mean. The error with that penalty is another than on one device
  with the same batch, and about that of one device that computes the penalty for each half of the batch. Where neither
  noise nor such a mean is in the loss, several devices train as one does (`tests/test_setup.py`).
"""


# ---------------------------------------------------------------------------------------------------------------------
# Environments
# ---------------------------------------------------------------------------------------------------------------------


def make_environment(name: str, *requirements: str) -> Path:
    """Install `requirements`, arguments of `pip install`, in the environment `build/env-name`; return its Python."""
    folder = BUILD_FOLDER / f"env-{name}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    command = [python, "-m", "pip", "install", "--quiet", *requirements]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(f"pip could not install {' '.join(requirements)} in {folder.name}; it says why above.")
    return python


def versions_in(python: Path) -> dict[str, str]:
    """The version of `python`, and those of the main packages that are installed beside it."""
    listed = subprocess.run([python, "-c", VERSIONS_PROBE], capture_output=True, text=True, check=True)
    installed = json.loads(listed.stdout)
    return {name: installed[name] for name in ("Python", *MAIN_PACKAGES) if name in installed}


def run_tests(python: Path, folder: Path, log: Path, *arguments: str, **environment: str) -> dict:
    """Run pytest in `folder`, with its output in the file `log`; return its summary, seconds, and the tests that failed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as output:
        variables = os.environ | {"PYTHONPATH": str(folder)} | environment
        subprocess.run(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT, check=False)
    return {"seconds": time.perf_counter() - start, **summary(log.read_text(encoding="utf-8"))}


def summary(text: str) -> dict:
    """What pytest's output says at its end: the counts, and the tests that failed.

    Without counts, as after a crash, the last line stands in their place.
    """
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    counts = re.findall(r"^(?:=+ )?(\d+ \w+.*?) in [\d.]+s", text, re.MULTILINE)
    last_line = (text.strip().splitlines() or ["pytest said nothing"])[-1]
    return {"counts": counts[-1] if counts else f"no summary: {last_line}", "failed": failed}


def all_sections(titles: dict[str, str], sections: dict[str, str]) -> list[str]:
    """The sections of a page in their order; for one that is not there, that it has not been run."""
    return [sections.get(key, f"## {title}\n\nNot run yet.\n") for key, title in titles.items()]


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _tests_line(tests: dict) -> str:
    failed = f"; failed: {', '.join(f'`{name}`' for name in tests['failed'])}" if tests["failed"] else ""
    return f"{tests['counts']}, {tests['seconds']:.0f} s{failed}"


# ---------------------------------------------------------------------------------------------------------------------
# Backends
# ---------------------------------------------------------------------------------------------------------------------


def run_lesson(path: Path, variables: dict[str, str]) -> dict:
    """Run a lesson in this environment; return its seconds, its results, and which cell failed if one did."""
    failure = None
    start = time.perf_counter()
    with recorded_results() as (recording, results):
        try:
            run_notebook(read_notebook(path), path.parent, **variables, **recording, PYTHONPATH=str(ROOT))
        except CellFailed as error:
            failure = str(error)
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 1),
        "results": {result["name"]: result["value"] for result in results},
        "failure": failure,
    }


def run_in_child(python: Path, backend: str, lesson: str) -> dict:
    """`run_lesson` in a process of another environment, for a kernel runs with the Python of who starts it."""
    command = [python, __file__, "lesson", backend, lesson]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    results = read_results(child.stdout)
    if not results:
        sys.exit(f"Lesson {lesson} could not be started on {backend}:\n{child.stderr}")
    return results[-1]


def kept_run(file: Path, state: dict, run: Callable[[], dict]) -> dict:
    """What `run()` gave, from `file` if it was kept there in the same `state`; a run with a failed cell is not kept."""
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["state"] == state:
            return kept["run"]
    result = run()
    if result["failure"] is None:
        replace_file(file, json.dumps({"state": state, "run": result}, indent=1))
    return result


def outside(results: dict[str, float], bands: dict[str, dict]) -> list[str]:
    """The results that are not inside their bands, each with its band, in words."""
    lines = []
    for name, value in results.items():
        band = bands.get(name)
        if band is None:
            lines.append(f"`{name}` = {value:.4g} has no band")
        elif not band["low"] <= value <= band["high"]:
            lines.append(f"`{name}` = {value:.4g}, band {band['low']:.4g} … {band['high']:.4g}")
    return lines


def lesson_row(lesson: str, run: dict, bands: dict[str, dict]) -> str:
    """A row of the table: seconds, how many of the lesson's results are inside their bands, and what is not as expected."""
    expected = [name for name in bands if name.startswith(f"{lesson}.")]
    wrong = outside(run["results"], bands)
    inside = len(run["results"]) - len(wrong)
    if run["failure"]:
        wrong.append(f"failed: {_one_line(run['failure'])}")
    elif absent := sorted(set(expected) - set(run["results"])):
        wrong.append(f"not reached: {', '.join(f'`{name}`' for name in absent)}")
    return f"| {lesson} | {run['seconds']:.0f} | {inside} of {len(expected)} | {'; '.join(wrong)} |"


def _one_line(failure: str) -> str:
    return failure.splitlines()[0].replace("|", "\\|")


def backend_section(title: str, tests: dict, rows: list[str]) -> str:
    head = ["| lesson | seconds | results inside their bands | not as expected |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", f"Unit tests: {_tests_line(tests)}.", "", *head, *rows]) + "\n"


def run_lessons(key: str, lessons: list[str], python: Path, versions: dict[str, str]) -> list[str]:
    """Run lessons on a backend, or read what they gave before; return and print a row for each."""
    bands = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))["results"]
    rows = []
    for path in notebook_paths():
        lesson = lesson_of(path)
        if lesson in lessons:
            file = BUILD_FOLDER / "backends" / f"{key}-{lesson}.json"
            state = {"fingerprint": fingerprint(path), "versions": versions}
            run = kept_run(file, state, lambda lesson=lesson: run_in_child(python, key, lesson))
            rows.append(lesson_row(lesson, run, bands))
            print(f"{key} {rows[-1]}", flush=True)
            if run["failure"]:
                print(run["failure"], flush=True)
    return rows


def run_unit_tests(key: str, python: Path) -> dict:
    backend = BACKENDS[key]
    files = [f"tests/{name}" for name in backend.unit_tests]
    log = BUILD_FOLDER / "backends" / f"{key}-tests.log"
    return run_tests(python, ROOT, log, *files, KERAS_BACKEND=backend.variables["KERAS_BACKEND"])


def backends_page(versions: dict[str, str], sections: dict[str, str]) -> str:
    head = (
        f"# The lessons on other backends\n\nWritten by `make test-backends`: {machine()}; {_listed(versions)}. Each lesson "
        "ran as a student would run it, with seed 0. The bands are those that the notebooks hold their results against. The "
        "seconds depend on what else the machine did.\n"
    )
    titles = {key: backend.title for key, backend in BACKENDS.items()}
    return "\n".join([head, *all_sections(titles, sections), UNEQUAL])


# ---------------------------------------------------------------------------------------------------------------------
# Versions
# ---------------------------------------------------------------------------------------------------------------------


def pip_check(python: Path) -> str:
    """What pip says about packages that do not fit together, in one line."""
    checked = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    return "; ".join(checked.stdout.splitlines())


def run_versions(end: str) -> str:
    """Run all tests, lessons included, with one end of the supported versions; return its section of the page."""
    python = make_environment(end, *VERSIONS[end])
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder).resolve())  # so that nothing can change below a run that takes this long
        copy.restore()
        tests = run_tests(python, copy.folder, BUILD_FOLDER / f"versions-{end}.log", KERAS_BACKEND="tensorflow")
    lines = [_listed(versions_in(python)), f"`pip check`: {pip_check(python)}", f"tests: {_tests_line(tests)}"]
    return "\n".join([f"## {end.capitalize()}", "", *(f"- {line}" for line in lines)]) + "\n"


def versions_page(sections: dict[str, str]) -> str:
    head = (
        f"# Both ends of the supported versions\n\nWritten by `make test-versions`: {machine()}. All tests ran with each set "
        "of packages, all lessons under strict checkpoints among them. `requirements-oldest.txt` holds the oldest set; the "
        "newest is what pip finds for `requirements.txt`.\n"
    )
    return "\n".join([head, *all_sections({end: end.capitalize() for end in VERSIONS}, sections)])


def main() -> None:
    lessons = [lesson_of(path) for path in notebook_paths()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    backends = commands.add_parser("backends", help="all lessons on JAX, PyTorch and two devices")
    backends.add_argument("--only", nargs="+", choices=BACKENDS, metavar="BACKEND")
    backends.add_argument("--lessons", nargs="+", choices=lessons, metavar="NN")
    versions = commands.add_parser("versions", help="all tests with the oldest and the newest packages")
    versions.add_argument("--only", choices=VERSIONS)
    child = commands.add_parser("lesson", help="what `backends` starts in its environment: one lesson")
    child.add_argument("backend", choices=BACKENDS)
    child.add_argument("lesson", choices=lessons)
    arguments = parser.parse_args()

    if arguments.command == "lesson":
        send_result(run_lesson(lesson_path(arguments.lesson), BACKENDS[arguments.backend].variables))
    elif arguments.command == "backends":
        python = make_environment("backends", "-r", "requirements.txt", "jax", "torch")
        installed = versions_in(python)
        sections = {}
        for key in arguments.only or BACKENDS:
            rows = run_lessons(key, arguments.lessons or lessons, python, installed)
            if arguments.lessons is None:
                sections[key] = backend_section(BACKENDS[key].title, run_unit_tests(key, python), rows)
                print(sections[key], flush=True)
            if arguments.only is None and arguments.lessons is None:
                replace_file(BACKENDS_PAGE, backends_page(installed, sections))
    else:
        sections = {}
        for end in [arguments.only] if arguments.only else VERSIONS:
            sections[end] = run_versions(end)
            print(sections[end], flush=True)
            if arguments.only is None:
                replace_file(VERSIONS_PAGE, versions_page(sections))


if __name__ == "__main__":
    main()
