"""Decks in a real browser: every slide fits, can be read from the last row, is reached by keyboard, and prints."""

import re

import pytest

from tools.author.slides import deck_html
from tools.shared.class_plan import class_plan
from tools.shared.notebook_files import lesson_of, lesson_path, notebook_paths, read_notebook

pytestmark = pytest.mark.slow

MEASURE = """() => Reveal.getSlides().map((slide, number) => {
  const place = Reveal.getIndices(slide);
  Reveal.slide(place.h, place.v);
  slide.querySelectorAll('.fragment').forEach(step => step.classList.add('visible'));
  const frame = slide.querySelector('.frame'), window_ = frame.getBoundingClientRect();
  const isText = e => [...e.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  const inside = [...frame.querySelectorAll('*')];
  const texts = inside.filter(e => isText(e) && !e.closest('pre, code, math, audio'));
  const scale = window_.height / 720;
  const size = e => parseFloat(getComputedStyle(e).fontSize);
  const captions = texts.filter(e => e.closest('figcaption')), others = texts.filter(e => !e.closest('figcaption'));
  return {
    number: number + 1,
    beyond: Math.max(frame.scrollHeight - 720, frame.scrollWidth - 1280,
                     ...inside.map(e => (e.getBoundingClientRect().right - window_.right) / scale)),
    text: Math.min(...others.map(size)), caption: Math.min(...captions.map(size), 99),
    code: Math.min(...[...slide.querySelectorAll('pre')].map(size), 99),
    picture: Math.min(...[...slide.querySelectorAll('img')].map(e => e.getBoundingClientRect().height / scale), 999),
    window: [Math.round(window_.width), Math.round(window_.height)],
  };
})"""


@pytest.fixture
def open_deck(tmp_path, open_page):
    """Opens the deck of a lesson; returns its page when reveal.js is ready."""

    def open_deck(lesson="01", **device):
        path = lesson_path(lesson)
        file = tmp_path / f"{path.stem}.html"
        file.write_text(deck_html(read_notebook(path), class_plan(lesson)), encoding="utf-8")
        page = open_page(file, **device)
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        return page

    return open_deck


@pytest.mark.parametrize("lesson", [lesson_of(path) for path in notebook_paths()])
def test_every_slide_fits_and_can_be_read(lesson, open_deck):
    page = open_deck(lesson)
    for size in ((1280, 720), (1920, 1080)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        slides = page.evaluate(MEASURE)
        assert 25 <= len(slides) <= 40
        for slide in slides:
            assert slide["window"] == list(size), slide
            assert slide["beyond"] <= 1, slide
            assert slide["text"] >= 24, slide
            assert slide["caption"] >= 20, slide
            assert slide["code"] >= 14, slide
            assert slide["picture"] >= 200, slide


def test_keys_lead_through_the_deck(open_deck):
    page = open_deck()
    last = page.evaluate("Reveal.getSlides().length")
    seen = set()
    for key in ["ArrowRight", "PageDown", "Space", "n"] * last:
        seen.add(page.evaluate("Reveal.getSlidePastCount()"))
        page.keyboard.press(key)
    assert seen == set(range(last))
    page.keyboard.press("Home")
    assert page.evaluate("Reveal.isFirstSlide()")


def test_presenter_sees_the_notes(open_deck):
    page = open_deck()
    page.evaluate("Reveal.slide(Reveal.getIndices(document.querySelector('section.question')).h, 0)")
    with page.expect_popup() as opened:
        page.keyboard.press("s")
    notes = opened.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("Typical wrong answers").wait_for()
    assert re.search(r"Minutes \d+ to \d+", notes.inner_text())


def test_each_slide_prints_on_a_page(open_deck):
    page = open_deck()
    slides = page.evaluate("Reveal.getSlides().length")
    page.goto(page.url.split("#")[0] + "?print-pdf")
    page.wait_for_function("document.querySelectorAll('.pdf-page').length > 0")
    assert page.locator(".pdf-page").count() == slides
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == slides


def test_nothing_bars_the_way_for_a_screen_reader(open_deck, grave_violations):
    page = open_deck()
    for look in ("question", "answer", "figure", "code"):
        place = f"Reveal.getIndices(document.querySelector('section.{look}'))"
        page.evaluate(f"(() => {{ const place = {place}; Reveal.slide(place.h, place.v); }})()")
        assert grave_violations(page) == []
