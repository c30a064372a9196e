"""Run Python code and notebooks in processes of their own, for tests of what a student sees."""

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from tools.shared.child import clean_environment as environment
from tools.shared.working_copy import is_clone

__all__ = ["environment", "needs_clone", "run_in_kernel", "run_python"]

needs_clone = pytest.mark.skipif(not is_clone(), reason="needs git, and a clone of the course instead of a ZIP file")


def run_python(code: str, *, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter; `variables` are added to its environment."""
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment(**variables), capture_output=True, text=True, timeout=300
    )
    if check:
        assert finished.returncode == 0, finished.stderr
    return finished


def run_in_kernel(*cells: str, folder) -> list[list[nbformat.NotebookNode]]:
    """Run code cells in one kernel, as Jupyter does, and return the outputs that it stores for each."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment())
    return [cell.outputs for cell in notebook.cells]
