"""The comparison of other backends with the bands, pytest's results, and the sections of pages."""

import pytest

from tests.notebooks.sample import code, sample_notebook
from tools.prove import backends
from tools.prove.backends import LessonRun, lesson_row
from tools.shared.notebook_files import ROOT, notebook_text
from tools.shared.pytest_runs import run_pytest
from tools.shared.report_pages import replace_section, table

BANDS = {name: {"low": 1.0, "high": 2.0} for name in ("98.loss", "98.ratio", "99.loss")}


def test_a_row_says_what_is_inside_outside_and_missing():
    for value, inside in ((1.0, 2), (2.0, 2), (0.99, 1), (2.01, 1), (float("nan"), 1), (float("-inf"), 1)):
        row = lesson_row("98", LessonRun({"98.loss": 1.5, "98.ratio": value}, 12.3), BANDS)
        assert row[:3] == ["98", "12", f"{inside} of 2"]
        assert ("98.ratio" in row[3]) == (inside == 1)
    assert "98.new` = 3 has no band" in lesson_row("98", LessonRun({"98.new": 3.0}, 1.0), BANDS)[3]
    assert lesson_row("98", LessonRun({"98.loss": 1.0}, 1.0), BANDS)[3] == "not reached: `98.ratio`"
    failed = lesson_row("98", LessonRun({"98.loss": 5.0}, failure="cell 3 raised X\nlong"), BANDS)
    assert (failed[1], failed[2]) == ("", "0 of 2")
    assert failed[3].endswith("failed: cell 3 raised X")


def test_a_failed_cell_is_part_of_the_result_and_what_came_before_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_STRICT", "1")
    record = "import json\nimport os\n\nline = json.dumps({'name': '98.loss', 'value': float(os.environ['VALUE'])})\n"
    record += "with open(os.environ['COURSE_RECORD'], 'a') as file:\n    file.write(line)"
    notebook = sample_notebook()
    notebook.cells = [code("cell-1", record), code("cell-2", "1 / 0"), code("cell-3", record)]
    path = tmp_path / "98_sample.ipynb"
    path.write_text(notebook_text(notebook), encoding="utf-8")
    run = backends.run_lesson(path, VALUE="1.5")
    assert (run.results, run.seconds) == ({"98.loss": 1.5}, None)
    assert run.failure.startswith("cell 2 (cell-2) raised ZeroDivisionError")


def test_every_unit_test_that_is_named_exists():
    for backend in backends.BACKENDS.values():
        assert all((ROOT / tests).exists() for tests in backend.unit_tests), backend


def test_only_one_section_of_a_page_is_replaced(tmp_path):
    page = tmp_path / "STRESS.md"
    page.write_text("# Title\n\nHead.\n\n## A and B\n\nkept\n\n## A\n\nold\n", encoding="utf-8")
    replace_section(page, "A", "new")
    replace_section(page, "C", table(["x"], [["a | b"]]))
    assert page.read_text(encoding="utf-8") == (
        "# Title\n\nHead.\n\n## A and B\n\nkept\n\n## A\n\nnew\n\n## C\n\n| x |\n| --- |\n| a \\| b |\n"
    )


@pytest.mark.slow
def test_pytest_is_run_in_the_folder_and_its_failures_are_named(tmp_path):
    good = "import os, pytest\ndef test_good():\n    assert os.environ['KERAS_BACKEND'] == 'some'\n"
    bad = "def test_bad():\n    assert 0\ndef test_skipped():\n    pytest.skip()\n"
    (tmp_path / "test_sample.py").write_text(good + bad)
    run = run_pytest(tmp_path, "--tb=no", KERAS_BACKEND="some")
    assert run.counts == {"passed": 1, "failed": 1, "skipped": 1}
    assert run.failed == ["test_sample::test_bad"]
    (tmp_path / "conftest.py").write_text("import os\nos._exit(3)\n")
    with pytest.raises(RuntimeError, match="exit status 3"):
        run_pytest(tmp_path)
    (tmp_path / "conftest.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(RuntimeError, match="did not end within"):
        run_pytest(tmp_path, timeout=1)
