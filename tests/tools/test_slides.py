"""Decks: which cell goes where, what of it is shown, and what the presenter reads; tests/browser looks at them."""

import re

import pytest
from bs4 import BeautifulSoup

from tests.notebooks.sample import code, figure, stream
from tools.author.slide_rules import number_of_slides, slide_types
from tools.author.slide_text import code_pages, shortened, text_html, wrapped
from tools.author.slides import assigned, deck_html, slides_of
from tools.shared.class_plan import Step
from tools.shared.lesson_parts import figures, questions, sentences
from tools.shared.notebook_files import notebook_paths, read_notebook
from tools.shared.web_pages import PageError


def slides(notebook, plan=None):
    return slides_of(notebook, plan or {})


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_a_lesson_fills_ninety_minutes(path):
    notebook = read_notebook(path)
    types = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in notebook.cells]
    types = [kind or rule for kind, rule in zip(types, slide_types(notebook), strict=True)]
    assert 25 <= number_of_slides(notebook.cells, types) == len(slides(notebook)) <= 40


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_a_deck_shows_nearly_all_figures_of_its_lesson(path):
    """Slide types that were assigned before the lesson was executed would leave them out."""
    with_figure = [cell for cell in read_notebook(path).cells if figures(cell)]
    shown = [cell for cell in with_figure if cell.metadata.get("slideshow", {}).get("slide_type") != "skip"]
    assert len(shown) >= 0.8 * len(with_figure)


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_no_slide_of_a_lesson_is_empty(path):
    assert [slide.title for slide in slides(read_notebook(path)) if not slide.parts] == []


def test_rules(notebook):
    types = dict(zip((cell.id for cell in notebook.cells), slide_types(notebook), strict=True))
    assert types["title"] == types["story-0"] == types["questions"] == "slide"
    assert types["opening"] == "fragment"  # a picture joins the words before it
    assert types["figure"] == "subslide"  # but not a formula
    assert {types[name] for name in ("badge", "setup", "definition", "exercise-double", "solution-double")} == {"skip"}


def test_less_important_figures_give_way(notebook):
    at = next(i for i, cell in enumerate(notebook.cells) if cell.id == "figure")
    notebook.cells[at:at] = [code(f"more-{i}", "draw()", outputs=(figure(),)) for i in range(60)]
    types = slide_types(notebook)
    assert number_of_slides(notebook.cells, types) == 40
    kinds = dict(zip((cell.id for cell in notebook.cells), types, strict=True))
    assert (kinds["more-0"], kinds["more-59"], kinds["wrong"]) == ("subslide", "skip", "slide")


def test_each_figure_of_a_cell_has_a_slide(notebook):
    before = len(slides(notebook))
    cell = next(cell for cell in notebook.cells if cell.id == "figure")
    cell.outputs += [figure(), figure()]
    deck = slides(notebook)
    assert len(deck) == before + 2 == number_of_slides(notebook.cells, slide_types(notebook))


def test_a_formula_before_a_subheading_has_a_slide_of_its_own(notebook):
    story = next(cell for cell in notebook.cells if cell.id == "story-1")
    before = len(slides(notebook))
    story.source = "## What happens in section 1\n\n$$a = b$$\n\n### Aside\n\nNo formula.\n\n### Check\n\n$$c = d$$"
    deck = slides(notebook)
    assert len(deck) == before + 1 == number_of_slides(notebook.cells, slide_types(notebook))
    first = next(i for i, slide in enumerate(deck) if slide.title == "What happens in section 1")
    assert (deck[first].text, deck[first + 1].text) == ("$$a = b$$", "$$c = d$$")
    assert (deck[first + 1].title, deck[first + 1].overline) == ("Check", "What happens in section 1")
    assert "No formula." in deck[first].notes_html


def test_metadata_come_before_the_rules(notebook):
    before = [slide.title for slide in slides(notebook)]
    notebook.cells[-1].metadata["slideshow"] = {"slide_type": "skip"}
    assert [slide.title for slide in slides(notebook)] == before[:-1]
    notebook.cells[-1].metadata["slideshow"] = {"slide_type": "sildes"}
    with pytest.raises(PageError, match=r"next.*'sildes'"):
        slides(notebook)


def test_a_deck_begins_with_a_slide(notebook):
    notebook.cells[0].metadata["slideshow"] = {"slide_type": "notes"}
    with pytest.raises(PageError, match=r"title.*no slide before it"):
        slides(notebook)


def test_assigned_types_change_no_deck_and_no_choice(notebook):
    notebook.cells[-1].metadata["slideshow"] = {"slide_type": "skip"}
    before = deck_html(notebook, {})
    stored = assigned(notebook)
    assert stored.cells[-1].metadata["slideshow"]["slide_type"] == "skip"
    assert all("slide_type" in cell.metadata["slideshow"] for cell in stored.cells)
    assert deck_html(stored, {}) == before


def test_question_and_answer_are_neighbors_and_wrong_answers_are_in_the_notes(notebook):
    block = (
        '<details>\n<summary><b>7.</b> Why $x$?</summary>\n\nIt is **so**. *"It is not"* is wrong: it is.\n</details>'
    )
    notebook.cells[8].source = f"## Warm-up questions\n\n{block}"
    deck = slides(notebook)
    asked = next(i for i, slide in enumerate(deck) if slide.title == "Question 7")
    assert "It is not" not in deck[asked].parts[0].html
    assert "It is not" in deck[asked].notes_html
    assert "<math>" in deck[asked].parts[0].html
    assert deck[asked + 1].title == "Answer 7"
    assert "It is not" in deck[asked + 1].parts[0].html


