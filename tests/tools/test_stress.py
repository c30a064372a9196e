"""`make stress`: what it finds wrong, and that a situation which is not real does not pass. No lesson is trained."""

import os
import sys

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tests.notebooks.sample import sample_notebook
from tools.prove import stress
from tools.prove.stress import FAILS, NOT_TRIED, SAYS, WORKS, Row, Situation
from tools.shared.notebook_files import ROOT, lesson_path, read_notebook

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, and a shell's commands")


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


def test_a_failure_is_on_the_page_and_fails_the_program(monkeypatch, tmp_path):
    rows = iter([Row("no network", "✓ BCE 1", WORKS), Row("full disk", "cell 3 raised OSError", FAILS)])
    monkeypatch.setattr(stress, "situations", lambda folder: ["no network", "full disk"])
    monkeypatch.setattr(stress, "try_situation", lambda situation, notebook: next(rows))
    monkeypatch.setattr(stress, "PAGE", tmp_path / "STRESS.md")
    monkeypatch.setattr(sys, "argv", ["stress"])
    with pytest.raises(SystemExit, match="1 did not work"):
        stress.main()
    written = stress.PAGE.read_text(encoding="utf-8")
    assert "1 works, 0 says what to do, 1 **fails**, 0 not tried:" in written
    assert "| full disk | cell 3 raised OSError | **fails** |" in written


def test_a_child_that_ends_without_a_word_or_never_is_a_failure(monkeypatch):
    assert "ZeroDivisionError" in stress.outcome([sys.executable, "-c", "1 / 0"], {})["failed"]
    monkeypatch.setattr(stress, "TIMEOUT", 0.2)
    assert (
        stress.outcome([sys.executable, "-c", "import time; time.sleep(60)"], {})["failed"]
        == "it did not end within 0.2 s"
    )
