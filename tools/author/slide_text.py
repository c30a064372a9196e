"""How much of a cell's text and code a slide can hold."""

import math
import re

from tools.shared.lesson_parts import sentences

CHARACTERS = 72  # of text in a line of a slide
CODE_LINES = 18
LARGEST_CODE, SMALLEST_CODE = 24, 14  # pixels
CODE_WIDTH, CODE_HEIGHT = 1120, 470  # pixels for a listing
LETTER, LINE = 0.61, 1.36  # width of a letter and height of a line, in font sizes


def shortened(markdown: str, lines: int, whole_paragraphs: bool = False) -> tuple[str, bool]:
    """As much of a text as fits into so many lines, and whether that is all of it.

    Formulas come first, then what is said in bold, then the first sentence of each paragraph. A lone table is dropped if
    it does not fit, and so are pictures.
    """
    everything = [block.strip() for block in re.split(r"\n\s*\n", markdown.strip()) if block.strip()]
    if whole_paragraphs and sum(_height(block) for block in everything) <= lines:
        return markdown, True
    short = [_key_sentences(block) for block in everything]
    kept: set[int] = set()
    room = float(lines)
    for i in sorted(range(len(short)), key=lambda i: (_importance(everything[i]), i)):
        height = _height(short[i])
        if height <= room:
            kept.add(i)
            room -= height
    return "\n\n".join(short[i] for i in sorted(kept)), [short[i] for i in sorted(kept)] == everything


def _importance(block: str) -> int:
    if "$$" in block:
        return 0
    return 1 if "**" in block else 2


def _height(block: str) -> float:
    """Lines that a block takes, with the space below it."""
    if "$$" in block:
        return 2.2 + 1.4 * block.count(r"\\")
    if block.startswith("|"):
        return 1.2 * (block.count("\n")) + 0.5
    if block.startswith("```"):
        return 0.8 * block.count("\n")
    items = re.split(r"^(?:[-*]|\d+\.) ", block, flags=re.MULTILINE)
    return sum(math.ceil(_length(item) / CHARACTERS) + 0.2 for item in items if item.strip()) + 0.2


def _length(text: str) -> int:
    """Visible characters: a formula is about half as long as its source, and a link's address is not seen."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"</?\w+[^>]*>", "", text))
    formulas = re.findall(r"\$[^$]+\$", text)
    commands = sum(len(re.sub(r"\\[A-Za-z]+|[{}$^_]", "", formula)) + 2 * formula.count("\\") for formula in formulas)
    return len(re.sub(r"\$[^$]+\$|\*\*|`", "", text)) + commands


def _key_sentences(block: str) -> str:
    """A paragraph's sentences with bold words, or else its first; other blocks stay, the items of a list one sentence each."""
    if "$$" in block or block.startswith(("|", "```", "<")):
        return block
    if re.match(r"(?:[-*]|\d+\.) ", block):
        return "\n".join(_first_sentence(item) for item in re.split(r"\n(?=(?:[-*]|\d+\.) )", block))
    said = sentences(block)
    bold = [sentence for sentence in said if "**" in sentence]
    return " ".join(bold or said[:1])


def _first_sentence(item: str) -> str:
    mark, text = item.split(" ", 1)
    return f"{mark} {sentences(text)[0]}"


def font_size(text: str) -> int:
    """Pixels at which code or printed text fits on a slide."""
    lines = text.splitlines() or [""]
    width = CODE_WIDTH / (LETTER * max(1, *(len(line) for line in lines), 1))
    height = CODE_HEIGHT / (LINE * len(lines))
    return max(SMALLEST_CODE, min(LARGEST_CODE, int(width), int(height)))


def code_pages(source: str) -> list[str]:
    """Code in pieces that fit on a slide, cut where a blank line stands if there is one."""
    pages, rest = [], source.strip("\n").splitlines()
    while len(rest) > CODE_LINES:
        blank = [i for i in range(CODE_LINES // 2, CODE_LINES) if not rest[i].strip()]
        cut = blank[-1] if blank else CODE_LINES
        pages.append("\n".join(rest[:cut]))
        rest = rest[cut:]
        while rest and not rest[0].strip():
            rest = rest[1:]
    return [*pages, "\n".join(rest)]
