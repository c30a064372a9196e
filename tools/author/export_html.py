"""Turn the notebooks, with their stored outputs, into web pages that need no network: `make html`.

    python -m tools.author.export_html            # notebooks/NN_name.ipynb -> build/html/NN_name.html

Formulas become MathML, pictures keep their alternative texts, and nothing is loaded from anywhere.
"""

import argparse
import re
import sys
from pathlib import Path

from jinja2 import pass_context
from nbconvert import HTMLExporter

from tools.shared.mathml import FormulaError
from tools.shared.notebook_files import ROOT, notebook_paths, read_notebook, replace_file
from tools.shared.web_pages import PageError, markdown_to_html, require_offline

TEMPLATE_FOLDER = Path(__file__).resolve().parent
OUTPUT_FOLDER = ROOT / "build" / "html"


class OfflineHTMLExporter(HTMLExporter):
    """nbconvert's JupyterLab page without its scripts."""

    def __init__(self):
        super().__init__(template_name="html_template", extra_template_basedirs=[str(TEMPLATE_FOLDER)])

    @pass_context
    def markdown2html(self, context, source):
        return markdown_to_html(source, anchor="¶")


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
        except (FormulaError, PageError) as error:
            sys.exit(f"{path.name}: {error}")
        output = OUTPUT_FOLDER / f"{path.stem}.html"
        replace_file(output, html)
        print(f"{output.relative_to(ROOT)}: {len(html.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
