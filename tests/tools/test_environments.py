"""The logic of `tools/environments.py`: comparison with the bands, rows, pages, and the pins of the oldest versions."""

import json
import sys
import tomllib
from pathlib import Path

from tools.prove import environments
import pytest
from tools.shared.notebook_files import ROOT
from packaging.requirements import Requirement
from tests.notebooks.sample import code

BANDS = {
    "98.loss": {"low": 1.0, "high": 2.0},
    "98.ratio": {"low": 0.25, "high": 0.5},
    "99.loss": {"low": 0.0, "high": 9.0},
}


def run(failure=None, **results):
    return {"seconds": 12.34, "results": {f"98.{name}": value for name, value in results.items()}, "failure": failure}


# ---------------------------------------------------------------------------------------------------------------------
# Backends
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.0, 1.5, 2.0])
def test_a_value_inside_its_band_is_not_named(value):
    assert environments.outside({"98.loss": value}, BANDS) == []


@pytest.mark.parametrize("value", [0.999, 2.001, -1.5, float("nan"), float("inf")])
def test_a_value_outside_its_band_is_named_with_the_band(value):
    assert environments.outside({"98.ratio": 0.3, "98.loss": value}, BANDS) == [f"`98.loss` = {value:.4g}, band 1 … 2"]


def test_a_value_without_a_band_is_named():
    assert environments.outside({"98.new": 3.0}, BANDS) == ["`98.new` = 3 has no band"]


@pytest.mark.parametrize(
    ("result", "row"),
    [
        (run(loss=1.2, ratio=0.3), "| 98 | 12 | 2 of 2 |  |"),
        (run(loss=1.2, ratio=0.6), "| 98 | 12 | 1 of 2 | `98.ratio` = 0.6, band 0.25 … 0.5 |"),
        (run(ratio=0.3), "| 98 | 12 | 1 of 2 | not reached: `98.loss` |"),
        (
            run("cell 3 (x) raised ValueError: a | b\nTraceback"),
            "| 98 | 12 | 0 of 2 | failed: cell 3 (x) raised ValueError: a \\| b |",
        ),
        (
            run("cell 3 (x) killed its kernel", loss=5.0),
            "| 98 | 12 | 0 of 2 | `98.loss` = 5, band 1 … 2; failed: cell 3 (x) killed its kernel |",
        ),
    ],
)
def test_a_row_says_what_is_inside_outside_and_missing(result, row):
    assert environments.lesson_row("98", result, BANDS) == row


def lesson(path, notebook, *sources):
    notebook.cells = [code(f"cell-{i}", source) for i, source in enumerate(sources)]
    path.write_text(environments.json.dumps(notebook), encoding="utf-8")
    return path


CHECKPOINT = "import os\nfrom course_utils.checks import checkpoint\ncheckpoint('98.loss', {}, 'no cause')"


