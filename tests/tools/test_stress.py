"""`make stress`: what it counts as harm, and that a situation which is not real does not pass. No lesson is trained."""

import contextlib
import copy
import io
import os
import re
import sys

import pytest
from tools.prove import stress
from tools.shared.child import tell
from tools.shared.notebook_files import ROOT, code_cells, lesson_of, notebook_paths
from stress import FAILS, NOT_TRIED, SAYS, WORKS, Row, Situation

EPOCHS = 3
BAND = {"low": 0.08, "high": 0.1}
LOSSES = [0.3, 0.2, 0.1]


def event(kind, epoch=None, **content):
    return {"event": kind, "epoch": epoch, "at": 0.0, **content}


def epoch_events(epoch):
    saving = event("saving", epoch, state=f"state {epoch}", val_loss=LOSSES[epoch])
    return [event("begin", epoch), saving, event("saved", epoch)]


def training(first=0, test_bce=0.09):
    """The events of a training that goes on after `first` epochs."""
    start = event("start", state=f"state {first - 1}" if first else "new")
    done = [event for epoch in range(first, EPOCHS) for event in epoch_events(epoch)]
    return [start, *done, event("result", test_bce=test_bce, val_loss=LOSSES)]


def killed_after(kind, epoch):
    """The events of a training up to this one."""
    events = training()
    return events[: [(event["event"], event["epoch"]) for event in events].index((kind, epoch)) + 1]


# ---------------------------------------------------------------------------------------------------------------------
# Killed trainings
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "epoch", "starts", "phase"),
    [
        ("start", None, {0}, "in epoch 1 of 3"),
        ("begin", 0, {0}, "in epoch 1 of 3"),
        ("saving", 0, {0, 1}, "while the state was being written, epoch 1 of 3"),
        ("saved", 0, {1}, "after epoch 1 of 3"),
        ("begin", 1, {1}, "in epoch 2 of 3"),
        ("saving", 2, {2, 3}, "while the state was being written, epoch 3 of 3"),
        ("saved", 2, {3, 0}, "after the last epoch"),
        ("result", None, {3, 0}, "after the last epoch"),
    ],
)
def test_only_the_right_epoch_is_gone_on_with(kind, epoch, starts, phase):
    killed = killed_after(kind, epoch)
    assert stress.where(killed, EPOCHS) == phase
    for first in range(EPOCHS + 1):
        found = stress.complaints(killed, training(first), EPOCHS, BAND)
        assert bool(found) == (first not in starts), (first, found)


def without_saved_weights(resumed):
    resumed[0]["state"] = "new"


def without_old_history(resumed):
    resumed[-1]["val_loss"] = LOSSES[1:]


def with_another_history(resumed):
    resumed[-1]["val_loss"] = [0.4, *LOSSES[1:]]


def with_an_epoch_left_out(resumed):
    del resumed[1:4]


def with_an_epoch_too_many(resumed):
    resumed[-1]["val_loss"] = [*LOSSES, 0.1]


def with_the_wrong_epochs(resumed):
    resumed[1:-1] = [*epoch_events(0), *epoch_events(1)]


def outside_the_band(resumed):
    resumed[-1]["test_bce"] = 0.11


def not_a_number(resumed):
    resumed[-1]["test_bce"] = float("nan")


def ended_by_an_error(resumed):
    resumed[-1] = event("error", text="OSError: no space left")


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (without_saved_weights, "weights"),
        (without_old_history, "history"),
        (with_another_history, "history"),
        (with_an_epoch_too_many, "history"),
        (with_an_epoch_left_out, r"epochs \[2\]"),
        (with_the_wrong_epochs, r"epochs \[0, 1\]"),
        (outside_the_band, r"0\.11000 is outside"),
        (not_a_number, "nan is outside"),
        (ended_by_an_error, "no space left"),
    ],
)
def test_each_harm_to_a_resumed_training_is_found(harm, word):
    killed, resumed = killed_after("begin", 1), training(first=1)
    row = stress.kill_row("killed", killed, resumed, EPOCHS, BAND)
    assert row == Row("killed", "went on after epoch 1, ended at 0.09000", WORKS)
    harm(resumed)
    row = stress.kill_row("killed", killed, resumed, EPOCHS, BAND)
    assert row.verdict == FAILS
    assert re.search(word, row.happened)


def test_a_training_that_failed_before_the_kill_is_no_success():
    killed = [event("error", text="ImportError: no keras")]
    assert stress.complaints(killed, training(), EPOCHS, BAND) == ["it did not come to its end: ImportError: no keras"]


def test_the_training_of_the_lesson_gets_its_file():
    source = stress.training_source()
    compile(source, "cell", "exec")
    assert source.count('resume="progress.npz"') == 1
    with pytest.raises(ValueError, match="one argument per line"):
        stress.with_resume("history = train(model, x)")


