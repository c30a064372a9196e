"""LaTeX formulas as MathML, which browsers show without a script and without a network."""

from math_core import LatexError, LatexToMathML

CONVERTER = LatexToMathML(fancy_error=False)


class FormulaError(ValueError):
    """A formula cannot be converted; the message says which one, and where."""


def to_mathml(formula: str, block: bool) -> str:
    """A LaTeX formula as MathML, on a line of its own if `block`, otherwise for the middle of a sentence.

    Raises:
        FormulaError: the formula cannot be converted.
    """
    try:
        return CONVERTER.convert_with_local_state(formula, displaystyle=block)
    except LatexError as error:
        raise FormulaError(f"the formula {formula!r} cannot be converted, at character {error}") from None
