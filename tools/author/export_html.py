"""Turn the notebooks, with their stored outputs, into web pages that need no network: `make html`.

    python tools/export_html.py            # notebooks/NN_name.ipynb -> build/html/NN_name.html

Formulas become MathML, pictures keep their alternative texts, and nothing is loaded from anywhere.
"""

import argparse
import re
import sys
import unicodedata
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from tools.shared.notebook_files import ROOT, notebook_paths, read_notebook, replace_file

TEMPLATE_FOLDER = Path(__file__).resolve().parent
OUTPUT_FOLDER = ROOT / "build" / "html"

# How many parts these elements have: the converter leaves some out, and says nothing, where the formula is incomplete.
PARTS = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}

VARIANT = r'<(m[ino]) mathvariant="(bold|bold-italic|double-struck|script)">([^<]+)</\1>'


class HTMLExportError(ValueError):
    """A page cannot be made, or would need the network; the message says why."""


def to_mathml(formula: str, display: str) -> str:
    """A LaTeX formula as MathML; `display` is `"block"` or `"inline"`.

    Raises:
        HTMLExportError: the formula cannot be converted completely.
    """
    # To the converter `aligned` is unknown, and `split` is the same inside one formula.
    source = re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{split}", formula)
    try:
        mathml = convert(source, display=display)
        elements = list(ET.fromstring(mathml).iter())
    except Exception as error:  # the converter raises many types, all of them about the formula
        raise HTMLExportError(f"the formula {formula!r} cannot be converted ({type(error).__name__}).") from None
    for element in elements:
        tag = element.tag.rpartition("}")[2]
        if "\\" in (element.text or "") or len(element) != PARTS.get(tag, len(element)):
            raise HTMLExportError(f"the formula {formula!r} cannot be converted: see {element.text or tag!r}.")
    # Of an environment that the converter does not know it keeps the contents in one line; every other one is a table.
    tables = sum(element.tag.endswith("}mtable") for element in elements)
    if tables < len(re.findall(r"\\begin\{(?!equation)", source)):
        raise HTMLExportError(f"the formula {formula!r} cannot be converted: it has an unknown environment.")
    try:
        return re.sub(VARIANT, _as_letter, mathml)
    except KeyError as name:
        raise HTMLExportError(f"the formula {formula!r} cannot be converted: there is no letter {name}.") from None


def _as_letter(element: re.Match) -> str:
    """A letter of its own in place of a variant of an ordinary one: of variants browsers know the upright one only."""
    tag, variant, text = element[1], element[2].upper().replace("BOLD-", "BOLD "), unescape(element[3])
    letters = []
    for letter in text:
        name = f"{variant} {re.sub('LATIN |GREEK |LETTER ', '', unicodedata.name(letter))}"
        try:
            letters.append(unicodedata.lookup(f"MATHEMATICAL {name}"))
        except KeyError:  # some, such as ℝ and ℒ, were there before the mathematical alphabets
            letters.append(unicodedata.lookup(name))
    return f"<{tag}>{''.join(letters)}</{tag}>"


class MathMLRenderer(IPythonRenderer):
    """Markdown to HTML, with formulas as MathML and links to other lessons leading to their web pages."""

    def block_math(self, body: str) -> str:
        return to_mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return to_mathml(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, re.sub(r"^(\d\d_\w+)\.ipynb", r"\1.html", url), title)


class OfflineHTMLExporter(HTMLExporter):
    """nbconvert's JupyterLab page without its scripts."""

    def __init__(self):
        super().__init__(template_name="html_template", extra_template_basedirs=[str(TEMPLATE_FOLDER)])

    @pass_context
    def markdown2html(self, context, source):
        return MarkdownWithMath(renderer=MathMLRenderer(escape=False, anchor_link_text="¶")).render(source)


def require_offline(html: str) -> None:
    """Raise an `HTMLExportError` if the page would load anything."""
    page = BeautifulSoup(html, features="html.parser")
    loaded = [tag[key] for key in ("src", "srcset", "data") for tag in page.find_all(attrs={key: True})]
    loaded += [tag["href"] for tag in page.find_all("link", href=True)]
    styles = [style.get_text() for style in page.find_all("style")] + [
        tag["style"] for tag in page.find_all(style=True)
    ]
    for style in styles:
        loaded += re.findall(r"url\(\s*[\"']?([^\"')]+)", style) + re.findall(r"@import\s+[\"']([^\"']+)", style)
    for script in page.find_all("script"):
        loaded += re.findall(r"(?:https?:)?//[\w.-]+\.\w+/[^\s\"'`]*\.m?js", script.get_text())
    missing = [url for url in loaded if not url.startswith(("data:", "#"))]
    if missing:
        raise HTMLExportError(f"the page would load {', '.join(url[:80] for url in missing)}.")


def to_html(path: Path) -> str:
    """The web page of the notebook at `path`."""
    notebook = read_notebook(path)
    # The title that a browser shows; without it, it would be the file's name.
    heading = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)
    notebook.metadata["title"] = heading[1] if heading else path.stem
    html, _ = OfflineHTMLExporter().from_notebook_node(notebook)
    require_offline(html)
    return html


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for path in notebook_paths():
        try:
            html = to_html(path)
        except HTMLExportError as error:
            sys.exit(f"{path.name}: {error}")
        output = OUTPUT_FOLDER / f"{path.stem}.html"
        replace_file(output, html)
        print(f"{output.relative_to(ROOT)}: {len(html.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