def command(code):
    """The command that runs `code`, which may `tell`, in a process of its own."""
    path = f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r})"
    return [sys.executable, "-c", f"{path}\nfrom child import tell\n{code}"]


def child(monkeypatch, code):
    """Let `code` take the place of the child process."""
    monkeypatch.setattr(stress, "child_command", lambda *arguments: command(code))


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_child_is_killed_at_its_moment_and_its_words_are_kept(monkeypatch, tmp_path):
    child(
        monkeypatch,
        """
import os, time
print('Resumed from nowhere')
send_result({"event": "start", "epoch": None, "seed": os.environ["COURSE_SEED"]})
time.sleep(60)
send_result({"event": "result", "epoch": None})
""",
    )
    kill = stress.Kill("start", None, 0.1)
    assert stress.train_in_child(tmp_path, 7, kill) == [{"event": "start", "epoch": None, "seed": "7"}]


def test_a_child_that_fails_by_itself_is_reported(monkeypatch, tmp_path):
    child(monkeypatch, "raise SystemExit('no memory')")
    (last,) = stress.train_in_child(tmp_path, 0)
    assert (last["event"], last["text"]) == ("error", "no memory")
    child(monkeypatch, "import os; os._exit(3)")
    assert stress.train_in_child(tmp_path, 0, stress.Kill("start", None, 0))[-1]["text"] == "exit status 3"


# ---------------------------------------------------------------------------------------------------------------------
# Surroundings
# ---------------------------------------------------------------------------------------------------------------------


def outcome(failed=None, printed=(), must_say="", may_stop_with=None):
    situation = Situation("done", None, "", must_say=must_say, may_stop_with=may_stop_with)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        print("other words")
        send_result({"failed": failed, "printed": printed})
    return stress.verdict(situation, output.getvalue(), "")


def test_verdicts():
    assert outcome(printed=["✓ 01.x = 1"]) == Row("done", "✓ 01.x = 1", WORKS)
    assert outcome(printed=["✓ 01.x = 1"], must_say="could not be saved").verdict == FAILS
    assert outcome(printed=["it could not be saved"], must_say="could not be saved").verdict == WORKS
    assert outcome(failed="cell 28 (train-32) raised OSError").verdict == FAILS
    assert outcome(failed="cell 3 raised RuntimeError: do this", may_stop_with="do this").verdict == SAYS
    assert outcome(failed="cell 3 raised RuntimeError: I am lost", may_stop_with="do this").verdict == FAILS
    assert outcome(failed="cell 1 (probe) raised AssertionError: there is a network").verdict == NOT_TRIED
    situation = Situation("done", None, "")
    assert stress.verdict(situation, "", "Traceback\nOSError: full\n") == Row("done", "OSError: full", FAILS)
    assert stress.verdict(situation, "", "").verdict == FAILS


@pytest.mark.skipif(os.name != "posix", reason="a shell's commands")
@pytest.mark.parametrize("impossible", [{"namespace": ("no-such-program",)}, {"before": "echo not allowed >&2; false"}])
def test_what_the_machine_does_not_allow_is_not_tried(impossible, tmp_path):
    row = stress.try_situation(Situation("done", tmp_path, "", **impossible), tmp_path / "part.ipynb")
    assert row.verdict == NOT_TRIED
    assert row.happened.startswith("not possible here: ")
    assert not (tmp_path / "part.ipynb").exists()


@pytest.mark.skipif(os.name != "posix", reason="a shell's commands")
def test_a_lesson_runs_in_its_situation_and_a_probe_is_believed(notebook, tmp_path, monkeypatch):
    source = "import os\n\nassert os.getcwd() == os.environ['EXPECTED']\nprint('✓ 01.x = 1')"
    notebook.cells = [stress.new_code_cell(source, id="check")]

    def part(course, probe):
        cells = [stress.new_code_cell(probe, id="probe"), *notebook.cells]
        return copy.copy(notebook) | {"cells": cells}

    monkeypatch.setattr(stress, "part_of_lesson", lambda course, probe: stress.NotebookNode(part(course, probe)))
    expected = {"EXPECTED": str(tmp_path.resolve())}
    works = Situation("done", tmp_path, "assert True", expected, before='test -n "$EXPECTED"')
    assert stress.try_situation(works, tmp_path / "part.ipynb") == Row("done", "✓ 01.x = 1", WORKS)
    not_real = Situation("done", tmp_path, "assert False, 'a network'", expected)
    row = stress.try_situation(not_real, tmp_path / "part.ipynb")
    assert row == Row("done", "cell 1 (probe) raised AssertionError: a network", NOT_TRIED)
    fails = Situation("done", tmp_path, "", {"EXPECTED": "/elsewhere"})
    assert stress.try_situation(fails, tmp_path / "part.ipynb").verdict == FAILS


