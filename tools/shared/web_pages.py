"""Markdown as HTML that needs no script and no network, and a check that a page loads nothing."""

import re

from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from tools.shared.mathml import to_mathml


class PageError(ValueError):
    """A page cannot be made as it has to be; the message says why."""


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


def markdown_to_html(source: str) -> str:
    # nbconvert would write the links behind headings as `<a … />`, which for browsers go on to the end of the page.
    return MarkdownWithMath(renderer=MathMLRenderer(escape=False, exclude_anchor_links=True)).render(source)


def require_offline(html: str) -> None:
    """Raise a `PageError` if the page would load anything."""
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
        raise PageError(f"the page would load {', '.join(url[:80] for url in missing)}.")
