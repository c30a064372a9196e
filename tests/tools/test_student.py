"""Students' notebooks hold nothing of a solution; the booklet holds all of them, as `test_exercises.py` runs them."""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup

from tests.notebooks.sample import code, markdown, stream
from tests.notebooks.test_exercises import exercises_of
from tools.author.student import answer_booklet, answers, exam_bank, student_notebook
from tools.shared.lesson_parts import FOLDED
from tools.shared.notebook_files import code_cells, has_tag, notebook_paths, read_notebook

SHORTEST = 12  # characters of a line that can tell where it comes from


def left_over(notebook, student):
    """Lines that only stand in a solution, and still are in the student's notebook."""
    solutions, others = [], []
    for cell in notebook.cells:
        if has_tag(cell, "solution") or has_tag(cell, "open-answer"):
            solutions += [body for _, body in FOLDED.findall(cell.source)]
            others.append(FOLDED.sub("", cell.source))
        else:
            others.append(cell.source)
    lines = {line.strip() for body in solutions for line in body.splitlines() if len(line.strip()) >= SHORTEST}
    own = {line for line in lines if not any(line in text for text in others)}
    handed_out = "\n".join(cell.source for cell in student.cells)
    handed_out += "\n".join(output.get("text", "") for cell in code_cells(student) for output in cell.outputs)
    return sorted(line for line in own if line in handed_out)


@pytest.fixture(scope="module")
def lessons():
    return [read_notebook(path) for path in notebook_paths()]


def test_nothing_of_a_solution_is_left(lessons):
    for notebook in lessons:
        student = student_notebook(notebook)
        assert left_over(notebook, student) == []
        assert not any(has_tag(cell, tag) for cell in student.cells for tag in ("solution", "badge"))
        assert "folded" not in "".join(c.source for c in student.cells if "## Exercises" in c.source)
        nbformat.validate(student)


def test_the_rest_is_as_it_was(lessons):
    for notebook in lessons:
        before = [cell.source for cell in code_cells(notebook)]
        assert [cell.source for cell in code_cells(student_notebook(notebook))] == before
        assert "Warm-up" in "".join(cell.source for cell in student_notebook(notebook).cells)


def test_the_booklet_has_every_solution_that_the_tests_run(lessons):
    text = BeautifulSoup(answer_booklet(lessons), features="html.parser").get_text()
    for notebook in lessons:
        for name, (_, solution, wrong) in exercises_of(notebook).items():
            assert solution.strip() in text, name
            assert wrong.strip() in text, name
        assert all(heading in text for heading, _ in answers(notebook))
        assert len(answers(notebook)) >= len(exercises_of(notebook)) + 1  # with the open one


def test_what_is_left_is_found(notebook):
    student = student_notebook(notebook)
    assert left_over(notebook, student) == []
    student.cells.append(code("leak", "x = 1", outputs=(stream("here: return 2 * x\n"),)))
    assert left_over(notebook, student) == ["return 2 * x"]
    assert left_over(notebook, notebook)


def test_outputs_of_exercises_go_and_texts_say_nothing_of_folds(notebook):
    at = next(i for i, cell in enumerate(notebook.cells) if cell.id == "exercises")
    notebook.cells[at].source += "\n\nTry it. Solutions are folded below, as always. Good luck!\n\n### 1 · Double it"
    notebook.cells.insert(at + 5, code("reveals", "print(4)", outputs=(stream("4\n"),)))
    notebook.cells.insert(
        at + 6, markdown("open-3", "### 2 · Why?\n\n<details>\n<summary>We</summary>\n\nSo.\n</details>", "open-answer")
    )
    student = {cell.id: cell for cell in student_notebook(notebook).cells}
    assert student["exercises"].source == "## Exercises\n\nTry it. Good luck!\n\n### 1 · Double it"
    assert student["reveals"].outputs == []
    assert student["open-3"].source == "### 2 · Why?"
    assert student["figure"].outputs
    assert "open-1" not in student
    assert answers(notebook)[2] == ("2 · Why?", "So.")


def test_exam_bank_separates_right_from_wrong(notebook):
    block = (
        '<details>\n<summary><b>7.</b> Why?</summary>\n\nIt is. *"It is not"* is wrong. Indeed.\n\n- a list\n</details>'
    )
    notebook.cells[8].source = f"## Warm-up questions\n\n{block}"
    page = BeautifulSoup(exam_bank([notebook]), features="html.parser").get_text()
    assert re.search(
        r"Question 7\s+Why\?\s+Answer\.\s+It is\. Indeed\.\s+a list\s+Wrong, and why\.\s+\"It is not\" is wrong", page
    )