def test_notes_have_minutes_advice_and_what_to_run(notebook):
    plan = {
        "Opening": Step(4, 2, "Show **a seven**."),
        "Warm-up questions": Step(6),
        "What happens in section 2": Step(10),
    }
    notebook.cells.insert(14, code("long-training", "train()"))
    notebook.cells[14].outputs = [figure()]
    notebook.cells[14].outputs[0].data = {"text/plain": "8 epochs in 43.8 s · loss 0.07"}
    deck = slides(notebook, plan)
    assert "<strong>a seven</strong>" in deck[0].notes_html
    assert [slide.minutes for slide in deck[:2]] == [(0, 2), (2, 4)]
    assert [slide.minutes for slide in deck if slide.section.endswith("section 2")][-1][1] == 29  # others take three
    figures = next(slide for slide in deck if "Run live" in slide.notes_html and slide.section.endswith("2"))
    assert "figure" in figures.notes_html
    assert any("Run before class" in s.notes_html and "8 epochs in 43.8 s" in s.notes_html for s in deck)


def test_a_deck_hides_drawing_code_and_shows_other_code(notebook):
    notebook.cells[13:13] = [code("shown-code", "shown = 1\nprint(shown)", outputs=(stream("1"),))]
    for cell in notebook.cells[13:15]:
        cell.metadata["slideshow"] = {"slide_type": "subslide"}
    page = BeautifulSoup(deck_html(notebook, {}), features="html.parser")
    listings = [pre.get_text() for pre in page.select(".part.code pre")]
    assert "shown = 1\nprint(shown)" in listings
    assert "print(identity(1))" not in listings
    assert "print(2)" not in page.select_one(".slides").get_text()
    assert [image["alt"] for image in page.select("img")]
    assert all(image["src"].startswith("data:") for image in page.select("img"))
    assert page.select_one("math[display=block]")


def test_long_texts_are_shortened_and_said_so():
    long = "First comes this sentence. " + "More is said here, and it takes a while. " * 20
    assert shortened("Short text.", 5) == ("Short text.", True)
    assert shortened(long, 5) == ("First comes this sentence. More is said here, and it takes a while.", False)
    text, is_whole = shortened(f"{long}\n\n$$a = b$$\n\nNow the **point**. {long}", 6)
    assert text.split("\n\n")[1:] == ["$$a = b$$", "Now the **point**."]
    assert not is_whole
    items = "\n".join(f"- **Point {i}.** {long}" for i in range(5))
    assert shortened(items, 9)[0].splitlines() == [f"- **Point {i}.** First comes this sentence." for i in range(5)]
    assert shortened(items, 5)[0].splitlines() == [f"- **Point {i}.**" for i in range(4)]


def test_sentences_end_where_they_end():
    said = 'With 0.5 or `a. B` or $x. Y$ it goes on, e.g. Here. **Bold.** *"Quoted?"* Yes!'
    assert sentences(said) == [
        "With 0.5 or `a. B` or $x. Y$ it goes on, e.g. Here.",
        "**Bold.**",
        '*"Quoted?"*',
        "Yes!",
    ]


def test_headings_in_notes_have_no_links(notebook):
    notebook.cells[10].source += "\n\n### More about z"
    notebook.cells[10].metadata["slideshow"] = {"slide_type": "notes"}
    assert "<h3>More about z</h3>" in deck_html(notebook, {})


def test_only_numbered_blocks_are_questions():
    folded = "<details>\n<summary>{}</summary>\n\nBody.\n</details>"
    found = questions(folded.format("<b>3.</b> Why\nso?") + folded.format("<b>Appendix:</b> more"))
    assert [(question.number, question.question, question.answer) for question in found] == [(3, "Why so?", "Body.")]


def test_listings_fit_on_a_slide():
    source = "\n\n".join("\n".join(f"line_{i}_{j} = 1" for j in range(8)) for i in range(4))
    pages = code_pages(source)
    assert len(pages) > 1
    assert all(page.startswith("line") and len(page.splitlines()) <= 18 for page in pages)
    assert re.findall(r"line\w+", "\n".join(pages)) == re.findall(r"line\w+", source)
    assert max(map(len, wrapped("word " * 60).splitlines())) <= 80
    assert wrapped("a    " * 30) == "a    " * 30  # a table
    assert wrapped("line\n" * 99).splitlines()[-1] == "…"


def test_a_long_line_of_formulas_becomes_several():
    formula = (
        r"$$a_1 + b_2 + c_3 + d_4 + e_5 + f_6 = 1234567890,\qquad a_1 - b_2 - c_3 - d_4 - e_5 - f_6 = 1234567890$$"
    )
    assert text_html(formula).count("<math") == 2
    assert text_html(r"$$a = b,\qquad c = d$$").count("<math") == 1


def test_aligned_rows_get_smaller_letters_if_their_columns_are_wide():
    row = "a + b + c + d + e + f &= g + h + i + j + k + l + m"
    narrow = rf"$$\begin{{aligned}} {row} \\ {row} \end{{aligned}}$$"
    wide = rf"$$\begin{{aligned}} {row} && \text{{a reason in many words, which says why this holds}} \\ {row} \end{{aligned}}$$"
    assert "font-size" not in text_html(narrow)
    assert "font-size: 0." in text_html(wide)