def test_a_lesson_is_run_with_the_variables_of_the_backend_and_its_results_are_read(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_STRICT", "1")
    path = lesson(tmp_path / "98_sample.ipynb", notebook, CHECKPOINT.format("os.environ['SOME_BACKEND']"))
    result = environments.run_lesson(path, {"SOME_BACKEND": "1.5"})
    assert result["results"] == {"98.loss": 1.5}
    assert result["failure"] is None
    assert result["seconds"] > 0


def test_a_failed_cell_is_part_of_the_result_and_what_came_before_is_kept(notebook, tmp_path):
    path = lesson(tmp_path / "98_sample.ipynb", notebook, CHECKPOINT.format(1.5), "1 / 0", CHECKPOINT.format(7))
    result = environments.run_lesson(path, {})
    assert result["results"] == {"98.loss": 1.5}
    assert result["failure"].startswith("cell 2 (cell-1) raised ZeroDivisionError: division by zero\n")
    assert environments.lesson_row("98", result, BANDS).endswith(
        "| 1 of 2 | failed: cell 2 (cell-1) raised ZeroDivisionError: division by zero |"
    )


def test_a_run_is_kept_until_the_state_changes(tmp_path):
    file = tmp_path / "jax-98.json"
    runs = iter([run(loss=1), run(loss=2)])
    assert environments.kept_run(file, {"fingerprint": "a"}, lambda: next(runs)) == run(loss=1)
    assert environments.kept_run(file, {"fingerprint": "a"}, lambda: next(runs)) == run(loss=1)
    assert environments.kept_run(file, {"fingerprint": "b"}, lambda: next(runs)) == run(loss=2)
    assert environments.kept_run(file, {"fingerprint": "b"}, lambda: next(runs)) == run(loss=2)


def test_a_run_that_failed_is_not_kept(tmp_path):
    runs = iter([run("cell 1 failed"), run(loss=1)])
    file = tmp_path / "jax-98.json"
    assert environments.kept_run(file, {}, lambda: next(runs)) == run("cell 1 failed")
    assert environments.kept_run(file, {}, lambda: next(runs)) == run(loss=1)


@pytest.fixture
def two_lessons(monkeypatch, tmp_path):
    """Lessons 98 and 99, of which the first fails; no environment, and no test is run."""
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({"results": BANDS}))
    results = {
        "98": run("cell 1 (x) raised ValueError: broken"),
        "99": {"seconds": 3.0, "results": {"99.loss": 1.0}, "failure": None},
    }
    tests = {"seconds": 4.0, "counts": "7 passed", "failed": []}
    monkeypatch.setattr(environments, "REFERENCE_FILE", reference)
    monkeypatch.setattr(environments, "BUILD_FOLDER", tmp_path / "build")
    monkeypatch.setattr(environments, "BACKENDS_PAGE", tmp_path / "BACKENDS.md")
    monkeypatch.setattr(environments, "notebook_paths", lambda: [Path("98_a.ipynb"), Path("99_b.ipynb")])
    monkeypatch.setattr(environments, "fingerprint", lambda path: "digest")
    monkeypatch.setattr(environments, "make_environment", lambda *arguments: Path("python"))
    monkeypatch.setattr(environments, "versions_in", lambda python: {"Python": "3.12.1", "jax": "0.9"})
    monkeypatch.setattr(environments, "run_in_child", lambda python, key, lesson: results[lesson])
    monkeypatch.setattr(environments, "run_tests", lambda *arguments, **variables: tests)
    return tmp_path / "BACKENDS.md"


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["environments.py", *arguments])
    environments.main()


def test_a_failed_lesson_is_a_row_and_the_others_still_run(two_lessons, monkeypatch):
    call(monkeypatch, "backends")
    page = two_lessons.read_text(encoding="utf-8")
    assert page.startswith("# The lessons on other backends\n\nWritten by `make test-backends`: ")
    assert "Python 3.12.1, jax 0.9." in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## JAX",
        "## PyTorch",
        "## TensorFlow on two logical devices",
        "## What cannot be equal",
    ]
    section = page.split("## PyTorch")[1].split("##")[0]
    assert section.splitlines()[2:] == [
        "Unit tests: 7 passed, 4 s.",
        "",
        "| lesson | seconds | results inside their bands | not as expected |",
        "|---|---|---|---|",
        "| 98 | 12 | 0 of 2 | failed: cell 1 (x) raised ValueError: broken |",
        "| 99 | 3 | 1 of 1 |  |",
        "",
    ]


def test_pages_say_what_has_not_been_run():
    page = environments.backends_page({"Python": "3.12.1"}, {"torch": "## PyTorch\n\nmeasured\n"})
    assert "## JAX\n\nNot run yet.\n\n## PyTorch\n\nmeasured\n" in page
    assert "## TensorFlow on two logical devices\n\nNot run yet.\n" in page
    page = environments.versions_page({"oldest": "## Oldest\n\nmeasured\n"})
    assert page.endswith("## Oldest\n\nmeasured\n\n## Newest\n\nNot run yet.\n")


@pytest.mark.parametrize("arguments", [["--only", "jax"], ["--lessons", "99"], ["--only", "jax", "--lessons", "98"]])
def test_a_trial_prints_and_writes_no_page(arguments, two_lessons, monkeypatch, capsys):
    call(monkeypatch, "backends", *arguments)
    assert not two_lessons.exists()
    printed = capsys.readouterr().out
    assert ("torch | 99 |" in printed) == ("--only" not in arguments)
    assert ("jax | 98 | 12 " in printed) == (arguments[-1] != "99")
    assert ("Unit tests: 7 passed" in printed) == ("--lessons" not in arguments)


