"""Plant known faults in a copy of the course, one at a time, and see which check finds each: `make faults`.

    python -m tools.prove.faults                          # all faults; an hour or more
    python -m tools.prove.faults --only 04/ resumption    # those with such a text in name or place; the others keep their rows
    python -m tools.prove.faults --new                    # those that have no row: new ones, or the rest after an interruption

The faults stand in `faults.toml`. First the unit tests of the place run; if they pass, the lesson, with its checkpoints in
strict mode. Two copies work side by side. Each row goes to `reports/FAULTS.md` as soon as it is known.
"""

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tools.shared.notebook_files import (
    REPORTS_FOLDER,
    cell_sources,
    lesson_path,
    notebook_text,
    read_notebook,
    replace_file,
)
from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.pytest_runs import run_pytest
from tools.shared.report_pages import table
from tools.shared.working_copy import WorkingCopy

PAGE = REPORTS_FOLDER / "FAULTS.md"
FAULTS_FILE = Path(__file__).with_suffix(".toml")
N_COPIES = 2  # a test uses one core most of the time
NOT_CAUGHT = "**not caught**"


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in `place`: a file such as `course_utils/data.py`, or a lesson's cell such as `01/train-32`."""

    name: str
    place: str
    old: str
    new: str
    tests: str = ""  # the file with the unit tests, where its name does not follow from the place's
    lesson: str | None = None  # the lesson that finds it if the unit tests of a file do not

    @property
    def in_notebook(self) -> bool:
        return is_cell(self.place)


def is_cell(place: str) -> bool:
    return place[:2].isdigit()


def all_faults() -> list[Fault]:
    return [Fault(**entry) for entry in tomllib.loads(FAULTS_FILE.read_text(encoding="utf-8"))["faults"]]


def source(place: str, folder: Path) -> str:
    """The text of a place in the course in `folder`, empty if it is not there."""
    if not is_cell(place):
        path = folder / place
        return path.read_text(encoding="utf-8") if path.exists() else ""
    lesson, cell_id = place.split("/")
    return cell_sources(lesson, folder / "notebooks").get(cell_id, "")


def with_fault(fault: Fault, text: str) -> str:
    """The text of the fault's place, with the fault.

    Raises:
        ValueError: what it replaces is not there exactly once, so the fault no longer fits the course.
    """
    if text.count(fault.old) != 1:
        raise ValueError(
            f"{fault.name!r} no longer fits: expected {fault.old!r} once in {fault.place}, but it is there "
            f"{text.count(fault.old)} times. Correct the fault in {FAULTS_FILE.name}."
        )
    return text.replace(fault.old, fault.new)


def planted(fault: Fault, folder: Path) -> tuple[Path, str]:
    """The file of the course in `folder` that the fault is in, and its text with the fault; nothing is written."""
    text = with_fault(fault, source(fault.place, folder))
    if not fault.in_notebook:
        return folder / fault.place, text
    lesson, cell_id = fault.place.split("/")
    path = lesson_path(lesson, folder / "notebooks")
    notebook = read_notebook(path)
    (cell,) = (cell for cell in notebook.cells if cell.get("id") == cell_id)
    cell.source = text
    return path, notebook_text(notebook)


def unit_tests(fault: Fault) -> str:
    """The file with the unit tests of the fault's place."""
    area, _, name = fault.place.rpartition("/")
    if fault.in_notebook:
        return f"tests/lessons/test_lesson_{area}.py"
    return fault.tests or f"tests/{area.split('/')[0]}/test_{name}"


def failing_test(tests: str, copy: WorkingCopy) -> str | None:
    """The first of the tests in a file that fails in the copy, or `None`."""
    options = ["-x", "--tb=no", "--no-header", "--disable-warnings"]
    try:
        failed = run_pytest(copy.folder, *options, tests).failed
    except RuntimeError as error:
        return f"{tests}: {error}"
    return failed[0].split("::")[-1].split("[")[0] if failed else None


