"""Do to the course what may happen to it, and see whether it works or says what to do: `make stress`.

    python tools/stress.py                   # everything; more than an hour
    python tools/stress.py --only kills      # one section; the page keeps the others
    python tools/stress.py --only rounds --rounds 2

The page is `benchmarks/STRESS.md`; what it is written from is kept beside it in `stress.json`. A section replaces its old
results when it has come to its end. What this machine does not allow is reported as not tried.
"""

import argparse
import hashlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tools.shared.child import read_results, send_result
from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.working_copy import WorkingCopy
from tools.shared.machine import machine_and_versions
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from tools.shared.notebook_files import (
    ROOT,
    code_cells,
    lesson_of,
    lesson_path,
    notebook_paths,
    notebook_text,
    read_notebook,
    replace_file,
)

PAGE = REPORTS_FOLDER / "STRESS.md"
RESULTS_FILE = REPORTS_FOLDER / "stress.json"
REFERENCE_FILE = ROOT / "course_utils" / "reference.json"

# The training that is killed, and the part of a lesson that runs in each situation: from the first cell to this result.
LESSON, TRAINING_CELL, LAST_CELL, RESULT = "01", "train-32", "checkpoint-32", "01.dense32.test_bce"
PROGRESS = "progress.npz"

RANDOM_KILLS = 20
KILLS_WHILE_WRITING = 5

WORKS, SAYS, FAILS, NOT_TRIED = "works", "says what to do", "**fails**", "not tried"


class Row(NamedTuple):
    """One line of the page."""

    done: str
    happened: str
    verdict: str


