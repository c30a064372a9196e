"""Collect what the site is made of in one folder, with the repository's own paths, so that links between files hold."""

import os
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_utils.plotting import EXPLORER_FRAME
from tools.author.stamp import project
from tools.shared.notebook_files import ROOT, has_tag, read_notebook, replace_file
from tools.site import api, glossary

SLIDES_FOLDER = ROOT / "build" / "slides"
EXPLORER = ROOT / "images" / "explorer.html"
FRAME = EXPLORER_FRAME.format(source='src="../explorer.html" loading="lazy"')


def gather(folder: Path, notebooks: list[Path]) -> None:
    """Write the sources of all pages into `folder`, with these lessons.

    Raises:
        GlossaryError: a term of a lesson has no Chinese name.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "images", folder / "images")
    for notebook in notebooks:
        replace_file(folder / "notebooks" / notebook.name, nbformat.writes(adapted(notebook)))
    pages = markdown_pages()
    own = {*pages, *notebooks}
    for page in pages:
        replace_file(folder / page.relative_to(ROOT), with_living_links(page, own))
    for name, text in generated_pages(notebooks).items():
        replace_file(folder / name, text)
    # The README is where every reader starts, and a site starts with its index.
    with (folder / "README.md").open("a", encoding="utf-8") as start:
        start.write(toctree(SECTIONS, ":hidden:"))
    (folder / "README.md").rename(folder / "index.md")


def adapted(notebook: Path) -> NotebookNode:
    """A lesson for the site: with links to its other forms and the living explorer, without the cell that only Colab needs."""
    lesson = read_notebook(notebook)
    for cell in lesson.cells:
        for output in cell.get("outputs", []):
            html = output.get("data", {}).get("text/html", "")
            if 'class="explorer"' in html:
                output["data"]["text/html"] = html.replace("</div>", f"{FRAME}</div>")
        if has_tag(cell, "badge"):
            cell.source = " · ".join([cell.source, *other_forms(notebook)])
        if has_tag(cell, "bootstrap"):
            cell.metadata["tags"].append("remove-cell")
    return lesson


def other_forms(notebook: Path) -> list[str]:
    """Links to the lesson's file, to the explorer and, where they have been built, to its slides."""
    links = [f'<a href="{notebook.name}" download>Notebook file</a>']
    if (SLIDES_FOLDER / f"{notebook.stem}.html").exists():
        links.append(f'<a href="../slides/{notebook.stem}.html">Slides</a>')
    return [*links, '<a href="../explorer.html">Explorer</a>']


def markdown_pages() -> list[Path]:
    """The repository's pages that become pages of the site."""
    folders = [*sorted((ROOT / "deploy").glob("*.md")), *sorted((ROOT / "reports").glob("*.md"))]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *folders]


def with_living_links(page: Path, own: set[Path]) -> str:
    """A page's Markdown, in which links to files that are not part of the site lead to the repository."""
    facts = project()
    repository = f"{facts['urls']['Repository']}/blob/v{facts['version']}"

    def living(link: re.Match) -> str:
        target = (page.parent / link[1]).resolve()
        if target == ROOT / "README.md":
            return f"]({os.path.relpath(ROOT / 'index.md', page.parent)}"
        if target in own or target.parent == ROOT / "images" or not target.exists():
            return link[0]  # Sphinx refuses a link to nothing, and says where it is
        return f"]({repository}/{target.relative_to(ROOT).as_posix()}"

    return re.sub(r"\]\((?!\w+:|#)([^)#\s]+)", living, page.read_text(encoding="utf-8"))


# The start page's sections, in the order of the menu.
SECTIONS = [
    "Lessons <notebooks/index>",
    "For instructors <deploy/index>",
    "Glossary <glossary>",
    "API <api/index>",
    "Reports <reports/index>",
    "For maintainers <maintain>",
]


def generated_pages(notebooks: list[Path]) -> dict[str, str]:
    """File name → text of the pages that only the site has."""
    deploy, reports = (
        [f"/{p.relative_to(ROOT).with_suffix('').as_posix()}" for p in markdown_pages() if p.parent.name == name]
        for name in ("deploy", "reports")
    )
    return api.pages() | {
        "notebooks/index.md": f"# Lessons\n\n{lesson_list(notebooks)}\n"
        + toctree([path.stem for path in notebooks], ":hidden:"),
        "deploy/index.md": "# For instructors\n" + toctree(deploy),
        "glossary.md": glossary.page(notebooks),
        "reports/index.md": "# Reports\n\nProofs that take too long to repeat after every change.\n"
        + toctree(reports, ":maxdepth: 1"),
        "maintain.md": "# For maintainers\n" + toctree(["CONTRIBUTING", "CHANGELOG"]),
    }


def toctree(documents: list[str], *options: str) -> str:
    return "\n".join(["", "```{toctree}", *options, *documents, "```", ""])


def lesson_list(notebooks: list[Path]) -> str:
    ideas = {path: read_notebook(path).metadata["course"]["idea"] for path in notebooks}
    lines = [f"- [](/notebooks/{path.name}): {idea}" for path, idea in ideas.items()]
    lines.append("\nTo play with: <a href='../explorer.html'>the latent space explorer</a>.")
    return "\n".join(lines)
