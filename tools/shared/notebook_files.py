"""To find, read, write and format notebooks."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK_FOLDER = ROOT / "notebooks"
NOTEBOOK_RUFF = ROOT / "tools" / "author" / "notebook_ruff.toml"
REPORTS_FOLDER = ROOT / "reports"
REFERENCE_FILE = ROOT / "course_utils" / "reference.json"

# Without both of these ruff skips a notebook and says nothing. Python's version is left out: it would differ between
# maintainers and says nothing about the notebook.
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"name": "python"}


def notebook_paths(folder: Path = NOTEBOOK_FOLDER) -> list[Path]:
    """The lessons in their order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def lesson_of(path: Path) -> str:
    """The lesson's number, such as `"01"`."""
    return path.name[:2]


def lesson_path(lesson: str, folder: Path = NOTEBOOK_FOLDER) -> Path:
    """The notebook of a lesson such as `"01"`."""
    (path,) = (path for path in notebook_paths(folder) if lesson_of(path) == lesson)
    return path


def has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell_sources(lesson: str, folder: Path = NOTEBOOK_FOLDER) -> dict[str, str]:
    """The code of a lesson in `folder` by the names of its cells."""
    return {cell.id: cell.source for cell in code_cells(read_notebook(lesson_path(lesson, folder)))}


def read_notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def notebook_text(notebook: NotebookNode) -> str:
    """The notebook as it stands in its file, formatted by ruff."""
    return ruff_format(nbformat.writes(notebook) + "\n", "notebooks/notebook.ipynb")


def ruff_format(source: str, file_name: str) -> str:
    """Format Python code, or a notebook's JSON, as ruff would format a file of this name in the repository."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(ROOT / file_name), "-"]
    if Path(file_name).parts[0] == NOTEBOOK_FOLDER.name:
        command += ["--config", str(NOTEBOOK_RUFF)]
    done = subprocess.run(command, input=source.encode(), capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise ValueError(f"ruff cannot format {file_name}: {done.stderr.decode().strip()}")
    return done.stdout.decode()


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that it has either its old or its new content, even if the program is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(unfinished, path)


def defined_names(source: str) -> list[str]:
    """Names that a cell defines at its top level: functions, classes and assigned variables."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return names
