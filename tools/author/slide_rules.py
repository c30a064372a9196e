"""Which cell goes where in a deck: the rules by which `slideshow` metadata are assigned.

The words are Jupyter's: a `slide` opens a section, a `subslide` is one more slide of it, a `fragment` appears on the
slide before it, `notes` are read by the presenter only, and what is to `skip` is in the notebook only.
"""

import re
from dataclasses import dataclass

from nbformat import NotebookNode

from tools.shared.lesson_parts import OPENING, Section, figures, heading_parts, printed, questions, sections, sounds
from tools.shared.notebook_files import has_tag

SLIDE_TYPES = ("slide", "subslide", "fragment", "notes", "skip")

MOST_SLIDES = 40  # for ninety minutes
QUESTIONS_IN_CLASS = 3  # of those at the end; the others are left for homework and the exam
LONGEST_CODE = 14  # lines of a cell that is worth a slide

SKIPPED = ("badge", "bootstrap", "setup", "imports", "export", "exercise", "solution", "open-answer")
# Of these sections the first cell makes all slides.
ONE_CELL = ("Warm-up questions", "Exercises", "Questions")

# What may go when a deck has too many slides, and a higher number goes first.
MUST, BARE_SUBHEADING, SECOND_FIGURE, FORMULA, RESULT, MORE_FIGURES, CODE = range(7)


@dataclass
class Candidate:
    """What a cell would be in a deck, and how easily it can be left out."""

    cell: NotebookNode
    role: str  # "heading", "text", "figure", "print", "code", "more", "notes" or "skip"
    priority: int = MUST


def slide_types(notebook: NotebookNode) -> list[str]:
    """The slide type of each cell; if the deck would be too long, the least important slides are left out."""
    candidates = [candidate for section in sections(notebook) for candidate in _candidates(section)]
    types = _types(candidates)
    while number_of_slides(notebook.cells, types) > MOST_SLIDES:
        last = max(range(len(candidates)), key=lambda i: (candidates[i].priority, i))
        if candidates[last].priority == MUST:
            break
        candidates[last] = Candidate(candidates[last].cell, _left_out(candidates[last].cell))
        types = _types(candidates)
    return types


def number_of_slides(cells: list[NotebookNode], types: list[str]) -> int:
    """How many slides cells of these types make; a question, its answer, and each further figure of a cell have their own."""
    return sum(_slides_begun(cell, kind) for cell, kind in zip(cells, types, strict=True))


def _slides_begun(cell: NotebookNode, kind: str) -> int:
    if kind in ("notes", "skip"):
        return 0
    more = max(0, len(figures(cell)) - 1)
    if cell.cell_type == "markdown":
        more = len(parts_on_slides(cell.source)) - 1
    return more if kind == "fragment" else max(1 + more, 2 * len(questions_in_class(cell)))


def parts_on_slides(markdown: str) -> list[tuple[str, str]]:
    """Of a cell with several headings the last part, and each earlier one that has a formula: a slide for each."""
    *earlier, last = heading_parts(markdown) or [("", "")]
    return [*(part for part in earlier if "$$" in part[1]), last]


def questions_in_class(cell: NotebookNode) -> list:
    """Of the cell's questions those that the deck asks."""
    found = questions(cell.source) if cell.cell_type == "markdown" else []
    return found if "Warm-up questions" in cell.source else found[:QUESTIONS_IN_CLASS]


def has_formula(cell: NotebookNode) -> bool:
    return cell.cell_type == "markdown" and "$$" in cell.source


def has_room(cell: NotebookNode) -> bool:
    """Whether a picture or a result fits below the cell's text, of which a sentence or two are shown."""
    return cell.cell_type == "markdown" and not re.search(r"\$\$|^(?:[-*|]|\d+\.) ", cell.source, re.MULTILINE)


def _left_out(cell: NotebookNode) -> str:
    return "notes" if cell.cell_type == "markdown" else "skip"


def _candidates(section: Section) -> list[Candidate]:
    if not section.cells:
        return []
    if section.title in ONE_CELL:
        return [Candidate(section.cells[0], "heading"), *(Candidate(cell, "skip") for cell in section.cells[1:])]
    found = [_candidate(cell, section) for cell in section.cells]
    found[0].role, found[0].priority = "heading", MUST
    for part in _parts(found):
        _rank(part)
    return found


def _parts(candidates: list[Candidate]) -> list[list[Candidate]]:
    """The candidates from each heading or subheading to the next."""
    parts: list[list[Candidate]] = []
    for candidate in candidates:
        if not parts or (candidate.cell.cell_type == "markdown" and re.search(r"^### ", candidate.cell.source, re.M)):
            parts.append([])
        parts[-1].append(candidate)
    return parts


def _candidate(cell: NotebookNode, section: Section) -> Candidate:
    if any(has_tag(cell, tag) for tag in SKIPPED):
        return Candidate(cell, "skip")
    if cell.cell_type == "markdown":
        return _markdown(cell, section)
    if figures(cell) or sounds(cell):
        return Candidate(cell, "figure")
    if section.title == "The answer":
        return Candidate(cell, "print")
    if has_tag(cell, "checkpoint") and printed(cell):
        return Candidate(cell, "print", RESULT)
    only_loads = "load_mnist(" in cell.source
    if (
        printed(cell)
        and not only_loads
        and not has_tag(cell, "hide-input")
        and len(cell.source.splitlines()) <= LONGEST_CODE
    ):
        return Candidate(cell, "code", CODE)
    return Candidate(cell, "skip")


def _markdown(cell: NotebookNode, section: Section) -> Candidate:
    if "<details>" in cell.source:  # an appendix
        return Candidate(cell, "skip")
    if section.title == "Where next":
        return Candidate(cell, "more")
    asks = section.title == OPENING and re.search(r"\*\*[^*]*\?\*\*", cell.source)
    if asks or section.title == "The answer" or re.search(r"^### ", cell.source, re.MULTILINE):
        return Candidate(cell, "text")
    return Candidate(cell, "text", FORMULA) if has_formula(cell) else Candidate(cell, "notes")


def _rank(candidates: list[Candidate]) -> None:
    """The first figure under a heading is needed, or else its first result; each further one less than the one before."""
    pictures = [candidate for candidate in candidates if candidate.role == "figure"]
    is_section = candidates[0].role == "heading"
    needed = pictures[:1] if is_section or has_room(candidates[0].cell) else []
    ranks = [SECOND_FIGURE] + [MORE_FIGURES] * len(pictures)
    for picture, priority in zip(pictures[len(needed) :], ranks, strict=False):
        picture.priority = priority
    results = sorted((c for c in candidates if c.role in ("print", "code")), key=lambda c: c.priority)
    if results and not pictures and has_room(candidates[0].cell):
        results[0].priority = MUST
    elif not pictures and not is_section:
        candidates[0].priority = BARE_SUBHEADING


def _types(candidates: list[Candidate]) -> list[str]:
    """A picture or a result joins the slide before it if there is nothing but a few words on it."""
    types, room = [], False
    for candidate in candidates:
        role = candidate.role
        if role in ("notes", "skip"):
            types.append(role)
        elif role == "more":
            types.append("fragment")
        elif role == "heading":
            types.append("slide")
            room = has_room(candidate.cell)
        elif role == "text":
            types.append("subslide")
            room = has_room(candidate.cell)
        else:
            types.append("fragment" if room else "subslide")
            room = False
    return types
