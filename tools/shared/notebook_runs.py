"""Run a notebook in a fresh kernel, as a student would, and collect what its checkpoints found."""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from tools.shared.child import clean_environment
from tools.shared.machine import PeakPrivateMemory
from tools.shared.notebook_files import KERNELSPEC

CELL_TIMEOUT = 600  # seconds


class CellFailed(RuntimeError):
    """A cell raised an error, took too long or killed its kernel; the message says which cell and why."""


@dataclass(frozen=True)
class Run:
    """What running a notebook took: wall and processor seconds, and the kernel's largest private memory in MB."""

    seconds: float
    cpu_seconds: float
    private_mb: float


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
    start = time.perf_counter()
    with PeakPrivateMemory() as memory, client.setup_kernel(env=clean_environment(**environment)):
        for index, cell in enumerate(notebook.cells):
            _run_cell(client, cell, index)
        seconds = time.perf_counter() - start
        times = psutil.Process(client.km.provisioner.pid).cpu_times()
    return Run(seconds, times.user + times.system, memory.mb)


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


@contextlib.contextmanager
def recorded_results() -> Iterator[tuple[dict[str, str], list[dict]]]:
    """Variables for a notebook to run with, and a list with its results, name and value, after the `with` block."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "results.jsonl"
        record.touch()
        results: list[dict] = []
        yield {"COURSE_RECORD": str(record)}, results
        results += [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
