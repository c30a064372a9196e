"""Every exercise refuses its stub and its tempting wrong answer, and accepts its solution."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode

from course_utils.exercises import exercise_names, what_is_missing
from tests.notebooks.notebook_rules import PYTHON_BLOCK
from tools.shared.notebook_files import code_cells, defined_names, has_tag, lesson_of, notebook_paths, read_notebook


def exercises_of(notebook: NotebookNode) -> dict[str, tuple[str, str, str]]:
    """Exercise's name → the code of stub, solution and tempting wrong answer."""
    solutions = iter(cell for cell in notebook.cells if has_tag(cell, "solution"))
    found = {}
    for cell in notebook.cells:
        if has_tag(cell, "exercise"):
            solution, wrong = PYTHON_BLOCK.findall(next(solutions).source)
            found[call_of(cell.source).value.args[0].value] = cell.source, solution, wrong
    return found


def call_of(stub: str) -> ast.Expr:
    """The last statement of a stub, `exercise("01.name", answer)`."""
    return ast.parse(stub).body[-1]


def missing_in(answer: str, stub: str, namespace: dict, judge: Callable = what_is_missing) -> str | None:
    """Run an answer in a copy of `namespace` and the stub's last line on it; what it lacks, or `None` if it is right."""
    scope = namespace | {"exercise": judge}
    exec(answer, scope)
    return eval(compile(ast.Expression(call_of(stub).value), "check", "eval"), scope)


def without_call(stub: str) -> str:
    return ast.unparse(ast.parse(stub).body[:-1])


def prepared(path: Path) -> dict:
    """The names that a student has after the set-up, the imports and the definitions of the lesson."""
    namespace: dict = {"__name__": "__main__"}
    for cell in code_cells(read_notebook(path)):
        if any(has_tag(cell, tag) for tag in ("setup", "imports", "export")):
            exec(cell.source, namespace)
    return namespace


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_exercises(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    namespace = prepared(path)
    for name, (stub, solution, wrong) in exercises_of(read_notebook(path)).items():
        assert name.startswith(f"{lesson_of(path)}.")
        assert set(defined_names(solution)) & set(defined_names(wrong)) & set(defined_names(stub)), name
        assert missing_in(without_call(stub), stub, namespace), f"{name}: the stub is accepted"
        assert missing_in(solution, stub, namespace) is None, f"{name}: the solution is refused"
        refusal = missing_in(wrong, stub, namespace)
        assert refusal, f"{name}: the tempting answer is accepted"
        assert not refusal.startswith("your code raised"), f"{name}: a tempting answer runs, and is wrong"


def test_exercises_and_checks_belong_together():
    assert sorted(name for path in notebook_paths() for name in exercises_of(read_notebook(path))) == exercise_names()


def test_missing_in_tells_right_from_wrong(notebook):
    def judge(name, double):
        try:
            return None if double(3) == 6 else "not the double"
        except NotImplementedError:
            return "empty"

    assert list(exercises_of(notebook)) == ["98.double", "98.predict"]
    stub, solution, wrong = exercises_of(notebook)["98.double"]
    answers = (without_call(stub), solution, wrong)
    assert [missing_in(answer, stub, {}, judge) for answer in answers] == ["empty", None, "not the double"]
