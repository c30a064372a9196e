"""Checks the notebooks as files, and that each rule finds a notebook that breaks it."""

import json
import subprocess
import sys

import pytest
from nbformat.v4 import new_output

from tests.notebooks import notebook_rules as rules
from tests.notebooks.sample import caption, code, drawing, figure, markdown, sample_notebook, stream
from tools.shared.fingerprint import fingerprint
from tools.shared.notebook_files import (
    NOTEBOOK_FOLDER,
    REFERENCE_FILE,
    ROOT,
    code_cells,
    lesson_of,
    notebook_paths,
    read_notebook,
)


def test_notebooks_have_names_like_01_autoencoder():
    assert notebook_paths() == sorted(NOTEBOOK_FOLDER.glob("*.ipynb")) != []


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path):
    notebook = read_notebook(path)
    problems = {rule.__name__: rule(notebook) for rule in BROKEN}
    problems["links"] = rules.broken_links(rules.markdown_text(notebook), path.parent)
    assert {name: found for name, found in problems.items() if found} == {}
    assert path.stat().st_size < rules.LARGEST_FILE


def test_links_in_markdown_files_lead_somewhere():
    folders = ("course_utils", "deploy", "reports")
    paths = [*ROOT.glob("*.md"), *(path for folder in folders for path in (ROOT / folder).rglob("*.md"))]
    broken = {path.name: rules.broken_links(path.read_text(encoding="utf-8"), path.parent) for path in paths}
    assert "README.md" in broken
    assert {name: found for name, found in broken.items() if found} == {}


FRESH_AND_CLEAN = (
    "tools.author.stamp --check",
    "tools.author.export_lessons --check",
    "ruff check .",
    "ruff format --check .",
    "ruff format --check --config tools/author/notebook_ruff.toml notebooks",
    "mypy",
)


@pytest.mark.parametrize("command", FRESH_AND_CLEAN)
def test_repository_is_fresh_and_clean(command):
    command = [sys.executable, "-m", *command.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


# Can the rules fail? One or more ways of breaking each


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


def replace_in(name, old, new):
    def change(notebook):
        cell = cell_of(notebook, name)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def fold(name, **hidden):
    """Set how the cell is folded, and keep its tags."""

    def change(notebook):
        metadata = cell_of(notebook, name).metadata
        metadata.pop("cellView", None)
        metadata.pop("jupyter", None)
        metadata.update(hidden)

    return change


def keep_outputs(name, *outputs):
    return lambda notebook: cell_of(notebook, name).update(outputs=list(outputs))


def lengthen_cells(notebook):
    for cell in code_cells(notebook):
        cell.source += "\npass" * 11


WIDGET = new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})
ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])
UNSAID = new_output("display_data", data={"image/svg+xml": "<svg/>"})

