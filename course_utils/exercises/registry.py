"""`exercise` checks a student's answer and gives a hint; the checks themselves are in the module of each lesson."""

from collections.abc import Callable


class NotYet(Exception):
    """Raised by an exercise's check: what is missing in the answer, in a sentence."""


_exercises: dict[str, tuple[Callable, str]] = {}


def require(condition: bool, missing: str) -> None:
    """In an exercise's check: raise `NotYet` with the sentence `missing` unless the condition holds."""
    if not condition:
        raise NotYet(missing)


def register_exercise(name: str, hint: str) -> Callable[[Callable], Callable]:
    """Decorate a function `check(answer)` that raises `NotYet` for a wrong answer; `hint` follows its message."""

    def register(check: Callable) -> Callable:
        _exercises[name] = check, hint
        return check

    return register


def exercise_names() -> list[str]:
    """The names of all exercises."""
    return sorted(_exercises)


def exercise(name: str, answer) -> None:
    """Check the answer to an exercise and print the verdict, with a hint if something is missing.

    A wrong answer never raises, so that a notebook with open exercises runs to its end.

    Args:
        name: the exercise's name, such as `"01.parameters"`.
        answer: what the exercise asks for, usually a function or a layer class that you wrote.

    Raises:
        KeyError: there is no exercise of this name.
    """
    missing = what_is_missing(name, answer)
    if missing is None:
        print(f"✓ Exercise {name} is solved.")
    else:
        print(f"✗ Exercise {name}: {missing}\n  Hint: {_exercises[name][1]}")


def what_is_missing(name: str, answer) -> str | None:
    """What the answer to the exercise `name` lacks, in a sentence; `None` if it is right. Raises as `exercise` does."""
    if name not in _exercises:
        raise KeyError(f"There is no exercise {name!r}; expected one of {exercise_names()}.")
    check, _ = _exercises[name]
    try:
        check(answer)
    except NotYet as missing:
        return str(missing)
    except NotImplementedError:
        return "it is still the empty stub."
    except Exception as error:
        # Whatever the student's code raises is part of the answer: it is shown, and the lesson goes on.
        return f"your code raised {type(error).__name__}: {error}"
    return None
