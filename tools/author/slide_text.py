"""How much of a cell's text and code a slide can hold."""

import itertools
import math
import re
import textwrap

from bs4 import BeautifulSoup, Tag

from tools.shared.lesson_parts import sentences
from tools.shared.web_pages import markdown_to_html

CHARACTERS = 72  # of text in a line of a slide
SHORT_BLOCK = 3.5  # lines of a paragraph that stays as it is
TALL_ROW, FLAT_ROW = 1.9, 1.3  # lines that a row of a formula takes
TALL = re.compile(r"\\(?:frac|int|sum|prod|underbrace|begin\{pmatrix)")
LONGEST_FORMULA = 58  # letters in a line
SMALLEST_FORMULA = 0.65  # of the size of other formulas
SHORT_SENTENCE = 45  # characters; "Back to the opening question." says nothing on its own
FEW = 4  # lines: where there is room for so few, every paragraph is shortened
# What a sentence begins with that is understood only after the one before it.
POINTS_BACK = re.compile(r"(?:This|That|These|Such|It|They|So|Then|Both|The result|The last) ")
CODE_LINES = 18
LARGEST_CODE, SMALLEST_CODE = 24, 14  # pixels
LISTING_WIDTH, LISTING_SPACE = 1120, 40  # pixels: the longest line, and what stands around a listing
PRINTED_CHARACTERS = 76
LETTER, LINE = 0.61, 1.36  # width of a letter and height of a line, in font sizes


def shortened(markdown: str, lines: float) -> tuple[str, bool]:
    """As much of a text as fits into so many lines, and whether that is all of it.

    If not everything fits, formulas come first, then paragraphs with words in bold, then the others in their order; of a
    long paragraph only what is said in bold stays, or else its first sentence.
    """
    everything = [block.strip() for block in re.split(r"\n\s*\n", markdown.strip()) if block.strip()]
    if height_of(markdown) <= lines:
        return markdown, True
    short = [block if _height(block) <= SHORT_BLOCK and lines > FEW else _key_sentences(block) for block in everything]
    kept: dict[int, str] = {}
    for i in sorted(range(len(short)), key=lambda i: (_importance(everything[i]), i)):
        if block := _fitting(short[i], lines):
            kept[i] = block
            lines -= _height(block)
        elif _importance(everything[i]):  # what comes later may not be understood without it
            break
    return "\n\n".join(kept[i] for i in sorted(kept)), False


def _fitting(block: str, lines: float) -> str:
    """The block or as much of its beginning as there is room for; of a formula, a table or code all or nothing."""
    if _height(block) <= lines:
        return block
    if _is_list(block):
        items = _items(block)
        shorter = ["\n".join(map(_first_sentence, items[:n])) for n in range(len(items), 0, -1)]
    elif _is_paragraph(block):
        said = sentences(block)
        shorter = [" ".join(said[:n]) for n in range(len(said), 0, -1)]
    else:
        shorter = []
    return next((text for text in shorter if _height(text) <= lines), "")


def _is_list(block: str) -> bool:
    return bool(re.match(r"(?:[-*]|\d+\.) ", block))


def _items(block: str) -> list[str]:
    return re.split(r"\n(?=(?:[-*]|\d+\.) )", block)


def _is_paragraph(block: str) -> bool:
    return "$$" not in block and not _is_list(block) and not block.startswith(("|", "```", "<"))


def height_of(markdown: str) -> float:
    """Lines that a text takes on a slide."""
    return sum(_height(block.strip()) for block in re.split(r"\n\s*\n", markdown.strip()) if block.strip())


def _importance(block: str) -> int:
    if "$$" in block:
        return 0
    return 1 if "**" in block else 2


def _height(block: str) -> float:
    """Lines that a block takes, with the space below it."""
    if "$$" in block:
        is_long = _length(f"${block.strip('$')}$") > LONGEST_FORMULA
        rows = re.split(r"\\\\|\\qquad" if is_long else r"\\\\", block)
        return 1 + sum(TALL_ROW if TALL.search(row) else FLAT_ROW for row in rows)
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
    """A paragraph's sentences with bold words, or else its first; of a list's items the beginning; other blocks stay."""
    if _is_list(block):
        return "\n".join(_short_item(item) for item in _items(block))
    if not _is_paragraph(block):
        return block
    said = sentences(block)
    bold = {i for i, sentence in enumerate(said) if "**" in sentence}
    context = {i - 1 for i in bold if i and POINTS_BACK.match(said[i])}
    return " ".join(said[i] for i in sorted(bold | context)) or " ".join(_opening(said))


def _opening(said: list[str]) -> list[str]:
    """The first sentence, and the next too if the first only asks or announces it."""
    return said[:2] if said[0].endswith("?") or len(said[0]) < SHORT_SENTENCE else said[:1]


def _short_item(item: str) -> str:
    mark, text = item.split(" ", 1)
    return " ".join([mark, *_opening(sentences(text))])


def _first_sentence(item: str) -> str:
    mark, text = item.split(" ", 1)
    return f"{mark} {sentences(text)[0]}"


def font_size(listing: str, lines: int, height: float) -> int:
    """Pixels at which code or printed text fits on a slide whose listings have so many lines and pixels of height."""
    by_width = LISTING_WIDTH / (LETTER * max(map(len, listing.splitlines()), default=1))
    return max(SMALLEST_CODE, min(LARGEST_CODE, int(by_width), int(height / (LINE * lines))))


def wrapped(text: str) -> str:
    """Printed text whose long lines are broken between words; the lines of tables are left as they are.

    What no slide can hold is left out at the end.
    """
    lines = []
    for line in text.splitlines():
        is_table = re.search(r"\S {2,}\S", line)
        lines += [line] if is_table else textwrap.wrap(line, PRINTED_CHARACTERS, subsequent_indent="  ") or [""]
    return "\n".join(lines if len(lines) <= CODE_LINES else [*lines[: CODE_LINES - 1], "…"])


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


def text_html(markdown: str) -> str:
    """The HTML of a slide's text, with long formulas on several lines or in smaller letters."""
    page = BeautifulSoup(markdown_to_html(_broken_formulas(markdown)), features="html.parser")
    for formula in page.find_all("math", display="block"):
        longest = _letters_across(formula)
        if longest > LONGEST_FORMULA:
            formula["style"] = f"font-size: {max(SMALLEST_FORMULA, LONGEST_FORMULA / longest):.2f}em"
    return str(page)


def _letters_across(formula: Tag) -> int:
    """Letters in the longest line of a formula; in one with aligned rows each column is as wide as its longest cell."""
    rows = [[len(cell.get_text()) for cell in row.find_all("mtd", recursive=False)] for row in formula.find_all("mtr")]
    return sum(map(max, itertools.zip_longest(*rows, fillvalue=0))) if rows else len(formula.get_text())


def _broken_formulas(markdown: str) -> str:
    """Two formulas in one line, with a gap between them, become two lines if they are long."""

    def broken(match: re.Match) -> str:
        is_long = _length(f"${match[1]}$") > LONGEST_FORMULA and r"\begin" not in match[1]
        return "\n\n".join(f"$${part.strip()}$$" for part in match[1].split(r"\qquad")) if is_long else match[0]

    return re.sub(r"\$\$(.+?)\$\$", broken, markdown, flags=re.DOTALL)
