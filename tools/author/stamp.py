"""Write what is known in one place to all places that repeat it: `make stamp`.

    python tools/stamp.py            # write
    python tools/stamp.py --check    # exit status 1 if a file is not as it would be written

The repository's address stands in `pyproject.toml` (`project.urls.Repository`). It is stamped into each notebook's cells
tagged `badge` (the Colab link) and `bootstrap` (the installation in Colab). The table of lessons in `README.md`, between
`<!-- lessons:begin -->` and `<!-- lessons:end -->`, is made from each notebook's `metadata.course` (`idea`, `headline`)
and from the measured times and results in `course_utils/reference.json`.
"""

import argparse
import json
import math
import re
import string
import sys
import tomllib
from pathlib import Path

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

# A placeholder may be somebody else's address one day, so nothing is installed from it.
UNPUBLISHED_BOOTSTRAP = """\
# Does nothing where the course is installed.
import importlib.util

if importlib.util.find_spec("course_utils") is None:
    raise RuntimeError(
        "The course is not published yet: clone or upload its repository, "
        "and run `pip install --no-deps -e .` in its folder."
    )"""

BOOTSTRAP = """\
# Does nothing where the course is installed. In Colab it adds the helper package, and only that.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("course_utils") is None:
    repository = "git+{address}"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", repository]
    if subprocess.run(command).returncode:
        remedy = "check the connection, or clone it and run `pip install --no-deps -e .`"
        raise RuntimeError(f"The course could not be installed: {{remedy}} in its folder.")
    importlib.invalidate_caches()"""


class StampError(ValueError):
    """A file lacks the place or the information for a stamp; the message says which."""


def repository_address(root: Path = ROOT) -> str:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def bootstrap_cell(address: str) -> str:
    return UNPUBLISHED_BOOTSTRAP if "PLACEHOLDER" in address else BOOTSTRAP.format(address=address)


def badge_cell(address: str, notebook_name: str) -> str:
    repository = address.removeprefix("https://github.com/")
    url = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{notebook_name}"
    return f"[Open in Colab]({url})"


def stamped_notebook(path: Path, address: str) -> str:
    """The text of the notebook with fresh stamps."""
    notebook = read_notebook(path)
    for tag, source in {"badge": badge_cell(address, path.name), "bootstrap": bootstrap_cell(address)}.items():
        cells = [cell for cell in notebook.cells if has_tag(cell, tag)]
        if len(cells) != 1:
            raise StampError(f"{path.name} has {len(cells)} cells with the tag {tag!r}; expected one.")
        cells[0].source = source
    return notebook_text(notebook)


class _Headline(string.Formatter):
    """Fills `{01.dense32.test_bce}` or, with a format, `{01.dense32.test_bce:.4f}` with mean ± standard deviation."""

    def get_field(self, field_name, args, kwargs):
        return kwargs["results"][field_name], field_name

    def format_field(self, value, format_spec):
        return mean_and_std(value["mean"], value["std"], format_spec)


def mean_and_std(mean: float, std: float, format_spec: str = "") -> str:
    """Both numbers with the same decimals: those of `format_spec`, otherwise as many as `std` gives a meaning to.

    A deviation that these decimals do not show is left out.
    """
    if not format_spec:
        if std == 0:
            return f"{mean:.4g}"
        format_spec = f".{max(0, -math.floor(math.log10(float(f'{std:.0e}'))))}f"
    spread = format(std, format_spec)
    return format(mean, format_spec) + (f" ± {spread}" if re.search("[1-9]", spread) else "")


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
        cost = f"{5 * math.ceil(lesson['seconds'] / 5)} s"
        try:
            result = _Headline().vformat(headline, (), {"results": reference["results"]})
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


def stamped_files(root: Path = ROOT) -> dict[Path, str]:
    """Path → fresh text of all files that are stamped."""
    address = repository_address(root)
    notebooks = notebook_paths(root / "notebooks")
    reference = json.loads((root / "course_utils" / "reference.json").read_text(encoding="utf-8"))
    fresh = {path: stamped_notebook(path, address) for path in notebooks}
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
