"""The rules for notebooks as files: each is a function that takes a notebook and returns what is wrong with it.

`test_notebooks.py` checks the course's notebooks, and that each rule finds a notebook that breaks it.
"""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from course_utils.plotting import SHORTEST_TEXT
from tools.shared.notebook_files import ROOT, code_cells, has_tag

LARGEST_FILE = 1_000_000  # bytes
LONGEST_MEDIAN_CELL = 10  # lines
LONGEST_SETUP = 3  # lines
FEWEST_QUESTIONS = 4
FEWEST_EXERCISES = 4

# The story between the second and the third has sections of its own, whose titles say what happens.
PARTS = (
    *("What you will learn", "Warm-up questions"),
    *("What goes wrong", "Exercises", "Questions", "The answer", "Where next"),
)
FEWEST_STORY_SECTIONS = 3

TAGS = {
    *("badge", "bootstrap", "setup", "imports", "export", "exercise", "solution", "checkpoint"),
    *("hide-input", "open-answer", "nbval-check-output", "nbval-ignore-output"),
}
TIMESTAMPS = {"execution", "ExecuteTime"}

# A slash, so that "workshop" and an address on the web are not meant.
MACHINE_PATH = re.compile(rf"(?<![\w.:/])/(home|root|work|tmp)(/|\b)|[A-Z]:\\+Users|{re.escape(str(ROOT))}")
DEBRIS = {"\r": "a carriage return", "\b": "a backspace", "\x1b": "a terminal code"}
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def outputs(notebook: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """Cell id and output, for all outputs."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield cell.get("id"), output


def texts(output: NotebookNode) -> Iterator[str]:
    """What an output says in letters; pictures inside HTML are left out."""
    yield output.get("text", "")
    yield from output.get("traceback", [])
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield re.sub(r"data:[\w/+.-]+;base64,[\w/+=]*", "", content)


def markdown_text(notebook: NotebookNode) -> str:
    """The markdown cells in one text, without their code blocks."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    return "\n\n".join(CODE_BLOCK.sub("", cell.source) for cell in cells)


def format_is_current(notebook: NotebookNode) -> list[str]:
    """Version 4.5 and valid."""
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        return [f"the format is {notebook.nbformat}.{notebook.nbformat_minor}, expected 4.5"]
    return [str(error).splitlines()[0] for error in nbformat.validator.iter_validate(notebook)]


def language_is_declared(notebook: NotebookNode) -> list[str]:
    """Python stands in the two places without which ruff skips the file and says nothing."""
    kernel, info = notebook.metadata.get("kernelspec", {}), notebook.metadata.get("language_info", {})
    declared = kernel.get("language") == info.get("name") == "python"
    return [] if declared else ["kernelspec lacks language: python, or language_info lacks name: python"]


def cell_ids_are_unique(notebook: NotebookNode) -> list[str]:
    """Every cell has an id of its own that is not just its position."""
    ids = [cell.get("id", "") for cell in notebook.cells]
    twice = [f"the id {name!r} occurs {ids.count(name)} times" for name in sorted(set(ids)) if ids.count(name) > 1]
    return twice + [f"the id {name!r} says nothing" for name in ids if len(name) < 8 and not re.search("[a-z]", name)]


def tags_are_known(notebook: NotebookNode) -> list[str]:
    """Tags are spelled as the tools expect, the badge is there once, checks are marked."""
    problems = []
    for cell in notebook.cells:
        unknown = sorted(set(cell.metadata.get("tags", [])) - TAGS)
        problems += [f"cell {cell.get('id')} has the unknown tag {tag!r}" for tag in unknown]
    badges = sum(has_tag(cell, "badge") for cell in notebook.cells)
    problems += [f"{badges} cells have the tag 'badge', expected one"] if badges != 1 else []
    for cell in code_cells(notebook):
        for tag in ("checkpoint", "exercise"):
            if bool(re.search(rf"^\s*{tag}\(", cell.source, re.MULTILINE)) != has_tag(cell, tag):
                problems.append(f"cell {cell.get('id')}: the tag {tag!r} goes with a call of {tag}()")
    return problems


def no_execution_times(notebook: NotebookNode) -> list[str]:
    """No time stamps, which change with every run."""
    return [f"cell {cell.get('id')} holds times" for cell in notebook.cells if TIMESTAMPS & set(cell.metadata)]


def no_widgets(notebook: NotebookNode) -> list[str]:
    """No widgets, which show nothing on a page without a kernel."""
    problems = ["the file holds widget states"] if "widgets" in notebook.metadata else []
    for name, output in outputs(notebook):
        problems += [f"cell {name} shows a widget" for kind in output.get("data", {}) if "widget" in kind]
    return problems


def no_machine_paths(notebook: NotebookNode) -> list[str]:
    """Neither sources nor outputs name a folder of the machine on which the notebook was made."""
    places = [(cell.get("id"), cell.source) for cell in notebook.cells]
    places += [(name, text) for name, output in outputs(notebook) for text in texts(output)]
    return [f"cell {name} names {found[0]!r}" for name, text in places if (found := MACHINE_PATH.search(text))]


def executed_in_order(notebook: NotebookNode) -> list[str]:
    """All code cells were run once, from top to bottom, in one session."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"the cells were executed as {counts}"]


def no_errors(notebook: NotebookNode) -> list[str]:
    return [f"cell {name} shows {o.ename}" for name, o in outputs(notebook) if o.output_type == "error"]


def no_stderr(notebook: NotebookNode) -> list[str]:
    found = [(name, output) for name, output in outputs(notebook) if output.get("name") == "stderr"]
    return [f"cell {name} wrote to stderr: {output.text[:80]!r}" for name, output in found]


def no_debris(notebook: NotebookNode) -> list[str]:
    """No control characters of progress bars and colors."""
    shown = [(name, text) for name, output in outputs(notebook) for text in texts(output)]
    return [f"cell {name} shows {what}" for name, text in shown for sign, what in DEBRIS.items() if sign in text]


def images_have_alt(notebook: NotebookNode) -> list[str]:
    """Everything that is only seen is also said."""
    alts = []
    for name, output in outputs(notebook):
        data, metadata = output.get("data", {}), output.get("metadata", {})
        alts += [(name, metadata.get(kind, {}).get("alt", "")) for kind in data if kind.startswith("image/")]
        images = BeautifulSoup(data.get("text/html", ""), features="html.parser").find_all("img")
        alts += [(name, image.get("alt", "")) for image in images]
    return [
        f"cell {name} has a picture with the text {alt!r}" for name, alt in alts if len(alt.strip()) < SHORTEST_TEXT
    ]


def starts_with_setup(notebook: NotebookNode) -> list[str]:
    """The first code cells are, each once: bootstrap out of sight, the opening's picture, a short set-up, the imports."""
    special = ("bootstrap", "setup", "imports")
    cells = code_cells(notebook)
    if cells[1:2] and cells[1].get("id") == "opening":
        cells.pop(1)
    tags = [[tag for tag in special if has_tag(cell, tag)] for cell in cells]
    if tags[:3] != [[tag] for tag in special] or any(tags[3:]):
        return [f"the first code cells, and no others, have the tags {', '.join(special)}: one each, in this order"]
    lines = len(cells[1].source.splitlines())
    return [f"the set-up has {lines} lines"] if lines > LONGEST_SETUP else []


def hidden_cells_are_tagged(notebook: NotebookNode) -> list[str]:
    """What only draws, and the bootstrap, are folded in Jupyter and Colab, and no other cell is."""
    problems = []
    for cell in code_cells(notebook):
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden"), cell.metadata.get("cellView")
        expected = (True, "form") if has_tag(cell, "bootstrap") or has_tag(cell, "hide-input") else (None, None)
        problems += [f"cell {cell.get('id')} is folded as {hidden}, expected {expected}"] if hidden != expected else []
    return problems


def opens_with_a_question(notebook: NotebookNode) -> list[str]:
    """Before any list and any code that shows: why one would want this, a picture, and the question in bold."""
    names = [cell.get("id") for cell in notebook.cells]
    expected = ["title", "badge", "bootstrap", "opening", "question", "learn"]
    if names[: len(expected)] != expected:
        return [f"the notebook begins with the cells {names[: len(expected)]}, expected {expected}"]
    title, opening, question = (notebook.cells[i] for i in (0, 3, 4))
    problems = []
    if re.search(r"^[-*|] ", title.source + "\n" + question.source, re.MULTILINE):
        problems.append("a list or table stands before the question")
    if not re.search(r"\*\*[^*]*\?\*\*", question.source):
        problems.append("the question is not in bold")
    if not has_tag(opening, "hide-input") or not images_of(opening):
        problems.append("the opening has no picture, or its code is not hidden")
    return problems


def images_of(cell: NotebookNode) -> list[NotebookNode]:
    """The outputs of a code cell that are pictures."""
    return [
        output
        for output in cell.outputs
        if any(kind.startswith("image/") for kind in output.get("data", {}))
        or "<img" in output.get("data", {}).get("text/html", "")
    ]


def figures_have_captions(notebook: NotebookNode) -> list[str]:
    """After each picture comes a sentence that says what to see in it."""
    problems = []
    for cell in code_cells(notebook):
        captions = [output for output in cell.outputs if "text/markdown" in output.get("data", {})]
        if len(captions) < len(images_of(cell)):
            problems.append(f"cell {cell.get('id')} shows {len(images_of(cell))} pictures and {len(captions)} captions")
    return problems


def parts_are_there(notebook: NotebookNode) -> list[str]:
    """The parts that every lesson has, in order, and between them a story told in sections."""
    headings = re.findall(r"^## (.*)$", markdown_text(notebook), re.MULTILINE)
    found = [heading for heading in headings if heading in PARTS]
    if found != list(PARTS):
        return [f"the parts are {found}, expected {list(PARTS)}"]
    story = headings.index("What goes wrong") - headings.index("Warm-up questions") - 1
    return (
        [] if story >= FEWEST_STORY_SECTIONS else [f"the story has {story} sections, expected {FEWEST_STORY_SECTIONS}"]
    )


def questions_are_there(notebook: NotebookNode) -> list[str]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    asked = [cell for cell in cells if not has_tag(cell, "solution") and not has_tag(cell, "open-answer")]
    count = sum(cell.source.count("<details>") for cell in asked)
    return [f"{count} questions, expected {FEWEST_QUESTIONS}"] if count < FEWEST_QUESTIONS else []


def exercises_are_there(notebook: NotebookNode) -> list[str]:
    """Each exercise is followed by a folded solution and a tempting wrong answer."""
    pairs = zip(notebook.cells, [*notebook.cells[1:], new_markdown_cell()], strict=True)
    problems = []
    for cell, follower in pairs:
        if not has_tag(cell, "exercise"):
            continue
        if follower.cell_type != "markdown" or not has_tag(follower, "solution"):
            problems.append(f"exercise {cell.id} is not followed by its solution")
        elif follower.source.count("<details>") != 1 or len(PYTHON_BLOCK.findall(follower.source)) != 2:
            problems.append(f"solution {follower.id} needs one <details> with two blocks of Python")
    return problems


def exercises_are_varied(notebook: NotebookNode) -> list[str]:
    """Enough exercises, among them a prediction and an open one whose answer is folded."""
    checked = [cell for cell in notebook.cells if has_tag(cell, "exercise")]
    answers = [cell for cell in notebook.cells if has_tag(cell, "open-answer")]
    count = len(checked) + len(answers)
    problems = [f"{count} exercises, expected {FEWEST_EXERCISES}"] if count < FEWEST_EXERCISES else []
    if not any(re.search(r"= None\b", cell.source) for cell in checked):
        problems.append("no exercise asks for a prediction, which is None at first")
    if not answers or not all("<details>" in cell.source for cell in answers):
        problems.append("no open exercise with a folded answer to compare")
    return problems


def cells_are_short(notebook: NotebookNode) -> list[str]:
    """The typical code cell is; the bootstrap, which no student sees, does not count."""
    cells = [cell for cell in code_cells(notebook) if not has_tag(cell, "bootstrap")]
    median = statistics.median(len(cell.source.splitlines()) for cell in cells)
    return [f"the median code cell has {median} lines"] if median > LONGEST_MEDIAN_CELL else []


def broken_links(markdown: str, folder: Path) -> list[str]:
    """Relative links and pictures in a markdown text whose file is not there, as seen from `folder`."""
    prose = re.sub(r"`[^`\n]*`", "", CODE_BLOCK.sub("", markdown))
    targets = re.findall(r"\]\(<?([^)\s>]+)", prose) + re.findall(r"(?:src|href)=\"([^\"]+)\"", prose)
    paths = [unquote(urlsplit(t).path) for t in targets if not urlsplit(t).scheme and not urlsplit(t).netloc]
    return [f"{path} does not exist" for path in paths if path and not (folder / path).exists()]
