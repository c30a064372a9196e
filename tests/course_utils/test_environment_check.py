"""`python -m course_utils` passes here, and names what is missing elsewhere."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from course_utils import __main__ as check
from course_utils import data


def run_check(**variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "course_utils"]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_passes_here():
    done = run_check()
    # What a machine has left of memory and disk, and whose kernels are in the home folder, is not the course's matter.
    failures = [line for line in done.stdout.splitlines() if line.startswith("[FAIL]")]
    assert [line for line in failures if not re.search("memory:|disk:|kernel python3", line)] == [], done.stderr
    for part in ("Python 3.", "keras", "tensorflow", "device", "memory", "mnist.npz", "kernel", "disk"):
        assert part in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorflow", "numpy"])
def test_works_without_a_package(tmp_path, name):
    (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}')")
    done = run_check(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    failures = [line for line in done.stdout.splitlines() if line.startswith("[FAIL]")]
    assert any(name in line and "pip install" in line for line in failures)
    assert "] disk" in done.stdout.replace("]  ", "]")  # the checks after a failed one are made


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_backend_that_kills_its_process(monkeypatch):
    monkeypatch.setattr(check, "PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    ((good, text),) = check.backend()
    assert not good
    assert "-4" in text


def test_python_outside_the_range(monkeypatch):
    monkeypatch.setattr(check.sys, "version_info", (3, 14, 1))
    monkeypatch.setattr(check.platform, "python_version", lambda: "3.14.1")
    ((good, text),) = check.python()
    assert not good
    assert "Python 3.14.1, needed 3.11 to 3.13: install" in text


def test_the_range_of_python_is_that_of_the_package():
    (oldest, newest), needed = (
        (check.OLDEST, check.NEWEST),
        importlib.metadata.metadata("course_utils")["Requires-Python"],
    )
    assert set(needed.split(",")) == {f">={oldest[0]}.{oldest[1]}", f"<{newest[0]}.{newest[1] + 1}"}


def test_it_can_be_read_by_a_python_that_is_too_old():
    source = Path(check.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 7))
    assert tree.body[1].module == "__future__"  # so that types of today are only read
    evaluated = [node for node in tree.body if isinstance(node, ast.Assign)]
    assert not [node for node in evaluated if "tuple[" in ast.unparse(node)]


def test_package_outside_its_range(monkeypatch):
    found = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.15.0" if name == "keras" else found(name))
    (failure,) = (text for good, text in check.packages() if not good)
    assert "keras 2.15.0" in failure
    assert ">=3.13" in failure


def test_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["no-such-package-of-the-course>=1"])
    ((good, text),) = check.packages()
    assert not good
    assert "no-such-package-of-the-course is missing" in text


def test_too_little_memory_and_disk(monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1e9))
    monkeypatch.setattr(check.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e8))
    assert [good for good, _ in [*check.memory(), *check.disk()]] == [False, False]


def test_damaged_data_file(monkeypatch, tmp_path):
    for name in data.SHA256:
        (tmp_path / name).write_bytes((data.DATA_FOLDER / name).read_bytes()[:-1])
    monkeypatch.setattr(data, "DATA_FOLDER", tmp_path)
    assert [good for good, _ in check.data_files()] == [False] * len(data.SHA256)


@pytest.mark.parametrize(
    ("program", "good"), [("python3", True), (sys.executable, True), ("/opt/old/bin/python", False)]
)
def test_kernel_of_another_python(monkeypatch, program, good):
    from jupyter_client.kernelspec import KernelSpecManager

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: SimpleNamespace(argv=[program, "-m"]))
    assert [line[0] for line in check.kernel()] == [good]


def test_exit_status(monkeypatch, capsys):
    def broken():
        raise OSError("no such thing")

    monkeypatch.setattr(check, "CHECKS", (lambda: iter([(True, "fine")]), broken))
    assert check.main() == 1
    assert "[FAIL] broken: OSError: no such thing" in capsys.readouterr().out
    monkeypatch.setattr(check, "CHECKS", (lambda: iter([(True, "fine")]),))
    assert check.main() == 0
