"""Do to the course what may happen to it, and see whether it works or says what to do: `make stress`.

    python -m tools.prove.stress                            # everything; more than an hour
    python -m tools.prove.stress --only kills               # one section of the page; the others stay
    python -m tools.prove.stress --only rounds --rounds 2

The page is `reports/STRESS.md`. What this machine does not allow is reported as not tried.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tools.shared.child import clean_environment, read_results, send_result
from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import (
    REPORTS_FOLDER,
    ROOT,
    code_cells,
    lesson_of,
    lesson_path,
    notebook_paths,
    notebook_text,
    read_notebook,
    replace_file,
)
from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.report_pages import replace_section, table
from tools.shared.working_copy import WorkingCopy

PAGE = REPORTS_FOLDER / "STRESS.md"

TRAINING_TIMEOUT = 300  # seconds; undisturbed it takes about ten
LESSON_TIMEOUT = 1800

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


def child_command(part: str, *arguments: object) -> list[str]:
    """The command that runs a part of this program in a process of its own, to be started in the course's folder."""
    return [sys.executable, "-m", "tools.prove.stress", "--child", part, *map(str, arguments)]


def last_line(text: str) -> str:
    return "".join(text.strip().splitlines()[-1:]) or "it ended without a word"


# ---------------------------------------------------------------------------------------------------------------------
# Killed trainings
# ---------------------------------------------------------------------------------------------------------------------

RANDOM_KILLS, KILLS_WHILE_WRITING = 20, 5
EPOCHS = 4
WRITING = ", a file unfinished"


def train_in_this_process(progress: str) -> None:
    """In the child process: train lesson 01's model with `resume=progress` and send what came of it."""
    from course_utils.backend import keras
    from course_utils.data import load_mnist
    from course_utils.devices import setup
    from course_utils.lessons import build_autoencoder
    from course_utils.training import train

    setup(lesson="01")
    (x, _), (x_val, _), _ = load_mnist(flat=True)
    model = build_autoencoder([784, 32], code_activation="linear")[0]
    settings = {"loss": "binary_crossentropy", "validation_data": (x_val, x_val), "learning_rate": 0.01}
    send_result("begins")
    start = time.perf_counter()
    history = train(model, x, x, epochs=EPOCHS, resume=progress, **settings).history
    seconds = time.perf_counter() - start
    weights = b"".join(keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights)
    send_result({"seconds": seconds, "history": history, "weights": hashlib.sha256(weights).hexdigest()})


class Kill(NamedTuple):
    """Kill a training `delay` seconds after it began or, if `writing` is not 0, when it writes for that many-th time."""

    delay: float = 0.0
    writing: int = 0


class Training(NamedTuple):
    """How a training in a child process ended, and what it had saved until then."""

    result: dict | None  # its seconds, history and digest of weights; `None` if it did not come to its end
    epochs_done: int  # those that this process has done and reported
    saved: dict[str, list[float]]  # the history in the file with the progress; empty without a file
    writing: bool  # whether it was killed while it wrote
    last_line: str  # of its output: the error's if there was one

    @property
    def epochs_saved(self) -> int:
        return len(self.saved.get("loss", []))


def run_training(folder: Path, kill: Kill | None = None, seed: int = 0) -> Training:
    """Train in a process of its own with the progress in `folder`; with `kill`, it gets SIGKILL at that moment."""
    progress, log = folder / "progress.npz", folder / "output.txt"
    unfinished = progress.with_name("unfinished." + progress.name)
    command, environment = child_command("training", progress), environment_of_a_student(COURSE_SEED=str(seed))
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            if kill is None:
                process.wait(TRAINING_TIMEOUT)
            else:
                _wait_for(kill, process, log, unfinished)
        finally:
            process.kill()
    text = log.read_text(encoding="utf-8", errors="replace")
    result = next((result for result in read_results(text) if isinstance(result, dict)), None)
    epochs = re.search(r"^(\d+) epochs? in ", text, re.MULTILINE)
    saved = json.loads(str(np.load(progress)["progress"]))["history"] if progress.exists() else {}
    return Training(result, int(epochs[1]) if epochs else 0, saved, unfinished.exists(), last_line(text))


