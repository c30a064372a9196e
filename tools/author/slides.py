"""Make a deck of slides from each lesson's own cells and stored outputs: `make slides`.

    python -m tools.author.slides             # notebooks/NN_name.ipynb -> build/slides/NN_name.html
    python -m tools.author.slides --assign    # store in the notebooks which cell goes where in a deck

A deck is one file that asks nothing of a network. Which cell goes where stands in Jupyter's own metadata, `slideshow`;
where a cell has none, the rules of `slide_rules.py` decide. Minutes and advice come from the instructor's page.
"""

import argparse
import itertools
import re
import sys
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from tools.author.slide_rules import SLIDE_TYPES, parts_on_slides, questions_in_class, slide_types
from tools.author.slide_text import (
    LISTING_SPACE,
    code_pages,
    font_size,
    height_of,
    shortened,
    text_html,
    wrapped,
)
from tools.shared.class_plan import Step, class_plan
from tools.shared.lesson_parts import (
    OPENING,
    Figure,
    Question,
    figures,
    heading_parts,
    printed,
    sections,
    sounds,
    title_of,
)
from tools.shared.mathml import FormulaError
from tools.shared.notebook_files import (
    ROOT,
    has_tag,
    lesson_of,
    notebook_paths,
    notebook_text,
    read_notebook,
    replace_file,
)
from tools.shared.web_pages import PageError, markdown_to_html, require_offline

TEMPLATE_FOLDER = Path(__file__).resolve().parent / "deck_template"
OUTPUT_FOLDER = ROOT / "build" / "slides"
REVEAL = files("sphinx_revealjs") / "_static" / "revealjs"

# Lines of text, as wide as a slide, for which there is room.
LINES, LINES_ABOVE_A_FIGURE, LINES_ABOVE_CODE, LINES_OF_A_RESULT = 13, 3, 4, 5
FEW_LINES, LARGE_TEXT = 6, 36  # pixels for a text that is alone on a slide and so short
LINES_WITH_CODE = 14  # of code and what it prints, together
HEIGHT, LINE = 560, 41  # pixels below the title, and of a line
# How much time a slide needs compared with others.
WEIGHTS = {"question": 3, "figure": 3, "code": 3, "plain": 2, "answer": 1}


@dataclass
class Part:
    """A piece of a slide; a step appears only when the presenter goes on."""

    look: str  # "text", "figure", "sound", "code" or "printed"
    html: str
    is_step: bool = False
    listing: str = ""  # what is shown line by line, as it is
    font_size: int | None = None


@dataclass
class Slide:
    section: str
    title: str
    level: str  # "slide" or "subslide"
    look: str = "plain"
    text: str = ""  # markdown, as is the next
    result: str = ""  # what was said about the printed result
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # HTML
    minutes: tuple[int, int] = (0, 0)
    is_first: bool = False

    @property
    def overline(self) -> str:
        """The section, above a slide that has a title of its own."""
        return "" if self.section in (OPENING, self.title) else self.section

    @property
    def heading(self) -> str:
        rank = "h1" if self.is_first else "h2"
        return f"<{rank}>{_inline(self.title)}</{rank}>"

    @property
    def notes_html(self) -> str:
        begin, end = self.minutes
        return "\n".join([f"<p><b>Minutes {begin} to {end}</b></p>", *self.notes])


def slide_type(cell: NotebookNode, by_rule: str) -> str:
    """What the cell's metadata say, or else the rule.

    Raises:
        PageError: the metadata name a type that there is not.
    """
    kind = cell.metadata.get("slideshow", {}).get("slide_type", by_rule)
    if kind not in SLIDE_TYPES:
        raise PageError(f"the cell {cell.id} has the slide type {kind!r}; there are {', '.join(SLIDE_TYPES)}.")
    return kind


def slides_of(notebook: NotebookNode, plan: dict[str, Step]) -> list[Slide]:
    """All slides of a lesson in their order, with their notes."""
    rules = dict(zip((cell.id for cell in notebook.cells), slide_types(notebook), strict=True))
    deck: list[Slide] = []
    for section in sections(notebook):
        begun = len(deck)
        title = title_of(notebook) if section.title == OPENING else section.title
        for cell in section.cells:
            _add(deck, cell, slide_type(cell, rules[cell.id]), section.title, title)
        if section.title == "Exercises" and len(deck) > begun:
            deck[begun].title, deck[begun].text = section.title, _list_of_headings(section.cells)
        if len(deck) > begun and section.title in plan:
            deck[begun].notes.insert(0, markdown_to_html(plan[section.title].advice))
    deck[0].is_first = True
    for slide in deck:
        _write_text(slide)
    _share_minutes(deck, plan)
    return deck


def _list_of_headings(cells: list[NotebookNode]) -> str:
    texts = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return "\n".join(f"- {heading}" for heading in re.findall(r"^### (.+)$", texts, re.MULTILINE))


