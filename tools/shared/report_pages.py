"""Markdown pages in `reports/` of which a program replaces one section and leaves all others as they are."""

import re
from pathlib import Path

from tools.shared.notebook_files import replace_file


def replace_section(page: Path, title: str, text: str) -> None:
    """Write `text` below the heading `## title` in the place of what stands there; a new section goes to the end.

    Args:
        page: a Markdown file whose parts have headings of the second level; a missing one is begun.
        title: the heading, without the number signs.
        text: the section's new text, without its heading.
    """
    old = page.read_text(encoding="utf-8") if page.exists() else f"# {page.stem.capitalize()}\n"
    head, *sections = re.split(r"^(?=## )", old, flags=re.MULTILINE)
    heading = f"## {title}\n"
    section = f"{heading}\n{text.strip()}\n"
    places = [place for place, other in enumerate(sections) if other.startswith(heading)] or [len(sections)]
    sections[places[0] : places[0] + 1] = [section]
    replace_file(page, "\n".join(part.strip() + "\n" for part in [head, *sections]))


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a vertical bar inside a text is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
