"""`make stress`: what it finds wrong, and that a situation which is not real does not pass. No lesson is trained."""

import os
import sys

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tests.notebooks.sample import sample_notebook
from tools.prove import stress
from tools.prove.stress import FAILS, NOT_TRIED, SAYS, WORKS, Kill, Row, Situation, Training
from tools.shared.notebook_files import ROOT, lesson_path, notebook_paths, read_notebook

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, and a shell's commands")

LOSSES = [0.4, 0.3, 0.2, 0.1]
SEND = "from tools.shared.child import send_result as send\n"


def training(done=4, saved=0, weights="w", losses=LOSSES):
    """A training that came to its end."""
    result = {"seconds": 1.0, "history": {"loss": losses}, "weights": weights}
    return Training(result, done, {"loss": LOSSES[:saved]} if saved else {}, False, "")


def killed(saved):
    return training(saved=saved)._replace(result=None)


def children(monkeypatch, *codes):
    """Let these codes, one after the other, take the place of the child processes."""
    commands = iter([[sys.executable, "-c", SEND + code] for code in codes])
    monkeypatch.setattr(stress, "child_command", lambda *arguments: next(commands))


def test_whatever_a_resumed_training_does_otherwise_is_found():
    for saved in range(5):
        for done in range(5):
            found = stress.differences(killed(saved), training(done), training())
            assert bool(found) == (saved + done != 4)
    for resumed in (training(2, weights="v"), training(2, losses=LOSSES[2:]), training(2, losses=[0.5, *LOSSES[1:]])):
        assert stress.kill_row(Kill(1.0), killed(2), resumed, training()).verdict == FAILS
    other = killed(2)._replace(saved={"loss": [0.4, 0.9]})
    assert stress.differences(other, training(2), training()) == ["the saved history is another"]
    failed = training(2)._replace(result=None, last_line="OSError: full")
    assert stress.kill_row(Kill(writing=2), killed(2), failed, training()).happened.endswith("OSError: full")
    assert stress.kill_row(Kill(writing=2), killed(2), training(2), training()).verdict == WORKS


def test_a_training_is_killed_at_its_moment_and_its_state_is_read(monkeypatch, tmp_path):
    begin = f"import time, numpy, pathlib\nfolder = pathlib.Path({str(tmp_path)!r})\nsend('begins')\n"
    save = """numpy.savez(folder / "progress.npz", progress='{"history": {"loss": [0.4]}}')\n"""
    write = "(folder / 'unfinished.progress.npz').touch()\ntime.sleep(60)\nsend({})"
    children(
        monkeypatch, begin + save + "time.sleep(60)\nsend({})", begin + save + write, "raise SystemExit('no memory')"
    )
    assert stress.run_training(tmp_path, Kill(delay=1.0)) == Training(
        None, 0, {"loss": [0.4]}, False, 'result: "begins"'
    )
    assert stress.run_training(tmp_path, Kill(writing=1)).writing
    assert stress.run_training(tmp_path).last_line == "no memory"


def test_a_training_that_comes_to_its_end_gives_result_and_epochs(monkeypatch, tmp_path):
    children(monkeypatch, "print('Resumed.')\nprint('3 epochs in 1.0 s · loss 0.1')\nsend({'weights': 'w'})")
    assert stress.run_training(tmp_path)[:3] == ({"weights": "w"}, 3, {})


def judged(said, **expected):
    return stress.judge(Situation("done", ROOT, "", **expected), said).verdict


def test_verdicts_on_situations():
    good = {"failed": None, "printed": ["✓ 01.x = 1", "it could not be saved"]}
    assert judged(good) == WORKS
    assert judged(good, must_say="could not be saved") == WORKS
    assert judged(good, must_say="something else") == FAILS
    bad = {"failed": "cell 3 raised RuntimeError: do this"}
    assert judged(bad) == FAILS
    assert judged(bad, may_stop_with="do this") == SAYS
    assert judged(bad, may_stop_with="do that") == FAILS
    assert judged({"failed": "cell 1 (probe) raised AssertionError: there is a network"}) == NOT_TRIED