def _add(deck: list[Slide], cell: NotebookNode, kind: str, section: str, title: str) -> None:
    """Put a cell on a new slide, on the last one, into its notes, or nowhere."""
    if not deck and kind in ("fragment", "notes"):
        raise PageError(f"the cell {cell.id} has the slide type {kind!r}, and there is no slide before it.")
    if kind == "skip":
        if deck and (seconds := _training(cell)):
            deck[-1].notes.append(
                f"<p><b>Run before class, or start it now:</b> <code>{cell.id}</code> ({seconds}).</p>"
            )
    elif kind == "notes":
        deck[-1].notes.append(markdown_to_html(cell.source))
        if deck[-1].parts and deck[-1].parts[-1].look == "printed" and not deck[-1].result:
            deck[-1].result = cell.source
    elif questions_in_class(cell):
        for number, question in enumerate(questions_in_class(cell)):
            deck += _question(question, section, "subslide" if number else kind)
    else:
        if kind in ("slide", "subslide"):
            deck.append(Slide(section, title if kind == "slide" else _subtitle(cell, deck, title), kind))
        _fill(deck, cell, is_step=kind == "fragment")


def _subtitle(cell: NotebookNode, deck: list[Slide], title: str) -> str:
    """The cell's own heading of the third level; what only shows goes on under the last one."""
    if cell.cell_type == "code" and deck:
        return deck[-1].title
    if re.search(r"\*\*[^*]*\?\*\*", cell.source) and deck[-1].section == OPENING:
        return "The question of this lesson"
    return title


def _fill(deck: list[Slide], cell: NotebookNode, is_step: bool) -> None:
    slide = deck[-1]
    if cell.cell_type == "markdown":
        _fill_with_markdown(deck, cell)
        return
    slide.notes.append(f"<p><b>Run live:</b> <code>{cell.id}</code>{_training(cell, ' ({})')}.</p>")
    if is_step and figures(cell):
        slide.notes.append("<p><b>Ask</b> what people expect to see, then show the figure.</p>")
    if not _is_out_of_sight(cell):
        _fill_with_code(deck, cell.source, slide)
    for number, figure in enumerate(figures(cell)):
        if number:
            deck.append(Slide(slide.section, slide.title, "subslide"))
        deck[-1].parts.append(_figure(figure, is_step and not number))
        deck[-1].look = "figure"
    if sounds(cell):
        players = "".join(f"<div><p>{escape(name)}</p>{player}</div>" for name, player in sounds(cell))
        slide.parts.append(Part("sound", players, is_step))
    elif printed(cell) and not figures(cell):
        text = wrapped(printed(cell))
        deck[-1].parts.append(Part("printed", f"<pre>{escape(text)}</pre>", is_step, listing=text))


def _fill_with_markdown(deck: list[Slide], cell: NotebookNode) -> None:
    """Add the text to the last slide; parts with headings of their own go on slides of their own, or into the notes."""
    shown = parts_on_slides(cell.source)
    left_out = [part for part in heading_parts(cell.source) if part not in shown]
    deck[-1].notes += [markdown_to_html(text) for _, text in left_out]
    for number, (heading, text) in enumerate(shown):
        if number:
            deck.append(Slide(deck[-1].section, heading, "subslide"))
        deck[-1].title = heading or deck[-1].title
        deck[-1].text = f"{deck[-1].text}\n\n{text}".strip()


def _is_out_of_sight(cell: NotebookNode) -> bool:
    """Code that only draws or measures, or is too long to stand above what it prints: on a slide what it shows is enough."""
    lines = len(cell.source.splitlines()) + len(printed(cell).splitlines())
    return (
        any(has_tag(cell, tag) for tag in ("hide-input", "checkpoint"))
        or bool(figures(cell) or sounds(cell))
        or "results_table()" in cell.source
        or (bool(printed(cell)) and lines > LINES_WITH_CODE)
    )


def _fill_with_code(deck: list[Slide], source: str, slide: Slide) -> None:
    for number, page in enumerate(code_pages(source)):
        if number:
            deck.append(Slide(slide.section, f"{slide.title} (continued)", "subslide"))
        html = highlight(page, PythonLexer(), HtmlFormatter(nowrap=True))
        deck[-1].parts.append(Part("code", f"<pre>{html.rstrip()}</pre>", listing=page))
        deck[-1].look = "code"


def _figure(figure: Figure, is_step: bool) -> Part:
    caption = f"<figcaption>{_inline(figure.caption)}</figcaption>" if figure.caption else ""
    picture = f'<img src="{figure.source}" alt="{escape(figure.alt)}">'
    return Part("figure", f"<figure>{picture}{caption}</figure>", is_step)