# Rule → changes of the sample notebook that it must find.
BROKEN = {
    rules.format_is_current: [lambda nb: nb.update(nbformat_minor=4), lambda nb: nb.cells[0].pop("source")],
    rules.language_is_declared: [
        lambda nb: nb.metadata.kernelspec.pop("language"),
        lambda nb: nb.metadata.pop("language_info"),
    ],
    rules.cell_ids_are_unique: [edit("figure", id="title"), edit("figure", id="12"), lambda nb: nb.cells[0].pop("id")],
    rules.tags_are_known: [
        edit("figure", metadata={"tags": ["nbval-check-outputs"]}),
        edit("badge", metadata={}),
        edit("checkpoint", metadata={}),
        edit("figure", source='if True:\n    checkpoint("98.two", 2, if_not="No?")'),
        edit("exercise-double", metadata={}),
    ],
    rules.no_execution_times: [edit("figure", metadata={"execution": {"iopub.status.idle": "2026-01-01T00:00:00Z"}})],
    rules.no_widgets: [add_output(WIDGET), lambda nb: nb.metadata.update(widgets={})],
    rules.no_machine_paths: [
        edit("figure", source='open("/home/ada/x.npz")'),
        edit("title", source="# 98 · in /tmp/x"),
        *map(add_text, ("saved in /root/course\n", "found /work/x\n", "C:\\Users\\ada\n", f"{ROOT}/notebooks")),
        add_output(new_output("display_data", data={"text/html": "<p>/home/ada</p>"})),
    ],
    rules.executed_in_order: [edit("figure", execution_count=None), edit("figure", execution_count=40)],
    rules.no_errors: [add_output(ERROR)],
    rules.no_stderr: [add_output(stream("UserWarning: beware\n", name="stderr"))],
    rules.no_debris: [add_text("50 %\r100 %\n"), add_text("1\b2\n"), add_text("\x1b[1mloss\x1b[0m\n")],
    rules.images_have_alt: [add_output(figure(alt="")), add_output(drawing(alt="a line")), add_output(UNSAID)],
    rules.starts_with_setup: [
        edit("setup", metadata={}),
        edit("setup", source="a\nb\nc\nd"),
        remove("imports"),
        lambda nb: nb.cells.append(code("again", "pass", "bootstrap")),
        lambda nb: nb.cells.insert(2, code("before", "pass")),
    ],
    rules.hidden_cells_are_tagged: [
        fold("bootstrap"),
        fold("opening", cellView="form"),
        fold("opening", jupyter={"source_hidden": True}),
        fold("definition", jupyter={"source_hidden": True}),
    ],
    rules.opens_with_a_question: [
        remove("question"),
        lambda nb: nb.cells.insert(4, nb.cells.pop(5)),
        edit("title", source="# 98 · A sample\n\n- one"),
        edit("question", source="What does a notebook need?"),
        edit("question", source="**A notebook needs much.** Does it?"),
        keep_outputs("opening", caption()),
        edit("opening", metadata={}),
    ],
    rules.figures_have_captions: [keep_outputs("opening", drawing()), add_output(figure()), add_output(drawing())],
    rules.parts_are_there: [
        replace_in("wrong", "## What goes wrong", "```\n## What goes wrong\n```"),
        remove("answer"),
        lambda nb: nb.cells.append(nb.cells.pop(-2)),
        remove("story-1"),
    ],
    rules.questions_are_there: [remove("warmup")],
    rules.exercises_are_there: [
        remove("solution-double"),
        remove("solution-predict"),
        edit("solution-double", source="<details>\n\n```python\nx = 1\n```\n\n</details>"),
        edit("solution-double", source="```python\nx = 1\n```\n\n```python\nx = 2\n```"),
    ],
    rules.exercises_are_varied: [
        remove("exercise-predict"),
        remove("open-1"),
        replace_in("exercise-predict", "None", "0"),
        lambda nb: [edit(name, metadata={})(nb) for name in ("open-1", "open-2")],
        edit("open-1", source="Because."),
    ],
    rules.cells_are_short: [lengthen_cells],
}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_rule_catches(rule):
    assert rule(sample_notebook()) == []
    for i, breaking in enumerate(BROKEN[rule]):
        notebook = sample_notebook()
        breaking(notebook)
        assert rule(notebook), f"way {i} of breaking {rule.__name__} is not found"


def test_machine_path_spares_the_web_and_pictures(notebook):
    html = '<img alt="x" src="data:image/png;base64,/tmp/home">'
    add_output(new_output("display_data", data={"text/html": html}))(notebook)
    notebook.cells.append(markdown("source", "A workshop: https://example.org/home/work/tmp, and n/work."))
    assert rules.no_machine_paths(notebook) == []


def test_broken_links(tmp_path):
    (tmp_path / "a b.md").touch()
    good = "[x](a%20b.md) [y](a%20b.md#part) [z](#here) [w](https://example.org/none) `[c](no)`\n\n```\n[d](no)\n```"
    assert rules.broken_links(good, tmp_path) == []
    for text in ("[x](no.md)", "[x](no.md#part)", "![x](no.md)", '<img src="no.md">', '[x](<no.md> "t")'):
        assert rules.broken_links(text, tmp_path) == ["no.md does not exist"]


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_the_bands_were_measured_with_the_present_code(path):
    lesson = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))["lessons"][lesson_of(path)]
    assert lesson["fingerprint"] == fingerprint(path), (
        f"code that can change a result of lesson {lesson_of(path)} was changed: measure its bands again with "
        f"`python -m tools.author.reference --lessons {lesson_of(path)}`, or, if no number should change, confirm that "
        "with `--same-as COMMIT`, the last one whose bands fit"
    )