def test_the_part_of_the_lesson_is_checked_first_and_ends_with_its_result():
    part = stress.part_of_lesson(stress.ROOT, "assert True")
    assert part.cells[0].source == "assert True"
    assert stress.RESULT in part.cells[-1].source
    (trained,) = (cell.source for cell in code_cells(part) if cell.id == stress.TRAINING_CELL)
    assert f'resume="{stress.PROGRESS}"' in trained
    whole = stress.read_notebook(stress.lesson_path(stress.LESSON))
    assert [cell.id for cell in part.cells[1:]] == [cell.id for cell in whole.cells[: len(part.cells) - 1]]


def test_a_full_disk_is_never_the_machines_own(tmp_path):
    # In a folder that does not exist nothing can be filled, whatever the probe does.
    with pytest.raises(AssertionError, match="machine's own disk"):
        exec(stress.FILL_THE_DISK.format(folder=str(tmp_path / "missing")), {})


@pytest.mark.parametrize(
    "probe",
    [
        stress.READ_ONLY,
        stress.WORKING_FOLDER,
        stress.COURSE_FOLDER.replace("{folder!r}", "b'/elsewhere'"),
        stress.ENCODING.replace("{encoding!r}", "'EBCDIC'"),
    ],
)
def test_a_probe_refuses_ordinary_surroundings(probe, tmp_path):
    with pytest.raises(AssertionError):
        exec(probe.format(folder=str(tmp_path)), {})
    assert list(tmp_path.iterdir()) == []


def test_printed_keeps_what_a_student_should_notice_once(notebook):
    cell = stress.new_code_cell("")
    texts = [("stdout", "epoch 1\n✓ 01.x = 1\nIt could not be saved\nIt could not be saved\n"), ("stderr", "warning\n")]
    cell.outputs = [stress.NotebookNode(output_type="stream", name=name, text=text) for name, text in texts]
    notebook.cells = [cell]
    assert stress.printed(notebook) == ["✓ 01.x = 1", "It could not be saved", "warning"]


def test_two_at_once_needs_both(monkeypatch):
    good = 'send_result({"failed": None, "seconds": 1.0})'
    bad = 'send_result({"failed": "cell 3 raised X"})'

    def children(*codes):
        codes = iter(codes)
        monkeypatch.setattr(stress, "child_command", lambda *arguments: command(next(codes)))

    children(good, good)
    assert stress.two_at_once().verdict == WORKS
    children(good, bad)
    assert stress.two_at_once().verdict == FAILS
    children("", good)
    assert stress.two_at_once().verdict == FAILS


# ---------------------------------------------------------------------------------------------------------------------
# Rounds and the page
# ---------------------------------------------------------------------------------------------------------------------


def test_a_round_with_one_failure_names_it(monkeypatch, capsys):
    calls = []

    def run_notebook(notebook, folder, **environment):
        calls.append(environment)
        if len(calls) == len(notebook_paths()) + 2:
            raise stress.CellFailed("cell 3 (x) raised CheckpointError: 02.x\nlong traceback")

    monkeypatch.setattr(stress, "run_notebook", run_notebook)
    _, rows = stress.rounds_section(3)
    assert [row.verdict for row in rows] == [WORKS, FAILS, WORKS]
    second = lesson_of(notebook_paths()[1])
    assert rows[1].happened == f"lesson {second}, cell 3 (x) raised CheckpointError: 02.x"
    assert calls == [{"COURSE_STRICT": "1"}] * 3 * len(notebook_paths())


@pytest.fixture
def stored_here(monkeypatch, tmp_path):
    monkeypatch.setattr(stress, "PAGE", tmp_path / "STRESS.md")
    monkeypatch.setattr(stress, "RESULTS_FILE", tmp_path / "stress.json")
    return tmp_path / "STRESS.md"


def test_a_section_replaces_itself_alone(stored_here):
    stress.store("kills", "Killed.", [Row("a", "b | c", WORKS)])
    stress.store("rounds", "Old rounds.", [Row("round 1", "x", FAILS)])
    stress.store("rounds", "Rounds.", [Row("round 1", "x", WORKS), Row("round 2", "y", NOT_TRIED)])
    text = stored_here.read_text(encoding="utf-8")
    assert r"| a | b \| c | works |" in text
    assert "Old rounds." not in text
    assert "1 works, 0 says what to do, 0 **fails**, 1 not tried" in text
    assert "## Surroundings\n\nNot run yet.\n" in text
    assert text.index("Killed.") < text.index("Surroundings") < text.index("Rounds.")


def test_the_program_fails_when_something_does(stored_here, monkeypatch, capsys):
    for verdict, ends_well in [(WORKS, True), (NOT_TRIED, True), (FAILS, False)]:
        monkeypatch.setattr(stress, "kills_section", lambda verdict=verdict: ("", [Row("a", "b", verdict)]))
        monkeypatch.setattr(sys, "argv", ["stress.py", "--only", "kills"])
        if ends_well:
            stress.main()
        else:
            with pytest.raises(SystemExit, match="1 did not work"):
                stress.main()
        assert verdict in stored_here.read_text(encoding="utf-8")
