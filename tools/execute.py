"""Run notebooks from top to bottom in a fresh kernel and store their outputs: `make notebooks`.

    python tools/execute.py                               # all lessons
    python tools/execute.py notebooks/01_autoencoder.ipynb

A notebook is replaced only after its last cell has succeeded. For each one the seconds and the kernel's peak memory are
printed.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from machine import megabytes
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.filters import strip_ansi
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from notebook_files import (
    KERNELSPEC,
    LANGUAGE_INFO,
    code_cells,
    notebook_paths,
    notebook_text,
    read_notebook,
    replace_file,
)

CELL_TIMEOUT = 600  # seconds

# A process starts with the peak of the one that started it, so this is right as long as the lesson needs more than we do.
PEAK_MEMORY = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, end='')"


class CellFailed(RuntimeError):
    """A cell raised an error, took too long or killed its kernel; the message says which cell and why."""


@dataclass(frozen=True)
class Run:
    """What running a notebook took."""

    seconds: float
    peak_memory_mb: float


def run_notebook(notebook: NotebookNode, folder: Path, **environment: str) -> Run:
    """Run all cells of `notebook` in a fresh kernel that starts in `folder`; outputs are changed in place.

    Args:
        notebook: as read by `nbformat`.
        folder: the kernel's working folder.
        **environment: environment variables of the kernel. The course's own (`COURSE_…`) are not inherited, so that
            every run is the same whatever the maintainer has set.

    Raises:
        CellFailed: a cell did not come to its end.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name=KERNELSPEC["name"],
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COURSE_")}
    start = time.perf_counter()
    with client.setup_kernel(env=inherited | environment):
        for index, cell in enumerate(notebook.cells):
            _run_cell(client, cell, index)
        seconds = time.perf_counter() - start
        return Run(seconds, _peak_memory_mb(client))


def _run_cell(client: NotebookClient, cell: NotebookNode, index: int) -> None:
    where = f"cell {index + 1} ({cell.get('id', 'no id')})"
    try:
        client.execute_cell(cell, index)
    except CellExecutionError as error:
        raise CellFailed(f"{where} raised {error.ename}: {error.evalue}\n{strip_ansi(error.traceback)}") from None
    except CellTimeoutError:
        raise CellFailed(f"{where} did not finish within {CELL_TIMEOUT} s") from None
    except DeadKernelError:
        raise CellFailed(f"{where} killed its kernel; often the memory was used up") from None


def _peak_memory_mb(client: NotebookClient) -> float:
    probe = new_code_cell(PEAK_MEMORY)
    client.nb.cells.append(probe)  # nbclient runs nothing that is not in the notebook
    client.execute_cell(probe, len(client.nb.cells) - 1, store_history=False)
    client.nb.cells.pop()
    return megabytes(int(probe.outputs[0].text))


def tidy(notebook: NotebookNode) -> None:
    """Remove from an executed notebook what would differ from run to run or from machine to machine."""
    notebook.metadata.update(kernelspec=KERNELSPEC, language_info=LANGUAGE_INFO)
    notebook.metadata.pop("widgets", None)
    for index, cell in enumerate(code_cells(notebook)):
        for noise in ("execution", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(noise, None)
        # A stream arrives in pieces whose number depends on timing.
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, index)


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
        print(f"{path.name}: {run.seconds:.0f} s, {run.peak_memory_mb:,.0f} MB at most", flush=True)


if __name__ == "__main__":
    main()
