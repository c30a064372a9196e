"""Holds the notebooks as files against the rules, and the rules against notebooks that break them."""

import re
import subprocess
import sys

import pytest
from nbformat.v4 import new_output
from tools.shared.notebook_files import ROOT, code_cells, notebook_paths, read_notebook
from tests.notebooks.notebook_rules import LARGEST_FILE, RULES, broken_links, markdown_text
from tests.notebooks.sample import code, drawing, figure, markdown, stream

PATHS = notebook_paths()
MARKDOWN_FILES = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part in ("build", "node_modules") for part in path.relative_to(ROOT).parts[:-1])
]


def test_there_are_notebooks():
    assert PATHS
    misnamed = [path.name for path in (ROOT / "notebooks").glob("*.ipynb") if path not in PATHS]
    assert not misnamed, "names are like 01_autoencoder.ipynb"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook_keeps_rule(path, rule):
    assert rule(read_notebook(path)) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook_is_small(path):
    assert path.stat().st_size < LARGEST_FILE


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook_links_exist(path):
    assert broken_links(markdown_text(read_notebook(path)), path.parent) == []


@pytest.mark.parametrize("path", MARKDOWN_FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_markdown_links_exist(path):
    assert broken_links(path.read_text(encoding="utf-8"), path.parent) == []


@pytest.mark.parametrize(
    "command",
    [
        ("tools/stamp.py", "--check"),
        ("tools/export_lessons.py", "--check"),
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
    ],
    ids=" ".join,
)
def test_repository_is_fresh_and_clean(command):
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Can the rules fail? One or more ways of breaking each
# ---------------------------------------------------------------------------------------------------------------------


def cell_of(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


def edit(name, **changes):
    """A change of some of a cell's entries."""
    return lambda notebook: cell_of(notebook, name).update(changes)


def add_output(output):
    return lambda notebook: cell_of(notebook, "figure").outputs.append(output)


def add_text(text):
    return add_output(stream(text))


def remove(name):
    return lambda notebook: notebook.cells.remove(cell_of(notebook, name))


def rename_heading(notebook):
    cell = next(cell for cell in notebook.cells if "## Measure" in cell.source)
    cell.source = cell.source.replace("## Measure", "```\n## Measure\n```")


def lengthen_cells(notebook):
    for cell in code_cells(notebook):
        cell.source += "\npass" * 11


def to_id(name, new_name):
    return lambda notebook: cell_of(notebook, name).update(id=new_name)


WIDGET = new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})
ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])
UNSAID = new_output("display_data", data={"image/svg+xml": "<svg/>"})

BROKEN = {
    "format_is_current": [lambda nb: nb.update(nbformat_minor=4), lambda nb: nb.cells[0].pop("source")],
    "language_is_declared": [
        lambda nb: nb.metadata.kernelspec.pop("language"),
        lambda nb: nb.metadata.pop("language_info"),
    ],
    "cell_ids_are_unique": [to_id("figure", "title"), to_id("figure", "12"), lambda nb: nb.cells[0].pop("id")],
    "tags_are_known": [
        edit("figure", metadata={"tags": ["nbval-check-outputs"]}),
        edit("setup", metadata={}),
        edit("checkpoint", metadata={}),
        edit("figure", source='if True:\n    checkpoint("98.two", 2, if_not="No?")'),
        edit("exercise-1", metadata={}),
        lambda nb: nb.cells.append(code("again", "pass", "bootstrap")),
    ],
    "no_execution_times": [edit("figure", metadata={"execution": {"iopub.status.idle": "2026-01-01T00:00:00Z"}})],
    "no_widgets": [add_output(WIDGET), lambda nb: nb.metadata.update(widgets={})],
    "no_machine_paths": [
        edit("figure", source='open("/home/ada/x.npz")'),
        edit("title", source="# 98 · in /tmp/x"),
        add_text("saved in /root/course\n"),
        add_text("found /work/x\n"),
        add_text("C:\\Users\\ada\n"),
        add_text(f"{ROOT}/notebooks"),
        add_output(new_output("display_data", data={"text/html": "<p>/home/ada</p>"})),
    ],
    "executed_in_order": [edit("figure", execution_count=None), edit("figure", execution_count=40)],
    "no_errors": [add_output(ERROR)],
    "no_stderr": [add_output(stream("UserWarning: beware\n", name="stderr"))],
    "no_debris": [add_text("50 %\r100 %\n"), add_text("1\b2\n"), add_text("\x1b[1mloss\x1b[0m\n")],
    "images_have_alt": [add_output(figure(alt="")), add_output(drawing(alt="a line")), add_output(UNSAID)],
    "sections_are_there": [rename_heading],
    "questions_are_there": [remove("question-0")],
    "exercises_are_there": [
        remove("exercise-2"),
        remove("solution-1"),
        remove("solution-2"),
        edit("solution-0", source="<details>\n\n```python\nx = 1\n```\n\n</details>"),
        edit("solution-0", source="```python\nx = 1\n```\n\n```python\nx = 2\n```"),
    ],
    "cells_are_short": [lengthen_cells],
}
BREAKINGS = [(name, breaking) for name, breakings in BROKEN.items() for breaking in breakings]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sample_keeps_rule(notebook, rule):
    assert rule(notebook) == []


def test_every_rule_is_broken_once():
    assert set(BROKEN) == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(("name", "breaking"), BREAKINGS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(BREAKINGS)])
def test_rule_catches(notebook, name, breaking):
    breaking(notebook)
    (rule,) = (rule for rule in RULES if rule.__name__ == name)
    assert rule(notebook)


def test_machine_path_spares_the_web_and_pictures(notebook):
    add_output(new_output("display_data", data={"text/html": '<img alt="x" src="data:image/png;base64,/tmp/home">'}))(
        notebook
    )
    notebook.cells.append(markdown("source", "A workshop: https://example.org/home/work/tmp, and n/work."))
    (rule,) = (rule for rule in RULES if rule.__name__ == "no_machine_paths")
    assert rule(notebook) == []


def test_broken_links(tmp_path):
    (tmp_path / "a b.md").touch()
    good = (
        "[x](a%20b.md) [y](a%20b.md#part) [z](#here) [web](https://example.org/none) `[c](none)`\n\n```\n[d](none)\n```"
    )
    assert broken_links(good, tmp_path) == []
    for text in ("[x](none.md)", "![x](none.svg)", '<img src="none.png">', '[x](<none.md> "t")'):
        assert len(broken_links(text, tmp_path)) == 1
    assert re.match("none.md", broken_links("[x](none.md#part)", tmp_path)[0])