def _wait_for(kill: Kill, process: subprocess.Popen, log: Path, unfinished: Path) -> None:
    """Return when the moment of the kill has come, or when the process has ended."""

    def wait_until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + TRAINING_TIMEOUT
        while process.poll() is None and not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"The training did not come to its next step within {TRAINING_TIMEOUT} s.")
            time.sleep(0.0002)  # a file is written within a few milliseconds

    wait_until(lambda: "begins" in read_results(log.read_text(encoding="utf-8")))
    for _ in range(kill.writing):
        wait_until(lambda: not unfinished.exists())
        wait_until(unfinished.exists)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(kill.delay)


def differences(killed: Training, resumed: Training, undisturbed: Training) -> list[str]:
    """What is wrong with a training that was killed and then went on, compared with an undisturbed one."""
    if resumed.result is None:
        return [f"it did not come to its end: {resumed.last_line}"]
    history, n_saved = undisturbed.result["history"], killed.epochs_saved
    right_epochs = resumed.epochs_done == EPOCHS - n_saved
    checks = {
        "the saved history is another": killed.saved in ({}, {key: history[key][:n_saved] for key in history}),
        f"it did {resumed.epochs_done} of {EPOCHS} epochs though {n_saved} were saved": right_epochs,
        "the history is another": resumed.result["history"] == history,
        "the weights are others": resumed.result["weights"] == undisturbed.result["weights"],
    }
    return [sentence for sentence, holds in checks.items() if not holds]


def kill_row(kill: Kill, killed: Training, resumed: Training, undisturbed: Training) -> Row:
    moment = f"at the beginning of write {kill.writing}" if kill.writing else f"{kill.delay:.2f} s after it began"
    where = f"{killed.epochs_saved} epochs saved" if killed.result is None else "too late: it had ended"
    found = differences(killed, resumed, undisturbed)
    happened = "; ".join(found) or f"did {resumed.epochs_done} epochs; history and weights of the undisturbed training"
    return Row(f"killed {moment}, {where}{WRITING if killed.writing else ''}", happened, FAILS if found else WORKS)


