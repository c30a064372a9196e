"""Build the site from the lessons, the helper's docstrings and the repository's pages: `make site`.

    python -m tools.site.build            # -> build/site/index.html

The pages need no network and no server. Slides become part of the site where they have been built before.
"""

import argparse
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from tools.shared.notebook_files import ROOT, notebook_paths
from tools.site.glossary import GlossaryError
from tools.site.sources import EXPLORER, SLIDES_FOLDER, gather

SITE_FOLDER = ROOT / "build" / "site"


def build(folder: Path, notebooks: list[Path]) -> None:
    """Write the site with these lessons into `folder`."""
    sources = folder.with_name(f"{folder.name}-sources")
    gather(sources, notebooks)
    shutil.rmtree(folder, ignore_errors=True)
    settings = str(Path(__file__).parent)
    options = ["-b", "html", "-c", settings, "-d", str(sources / ".doctrees"), "--fail-on-warning", "--quiet"]
    if build_main([*options, str(sources), str(folder)]):
        sys.exit("The site is not complete: see the messages above.")
    for leftover in [*folder.rglob("*.map"), *folder.rglob("webpack-macros.html")]:  # of the theme's own build
        leftover.unlink()
    for notebook in notebooks:
        shutil.copy(notebook, folder / "notebooks")
    if SLIDES_FOLDER.is_dir():
        shutil.copytree(SLIDES_FOLDER, folder / "slides")
    shutil.copy(EXPLORER, folder)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        build(SITE_FOLDER, notebook_paths())
    except GlossaryError as error:
        sys.exit(str(error))
    size = sum(path.stat().st_size for path in SITE_FOLDER.rglob("*") if path.is_file())
    print(f"{(SITE_FOLDER / 'index.html').relative_to(ROOT)}: the site has {size / 1e6:.0f} MB.")


if __name__ == "__main__":
    main()
