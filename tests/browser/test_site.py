"""The site: complete, every link lives, and its pages open from disk without a network, for every reader."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup, SoupStrainer

from tools.shared.notebook_files import ROOT, notebook_paths, read_notebook
from tools.site import glossary

pytestmark = pytest.mark.slow

BUILD = "import sys; from pathlib import Path; from tools.site import build; build.build(Path(sys.argv[1]), build.notebook_paths())"
LESSONS = notebook_paths()
PAGES = ["index.html", "notebooks/01_autoencoder.html", "glossary.html", "api/course_utils.training.html"]


ARTICLE = "document.querySelector('.bd-article-container')"  # it scrolls by itself, so the page stays as wide as it is


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, built once for all tests."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run([sys.executable, "-c", BUILD, folder], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@cache
def soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), features="html.parser")


def lesson_page(site: Path, lesson: Path) -> BeautifulSoup:
    return soup(site / "notebooks" / f"{lesson.stem}.html")


def own_pages(site: Path) -> list[Path]:
    """All pages but the decks and the explorer, which have tests of their own."""
    return [page for page in site.rglob("*.html") if page.parent.name != "slides" and page.name != "explorer.html"]


def test_every_term_leads_to_where_it_is_taught_and_back(site):
    page = soup(site / "glossary.html")
    names = [glossary.normalized(name.get_text()) for name in page.find(class_="glossary").find_all("dt")]
    for place in glossary.introductions(LESSONS):
        chinese = glossary.GLOSSARY["terms"][place.term]
        assert names[names.index(place.term + "#") + 1].startswith(chinese)
        target = f"notebooks/{place.notebook.stem}.html#{glossary.anchor(place.term)}"
        assert page.find("a", href=target), f"the glossary does not link to {target}"
        introduced = lesson_page(site, place.notebook).find(id=glossary.anchor(place.term))
        assert glossary.term_of(introduced.get_text()) == place.term
        assert introduced.find_parent("a")["href"].startswith("../glossary.html#term-"), (
            "no way from the lesson to the glossary"
        )


def test_every_link_lives(site):
    def targets(page):
        """What a page links to and loads, without other sites."""
        tags = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser", parse_only=SoupStrainer(linked))
        urls = {tag[key] for tag in tags.find_all(linked) for key in ("href", "src") if tag.has_attr(key)}
        return [urlsplit(url) for url in urls if not re.match(r"(https?|data|mailto):", url)]

    linked = ["a", "img", "link", "script", "iframe"]
    identifiers = {
        page: set(re.findall(r'\sid="([^"]*)"', page.read_text(encoding="utf-8"))) for page in site.rglob("*.html")
    }
    dead = []
    for page in own_pages(site):
        for url in targets(page):
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            if not target.is_file() or (url.fragment and unquote(url.fragment) not in identifiers[target]):
                dead.append(f"{page.relative_to(site)}: {url.geturl()}")
    assert not dead


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_arrives_whole(site, lesson):
    """Titles, figures with alternative texts, captions, folded details and formulas of the notebook are on the page."""
    page, notebook = lesson_page(site, lesson).article, read_notebook(lesson)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]

    alternatives = {output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})}
    drawn = [soup_of_output(output.data["text/html"]) for output in outputs if "text/html" in output.get("data", {})]
    alternatives |= {image["alt"] for drawing in drawn for image in drawing.find_all("img")}
    assert alternatives <= {image.get("alt") for image in page.find_all("img")}

    shown = plain(" ".join(output.get_text() for output in page.select(".cell_output")))
    captions = [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    assert [caption for caption in captions if not re.search(r"[$`\[]", caption) and plain(caption) not in shown] == []

    assert len(page.select("details:not(.hide)")) == prose.count("<details>")
    without_code = re.sub(r"```.*?```|`[^`]*`", "", prose, flags=re.DOTALL)
    assert len(page.select("div.formula > math")) == without_code.count("$$") // 2
    assert not page.select(".math, .MathJax")


def soup_of_output(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, features="html.parser")


def plain(text: str) -> str:
    """Text without marks and typographic quotes, which the page has and the notebook has not."""
    return " ".join(re.sub("[*\"'“”‘’]", "", text).replace("–", "-").split())


def test_a_lesson_leads_to_its_neighbors_and_other_forms(site):
    page = lesson_page(site, LESSONS[1])
    assert [page.find("a", class_=name)["href"] for name in ("left-prev", "right-next")] == [
        f"{LESSONS[0].stem}.html",
        f"{LESSONS[2].stem}.html",
    ]
    links = {link.get_text(): link["href"] for link in page.article.find_all("a", href=True)}
    assert links["Open in Colab"].startswith("https://colab.research.google.com/github/")
    assert (site / "notebooks" / links["Notebook file"]).read_bytes() == LESSONS[1].read_bytes()


def test_the_api_shows_signatures_and_sections_of_the_docstrings(site):
    train = soup(site / "api" / "course_utils.training.html").find(id="course_utils.training.train").find_parent("dl")
    fields = {
        field.get_text().strip(":"): field.find_next_sibling("dd").get_text()
        for field in train.select("dl.field-list dt")
    }
    assert "the highest learning rate, above 0" in fields["Parameters"]
    assert "TestDigitsError" in fields["Raises"]
    assert "→ keras.callbacks.History" in train.dt.get_text()


def test_files_outside_of_the_site_are_linked_in_the_repository(site):
    links = {link.get_text(): link["href"] for link in soup(site / "index.html").article.find_all("a", href=True)}
    assert re.fullmatch(r"https://github\.com/.+/blob/v[\d.]+/LICENSE", links["LICENSE"])
    assert links["COST.md"] == "reports/COST.html"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("size", "dark"), [((1280, 720), False), ((390, 844), True)])
def test_pages_suit_screens_and_readers(site, open_page, overflow, grave_violations, name, size, dark):
    page = open_page(site / name, size=size, dark=dark)
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    assert overflow(page) == 0
    assert page.evaluate(f"{ARTICLE}.scrollWidth - {ARTICLE}.clientWidth") == 0, "the text has to be scrolled sideways"
    assert grave_violations(page) == []


@pytest.mark.parametrize("words", ["bottleneck", "瓶颈"])
def test_search_works_from_disk(site, open_page, words):
    page = open_page(site / "search.html")
    page.goto(f"{page.url}?q={words}")
    page.wait_for_selector("#search-results li a")
    links = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.getAttribute('href'))")
    assert any(link.startswith("glossary.html#term-") for link in links), links
