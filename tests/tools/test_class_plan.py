"""The instructor's page has a plan for each lesson: its sections, in 90 minutes and in 45, goals and homework."""

import re

import pytest

from tools.shared.class_plan import INSTRUCTOR_PAGE, Step, class_plan
from tools.shared.lesson_parts import sections, title_of
from tools.shared.notebook_files import lesson_of, notebook_paths, read_notebook

LESSONS = [pytest.param(path, id=path.stem) for path in notebook_paths()]


def chapter(path):
    page = INSTRUCTOR_PAGE.read_text(encoding="utf-8")
    return re.search(rf"^## {lesson_of(path)} · .*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[0]


@pytest.mark.parametrize("path", LESSONS)
def test_a_plan_fills_its_time(path):
    steps = class_plan(lesson_of(path)).values()
    assert sum(step.minutes for step in steps) == 90
    assert sum(step.short_minutes for step in steps) == 45
    assert all(step.short_minutes <= step.minutes and step.advice for step in steps)


@pytest.mark.parametrize("path", LESSONS)
def test_a_plan_has_the_sections_of_its_lesson(path):
    notebook = read_notebook(path)
    assert list(class_plan(lesson_of(path))) == [section.title for section in sections(notebook)]
    assert chapter(path).startswith(f"## {title_of(notebook)}\n")


@pytest.mark.parametrize("path", LESSONS)
def test_a_plan_names_exercises_that_there_are(path):
    text = chapter(path)
    assert "**Prerequisites.**" in text
    assert len(re.findall(r"^- ", text, re.MULTILINE)) >= 4  # goals
    named = {int(number) for number in re.findall(r"\b([1-9])\b(?! min)", text.split("**Homework.**")[1].split("(")[0])}
    there = {int(number) for number in re.findall(r"### (\d) · ", "".join(c.source for c in read_notebook(path).cells))}
    assert named
    assert named <= there


def test_rows_become_steps():
    page = "## 98 · A\n\n| section | 90 min |\n|---|---|\n| One | 5 | 4 | Ask. |\n| Two, more | 3 | – | Wait. |\n\n## 99 · B\n\n| X | 1 | 1 | Y |\n"
    assert class_plan("98", page) == {"One": Step(5, 4, "Ask."), "Two, more": Step(3, 0, "Wait.")}
    assert class_plan("97", page) == {}