def _question(question: Question, section: str, level: str) -> list[Slide]:
    asked = Slide(section, f"Question {question.number}", level, "question", question.question)
    asked.notes.append("<p><b>Ask</b>, give a minute to think, let neighbors compare, and collect answers.</p>")
    if question.wrong_answers:
        wrong = markdown_to_html("\n".join(f"- {sentence}" for sentence in question.wrong_answers))
        asked.notes.append(f"<p><b>Typical wrong answers:</b></p>{wrong}")
    answered = Slide(section, f"Answer {question.number}", "subslide", "answer", question.answer)
    return [asked, answered]


def _training(cell: NotebookNode, words: str = "{}") -> str:
    """What the training in a cell said about its time when the outputs were stored; empty if it trained nothing."""
    said = [o.data.get("text/plain", "") for o in cell.get("outputs", []) if "data" in o]
    found = [match[0] for text in said if (match := re.match(r"\d+ epochs? in [\d.]+ s", text))]
    return words.format(", ".join(found)) if found else ""


def _write_text(slide: Slide) -> None:
    """Shorten the text to what there is room for; the whole text goes to the notes."""
    listings = [part.listing for part in slide.parts if part.listing]
    room = LINES_ABOVE_A_FIGURE if slide.look == "figure" else LINES_ABOVE_CODE if listings else LINES
    text, is_whole = shortened(slide.text, room)
    listed = sum(len(listing.splitlines()) for listing in listings)
    result, _ = shortened(slide.result, min(LINES_OF_A_RESULT, LINES - height_of(text) - listed))
    height = HEIGHT - LINE * (height_of(text) + height_of(result)) - LISTING_SPACE * len(listings)
    for part in slide.parts:
        if part.listing:
            part.font_size = font_size(part.listing, listed, height)
    if text:
        is_alone = slide.look == "plain" and not slide.parts and "$$" not in text
        size = LARGE_TEXT if is_alone and height_of(text) <= FEW_LINES else None
        slide.parts.insert(0, Part("text", text_html(text), font_size=size))
    if result:
        slide.parts.append(Part("text", text_html(result)))
    if not is_whole:
        slide.notes.append(markdown_to_html(slide.text))


def _share_minutes(deck: list[Slide], plan: dict[str, Step]) -> None:
    """Divide the minutes that the plan gives to a section among its slides."""
    begin = 0.0
    for section, group in itertools.groupby(deck, key=lambda slide: slide.section):
        members = list(group)
        total = sum(WEIGHTS[slide.look] for slide in members)
        for slide in members:
            end = begin + plan.get(section, Step()).minutes * WEIGHTS[slide.look] / total
            slide.minutes = round(begin), round(end)
            begin = end


def _inline(markdown: str) -> str:
    """A line of markdown as HTML without the paragraph around it."""
    return re.sub(r"^<p>(.*)</p>$", r"\1", markdown_to_html(markdown).strip(), flags=re.DOTALL)


def deck_html(notebook: NotebookNode, plan: dict[str, Step]) -> str:
    """The deck of a lesson as one page."""
    stacks: list[list[Slide]] = []
    for slide in slides_of(notebook, plan):
        if slide.level == "slide":
            stacks.append([])
        stacks[-1].append(slide)
    environment = Environment(loader=FileSystemLoader(TEMPLATE_FOLDER), autoescape=False)
    html = environment.get_template("deck.html.j2").render(
        title=title_of(notebook),
        stacks=stacks,
        reveal_css=(REVEAL / "dist" / "reveal.css").read_text(encoding="utf-8"),
        reveal_js=_script(REVEAL / "dist" / "reveal.js"),
        notes_js=_script(REVEAL / "plugin" / "notes" / "notes.js"),
        code_css=HtmlFormatter(style="xcode").get_style_defs(".part.code pre"),
        deck_css=(TEMPLATE_FOLDER / "deck.css").read_text(encoding="utf-8"),
    )
    require_offline(html)
    return html


def _script(path) -> str:
    """A script that can stand inside a page: nothing in it looks like the end of the script."""
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def assigned(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the rules' slide type in each cell that has none."""
    for cell, kind in zip(notebook.cells, slide_types(notebook), strict=True):
        cell.metadata.setdefault("slideshow", {}).setdefault("slide_type", kind)
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--assign", action="store_true", help="write slide types into the notebooks, where there are none"
    )
    arguments = parser.parse_args()
    for path in notebook_paths():
        if arguments.assign:
            replace_file(path, notebook_text(assigned(read_notebook(path))))
            continue
        try:
            html = deck_html(read_notebook(path), class_plan(lesson_of(path)))
        except (FormulaError, PageError) as error:
            sys.exit(f"{path.name}: {error}")
        output = OUTPUT_FOLDER / f"{path.stem}.html"
        replace_file(output, html)
        print(f"{output.relative_to(ROOT)}: {len(html.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
