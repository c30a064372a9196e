"""`deploy/data_parallel.py`: two processes on this machine train lesson 06's VAE as one process does."""

import importlib.util
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes import environment
from tools.shared.notebook_files import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "deploy" / "data_parallel.py"), *arguments]
    variables = environment(PYTHONPATH=str(ROOT))
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is missing; make test-backends runs this")
def test_two_processes_print_the_losses_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        together = ["--address", f"127.0.0.1:{free.getsockname()[1]}", "--processes", "2", "--process"]
    with ThreadPoolExecutor(2) as pool:
        ends = [run(), *pool.map(lambda process: run(*together, process), "01")]
    alone, *both = ([float(loss) for loss in re.findall(r": loss ([\d.]+)", end.stdout)] for end in ends)
    assert len(alone) == 3, ends[0].stderr
    assert alone[-1] < 0.9 * alone[0]
    assert both == [pytest.approx(alone, rel=1e-5)] * 2


def test_what_cannot_work_is_refused_at_once():
    for arguments, message in (
        (["--processes", "3"], "a number that divides the batch of 128"),
        (["--processes", "2"], "need the --address"),
    ):
        assert message in run(*arguments).stderr
