"""Run a lesson with a full disk, without a network, in another language, and see what happens: `make stress`.

Surroundings only: `tests/course_utils/test_resume.py` kills trainings. The page is `reports/STRESS.md`; what this machine
does not allow is reported as not tried.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tools.shared.child import clean_environment, read_results, send_result
from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import (
    REPORTS_FOLDER,
    ROOT,
    code_cells,
    lesson_path,
    notebook_text,
    read_notebook,
    replace_file,
)
from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.report_pages import table
from tools.shared.working_copy import WorkingCopy

PAGE = REPORTS_FOLDER / "STRESS.md"

TIMEOUT = 600  # seconds; undisturbed it takes about thirty

WORKS, SAYS, FAILS, NOT_TRIED = "works", "says what to do", "**fails**", "not tried"


class Row(NamedTuple):
    """One line of the page."""

    done: str
    happened: str
    verdict: str


def environment_of_a_student(**variables: str) -> dict[str, str]:
    """`clean_environment` without the variables of Python either, and with `variables`."""
    kept = {name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")}
    return kept | variables


def child_command(notebook: Path, kernel_folder: Path) -> list[str]:
    """The command that runs a notebook in a process of its own, to be started in the course's folder."""
    return [sys.executable, "-m", "tools.prove.stress", "--child", str(notebook), str(kernel_folder)]


def last_line(text: str) -> str:
    return "".join(text.strip().splitlines()[-1:]) or "it ended without a word"


LAST_CELL = "checkpoint-32"  # the part of lesson 01 that runs ends there
SAVING_CELL = "train(build_autoencoder([784, 32])[0], x_val, x_val, loss='bce', epochs=1, resume='progress.npz')"


@dataclass(frozen=True)
class Situation:
    """Surroundings in which a part of a lesson runs."""

    done: str  # for the page
    kernel_folder: Path
    probe: str  # code of a first cell, which makes the situation or raises unless it is there
    environment: dict[str, str] = field(default_factory=dict)
    namespace: str = ""  # a command that runs another one with mounts or a network of its own
    before: str = ":"  # shell commands in that namespace
    must_say: str = ""  # what the lesson has to print
    may_stop_with: str | None = None  # what an error has to say with which the lesson may stop
    course: Path = ROOT

    def command(self, *command: str) -> list[str]:
        # `env` says in a sentence, and with an exit status, that a program is missing.
        return ["env", *self.namespace.split(), "sh", "-c", f'{self.before} && exec "$@"', "sh", *command]


# Probes: what a first cell runs, with `{...}` filled in.
PROBE = """
import errno, locale, os, socket, sys, course_utils
def fails_with(number, action):
    try:
        action()
    except OSError as error:
        return error.errno == number
"""
FILL_THE_DISK = """
assert os.path.ismount({folder!r}), "this would fill the machine's own disk"
file = open(os.path.join({folder!r}, "filler"), "wb", buffering=0)
assert fails_with(errno.ENOSPC, lambda: file.writelines(bytes(2**16) for _ in iter(int, 1)))
"""
NO_NETWORK = """
connect = lambda: socket.create_connection(("192.0.2.1", 80), timeout=5)
assert fails_with(errno.ENETUNREACH, connect), "there is a network"
"""
READ_ONLY = 'assert fails_with(errno.EROFS, lambda: open(course_utils.__file__, "a")), "the folder can be written to"'
WORKING_FOLDER = "assert (os.getcwd(), os.environ.get('PYTHONPATH')) == ({folder!r}, None), os.getcwd()"
ENCODING = "assert (sys.flags.utf8_mode, locale.getencoding().upper()) == (0, {encoding!r}), locale.getencoding()"
# As bytes: in the locale C the name has other characters.
COURSE_FOLDER = "assert os.fsencode(course_utils.__file__).startswith({folder!r}), course_utils.__file__"

LEGACY = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def situations(folder: Path) -> list[Situation]:
    """All situations; `folder` is for what they need."""
    disk, elsewhere, copy = folder / "disk", folder / "elsewhere", folder / "A course 自编码器 课程"
    for made in (disk, elsewhere, copy):
        made.mkdir()
    WorkingCopy(copy)
    notebooks, course = ROOT / "notebooks", shlex.quote(str(ROOT))
    unsaved = "could not be saved"

    def in_copy(done: str, may_stop_with: str | None = None, **variables: str) -> Situation:
        probe, environment = COURSE_FOLDER.format(folder=os.fsencode(copy)), {"PYTHONPATH": str(copy)} | variables
        return Situation(done, copy / "notebooks", probe, environment, may_stop_with=may_stop_with, course=copy)

    def in_locale(name: str, encoding: str, before: str = ":", **variables: str) -> Situation:
        environment, probe = {"LC_ALL": name} | LEGACY | variables, ENCODING.format(encoding=encoding)
        return Situation(f"locale {name}, without Python's UTF-8 mode", notebooks, probe, environment, before=before)

    new_mounts, read_only = "unshare -rm", f"mount --bind {course} {course} && mount -o remount,bind,ro {course}"
    full_disk, in_disk = FILL_THE_DISK.format(folder=str(disk)), {"HOME": str(disk), "TMPDIR": str(disk)}
    mount_disk = 'mount -t tmpfs -o size=8m tmpfs "$HOME"'
    make_locale = 'localedef -f GB18030 -i zh_CN "$LOCPATH/$LC_ALL" || test -d "$LOCPATH/$LC_ALL"'
    return [
        Situation("home, temporary and working folder on a full disk", disk, full_disk, in_disk, new_mounts, mount_disk, unsaved),
        Situation("no network but the machine's own loopback", notebooks, NO_NETWORK, {}, "unshare -rn", "ip link set lo up"),
        Situation("the course's folder mounted read-only", notebooks, READ_ONLY, {}, new_mounts, read_only, unsaved),
        Situation("kernel started in another folder, no PYTHONPATH", elsewhere, WORKING_FOLDER.format(folder=str(elsewhere))),
        in_locale("C", "ANSI_X3.4-1968"),
        in_locale("zh_CN.GB18030", "GB18030", make_locale, LOCPATH=str(elsewhere)),
        in_copy("a copy of the course in a folder with spaces and Chinese characters"),
        in_copy("the same copy in locale C", "PYTHONUTF8=1", LC_ALL="C", **LEGACY),
        in_copy("the same in Python's UTF-8 mode", LC_ALL="C", PYTHONUTF8="1"),
    ]  # fmt: skip


