"""What a lesson consists of: sections, folded questions with their answers, figures with their captions."""

import re
from dataclasses import dataclass

from bs4 import BeautifulSoup
from nbformat import NotebookNode

OPENING = "Opening"
FOLDED = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
NUMBER = re.compile(r"^\s*<b>(\d+)\.</b>\s*")


@dataclass(frozen=True)
class Section:
    """A heading of the second level and the cells up to the next one; what stands before the first is the opening."""

    title: str
    cells: list[NotebookNode]


@dataclass(frozen=True)
class Question:
    """A numbered question; all texts are markdown."""

    number: int
    question: str
    answer: str

    @property
    def wrong_answers(self) -> list[str]:
        """The sentences of the answer that quote what people say instead, and why that does not hold."""
        return [sentence for sentence in sentences(self.answer) if re.search(r'\*["“]', sentence)]


@dataclass(frozen=True)
class Figure:
    """A picture that a cell shows: its source is a data URL, its caption is markdown."""

    source: str
    alt: str
    caption: str


def sections(notebook: NotebookNode) -> list[Section]:
    found = [Section(OPENING, [])]
    for cell in notebook.cells:
        heading = re.search(r"^## (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if heading:
            found.append(Section(heading[1].strip(), []))
        found[-1].cells.append(cell)
    return found


def title_of(notebook: NotebookNode) -> str:
    heading = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)
    return heading[1].strip() if heading else "Untitled"


def heading_parts(markdown: str) -> list[tuple[str, str]]:
    """A text cut at its headings: each heading, or "" for what stands before the first, and the text below it."""
    pieces = re.split(r"^#{1,4} (.+)$", markdown, flags=re.MULTILINE)
    parts = [("", pieces[0].strip())] if pieces[0].strip() else []
    return parts + [(h.strip(), t.strip()) for h, t in zip(pieces[1::2], pieces[2::2], strict=True)]


def questions(markdown: str) -> list[Question]:
    """The folded blocks whose summary begins with a number; appendices and solutions have none."""
    found = []
    for summary, answer in FOLDED.findall(markdown):
        if number := NUMBER.match(summary):
            text = " ".join(NUMBER.sub("", summary).split())
            found.append(Question(int(number[1]), text, answer.strip()))
    return found


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph of markdown; points inside formulas, code and quotations of one word end none."""
    text = " ".join(paragraph.split())
    kept: list[str] = []

    def hide(match: re.Match) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00"

    hidden = re.sub(r"\$[^$]+\$|`[^`]+`", hide, text)
    # Every second piece holds the closing signs of the sentence before it.
    pieces = re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!\b[A-Z]\.)((?:\*{1,2}|[\"”)])*)\s+(?=[A-Z\"“*\x00(])", hidden)
    whole = [sentence + closing for sentence, closing in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
    return [re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], sentence) for sentence in whole]


def figures(cell: NotebookNode) -> list[Figure]:
    """The pictures of a code cell, each with the caption that follows it."""
    outputs = cell.get("outputs", [])
    captions = iter(
        [o.data["text/markdown"].strip().strip("*") for o in outputs if "text/markdown" in o.get("data", {})]
    )
    found = []
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            source = "data:image/png;base64," + data["image/png"].replace("\n", "")
            found.append((source, output.metadata.get("image/png", {}).get("alt", "")))
        for image in BeautifulSoup(data.get("text/html", ""), features="html.parser").find_all("img"):
            found.append((image["src"], image.get("alt", "")))
    return [Figure(source, alt, next(captions, "")) for source, alt in found]


def printed(cell: NotebookNode) -> str:
    """What a code cell wrote to its standard output."""
    return "".join(o.text for o in cell.get("outputs", []) if o.output_type == "stream").rstrip()


def sounds(cell: NotebookNode) -> list[tuple[str, str]]:
    """The players that a code cell shows, as HTML, each after the words that were printed before it."""
    found, said = [], ""
    for output in cell.get("outputs", []):
        said = output.get("text", said)
        for player in BeautifulSoup(output.get("data", {}).get("text/html", ""), features="html.parser").find_all(
            "audio"
        ):
            found.append((said.strip(), str(player)))
    return found
