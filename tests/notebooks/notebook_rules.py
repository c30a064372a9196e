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

from tools.shared.notebook_files import ROOT, code_cells, has_tag

SHORTEST_ALT = 20
LARGEST_FILE = 1_000_000  # bytes
LONGEST_MEDIAN_CELL = 10  # lines
LONGEST_SETUP = 3  # lines
FEWEST_QUESTIONS = 4
FEWEST_EXERCISES = 3

SECTIONS = (
    *("What you will learn", "Warm-up questions", "The idea", "The mathematics", "Build", "Train", "Look", "Measure"),
    *("What goes wrong", "Exercises", "Questions", "What we saw", "Where next"),
)

TAGS = {
    *("badge", "bootstrap", "setup", "imports", "export", "exercise", "solution", "checkpoint"),
    *("nbval-check-output", "nbval-ignore-output"),
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


def markdown_text(notebook: NotebookNode, without_tag: str = "") -> str:
    """The markdown cells in one text, without their code blocks."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown" and not has_tag(cell, without_tag)]
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
    return [f"cell {name} has a picture with the text {alt!r}" for name, alt in alts if len(alt.strip()) < SHORTEST_ALT]


def starts_with_setup(notebook: NotebookNode) -> list[str]:
    """The first code cells are, each once: bootstrap out of sight, a short set-up, the imports."""
    special = ("bootstrap", "setup", "imports")
    tags = [[tag for tag in special if has_tag(cell, tag)] for cell in code_cells(notebook)]
    if tags[:3] != [[tag] for tag in special] or any(tags[3:]):
        return [f"the first code cells, and no others, have the tags {', '.join(special)}: one each, in this order"]
    bootstrap, setup = code_cells(notebook)[:2]
    hidden = bootstrap.metadata.get("jupyter", {}).get("source_hidden"), bootstrap.metadata.get("cellView")
    problems = [] if hidden == (True, "form") else ["the bootstrap cell is not hidden in Jupyter and Colab"]
    lines = len(setup.source.splitlines())
    return problems + ([f"the set-up has {lines} lines"] if lines > LONGEST_SETUP else [])


def sections_are_there(notebook: NotebookNode) -> list[str]:
    headings = [heading.lower() for heading in re.findall(r"^##+ (.*)$", markdown_text(notebook), re.MULTILINE)]
    return [f"no heading {s!r}" for s in SECTIONS if not any(s.lower() in heading for heading in headings)]


def questions_are_there(notebook: NotebookNode) -> list[str]:
    count = markdown_text(notebook, without_tag="solution").count("<details>")
    return [f"{count} questions, expected {FEWEST_QUESTIONS}"] if count < FEWEST_QUESTIONS else []


def exercises_are_there(notebook: NotebookNode) -> list[str]:
    """Enough exercises, each followed by a folded solution and a tempting wrong answer."""
    pairs = zip(notebook.cells, [*notebook.cells[1:], new_markdown_cell()], strict=True)
    pairs = [(cell, follower) for cell, follower in pairs if has_tag(cell, "exercise")]
    problems = [f"{len(pairs)} exercises, expected {FEWEST_EXERCISES}"] if len(pairs) < FEWEST_EXERCISES else []
    for cell, follower in pairs:
        if follower.cell_type != "markdown" or not has_tag(follower, "solution"):
            problems.append(f"exercise {cell.id} is not followed by its solution")
        elif follower.source.count("<details>") != 1 or len(PYTHON_BLOCK.findall(follower.source)) != 2:
            problems.append(f"solution {follower.id} needs one <details> with two blocks of Python")
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