# ---------------------------------------------------------------------------------------------------------------------
# Tests and versions
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "counts", "failed"),
    [
        ("..\n1259 passed, 4 skipped in 680.12s (0:11:20)\n", "1259 passed, 4 skipped", []),
        ("====== 7 passed, 1 warning in 0.10s ======\n", "7 passed, 1 warning", []),
        ("1 xfailed in 0.10s\n", "1 xfailed", []),
        (
            "FAILED tests/test_a.py::test_x[1-2] - assert 1 == 2\nERROR tests/test_b.py\n1 failed, 3 passed, 1 error in 2.00s\n",
            "1 failed, 3 passed, 1 error",
            ["tests/test_a.py::test_x[1-2]", "tests/test_b.py"],
        ),
        ("collecting\nKilled\n", "no summary: Killed", []),
        ("", "no summary: pytest said nothing", []),
    ],
)
def test_the_summary_holds_counts_and_failed_tests(text, counts, failed):
    assert environments.summary(text) == {"counts": counts, "failed": failed}


def test_pytest_is_run_in_the_folder_and_its_output_kept(tmp_path):
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "test_sample.py").write_text(
        "import os\nimport helper\ndef test_good():\n    assert os.environ['KERAS_BACKEND'] == 'some'\ndef test_bad():\n    assert 0\n"
    )
    log = tmp_path / "logs" / "tests.log"
    result = environments.run_tests(Path(sys.executable), tmp_path, log, KERAS_BACKEND="some")
    assert result["counts"] == "1 failed, 1 passed"
    assert result["failed"] == ["test_sample.py::test_bad"]
    assert "assert 0" in log.read_text()


def test_the_versions_are_those_beside_the_given_python():
    found = environments.versions_in(Path(sys.executable))
    assert list(found)[:3] == ["Python", "keras", "tensorflow"]
    assert found["Python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.fixture
def two_ends(monkeypatch, tmp_path):
    """Both ends of the versions without environments and tests; the oldest has a test that fails."""
    results = {
        "oldest": {"seconds": 60.4, "counts": "1 failed, 8 passed", "failed": ["tests/test_a.py::test_x"]},
        "newest": {"seconds": 50.0, "counts": "9 passed", "failed": []},
    }
    copied = []

    class Copy:
        def __init__(self, folder):
            self.folder = folder

        def restore(self):
            copied.append(self.folder)

    def run_tests(python, folder, log, **variables):
        assert folder == copied[-1] != ROOT
        assert variables == {"KERAS_BACKEND": "tensorflow"}
        return results[log.stem.removeprefix("versions-")]

    monkeypatch.setattr(environments, "VERSIONS_PAGE", tmp_path / "VERSIONS.md")
    monkeypatch.setattr(environments, "Copy", Copy)
    monkeypatch.setattr(environments, "make_environment", lambda name, *arguments: name)
    monkeypatch.setattr(environments, "versions_in", lambda python: {"Python": "3.12.1", "keras": python})
    monkeypatch.setattr(environments, "pip_check", lambda python: "No broken requirements found.")
    monkeypatch.setattr(environments, "run_tests", run_tests)
    return tmp_path / "VERSIONS.md"


def test_the_page_of_versions_has_both_ends_and_the_failed_tests(two_ends, monkeypatch):
    call(monkeypatch, "versions")
    page = two_ends.read_text(encoding="utf-8")
    assert page.startswith("# Both ends of the supported versions\n\nWritten by `make test-versions`: ")
    oldest, newest = page.split("## Oldest\n\n")[1].split("\n## Newest\n\n")
    assert oldest.splitlines() == [
        "- Python 3.12.1, keras oldest",
        "- `pip check`: No broken requirements found.",
        "- tests: 1 failed, 8 passed, 60 s; failed: `tests/test_a.py::test_x`",
    ]
    assert newest.splitlines()[2] == "- tests: 9 passed, 50 s"


def test_a_trial_of_one_end_writes_no_page(two_ends, monkeypatch, capsys):
    call(monkeypatch, "versions", "--only", "newest")
    assert not two_ends.exists()
    assert capsys.readouterr().out.startswith("## Newest\n")


def requirements(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {requirement.name: requirement for requirement in found}


def test_the_oldest_versions_are_pinned_inside_every_range():
    wanted, pinned = requirements("requirements.txt"), requirements("requirements-oldest.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(pinned) == set(wanted)
    for requirement in [*wanted.values(), *map(Requirement, project["dependencies"])]:
        if requirement.name in pinned:
            (pin,) = pinned[requirement.name].specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version), (requirement, pin)
