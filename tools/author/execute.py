"""Run notebooks from top to bottom in a fresh kernel and store their outputs: `make notebooks`.

    python -m tools.author.execute                               # all lessons
    python -m tools.author.execute notebooks/01_autoencoder.ipynb

A notebook is replaced only after its last cell has succeeded. For each one the seconds and the kernel's largest private
memory are printed.
"""

import argparse
import base64
import io
import re
import sys
from pathlib import Path

from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from PIL import Image, ImageChops

from tools.shared.notebook_files import (
    KERNELSPEC,
    LANGUAGE_INFO,
    code_cells,
    notebook_paths,
    notebook_text,
    read_notebook,
    replace_file,
)
from tools.shared.notebook_runs import CellFailed, Run, run_notebook

# The explorer: large, and no notebook is trusted with a script before it runs. Its picture stays.
EMBEDDED_PAGE = re.compile(r"<iframe [^>]*srcdoc=[^>]*></iframe>")


def tidy(notebook: NotebookNode) -> None:
    """Remove from an executed notebook what would differ from run to run or from machine to machine."""
    notebook.metadata.update(kernelspec=KERNELSPEC, language_info=LANGUAGE_INFO)
    notebook.metadata.pop("widgets", None)
    for index, cell in enumerate(code_cells(notebook)):
        for noise in ("execution", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(noise, None)
        # A stream arrives in pieces whose number depends on timing.
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, index)
        for output in cell.outputs:
            data = output.get("data", {})
            if png := data.get("image/png"):
                data["image/png"] = smaller(png)
            if html := data.get("text/html"):
                data["text/html"] = EMBEDDED_PAGE.sub("", html)


def smaller(png: str) -> str:
    """The same picture, in base64, without transparency, in shades of gray if it has no color, else in 256 colors."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    red, green, blue = picture.split()
    is_gray = not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox())
    content = io.BytesIO()
    stored = red if is_gray else picture.quantize(256, dither=Image.Dither.NONE)
    stored.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")


def execute(path: Path) -> Run:
    """Run the notebook at `path` and replace it by itself with fresh outputs."""
    notebook = read_notebook(path)
    run = run_notebook(notebook, path.parent)
    tidy(notebook)
    replace_file(path, notebook_text(notebook))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all lessons")
    arguments = parser.parse_args()
    for path in arguments.notebooks:
        if not path.is_file():
            parser.error(f"there is no file {path}")
    for path in arguments.notebooks or notebook_paths():
        try:
            run = execute(path)
        except CellFailed as failure:
            sys.exit(f"{path.name}, {failure}\n{path.name} was left as it was.")
        print(f"{path.name}: {run.seconds:.0f} s, {run.private_mb:,.0f} MB at most", flush=True)


if __name__ == "__main__":
    main()