def test_what_the_machine_does_not_allow_is_not_tried(tmp_path):
    for impossible in ({"namespace": "no-such-program"}, {"before": "echo not allowed >&2; false"}):
        row = stress.try_situation(Situation("done", tmp_path, "", **impossible), tmp_path / "part.ipynb")
        assert row.verdict == NOT_TRIED
        assert row.happened.startswith("not possible here: ")


@pytest.mark.slow  # three kernels
def test_a_lesson_runs_in_its_situation_and_a_probe_is_believed(tmp_path, monkeypatch):
    check = "import os\n\nassert os.environ['GIVEN'] == 'yes'\nprint('✓ 01.x = 1')"

    def part(course, probe):
        cells = [new_code_cell(probe, id="probe"), new_code_cell(check, id="check")]
        return NotebookNode(sample_notebook() | {"cells": cells})

    monkeypatch.setattr(stress, "part_of_lesson", part)
    for probe, given, happened, verdict in (
        ("assert True", "yes", "✓ 01.x = 1", WORKS),
        ("assert False, 'a network'", "yes", "cell 1 (probe) raised AssertionError: a network", NOT_TRIED),
        ("assert True", "no", "cell 2 (check) raised AssertionError: ", FAILS),
    ):
        situation = Situation("done", tmp_path, probe, {"GIVEN": given}, before='test -n "$GIVEN"')
        assert stress.try_situation(situation, tmp_path / "part.ipynb") == Row("done", happened, verdict)


def test_the_part_of_the_lesson_is_checked_first_and_saves_at_its_end():
    part = stress.part_of_lesson(ROOT, "assert True")
    whole = read_notebook(lesson_path("01"))
    assert part.cells[0].source.endswith("assert True")
    assert part.cells[1:-1] == whole.cells[: len(part.cells) - 2]
    assert "resume=" in part.cells[-1].source
    assert part.cells[-2].id == stress.LAST_CELL


def test_a_probe_refuses_ordinary_surroundings(tmp_path):
    folder = str(tmp_path / "missing")  # so that nothing can be filled, whatever the probe does
    for probe in (
        stress.FILL_THE_DISK.format(folder=folder),
        stress.WORKING_FOLDER.format(folder=folder),
        stress.COURSE_FOLDER.format(folder=b"/elsewhere"),
        stress.ENCODING.format(encoding="EBCDIC"),
        stress.READ_ONLY,
    ):
        with pytest.raises(AssertionError):
            exec(stress.PROBE + probe, {})


def test_two_at_once_needs_both(monkeypatch):
    good, bad = "send({'failed': None, 'seconds': 1.0})", "send({'failed': 'cell 3 raised X'})"
    for codes, verdict in (((good, good), WORKS), ((good, bad), FAILS), (("1 / 0", good), FAILS)):
        children(monkeypatch, *codes)
        row = stress.two_at_once()
        assert row.verdict == verdict
    assert row.happened == "lesson 01: ZeroDivisionError: division by zero · lesson 02: all checkpoints in 1 s"
    monkeypatch.setattr(stress, "LESSON_TIMEOUT", 0.2)
    children(monkeypatch, good, "import time; time.sleep(60)")
    assert "lesson 02: it did not end within 0.2 s" in stress.two_at_once().happened


def test_a_round_with_one_failure_names_it_and_the_program_fails(monkeypatch, tmp_path):
    calls = []

    def run_notebook(notebook, folder, **environment):
        calls.append(environment)
        if len(calls) == len(notebook_paths()) + 2:
            raise stress.CellFailed("cell 3 (x) raised CheckpointError: 02.x\nlong traceback")

    monkeypatch.setattr(stress, "run_notebook", run_notebook)
    monkeypatch.setattr(stress, "PAGE", tmp_path / "STRESS.md")
    monkeypatch.setattr(sys, "argv", ["stress", "--only", "rounds", "--rounds", "2"])
    with pytest.raises(SystemExit, match="1 did not work"):
        stress.main()
    assert "lesson 02, cell 3 (x) raised CheckpointError: 02.x" in stress.PAGE.read_text(encoding="utf-8")
    assert calls == [{"COURSE_STRICT": "1"}] * 2 * len(notebook_paths())
