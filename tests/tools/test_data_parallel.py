"""`tools/data_parallel.py`: two processes on this machine train lesson 06's VAE as one process does."""

import importlib.util
import re
import socket
import subprocess
import sys

import data_parallel
import numpy as np
import pytest
from tests.processes import environment
from tools.shared.notebook_files import ROOT

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed; make test-backends runs this test"
)


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, ROOT / "tools" / "data_parallel.py", *arguments]
    variables = environment(PYTHONPATH=str(ROOT))
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def losses(process: subprocess.Popen, name: str) -> list[float]:
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return [float(loss) for loss in re.findall(rf"{name}, epoch \d+: loss ([\d.]+)", output)]


@needs_jax
def test_two_processes_print_the_losses_of_one():
    alone = losses(start(), "process 0 of 1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = [start("--address", address, "--processes", "2", "--process", str(i)) for i in range(2)]
    first, second = (losses(process, f"process {i} of 2") for i, process in enumerate(together))
    assert len(alone) == data_parallel.EPOCHS
    assert alone[-1] < 0.9 * alone[0]
    assert first == second
    assert first == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_shares_of_all_processes_are_the_same_batches(processes):
    x = np.arange(3 * data_parallel.BATCH_SIZE * 2).reshape(-1, 2)
    shares = [data_parallel.share_of(x, processes, process) for process in range(processes)]
    size = data_parallel.BATCH_SIZE // processes
    batches = [np.concatenate([share[i * size : (i + 1) * size] for share in shares]) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(batches), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "3"], "--processes is 3; expected a number that divides the batch of 128"),
        (["--processes", "2", "--process", "2"], "--process is 2; expected a number from 0 to 1"),
        (["--processes", "2"], "several processes need the --address"),
    ],
)
def test_what_cannot_work_is_refused_at_once(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["data_parallel.py", *arguments])
    with pytest.raises(SystemExit):
        data_parallel.main()
    assert message in capsys.readouterr().err


def test_without_jax_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["data_parallel.py"])
    with pytest.raises(SystemExit, match="python -m pip install jax"):
        data_parallel.main()
