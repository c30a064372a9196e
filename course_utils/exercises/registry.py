"""`exercise` checks a student's answer and gives hints; the checks themselves are in the module of each lesson."""

from collections import Counter
from collections.abc import Callable, Sequence


class NotYet(Exception):
    """Raised by an exercise's check: what is missing in the answer, in a sentence."""


NO_ATTEMPT = "there is no answer yet."

_exercises: dict[str, tuple[Callable, tuple[str, ...]]] = {}

# How many wrong answers this session has seen, by exercise: each brings one hint more.
_attempts: Counter[str] = Counter()


def require(condition: bool, missing: str) -> None:
    """In an exercise's check: raise `NotYet` with the sentence `missing` unless the condition holds."""
    if not condition:
        raise NotYet(missing)


def register_exercise(name: str, hints: Sequence[str]) -> Callable[[Callable], Callable]:
    """Decorate a function `check(answer)` that raises `NotYet` with what is wrong with an answer.

    `hints` are given one by one, a further one after each wrong answer: first where to look, at last the formula.
    """

    def register(check: Callable) -> Callable:
        _exercises[name] = check, tuple(hints)
        return check

    return register


def exercise_names() -> list[str]:
    """The names of all exercises."""
    return sorted(_exercises)


def exercise(name: str, answer) -> None:
    """Check the answer to an exercise and print what is wrong with it; with each wrong answer there is one hint more.

    A wrong answer never raises, so that a notebook with open exercises runs to its end.

    Args:
        name: the exercise's name, such as `"01.tied"`.
        answer: what the exercise asks for, such as a function or a layer class that you wrote, or a prediction.

    Raises:
        KeyError: there is no exercise of this name.
    """
    missing = what_is_missing(name, answer)
    if missing is None:
        print(f"✓ Exercise {name} is solved.")
        return
    print(f"✗ Exercise {name}: {missing}")
    if missing != NO_ATTEMPT:
        hints = _exercises[name][1]
        for number, hint in enumerate(hints[: _attempts[name]], start=1):
            print(f"  Hint {number}: {hint}")
        if _attempts[name] < len(hints):
            print("  If you are stuck, run the cell again for a hint.")
        _attempts[name] += 1


def what_is_missing(name: str, answer) -> str | None:
    """What the answer to the exercise `name` lacks, in a sentence; `None` if it is right. Raises as `exercise` does."""
    if name not in _exercises:
        raise KeyError(f"There is no exercise {name!r}; expected one of {exercise_names()}.")
    if answer is None:
        return NO_ATTEMPT
    check, _ = _exercises[name]
    try:
        check(answer)
    except NotYet as missing:
        return str(missing)
    except NotImplementedError:
        return NO_ATTEMPT
    except Exception as error:
        # Whatever the student's code raises is part of the answer: it is shown, and the lesson goes on.
        return f"your code raised {type(error).__name__}: {error}"
    return None