def part_of_lesson(course: Path, probe: str) -> NotebookNode:
    """The probe, then the lesson up to its first result, and a training that saves its progress."""
    notebook = read_notebook(lesson_path("01", course / "notebooks"))
    last = [cell.id for cell in notebook.cells].index(LAST_CELL)
    first, saving = new_code_cell(PROBE + probe, id="probe"), new_code_cell(SAVING_CELL, id="saving")
    notebook.cells = [first, *notebook.cells[: last + 1], saving]
    return notebook


def run_in_this_process(notebook: Path, kernel_folder: Path) -> None:
    """In the child process: run a notebook with strict checkpoints, and send how it ended and what it printed."""
    content = read_notebook(notebook)
    try:
        run_notebook(content, kernel_folder, COURSE_STRICT="1")
    except CellFailed as failure:
        send_result({"failed": str(failure).splitlines()[0]})
    else:
        send_result({"failed": None, "printed": printed(content)})


def printed(notebook: NotebookNode) -> list[str]:
    """The lines that a student should notice, each once: results, what could not be done, and everything on stderr."""
    lines = []
    for output in (output for cell in code_cells(notebook) for output in cell.outputs if "text" in output):
        wanted = ("✓", "✗", "could not") if output.name == "stdout" else ("",)
        lines += [line for line in output.text.splitlines() if line and any(word in line for word in wanted)]
    return list(dict.fromkeys(lines))


def outcome(command: list[str], environment: dict[str, str]) -> dict:
    """What the child process of a command sends, or why it sent nothing."""
    settings = {"cwd": ROOT, "env": environment, "capture_output": True, "encoding": "utf-8", "errors": "replace"}
    try:
        run = subprocess.run(command, timeout=TIMEOUT, **settings)
    except subprocess.TimeoutExpired:
        return {"failed": f"it did not end within {TIMEOUT} s"}
    return (read_results(run.stdout) or [{"failed": last_line(run.stderr)}])[0]


def judge(situation: Situation, said: dict) -> Row:
    """Judge what the child process of a situation has sent."""
    failed = said["failed"]
    if failed is None:
        happened = " · ".join(said["printed"])
        return Row(situation.done, happened, WORKS if situation.must_say in happened else FAILS)
    explained = situation.may_stop_with is not None and situation.may_stop_with in failed
    verdict = NOT_TRIED if failed.startswith("cell 1 (probe)") else SAYS if explained else FAILS
    return Row(situation.done, failed, verdict)


def try_situation(situation: Situation, notebook: Path) -> Row:
    """Run the part of the lesson in its situation; `notebook` is the file that it is written to."""
    environment = environment_of_a_student(**situation.environment)
    possible = subprocess.run(situation.command("true"), env=environment, capture_output=True, text=True, timeout=60)
    if possible.returncode:
        return Row(situation.done, f"not possible here: {' '.join(possible.stderr.split())}", NOT_TRIED)
    replace_file(notebook, notebook_text(part_of_lesson(situation.course, situation.probe)))
    child = child_command(notebook, situation.kernel_folder)
    return judge(situation, outcome(situation.command(*child), environment))


TEMPLATE = """\
# What was done to the course

Written by `make stress`: {measured}.

Lesson 01 from its first cell to its first result in a fresh kernel with strict checkpoints, then a short training with
`resume=`. A first cell checks that the situation is real: that a write fails, that no network is reachable, that the
encoding is the one named.

{counts}:

{rows}
"""


def page(rows: list[Row]) -> str:
    """The whole of `STRESS.md`."""
    verdicts = [row.verdict for row in rows]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in (WORKS, SAYS, FAILS, NOT_TRIED))
    rows_table = table(["what was done", "what happened", "verdict"], [list(row) for row in rows])
    return TEMPLATE.format(measured=machine_and_versions(), counts=counts, rows=rows_table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    if child := parser.parse_args().child:
        return run_in_this_process(*child)

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()  # its real name, as a kernel reports it
        for situation in situations(folder):
            row = try_situation(situation, folder / "part.ipynb")
            # Names of temporary folders say nothing, and differ from run to run.
            rows.append(row._replace(happened=row.happened.replace(str(folder), "…").replace(str(ROOT), "…")))
            print(" | ".join(rows[-1]), flush=True)
    replace_file(PAGE, page(rows))
    if n_failed := sum(row.verdict == FAILS for row in rows):
        sys.exit(f"{n_failed} did not work; see {PAGE.name}.")
    print(f"Written to {PAGE.name}.")


if __name__ == "__main__":
    main()
