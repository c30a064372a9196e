"""Every exercise refuses its stub and its tempting wrong answer, and accepts its solution."""

import ast
import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from tools.shared.notebook_files import code_cells, defined_names, has_tag, notebook_paths, read_notebook
from tests.notebooks.notebook_rules import PYTHON_BLOCK

import course_utils.exercises  # noqa: F401  registers the checks
from course_utils import checks


def exercises_of(notebook: NotebookNode) -> dict[str, tuple[str, str, str]]:
    """Exercise's name → the code of stub, solution and tempting wrong answer."""
    solutions = iter(cell for cell in notebook.cells if has_tag(cell, "solution"))
    found = {}
    for cell in notebook.cells:
        if has_tag(cell, "exercise"):
            solution, wrong = PYTHON_BLOCK.findall(next(solutions).source)
            found[name_of(cell.source)] = cell.source, solution, wrong
    return found


def call_of(stub: str) -> ast.Expr:
    """The last statement of a stub, `exercise("01.name", answer)`."""
    return ast.parse(stub).body[-1]


def name_of(stub: str) -> str:
    return call_of(stub).value.args[0].value


def missing_in(answer: str, stub: str, namespace: dict, judge: Callable = checks.what_is_missing) -> str | None:
    """Run an answer in a copy of `namespace` and the stub's last line on it; what it lacks, or `None` if it is right."""
    scope = namespace | {"exercise": judge}
    exec(answer, scope)
    return eval(compile(ast.Expression(call_of(stub).value), "check", "eval"), scope)


def without_call(stub: str) -> str:
    return ast.unparse(ast.parse(stub).body[:-1])


@functools.cache
def prepared(path: Path) -> dict:
    """The names that a student has after the set-up and after the definitions of the lesson."""
    namespace: dict = {"__name__": "__main__"}
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        for cell in code_cells(read_notebook(path)):
            if has_tag(cell, "setup") or has_tag(cell, "export"):
                exec(cell.source, namespace)
    finally:
        os.chdir(here)
    return namespace


EXERCISES = [
    pytest.param(path, *answers, id=name)
    for path in notebook_paths()
    for name, answers in exercises_of(read_notebook(path)).items()
]


@pytest.mark.parametrize(("path", "stub", "solution", "wrong"), EXERCISES)
def test_exercise(path, stub, solution, wrong):
    assert set(defined_names(solution)) & set(defined_names(wrong)) & set(defined_names(stub))
    assert missing_in(without_call(stub), stub, prepared(path))
    assert missing_in(solution, stub, prepared(path)) is None
    refusal = missing_in(wrong, stub, prepared(path))
    assert refusal
    assert not refusal.startswith("your code raised"), "a tempting answer runs, and is wrong"


def test_exercises_and_checks_belong_together():
    in_notebooks = [name for path in notebook_paths() for name in exercises_of(read_notebook(path))]
    assert sorted(in_notebooks) == sorted(checks._exercises)


def test_the_names_carry_the_lesson():
    for path in notebook_paths():
        assert all(name.startswith(f"{path.name[:2]}.") for name in exercises_of(read_notebook(path)))


def test_missing_in_tells_right_from_wrong(notebook):
    def judge(name, double):
        try:
            return None if double(3) == 6 else "not the double"
        except NotImplementedError:
            return "empty"

    ((name, (stub, solution, wrong)),) = exercises_of(notebook).items()
    assert name == "98.double"
    answers = (without_call(stub), solution, wrong)
    assert [missing_in(answer, stub, {}, judge) for answer in answers] == ["empty", None, "not the double"]
