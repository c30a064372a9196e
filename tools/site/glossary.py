"""The glossary: every term that a lesson sets in bold, with its Chinese name, the sentence that introduces it, and a link.

`glossary.toml` holds the Chinese names. Sentences and links are collected from the lessons, so that no page has to be
written when a lesson changes.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.shared.notebook_files import NOTEBOOK_FOLDER, read_notebook

GLOSSARY_FILE = Path(__file__).with_name("glossary.toml")
GLOSSARY = tomllib.loads(GLOSSARY_FILE.read_text(encoding="utf-8"))

FENCED_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
DISPLAYED_FORMULA = re.compile(r"\$\$.*?\$\$", re.DOTALL)
HTML_TAG = re.compile(r"</?\w[^>]*>")
BOLD = re.compile(r"\*\*(\S.*?)\*\*", re.DOTALL)
# Where one text ends and the next one begins: an empty line, an item of a list, a cell of a table.
TEXT_END = re.compile(r"\n\s*\n|\n(?=[-*] |\d+\. )|(?<!\\)\|")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"*(\[]*[A-Z$])")
# A sentence that begins so is understood only together with the one before it.
POINTS_BACK = ("This ", "It ", "It's ", "Its ", "Such ", "They ", "That ", "The result ")
# These sections name terms that are introduced elsewhere.
OUTLOOKS = ("What you will learn", "Where next")


class GlossaryError(ValueError):
    """A bold text of a lesson is neither in the glossary nor known as emphasis; the message says what to add."""


@dataclass(frozen=True)
class Introduction:
    """A place at which a lesson sets a term in bold."""

    term: str
    sentence: str
    notebook: Path


def normalized(text: str) -> str:
    """With single spaces, and with the apostrophes of the lessons, which are typographic on a page."""
    return " ".join(text.replace("’", "'").split())


def is_claim(bold: str) -> bool:
    """Whether a bold text is a sentence, the name of a paragraph such as "Cure:", a number, or names another lesson."""
    return bold.rstrip('"').endswith((".", ":", "?", "!")) or bool(re.fullmatch(r"Lessons? \d\d|[^a-zA-Z]+", bold))


def term_of(bold: str) -> str | None:
    """The glossary's term for a bold text in any of its forms, or None if it is not a term."""
    bold = normalized(bold)
    for form in (bold, bold[:1].lower() + bold[1:]):
        term = GLOSSARY["forms"].get(form, form)
        if term in GLOSSARY["terms"]:
            return term
    return None


def anchor(term: str) -> str:
    """The identifier of the place in a lesson that introduces a term."""
    return "term-" + re.sub(r"\W+", "-", term.lower())


def bold_texts(notebook: Path) -> Iterator[tuple[str, str]]:
    """Bold text and what introduces it, for every place of a lesson where something is bold and not a claim."""
    section = ""
    for cell in read_notebook(notebook).cells:
        if cell.cell_type != "markdown":
            continue
        if heading := re.match("## (.+)", cell.source):
            section = heading[1]
        if section in OUTLOOKS:
            continue
        prose = HTML_TAG.sub("", DISPLAYED_FORMULA.sub("…", FENCED_CODE.sub("", cell.source)))
        for text in TEXT_END.split(prose):
            previous = ""
            for sentence in map(normalized, SENTENCE_END.split(text)):
                explanation = f"{previous} {sentence}" if sentence.startswith(POINTS_BACK) else sentence
                for bold in BOLD.findall(CODE.sub("", sentence)):
                    if not is_claim(bold):
                        yield bold, explanation.strip().removeprefix("- ")
                previous = sentence


def introductions(notebooks: list[Path]) -> list[Introduction]:
    """The first place of each term in each lesson, in the lessons' order.

    Raises:
        GlossaryError: a bold text that is unknown.
    """
    found: dict[tuple[str, Path], Introduction] = {}
    unknown = []
    for notebook in notebooks:
        for bold, sentence in bold_texts(notebook):
            term = term_of(bold)
            if term:
                found.setdefault((term, notebook), Introduction(term, sentence, notebook))
            elif bold not in GLOSSARY["emphasis"]:
                unknown.append(f'{notebook.name}: "{bold}"')
    if unknown:
        raise GlossaryError(
            f"These bold texts are not in {GLOSSARY_FILE.name}; add each to [terms] with its Chinese name, to [forms] if it "
            "is another form of a term, or to `emphasis` if it is no term:\n" + "\n".join(unknown)
        )
    return list(found.values())


def entry(term: str, places: list[Introduction]) -> str:
    """The glossary's lines on one term; a line without indentation is a name of it."""
    links = [
        f'<a href="{NOTEBOOK_FOLDER.name}/{place.notebook.stem}.html#{anchor(term)}">lesson {place.notebook.name[:2]}</a>'
        for place in places
    ]
    sentence = re.sub(r"\]\((?=\d\d_)", f"]({NOTEBOOK_FOLDER.name}/", places[0].sentence)
    return f"{term}\n{GLOSSARY['terms'][term]}\n  {sentence}\n\n  Taught in {', '.join(links)}.\n"


def page(notebooks: list[Path]) -> str:
    """The glossary as a page in MyST Markdown."""
    places: dict[str, list[Introduction]] = {}
    for place in introductions(notebooks):
        places.setdefault(place.term, []).append(place)
    entries = "\n".join(entry(term, places[term]) for term in sorted(places, key=str.lower))
    return (
        "# Glossary\n\n"
        "Every term of the lessons, with its Chinese name, the sentence that introduces it, and a link to where it is "
        f"taught.\n\n::::{{glossary}}\n{entries}::::\n"
    )
