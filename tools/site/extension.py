"""What Sphinx and MyST-NB lack for the course: formulas as MathML, alternative texts of stored pictures, terms as links."""

import hashlib
import re
from base64 import b64decode
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from tools.shared.mathml import FormulaError, to_mathml
from tools.shared.notebook_files import read_notebook
from tools.site import glossary


def add_formula(writer, node: nodes.Element, block: bool) -> None:
    try:
        mathml = to_mathml(node.astext(), block=block)
    except FormulaError as error:
        raise SphinxError(f"{node.source}: {error}") from None
    # A page never gets wider than the window: a long formula scrolls by itself, also with the keyboard.
    writer.body.append(f'<div class="formula" tabindex="0">{mathml}</div>' if block else mathml)
    raise nodes.SkipNode


def add_inline_formula(writer, node: nodes.math) -> None:
    add_formula(writer, node, block=False)


def add_block_formula(writer, node: nodes.math_block) -> None:
    add_formula(writer, node, block=True)


def stored_alternatives(notebook: Path) -> dict[str, str]:
    """Digest of a stored picture → its alternative text. MyST-NB names a picture's file by the same digest."""
    outputs = [output for cell in read_notebook(notebook).cells for output in cell.get("outputs", [])]
    return {
        hashlib.sha256(b64decode(output.data["image/png"])).hexdigest(): output.metadata["image/png"]["alt"]
        for output in outputs
        if "image/png" in output.get("data", {})
    }


def add_alternatives(doctree: nodes.document, alternatives: dict[str, str]) -> None:
    for image in doctree.findall(nodes.image):
        digest = Path(image["uri"]).stem
        if digest in alternatives:
            image["alt"] = alternatives[digest]


def in_outlook(node: nodes.Element) -> bool:
    """Whether it stands in a section that names terms which are introduced elsewhere."""
    section = node.parent
    while section and not isinstance(section, nodes.section):
        section = section.parent
    return bool(section) and section.next_node(nodes.title).astext() in glossary.OUTLOOKS


def link_terms(doctree: nodes.document, page: str) -> None:
    """Give the first bold form of each term an identifier, and make it a link to the glossary."""
    seen = set()
    for bold in list(doctree.findall(nodes.strong)):
        term = glossary.term_of(bold.astext())
        if term is None or term in seen or in_outlook(bold):
            continue
        seen.add(term)
        link = addnodes.pending_xref(
            "", refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True, refdoc=page
        )
        bold.replace_self(link)
        bold["ids"].append(glossary.anchor(term))
        link += bold


def finish_lesson(app: Sphinx, doctree: nodes.document) -> None:
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix == ".ipynb":
        add_alternatives(doctree, stored_alternatives(source))
        link_terms(doctree, app.env.docname)


def mark_chinese(app: Sphinx, doctree: nodes.document) -> None:
    """Tell screen readers which names of the glossary are Chinese."""
    for name in doctree.findall(nodes.term):
        if re.search("[\u4e00-\u9fff]", name.astext()):
            name["classes"].append("language-zh-Hans")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(add_inline_formula, None), block_renderers=(add_block_formula, None)
    )
    app.connect("doctree-read", finish_lesson)
    app.connect("doctree-read", mark_chinese)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