def clean_environment(**variables: str) -> dict[str, str]:
    """The variables of this process without those of the course and of Python, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COURSE_", "PYTHON"))}
    return kept | variables


def child_command(part: str, *arguments: object) -> list[str]:
    """The command that runs a part of this program in a process of its own."""
    return [sys.executable, __file__, "--child", part, *map(str, arguments)]


def say(**content: object) -> None:
    """Tell the parent what happens, and when."""
    send_result({"at": time.perf_counter(), **content})


# ---------------------------------------------------------------------------------------------------------------------
# Killed trainings
# ---------------------------------------------------------------------------------------------------------------------


def with_resume(source: str) -> str:
    """The cell with the training, and in its call `resume=`.

    Raises:
        ValueError: the cell does not end with a call of one argument per line.
    """
    if not source.endswith(",\n)"):
        raise ValueError(f"expected a cell that ends with a call of one argument per line, but it is\n{source}")
    return source.removesuffix(")") + f'    resume="{PROGRESS}",\n)'


def training_source() -> str:
    (cell,) = (cell for cell in code_cells(read_notebook(lesson_path(LESSON))) if cell.id == TRAINING_CELL)
    return with_resume(cell.source)


def train_in_this_process() -> None:
    """In the child process: train as the lesson does and say what happens, to the result."""
    from course_utils import evaluation
    from course_utils.backend import keras
    from course_utils.data import load_mnist
    from course_utils.lessons import build_autoencoder
    from course_utils.training import setup, train

    def state(model) -> str:
        """A digest of everything that a training consists of."""
        variables = [*model.weights, *model.optimizer.variables]
        arrays = [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables]
        return hashlib.sha256(b"".join(arrays)).hexdigest()[:16]

    class First(keras.callbacks.Callback):
        """Called before the state is saved."""

        def on_train_begin(self, logs=None):
            say(event="start", epoch=None, state=state(self.model))

        def on_epoch_begin(self, epoch, logs=None):
            say(event="begin", epoch=epoch)

        def on_epoch_end(self, epoch, logs=None):
            say(event="saving", epoch=epoch, state=state(self.model), val_loss=logs["val_loss"])

    class Last(keras.callbacks.Callback):
        """Called after the state is saved."""

        def on_epoch_end(self, epoch, logs=None):
            say(event="saved", epoch=epoch)

    fit = keras.Model.fit
    keras.Model.fit = lambda self, *, callbacks, **settings: fit(
        self, callbacks=[First(), *callbacks, Last()], **settings
    )

    setup(lesson=LESSON)
    (x_train, _), (x_val, _), (x_test, _) = load_mnist(flat=True)
    names = {"build_autoencoder": build_autoencoder, "train": train, "x_train": x_train, "x_val": x_val}
    exec(training_source(), names)
    x_hat = names["autoencoder"].predict(x_test, batch_size=1000, verbose=0)
    test_bce = float(evaluation.bce(x_test, x_hat))
    say(event="result", epoch=None, test_bce=test_bce, val_loss=names["history"].history["val_loss"])


# Phases of a training in which a kill is no ordinary one.
WRITING, AFTER = "while the state was being written", "after the last epoch"


@dataclass(frozen=True)
class Kill:
    """Kill the process `delay` seconds after its first event of this name and epoch."""

    event: str
    epoch: int | None
    delay: float


def train_in_child(folder: Path, seed: int, kill: Kill | None = None) -> list[dict]:
    """Train in a process of its own; return its events. An error ends them with the event `"error"`."""
    events = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            child_command("training"),
            cwd=folder,
            env=clean_environment(COURSE_SEED=str(seed)),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        for line in process.stdout:
            for event in read_results(line):
                events.append(event)
                if kill and (event["event"], event["epoch"]) == (kill.event, kill.epoch):
                    threading.Timer(kill.delay, process.kill).start()
        if process.wait() and not (kill and process.returncode == -signal.SIGKILL):
            errors.seek(0)
            text = "".join(errors.read().strip().splitlines()[-1:]) or f"exit status {process.returncode}"
            events.append({"event": "error", "epoch": None, "text": text})
    return events


def epochs_of(events: list[dict], kind: str) -> list[int]:
    return [event["epoch"] for event in events if event["event"] == kind]


def where(events: list[dict], epochs: int) -> str:
    """In which phase of the training these events end."""
    last, epoch = events[-1]["event"], events[-1]["epoch"] or 0
    if last == "result" or (last, epoch) == ("saved", epochs - 1):
        return AFTER
    if last == "saving":
        return f"{WRITING}, epoch {epoch + 1} of {epochs}"
    return f"in epoch {epoch + 1} of {epochs}" if last != "saved" else f"after epoch {epoch + 1} of {epochs}"


def possible_starts(killed: list[dict], epochs: int) -> set[int]:
    """How many epochs a training that was killed after these events may have behind it when it goes on."""
    saved = len(epochs_of(killed, "saved"))
    if killed[-1]["event"] == "saving":
        return {saved, saved + 1}
    # After the last epoch the file is deleted, and a training without a file begins anew.
    return {saved, 0} if saved == epochs else {saved}


def complaints(killed: list[dict], resumed: list[dict], epochs: int, band: dict) -> list[str]:
    """What is wrong with a training that was killed after the events `killed` and then went on with `resumed`."""
    for events in (killed, resumed):
        if events[-1]["event"] == "error":
            return [f"it did not come to its end: {events[-1]['text']}"]
    found = []
    begun = epochs_of(resumed, "begin")
    first = epochs - len(begun)
    if begun != list(range(first, epochs)) or first not in possible_starts(killed, epochs):
        found.append(f"it began the epochs {begun}, though {len(epochs_of(killed, 'saved'))} were saved")
    ended = [event for event in killed if event["event"] == "saving"][:first]
    if ended and resumed[0]["state"] != ended[-1]["state"]:
        found.append("weights or optimizer were not those of the last saved epoch")
    val_loss = resumed[-1]["val_loss"]
    if len(val_loss) != epochs or val_loss[: len(ended)] != [event["val_loss"] for event in ended]:
        found.append("the history does not hold the epochs before the kill")
    if not band["low"] <= resumed[-1]["test_bce"] <= band["high"]:
        found.append(f"{RESULT} = {resumed[-1]['test_bce']:.5f} is outside its band")
    return found


def kill_row(done: str, killed: list[dict], resumed: list[dict], epochs: int, band: dict) -> Row:
    found = complaints(killed, resumed, epochs, band)
    if found:
        return Row(done, "; ".join(found), FAILS)
    behind = epochs - len(epochs_of(resumed, "begin"))
    return Row(done, f"went on after epoch {behind}, ended at {resumed[-1]['test_bce']:.5f}", WORKS)


def kills_section() -> tuple[str, list[Row]]:
    """Kill trainings at random moments and while they write, let them go on, and compare."""
    band = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))["results"][RESULT]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = train_in_child(folder, seed=0)
        if undisturbed[-1]["event"] != "result":
            raise SystemExit(f"The undisturbed training did not come to its end: {undisturbed[-1]['text']}")
        at = {(event["event"], event["epoch"]): event["at"] for event in undisturbed}
        epochs = len(epochs_of(undisturbed, "begin"))
        duration = at["saved", epochs - 1] - at["start", None]
        writing = max(at["saved", epoch] - at["saving", epoch] for epoch in range(epochs))
        kills = [Kill("start", None, random.uniform(0, duration)) for _ in range(RANDOM_KILLS)]
        kills += [
            Kill("saving", random.randrange(epochs), random.uniform(0, writing)) for _ in range(KILLS_WHILE_WRITING)
        ]
        rows, phases = [], []
        for seed, kill in enumerate(kills, start=1):
            # A folder of its own, so that what a failed resumption leaves behind is not found by the next training.
            own = folder / str(seed)
            own.mkdir()
            killed = train_in_child(own, seed, kill)
            resumed = train_in_child(own, seed)
            phases.append(where(killed, epochs))
            moment = f"{kill.delay:.2f} s after the start" if kill.event == "start" else "aimed at the writing"
            rows.append(kill_row(f"{seed}: killed {moment}, {phases[-1]}", killed, resumed, epochs, band))
            show(rows[-1])
    written = sum(phase.startswith(WRITING) for phase in phases)
    after = phases.count(AFTER)
    summary = (
        f"A training of lesson {LESSON} with `resume=` gets SIGKILL and is started again: {RANDOM_KILLS} times at a random "
        f"moment of the {duration:.1f} s that it takes, then {KILLS_WHILE_WRITING} times when it has just begun to write "
        f"its state, which takes {1000 * writing:.0f} ms. {len(rows) - written - after} kills landed in training, "
        f"{written} while a state was being written, {after} after the last epoch. Works means: it goes on with weights, "
        f"optimizer and history of the last saved epoch, does no finished epoch again, and `{RESULT}` ends in its band, "
        f"{band['low']} to {band['high']}."
    )
    return summary, rows


# ---------------------------------------------------------------------------------------------------------------------
# Surroundings
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Situation:
    """Surroundings in which a part of a lesson runs.

    Args:
        done: what was done, for the page.
        kernel_folder: where the kernel starts.
        probe: code of a first cell, which makes the situation or raises unless it is there.
        environment: variables of the processes.
        namespace: a command that runs another one with mounts or a network of its own.
        before: shell commands in that namespace.
        must_say: what the lesson has to print in this situation.
        may_stop_with: what an error has to say with which the lesson may stop.
        course: the folder of the course.
    """

    done: str
    kernel_folder: Path
    probe: str
    environment: dict[str, str] = field(default_factory=dict)
    namespace: tuple[str, ...] = ()
    before: str = ":"
    must_say: str = ""
    may_stop_with: str | None = None
    course: Path = ROOT

    def command(self, *command: str) -> list[str]:
        # `env` says in a sentence, and with an exit status, that a program is missing.
        return ["env", *self.namespace, "sh", "-c", f'{self.before} && exec "$@"', "sh", *command]


FILL_THE_DISK = """
import errno, os
assert os.path.ismount({folder!r}), "this would fill the machine's own disk"
try:
    with open(os.path.join({folder!r}, "filler"), "wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
"""

NO_NETWORK = """
import errno, socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert error.errno == errno.ENETUNREACH, error
else:
    raise AssertionError("there is a network")
"""

READ_ONLY = """
import errno, os
try:
    open(os.path.join({folder!r}, "written"), "w")
except OSError as error:
    assert error.errno == errno.EROFS, error
else:
    os.remove(os.path.join({folder!r}, "written"))
    raise AssertionError("the folder can be written to")
"""

WORKING_FOLDER = """
import os
assert os.getcwd() == {folder!r}, os.getcwd()
assert "PYTHONPATH" not in os.environ, "PYTHONPATH is set"
"""

ENCODING = """
import locale, sys
assert sys.flags.utf8_mode == 0, "Python's UTF-8 mode is on"
assert locale.getencoding().upper() == {encoding!r}, locale.getencoding()
"""

COURSE_FOLDER = """
import os, course_utils
# As bytes: in the locale C the name has other characters.
assert os.fsencode(course_utils.__file__).startswith({folder!r}), course_utils.__file__
"""


def situations(folder: Path) -> list[Situation]:
    """All situations; `folder` is for what they need."""
    disk, elsewhere, locales = folder / "disk", folder / "elsewhere", folder / "locales"
    copy = folder / "A course 自编码器 课程"
    for made in (disk, elsewhere, locales, copy):
        made.mkdir()
    Copy(copy).restore()
    copied = {
        "kernel_folder": copy / "notebooks",
        "probe": COURSE_FOLDER.format(folder=os.fsencode(copy)),
        "course": copy,
    }
    legacy = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    notebooks, course = ROOT / "notebooks", shlex.quote(str(ROOT))
    return [
        Situation(
            "the disk with home, temporary and working folder gets full after the kernel's start",
            disk,
            FILL_THE_DISK.format(folder=str(disk)),
            {"HOME": str(disk), "TMPDIR": str(disk)},
            ("unshare", "-rm"),
            'mount -t tmpfs -o size=8m tmpfs "$HOME"',
            must_say="could not be saved",
        ),
        Situation(
            "no network but the machine's own loopback",
            notebooks,
            NO_NETWORK,
            namespace=("unshare", "-rn"),
            before="ip link set lo up",
        ),
        Situation(
            "the course's folder, package and notebooks, mounted read-only",
            notebooks,
            READ_ONLY.format(folder=str(ROOT / "course_utils")),
            namespace=("unshare", "-rm"),
            before=f"mount --bind {course} {course} && mount -o remount,bind,ro {course}",
            must_say="could not be saved",
        ),
        Situation(
            "kernel started in another folder, no PYTHONPATH", elsewhere, WORKING_FOLDER.format(folder=str(elsewhere))
        ),
        Situation(
            "locale C, without Python's UTF-8 mode",
            notebooks,
            ENCODING.format(encoding="ANSI_X3.4-1968"),
            {"LC_ALL": "C"} | legacy,
        ),
        Situation(
            "locale zh_CN.GB18030",
            notebooks,
            ENCODING.format(encoding="GB18030"),
            {"LC_ALL": "zh_CN.GB18030", "LOCPATH": str(locales)} | legacy,
            before='{ test -d "$LOCPATH/$LC_ALL" || localedef -f GB18030 -i zh_CN "$LOCPATH/$LC_ALL"; }',
        ),
        Situation(
            "a copy of the course in a folder with spaces and Chinese characters",
            **copied,
            environment={"PYTHONPATH": str(copy)},
        ),
        Situation(
            "the same copy in locale C",
            **copied,
            environment={"PYTHONPATH": str(copy), "LC_ALL": "C"} | legacy,
            may_stop_with="PYTHONUTF8=1",
        ),
        Situation(
            "the same in Python's UTF-8 mode",
            **copied,
            environment={"PYTHONPATH": str(copy), "LC_ALL": "C", "PYTHONUTF8": "1"},
        ),
    ]


def part_of_lesson(course: Path, probe: str) -> NotebookNode:
    """The probe, then the lesson up to its first result, with a training that saves its progress."""
    notebook = read_notebook(lesson_path(LESSON, course / "notebooks"))
    last = [cell.id for cell in notebook.cells].index(LAST_CELL)
    notebook.cells = [new_code_cell(probe, id="probe"), *notebook.cells[: last + 1]]
    for cell in notebook.cells:
        if cell.id == TRAINING_CELL:
            cell.source = with_resume(cell.source)
    return notebook


def run_in_this_process(notebook: Path, kernel_folder: Path) -> None:
    """In the child process: run a notebook with strict checkpoints, and say how it ended and what it printed."""
    content = read_notebook(notebook)
    try:
        run = run_notebook(content, kernel_folder, COURSE_STRICT="1")
    except CellFailed as failure:
        say(failed=str(failure).splitlines()[0])
    else:
        say(failed=None, seconds=run.seconds, printed=printed(content))


def printed(notebook: NotebookNode) -> list[str]:
    """The lines that a student should notice, each once: results, what could not be done, and everything on stderr."""
    lines = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream":
                wanted = ("✓ 0", "✗", "could not") if output.name == "stdout" else ("",)
                lines += [line for line in output.text.splitlines() if line and any(word in line for word in wanted)]
    return list(dict.fromkeys(lines))


def verdict(situation: Situation, output: str, errors: str) -> Row:
    """Judge what the child process of a situation printed on stdout and stderr."""
    said = read_results(output)
    if not said:
        return Row(situation.done, "; ".join(errors.strip().splitlines()[-1:]) or "it ended without a word", FAILS)
    (said,) = said
    if said["failed"]:
        if said["failed"].startswith("cell 1 (probe)"):
            return Row(situation.done, said["failed"], NOT_TRIED)
        explained = situation.may_stop_with is not None and situation.may_stop_with in said["failed"]
        return Row(situation.done, said["failed"], SAYS if explained else FAILS)
    happened = " · ".join(said["printed"])
    return Row(situation.done, happened, WORKS if situation.must_say in happened else FAILS)


def try_situation(situation: Situation, notebook: Path) -> Row:
    environment = clean_environment(**situation.environment)
    possible = subprocess.run(situation.command("true"), env=environment, capture_output=True, text=True, check=False)
    if possible.returncode:
        return Row(situation.done, f"not possible here: {' '.join(possible.stderr.split())}", NOT_TRIED)
    replace_file(notebook, notebook_text(part_of_lesson(situation.course, situation.probe)))
    command = situation.command(*child_command("notebook", notebook, situation.kernel_folder))
    run = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False)
    return verdict(situation, run.stdout, run.stderr)


def two_at_once(lessons: tuple[str, str] = ("01", "02")) -> Row:
    """Two whole lessons in processes of their own that run at the same time."""
    processes = [
        subprocess.Popen(
            child_command("notebook", lesson_path(lesson), ROOT / "notebooks"),
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for lesson in lessons
    ]
    ends = [read_results(process.communicate()[0]) for process in processes]
    happened, works = [], True
    for lesson, end in zip(lessons, ends, strict=True):
        said = end[0] if end else {"failed": "it ended without a word"}
        works &= said["failed"] is None
        happened.append(f"lesson {lesson}: " + (said["failed"] or f"all checkpoints in {said['seconds']:.0f} s"))
    return Row(f"lessons {' and '.join(lessons)} at once", " · ".join(happened), WORKS if works else FAILS)


def surroundings_section() -> tuple[str, list[Row]]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        # The folder's real name, as a kernel reports it.
        folder = Path(name).resolve()
        for situation in situations(folder):
            rows.append(try_situation(situation, folder / "part.ipynb"))
            show(rows[-1])
        # Names of temporary folders say nothing, and differ from run to run.
        rows = [
            Row(row.done, row.happened.replace(str(folder), "…").replace(str(ROOT), "…"), row.verdict) for row in rows
        ]
    rows.append(two_at_once())
    show(rows[-1])
    summary = (
        f"Lesson {LESSON} from its first cell to `{RESULT}`, in a fresh kernel with strict checkpoints and `resume=` in its "
        "training; two lessons at once run whole. A first cell checks that the situation is real: that a write fails, that "
        "no network is reachable, that the encoding is the one named."
    )
    return summary, rows


# ---------------------------------------------------------------------------------------------------------------------
# Rounds
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
        rows.append(Row(f"round {number} of {rounds}", happened, FAILS if failures else WORKS))
        show(rows[-1])
    return f"All {len(notebook_paths())} lessons in turn, in fresh kernels with strict checkpoints.", rows


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------

TITLES = {"kills": "Killed trainings", "surroundings": "Surroundings", "rounds": "The whole course, again and again"}


def show(row: Row) -> None:
    print(" | ".join(row), flush=True)


def page(results: dict) -> str:
    """The page from the stored results, in the order of the sections."""
    parts = ["# What was done to the course\n\nWritten by `make stress`.\n"]
    for section, title in TITLES.items():
        if section not in results:
            parts.append(f"## {title}\n\nNot run yet.\n")
            continue
        stored = results[section]
        rows = [Row(*row) for row in stored["rows"]]
        verdicts = [row.verdict for row in rows]
        counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in (WORKS, SAYS, FAILS, NOT_TRIED)]
        table = [f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in rows]
        head = f"## {title}\n\n{stored['machine']}: {', '.join(counts)}.\n\n{stored['summary']}\n"
        parts.append("\n".join([head, "| what was done | what happened | verdict |", "|---|---|---|", *table]) + "\n")
    return "\n".join(parts)


def store(section: str, summary: str, rows: list[Row]) -> None:
    """Replace one section in the stored results, and write the page anew."""
    results = json.loads(RESULTS_FILE.read_text(encoding="utf-8")) if RESULTS_FILE.exists() else {}
    results[section] = {"machine": machine_and_versions(), "summary": summary, "rows": rows}
    replace_file(RESULTS_FILE, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    replace_file(PAGE, page(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--rounds", type=int, choices=range(1, 21), default=5, metavar="N", help="default: 5")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        part, *paths = arguments.child
        return train_in_this_process() if part == "training" else run_in_this_process(*map(Path, paths))

    sections = {
        "kills": kills_section,
        "surroundings": surroundings_section,
        "rounds": lambda: rounds_section(arguments.rounds),
    }
    failed = 0
    for section in arguments.only:
        summary, rows = sections[section]()
        store(section, summary, rows)
        failed += sum(row.verdict == FAILS for row in rows)
    if failed:
        sys.exit(f"{failed} did not work; see {PAGE.name}.")
    print(f"Written to {PAGE.name}.")


if __name__ == "__main__":
    main()
