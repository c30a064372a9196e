"""`exercise` gives a hint and never stops a lesson."""

import re

import pytest

import course_utils.exercises  # noqa: F401  registers the checks
from course_utils.exercises import registry


@pytest.fixture
def addition(monkeypatch):
    """An exercise whose answer is a function that adds two numbers."""

    def check(answer):
        if answer(2, 3) != 5:
            raise registry.NotYet("2 and 3 should give 5.")

    monkeypatch.setattr(registry, "_exercises", dict(registry._exercises))
    monkeypatch.setattr(registry, "_attempts", type(registry._attempts)())
    registry.register_exercise("00.addition", hints=("look at the sign.", "use the plus sign."))(check)


def test_an_unknown_exercise_is_refused_with_the_known_names():
    with pytest.raises(KeyError, match=r"no exercise '01\.nothing'; expected one of .*'07\."):
        registry.exercise("01.nothing", None)


def test_a_right_answer_is_solved(addition, capsys):
    assert registry.what_is_missing("00.addition", lambda a, b: a + b) is None
    registry.exercise("00.addition", lambda a, b: a + b)
    assert capsys.readouterr().out == "✓ Exercise 00.addition is solved.\n"


def stub(a, b):
    raise NotImplementedError


def broken(a, b):
    raise ZeroDivisionError("division by zero")


def asserting(a, b):
    raise AssertionError("mine")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a, b: a * b, "2 and 3 should give 5."),
        (stub, "there is no answer yet."),
        (broken, "your code raised ZeroDivisionError: division by zero"),
        (asserting, "your code raised AssertionError: mine"),
        (None, "there is no answer yet."),
        (5, "your code raised TypeError: 'int' object is not callable"),
        ("x", "your code raised TypeError: 'str' object is not callable"),
    ],
)
def test_a_wrong_answer_gets_a_verdict_and_never_raises(answer, words, addition, capsys):
    assert registry.what_is_missing("00.addition", answer) == words
    registry.exercise("00.addition", answer)
    assert capsys.readouterr().out.startswith(f"✗ Exercise 00.addition: {words}\n")


def test_each_attempt_brings_one_hint_more_and_an_empty_stub_is_no_attempt(addition, capsys):
    verdict = "✗ Exercise 00.addition: 2 and 3 should give 5.\n"
    more = "  If you are stuck, run the cell again for a hint.\n"
    first, second = "  Hint 1: look at the sign.\n", "  Hint 2: use the plus sign.\n"
    for printed in (verdict + more, verdict + first + more, verdict + first + second, verdict + first + second):
        for empty in (stub, None):
            registry.exercise("00.addition", empty)
            assert capsys.readouterr().out == "✗ Exercise 00.addition: there is no answer yet.\n"
        registry.exercise("00.addition", lambda a, b: a * b)
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize("answer", [None, -5, "x", stub, broken], ids=["None", "number", "text", "stub", "broken"])
def test_every_exercise_of_the_course_survives_an_answer_of_the_wrong_kind(answer, capsys):
    for name in registry.exercise_names():
        assert registry.what_is_missing(name, answer), name
        registry.exercise(name, answer)
        assert capsys.readouterr().out.startswith(f"✗ Exercise {name}: ")


def test_the_exercises_of_the_course_are_named_by_lesson_and_topic():
    names = registry.exercise_names()
    assert names
    assert all(re.fullmatch(r"\d\d\.[a-z_]+", name) for name in names)
