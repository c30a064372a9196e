"""A digest of the code that decides a lesson's results, so that bands cannot outlive what they were measured with."""

import ast
import hashlib
import json
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from tools.shared.notebook_files import ROOT, code_cells, defined_names, has_tag, read_notebook

PACKAGE = ROOT / "course_utils"

# Modules that check, draw, report or save; none of them can change a number.
CANNOT_CHANGE_RESULTS = {
    "__init__.py", "__main__.py", "callbacks.py", "checks.py", "input_checks.py", "plotting.py", "resume.py",
}  # fmt: skip

# Arguments that are read by people only.
TEXTS = {"alt", "caption", "if_not", "title", "titles", "ylabel", "xlabel"}


def fingerprint(path: Path, package: Path = PACKAGE) -> str:
    """A digest of everything of the course's own that can change the results of the lesson in the file `path`.

    That is the code of its cells and of the helper package. Comments, docstrings, messages of errors and of `print`,
    captions and the like can be improved without measuring again.
    """
    cells = [cell.source for cell in code_cells(read_notebook(path)) if not has_tag(cell, "bootstrap")]
    modules = {
        module.name: module.read_text(encoding="utf-8")
        for module in sorted(package.glob("*.py"))
        if module.name not in CANNOT_CHANGE_RESULTS
    }
    lessons = modules.pop("lessons.py")
    code = [_what_computes(source) for source in [*cells, *modules.values(), *_imported_from(lessons, cells)]]
    stored = [*package.glob("pretrained_files/*.json"), *package.glob("curve_files/*.json")]
    code += [
        file.read_text(encoding="utf-8")
        for file in sorted(stored)
        if any(f'"{file.stem}"' in source for source in cells)
    ]
    return hashlib.sha256(json.dumps([text for text in code if text]).encode()).hexdigest()[:12]


def _imported_from(lessons: str, cells: list[str]) -> list[str]:
    """Of the definitions in `lessons.py` those that cells import, and those that these need in their turn."""
    trees = [ast.parse(TransformerManager().transform_cell(source)) for source in cells]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    wanted = [alias.name for node in imports if node.module == "course_utils.lessons" for alias in node.names]
    definitions = {
        name: ast.unparse(node) for node in ast.parse(lessons).body for name in defined_names(ast.unparse(node))
    }
    used: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in definitions and name not in used:
            used.add(name)
            wanted += [node.id for node in ast.walk(ast.parse(definitions[name])) if isinstance(node, ast.Name)]
    return [definitions[name] for name in sorted(used)]


def _what_computes(source: str) -> str:
    """Code without what can change no number."""
    tree = ast.parse(TransformerManager().transform_cell(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(_TextsRemoved().visit(tree))


class _TextsRemoved(ast.NodeTransformer):
    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        return ast.Raise()

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:
        # What is formatted may draw a random number; the words around it cannot.
        node.values = [self.visit(value) for value in node.values if not isinstance(value, ast.Constant)]
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in TEXTS]
        if isinstance(node.func, ast.Name) and node.func.id == "print":
            node.args = [argument for argument in node.args if not isinstance(argument, ast.Constant)]
        return self.generic_visit(node)