def caught_by(fault: Fault, copy: WorkingCopy) -> str | None:
    """The first check that fails in a copy with the fault, or `None`."""
    if failing := failing_test(unit_tests(fault), copy):
        return f"unit test `{failing}`"
    lesson = fault.place.split("/")[0] if fault.in_notebook else fault.lesson
    if lesson is None:
        return None
    path = lesson_path(lesson, copy.folder / "notebooks")
    try:
        run_notebook(read_notebook(path), path.parent, COURSE_STRICT="1", PYTHONPATH=str(copy.folder))
    except CellFailed as error:
        return f"lesson {lesson}, {str(error).splitlines()[0]}"
    return None


def in_turn(task: Callable, items: list, copies: list[WorkingCopy]) -> Iterator:
    """`task(item, copy)` for each item, as they end; each copy takes the next item as soon as it is free."""
    free = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def in_a_free_copy(item):
        copy = free.get()
        try:
            return task(item, copy)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        try:
            for ended in as_completed([pool.submit(in_a_free_copy, item) for item in items]):
                yield ended.result()
        finally:
            pool.shutdown(cancel_futures=True)


def plant(fault: Fault, copy: WorkingCopy) -> list[str]:
    """Plant the fault in the copy, and return its row of the table."""
    copy.restore()
    replace_file(*planted(fault, copy.folder))
    if fault.in_notebook:
        copy.python("-m", "tools.author.export_lessons").check_returncode()
    return [fault.place, fault.name, caught_by(fault, copy) or NOT_CAUGHT]


def stored_rows() -> dict[tuple[str, str], list[str]]:
    """Place and name of a fault → its row on the page."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    table_lines = [line[2:-2] for line in lines if line.startswith("| ")]
    rows = [[text.replace("\\|", "|") for text in line.split(" | ")] for line in table_lines[2:]]
    return {(place, name): [place, name, caught] for place, name, caught in rows}


def store(row: list[str]) -> None:
    """Put a row on the page; the others stay, but for those of faults that are planted no longer."""
    found = stored_rows() | {(row[0], row[1]): row}
    places = [(fault.place, fault.name) for fault in all_faults()]
    rows = [found[place] for place in places if place in found]
    count = f"{sum(is_caught(row) for row in rows)} of {len(rows)} were caught"
    missing = f"; {len(places) - len(rows)} were not planted yet" * (len(rows) < len(places))
    head = f"# Planted faults\n\nWritten by `make faults`: {count}{missing}."
    replace_file(PAGE, f"{head}\n\n{table(['place', 'fault', 'caught by'], rows)}\n")


def is_caught(row: list[str]) -> bool:
    return row[-1] != NOT_CAUGHT


def selected(texts: list[str], only_new: bool) -> list[Fault]:
    """The faults with one of the texts in name or place; with `only_new`, those of them that have no row yet."""
    known = stored_rows() if only_new else {}
    faults = [fault for fault in all_faults() if any(text in fault.name + fault.place for text in texts)]
    return [fault for fault in faults if (fault.place, fault.name) not in known]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", nargs="+", metavar="TEXT", help="faults with one of these texts in name or place")
    chosen.add_argument(
        "--new", action="store_true", help="faults without a row; one that changed keeps its row: use --only"
    )
    arguments = parser.parse_args()
    faults, rows = selected(arguments.only or [""], arguments.new), []
    with tempfile.TemporaryDirectory() as folder:
        copies = [WorkingCopy(Path(folder).resolve() / str(number)) for number in range(N_COPIES)]
        failing = in_turn(failing_test, list(dict.fromkeys(map(unit_tests, faults))), copies)
        if first := next(filter(None, failing), None):
            sys.exit(f"{first} fails without any fault, so it can show nothing; repair it first.")
        if not (arguments.only or arguments.new):
            PAGE.unlink(missing_ok=True)  # so that after an interruption `--new` goes on
        for row in in_turn(plant, faults, copies):
            print(*row, sep=" | ", flush=True)
            store(row)
            rows.append(row)
    if not all(map(is_caught, rows)):
        sys.exit(1)


if __name__ == "__main__":
    main()
