"""Write what is known in one place to all places that repeat it: `make stamp`.

    python -m tools.author.stamp            # write
    python -m tools.author.stamp --check    # exit status 1 if a file is not as it would be written

The repository's address and the version stand in `pyproject.toml` (`project.urls.Repository`, `project.version`). They are
stamped into each notebook's cells tagged `badge` (the Colab link) and `bootstrap` (the installation in Colab). The table of
lessons in `README.md`, between `<!-- lessons:begin -->` and `<!-- lessons:end -->`, is made from each notebook's
`metadata.course` (`idea`, `headline`) and from the measured times and results in `course_utils/reference.json`.
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

from course_utils.checks import mean_and_std, rounded_up
from tools.shared.notebook_files import (
    ROOT,
    has_tag,
    lesson_of,
    notebook_paths,
    notebook_text,
    read_notebook,
    replace_file,
)

BEGIN, END = "<!-- lessons:begin -->", "<!-- lessons:end -->"
NOT_MEASURED = "not measured yet"

BOOTSTRAP = """\
# @title Adds the course's helper package in Colab; does nothing where it is installed
import importlib.util
import sys

if importlib.util.find_spec("course_utils") is None:
    if "google.colab" not in sys.modules:
        raise RuntimeError(
            "This Python lacks the course's packages: run `pip install -r requirements.txt` "
            "in the course's folder, and choose the same Python as the notebook's kernel."
        )
"""

# Colab's own packages stay as they are: only the helper package is installed, at the notebook's own version.
INSTALL = """\
    import subprocess

    course = "git+{address}@v{version}"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", course]
    if subprocess.run(command).returncode:
        raise RuntimeError(
            "The helper package could not be installed: check the connection and run this "
            "cell again, or look on the course's page for a newer version of the notebook."
        )
    importlib.invalidate_caches()"""

# A placeholder may be somebody else's address one day, so nothing is installed from it.
UNPUBLISHED = """\
    raise RuntimeError(
        "The course is not published yet, so Colab cannot install its helper package: "
        "run the notebook on your own computer, in the course's folder."
    )"""


class StampError(ValueError):
    """A file lacks the place or the information for a stamp; the message says which."""


def project(root: Path = ROOT) -> dict:
    """The table `project` of `pyproject.toml`."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def bootstrap_cell(address: str, version: str) -> str:
    published = "/PLACEHOLDER/" not in address
    return BOOTSTRAP + (INSTALL.format(address=address, version=version) if published else UNPUBLISHED)


def badge_cell(address: str, version: str, notebook_name: str) -> str:
    repository = address.removeprefix("https://github.com/")
    url = f"https://colab.research.google.com/github/{repository}/blob/v{version}/notebooks/{notebook_name}"
    return f"[Open in Colab]({url})"


def stamped_notebook(path: Path, address: str, version: str) -> str:
    """The text of the notebook with fresh stamps, and with the bootstrap cell folded in Jupyter and in Colab."""
    notebook = read_notebook(path)
    badge, bootstrap = badge_cell(address, version, path.name), bootstrap_cell(address, version)
    for tag, source in (("badge", badge), ("bootstrap", bootstrap)):
        cells = [cell for cell in notebook.cells if has_tag(cell, tag)]
        if len(cells) != 1:
            raise StampError(f"{path.name} has {len(cells)} cells with the tag {tag!r}; expected one.")
        cells[0].source = source
    cells[0].metadata.update(jupyter={"source_hidden": True}, cellView="form")
    return notebook_text(notebook)


def filled_headline(headline: str, results: dict) -> str:
    """The headline with `mean_and_std` in place of `{01.dense32.test_bce}` or, with a format, `{01.dense32.test_bce:.4f}`."""

    def numbers(place: re.Match) -> str:
        return mean_and_std(results[place[1]]["mean"], results[place[1]]["std"], place[2])

    return re.sub(r"\{([^}:]+):?([^}]*)\}", numbers, headline)


def table_row(path: Path, reference: dict) -> str:
    notebook = read_notebook(path)
    try:
        idea, headline = (notebook.metadata["course"][key] for key in ("idea", "headline"))
        title = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)[1]
    except (KeyError, TypeError, IndexError):
        raise StampError(f"{path.name} lacks a title, metadata.course.idea or metadata.course.headline.") from None
    lesson = reference["lessons"].get(lesson_of(path))
    cost, result = NOT_MEASURED, NOT_MEASURED
    if lesson:
        cost = f"{rounded_up(lesson['seconds'])} s"
        try:
            result = filled_headline(headline, reference["results"])
        except KeyError as name:
            raise StampError(f"{path.name}: its headline names {name}, which was not measured.") from None
    columns = [f"[{title}](notebooks/{path.name})", idea, cost, result]
    return "| " + " | ".join(column.replace("|", r"\|") for column in columns) + " |"


def stamped_readme(path: Path, notebooks: list[Path], reference: dict) -> str:
    """The text of the README with a fresh table of lessons."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise StampError(f"{path.name} needs one line {BEGIN} and after it one line {END}.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    head = ["| lesson | idea | time, two CPU cores | headline result |", "|---|---|---|---|"]
    rows = [table_row(notebook, reference) for notebook in notebooks]
    return before + "\n".join([BEGIN, *head, *rows, END]) + after


def stamped_files(root: Path = ROOT, address: str | None = None) -> dict[Path, str]:
    """Path → fresh text of all files that are stamped, with the repository's own address or another one."""
    facts = project(root)
    address = address or facts["urls"]["Repository"]
    notebooks = notebook_paths(root / "notebooks")
    reference = json.loads((root / "course_utils" / "reference.json").read_text(encoding="utf-8"))
    fresh = {path: stamped_notebook(path, address, facts["version"]) for path in notebooks}
    return fresh | {root / "README.md": stamped_readme(root / "README.md", notebooks, reference)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare only")
    arguments = parser.parse_args()
    try:
        fresh = stamped_files()
    except StampError as error:
        sys.exit(str(error))
    stale = {path: text for path, text in fresh.items() if path.read_text(encoding="utf-8") != text}
    if arguments.check and stale:
        sys.exit(f"Not as stamped and formatted: {', '.join(path.name for path in stale)}. Run `make stamp`.")
    for path, text in stale.items():
        replace_file(path, text)
        print(f"stamped {path.name}")


if __name__ == "__main__":
    main()
