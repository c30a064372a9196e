"""Turn the notebooks, with their stored outputs, into web pages that need no network: `make html`.

    python -m tools.author.export_html            # notebooks/NN_name.ipynb -> build/html/NN_name.html

Formulas become MathML, pictures keep their alternative texts, and nothing is loaded from anywhere.
"""

import argparse
import re
import sys
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from tools.shared.mathml import FormulaError, to_mathml
from tools.shared.notebook_files import ROOT, notebook_paths, read_notebook, replace_file

TEMPLATE_FOLDER = Path(__file__).resolve().parent
OUTPUT_FOLDER = ROOT / "build" / "html"


class HTMLExportError(ValueError):
    """A page would need the network; the message says for what."""


class MathMLRenderer(IPythonRenderer):
    """Markdown to HTML, with formulas as MathML and links to other lessons leading to their web pages."""

    def block_math(self, body: str) -> str:
        return to_mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return to_mathml(body, block=False)

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

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
    styles = [style.get_text() for style in page.find_all("style")]
    for style in styles + [tag["style"] for tag in page.find_all(style=True)]:
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
        except (FormulaError, HTMLExportError) as error:
            sys.exit(f"{path.name}: {error}")
        output = OUTPUT_FOLDER / f"{path.stem}.html"
        replace_file(output, html)
        print(f"{output.relative_to(ROOT)}: {len(html.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