def kills_section() -> tuple[str, list[Row]]:
    """Kill trainings at random moments and while they write, let them go on, and compare with an undisturbed one."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        undisturbed, again = (run_training(Path(name)) for _ in range(2))
        if undisturbed.result is None:
            raise SystemExit(f"The undisturbed training did not come to its end: {undisturbed.last_line}")
        if differences(undisturbed, again, undisturbed):
            raise SystemExit("Two undisturbed trainings differ on this machine, so nothing can be compared bit by bit.")
        seconds = undisturbed.result["seconds"]
        kills = [Kill(delay=random.uniform(0, seconds)) for _ in range(RANDOM_KILLS)]
        kills += [Kill(writing=random.randint(1, EPOCHS)) for _ in range(KILLS_WHILE_WRITING)]
        for number, kill in enumerate(kills):
            # A folder of its own, so that what a failed resumption leaves behind is not found by the next training.
            folder = Path(name) / str(number)
            folder.mkdir()
            killed = run_training(folder, kill)
            # What was saved holds all that is random, so another seed may change nothing when the training goes on.
            resumed = run_training(folder, seed=1 if killed.saved else 0)
            rows.append(show(kill_row(kill, killed, resumed, undisturbed)))
    summary = (
        f"A training of lesson 01's model with `resume=`, {EPOCHS} epochs in {seconds:.1f} s, gets SIGKILL and is started "
        f"again: {RANDOM_KILLS} times at a random moment, then {KILLS_WHILE_WRITING} times when it writes its state; "
        f"{sum(WRITING in row.done for row in rows)} kills left an unfinished file. Works means: although started "
        "with another seed, it does no saved epoch again, and ends with the history and the weights of an undisturbed "
        "training, bit for bit."
    )
    return summary, rows


# ---------------------------------------------------------------------------------------------------------------------
# Surroundings
# ---------------------------------------------------------------------------------------------------------------------

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
        run = run_notebook(content, kernel_folder, COURSE_STRICT="1")
    except CellFailed as failure:
        send_result({"failed": str(failure).splitlines()[0]})
    else:
        send_result({"failed": None, "seconds": run.seconds, "printed": printed(content)})


def printed(notebook: NotebookNode) -> list[str]:
    """The lines that a student should notice, each once: results, what could not be done, and everything on stderr."""
    lines = []
    for output in (output for cell in code_cells(notebook) for output in cell.outputs if "text" in output):
        wanted = ("✓ 0", "✗", "could not") if output.name == "stdout" else ("",)
        lines += [line for line in output.text.splitlines() if line and any(word in line for word in wanted)]
    return list(dict.fromkeys(lines))


def outcome(command: list[str], environment: dict[str, str]) -> dict:
    """What the child process of a command sends, or why it sent nothing."""
    settings = {"cwd": ROOT, "env": environment, "capture_output": True, "encoding": "utf-8", "errors": "replace"}
    try:
        run = subprocess.run(command, timeout=LESSON_TIMEOUT, **settings)
    except subprocess.TimeoutExpired:
        return {"failed": f"it did not end within {LESSON_TIMEOUT} s"}
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
    child = child_command("notebook", notebook, situation.kernel_folder)
    return judge(situation, outcome(situation.command(*child), environment))


def two_at_once(lessons: tuple[str, str] = ("01", "02")) -> Row:
    """Two whole lessons in processes of their own that run at the same time."""
    commands = [child_command("notebook", lesson_path(lesson), ROOT / "notebooks") for lesson in lessons]
    with ThreadPoolExecutor(len(lessons)) as pool:
        ends = list(pool.map(lambda command: outcome(command, environment_of_a_student()), commands))
    happened = [
        f"lesson {lesson}: " + (end["failed"] or f"all checkpoints in {end['seconds']:.0f} s")
        for lesson, end in zip(lessons, ends, strict=True)
    ]
    verdict = FAILS if any(end["failed"] for end in ends) else WORKS
    return Row(f"lessons {' and '.join(lessons)} at once", " · ".join(happened), verdict)


def surroundings_section() -> tuple[str, list[Row]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()  # its real name, as a kernel reports it
        rows = [show(try_situation(situation, folder / "part.ipynb")) for situation in situations(folder)]
    # Names of temporary folders say nothing, and differ from run to run.
    rows = [row._replace(happened=row.happened.replace(str(folder), "…").replace(str(ROOT), "…")) for row in rows]
    rows.append(show(two_at_once()))
    summary = (
        "Lesson 01 from its first cell to its first result in a fresh kernel with strict checkpoints, then a short training "
        "with `resume=`; two lessons at once run whole. A first cell checks that the situation is real: that a write fails, that "
        "no network is reachable, that the encoding is the one named."
    )
    return summary, rows


# ---------------------------------------------------------------------------------------------------------------------
# Rounds, and the page
# ---------------------------------------------------------------------------------------------------------------------


def rounds_section(rounds: int) -> tuple[str, list[Row]]:
    """All lessons, several times over."""
    rows = []
    for number in range(1, rounds + 1):
        start, failures = time.perf_counter(), []
        for path in notebook_paths():
            try:
                run_notebook(read_notebook(path), path.parent, COURSE_STRICT="1")
            except CellFailed as failure:
                failures.append(f"lesson {lesson_of(path)}, {str(failure).splitlines()[0]}")
        happened = "; ".join(failures) or f"all checkpoints in {(time.perf_counter() - start) / 60:.1f} min"
        rows.append(show(Row(f"round {number} of {rounds}", happened, FAILS if failures else WORKS)))
    return f"All {len(notebook_paths())} lessons in turn, in fresh kernels with strict checkpoints.", rows


TITLES = {"kills": "Killed trainings", "surroundings": "Surroundings", "rounds": "The whole course, again and again"}


def show(row: Row) -> Row:
    print(" | ".join(row), flush=True)
    return row


def section_text(summary: str, rows: list[Row]) -> str:
    verdicts = [row.verdict for row in rows]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in (WORKS, SAYS, FAILS, NOT_TRIED))
    rows_table = table(["what was done", "what happened", "verdict"], [list(row) for row in rows])
    return f"{machine_and_versions()}: {counts}.\n\n{summary}\n\n{rows_table}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--rounds", type=int, choices=range(1, 21), default=5, metavar="N", help="default: 5")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        part, *paths = arguments.child
        return train_in_this_process(*paths) if part == "training" else run_in_this_process(*map(Path, paths))

    sections = {
        "kills": kills_section,
        "surroundings": surroundings_section,
        "rounds": lambda: rounds_section(arguments.rounds),
    }
    n_failed = 0
    for section in arguments.only:
        summary, rows = sections[section]()
        replace_section(PAGE, TITLES[section], section_text(summary, rows))
        n_failed += sum(row.verdict == FAILS for row in rows)
    if n_failed:
        sys.exit(f"{n_failed} did not work; see {PAGE.name}.")
    print(f"Written to {PAGE.name}.")


if __name__ == "__main__":
    main()
