"""Keras starts quietly, on a backend that can train, with an allocator that keeps its memory."""

import ctypes
import importlib.util
import os
import sys
from types import SimpleNamespace

import pytest

from course_utils.backend import keep_freed_memory, silenced_stderr
from tests.processes import run_python

on_glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="no glibc here"
)

# Allocates and frees an array again and again, and prints how many pages the kernel had to clear for that.
FAULTS = """
import resource
import numpy as np
import course_utils.backend
for _ in range(3):
    np.ones(5_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(5_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@on_glibc
def test_freed_memory_is_kept_unless_the_system_allocator_is_chosen():
    variables = {"NUMPY_MADVISE_HUGEPAGE": "0"}
    kept, given_back = (int(run_python(FAULTS, COURSE_ALLOCATOR=c, **variables).stdout) for c in ("keep", "system"))
    assert kept < 200 < given_back  # an array of 40 MB has 9,766 pages of 4 KiB, or 611 of 64 KiB


@pytest.mark.slow
@on_glibc
def test_tensorflow_takes_the_same_choice():
    code = "import os, course_utils.backend; print(os.environ.get('TF_CPU_ALLOCATOR_USE_BFC'))"
    choices = {"keep": "true", "system": "None"}
    assert {choice: run_python(code, COURSE_ALLOCATOR=choice).stdout.strip() for choice in choices} == choices


@pytest.mark.parametrize(
    ("backend", "choice", "kept"),
    [
        (None, None, True),
        ("tensorflow", None, True),
        ("torch", None, True),
        ("jax", None, False),
        ("jax", "keep", True),
        ("torch", "system", False),
    ],
)
@on_glibc
def test_memory_is_kept_by_default_except_for_jax(backend, choice, kept, monkeypatch):
    variables = {"KERAS_BACKEND": backend, "COURSE_ALLOCATOR": choice}
    monkeypatch.setattr(os, "environ", {name: value for name, value in variables.items() if value})
    set_parameters = []
    libc = SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda *pair: set_parameters.append(pair) or True)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    assert keep_freed_memory() is kept
    assert bool(set_parameters) is kept
    assert ("TF_CPU_ALLOCATOR_USE_BFC" in os.environ) is kept


def test_without_glibc_nothing_is_set(monkeypatch):
    monkeypatch.delenv("COURSE_ALLOCATOR", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


def test_an_unknown_allocator_is_refused(monkeypatch):
    monkeypatch.setenv("COURSE_ALLOCATOR", "fast")
    with pytest.raises(ValueError, match="COURSE_ALLOCATOR is 'fast'; expected 'keep' or 'system'"):
        keep_freed_memory()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "openvino", "theano"])
def test_a_backend_that_cannot_train_is_refused_in_a_sentence(backend):
    run = run_python("import course_utils.backend", check=False, KERAS_BACKEND=backend)
    assert run.returncode == 1
    assert f"The Keras backend is '{backend}'" in run.stderr.splitlines()[-1]
    assert "tensorflow, jax, torch" in run.stderr.splitlines()[-1]


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="Keras' NumPy backend needs JAX")
@pytest.mark.slow
def test_a_backend_that_cannot_train_is_refused_where_kerass_own_file_chose_it(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "numpy"}', encoding="utf-8")
    run = run_python("import course_utils.backend", check=False, KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert run.returncode == 1
    assert "'numpy' (from the file keras.json" in run.stderr.splitlines()[-1]
    assert "correct that file" in run.stderr.splitlines()[-1]


def test_silenced_stderr_swallows_what_is_written_below_python(monkeypatch, capfd):
    monkeypatch.delenv("COURSE_DEBUG", raising=False)
    with silenced_stderr():
        os.write(2, b"noise")
    os.write(2, b"later")
    assert capfd.readouterr().err == "later"


def test_silenced_stderr_lets_everything_through_when_debugging(monkeypatch, capfd):
    monkeypatch.setenv("COURSE_DEBUG", "1")
    with silenced_stderr():
        os.write(2, b"noise")
    assert capfd.readouterr().err == "noise"


def test_an_error_in_silence_still_gets_out_and_ends_the_silence(monkeypatch, capfd):
    monkeypatch.delenv("COURSE_DEBUG", raising=False)
    with pytest.raises(RuntimeError, match="inside"), silenced_stderr():
        raise RuntimeError("inside")
    os.write(2, b"audible")
    assert capfd.readouterr().err == "audible"
