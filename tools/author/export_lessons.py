"""Collect the definitions that the notebooks teach into `course_utils/lessons.py`: `make lessons`.

    python -m tools.author.export_lessons            # write the module
    python -m tools.author.export_lessons --check    # exit status 1 if it is not what the notebooks say

A definition that a later lesson or a test needs stands in a cell tagged `export` of the notebook that teaches it. Such a
cell holds functions, classes and constants only, and uses no other imports than `keras`, `layers`, `ops`, `np`, and SciPy's
`ndimage`, `optimize`, `sparse` and `special`.
"""

import argparse
import ast
import sys
from pathlib import Path

from tools.shared.notebook_files import (
    ROOT,
    code_cells,
    defined_names,
    has_tag,
    notebook_paths,
    read_notebook,
    replace_file,
    ruff_format,
)

LESSONS_FILE = ROOT / "course_utils" / "lessons.py"

HEADER = '''"""Definitions that the notebooks teach: generated, do not edit.

{sources}
To change one, edit its notebook and run `make lessons`.
"""
'''

DEFINITIONS = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


class ExportError(ValueError):
    """The exported cells do not make a module; the message names the notebooks."""


def exported_cells(path: Path) -> list[str]:
    """Sources of the cells tagged `export`."""
    sources = [cell.source for cell in code_cells(read_notebook(path)) if has_tag(cell, "export")]
    for source in sources:
        for node in ast.parse(source).body:
            if not isinstance(node, DEFINITIONS):
                raise ExportError(
                    f"{path.name}: an exported cell may only define functions, classes and constants, but one has "
                    f"the line {ast.unparse(node).splitlines()[0]!r}."
                )
    return sources


def require_unique(cells: dict[Path, list[str]]) -> None:
    """Raise an `ExportError` if two exported cells define the same name."""
    origin: dict[str, Path] = {}
    for path, sources in cells.items():
        for name in (name for source in sources for name in defined_names(source)):
            if name in origin:
                raise ExportError(f"{name} is defined in {origin[name].name} and again in {path.name}.")
            origin[name] = path


def imports(cells: dict[Path, list[str]]) -> list[str]:
    """The import lines that the cells need, each a group of its own."""
    nodes = [node for sources in cells.values() for source in sources for node in ast.walk(ast.parse(source))]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    scipy = sorted(used & {"ndimage", "optimize", "sparse", "special"})
    others = ["import numpy as np\n"] * ("np" in used) + [f"from scipy import {', '.join(scipy)}\n"] * bool(scipy)
    lines = ["".join(others)] if others else []
    if used & {"keras", "layers", "ops"}:
        # The package's own import stands first, even if no cell uses it: it silences TensorFlow's start-up messages.
        lines.append("from course_utils.backend import keras" + "  # noqa: F401" * ("keras" not in used) + "\n")
    if submodules := sorted(used & {"layers", "ops"}):
        lines.append(f"from keras import {', '.join(submodules)}  # isort: skip\n")
    return lines


def lessons_module(paths: list[Path]) -> str:
    """The text of `lessons.py` for these notebooks."""
    cells = {path: sources for path in paths if (sources := exported_cells(path))}
    require_unique(cells)
    listed = ", ".join(path.name for path in cells)
    sources = f"They come from {listed}." if listed else "No notebook exports a definition yet."
    parts = [HEADER.format(sources=sources), *imports(cells)]
    for path, group in cells.items():
        # Two lines after the comment keep the formatter from taking it for the first definition's own.
        parts += [f"\n\n# From notebooks/{path.name}\n\n", *group]
    return ruff_format("\n".join(parts) + "\n", "course_utils/lessons.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare only")
    arguments = parser.parse_args()
    try:
        module = lessons_module(notebook_paths())
    except ExportError as error:
        sys.exit(str(error))
    if not arguments.check:
        replace_file(LESSONS_FILE, module)
    elif not LESSONS_FILE.exists() or LESSONS_FILE.read_text(encoding="utf-8") != module:
        sys.exit("course_utils/lessons.py is stale: run `make lessons`.")


if __name__ == "__main__":
    main()
