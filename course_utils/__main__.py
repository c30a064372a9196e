"""Check the environment: `python -m course_utils`.

One line per requirement, `[OK]` or `[FAIL]` with what to do. The exit status is 1 if anything fails. Nothing is imported
before it is checked, so that this works when packages are missing and on a Python that is too old for the course.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

LEAST_MEMORY_GB = 2
LEAST_DISK_GB = 1

INSTALL = f"run `{sys.executable} -m pip install -r requirements.txt` in the course's folder"

# In a process of its own: a backend that does not suit the processor does not raise an error, it ends the process.
PROBE = """
import json
from course_utils.backend import BACKEND, keras
from course_utils import usable_cores
from course_utils.devices import prepare_devices
gpus = [name for name, _ in prepare_devices()]
print(json.dumps({"keras": keras.__version__, "backend": BACKEND, "gpus": gpus, "cores": usable_cores()}))
"""

OLDEST, NEWEST = (3, 11), (3, 13)


def python() -> Iterator[tuple[bool, str]]:
    fits = OLDEST <= sys.version_info[:2] <= NEWEST
    remedy = "" if fits else ": install one of these and begin with a new environment"
    needed = " to ".join(".".join(map(str, version)) for version in (OLDEST, NEWEST))
    yield fits, f"Python {platform.python_version()}, needed {needed}{remedy}"


def packages() -> Iterator[tuple[bool, str]]:
    from packaging.requirements import Requirement

    for requirement in map(Requirement, importlib.metadata.requires("course_utils") or []):
        needed = f"needed {requirement.specifier}" if requirement.specifier else "any version"
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield False, f"{requirement.name} is missing ({needed}): {INSTALL}"
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        yield fits, f"{requirement.name} {found}, {needed}" + ("" if fits else f": {INSTALL}")


def backend() -> Iterator[tuple[bool, str]]:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=300)
    if done.returncode:
        reason = (done.stderr.strip() or f"it ended with status {done.returncode}").splitlines()[-1]
        yield False, f"the Keras backend does not start ({reason}): {INSTALL}; COURSE_DEBUG=1 shows more"
        return
    found = json.loads(done.stdout.splitlines()[-1])
    yield True, f"Keras {found['keras']} starts with {found['backend']}"
    yield True, "device: " + (", ".join(found["gpus"]) or f"{found['cores']} CPU cores (no GPU, and none is needed)")


def memory() -> Iterator[tuple[bool, str]]:
    import psutil

    available = psutil.virtual_memory().available / 1e9
    enough = available >= LEAST_MEMORY_GB
    remedy = "" if enough else ": close other programs or other notebooks' kernels"
    yield enough, f"memory: {available:.1f} GB available, needed {LEAST_MEMORY_GB} GB{remedy}"


def data_files() -> Iterator[tuple[bool, str]]:
    from course_utils import data

    for name in data.SHA256:
        try:
            data.read_verified(name)
        except data.DataFileError as error:
            yield False, str(error)
        else:
            yield True, f"data file {name} is there and unchanged"


def kernel() -> Iterator[tuple[bool, str]]:
    from jupyter_client.kernelspec import KernelSpecManager

    program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    # A bare name is Jupyter's word for the Python that Jupyter itself runs on.
    ours = Path(program).name == program or Path(program).parent == Path(sys.executable).parent
    remedy = "" if ours else f", not this Python: run `{sys.executable} -m ipykernel install --sys-prefix`"
    yield ours, f"Jupyter's kernel python3 runs {'this Python' if ours else program}{remedy}"


def disk() -> Iterator[tuple[bool, str]]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = free >= LEAST_DISK_GB
    yield enough, f"disk: {free:.1f} GB free here, needed {LEAST_DISK_GB} GB" + ("" if enough else ": delete something")


CHECKS = (python, packages, backend, memory, data_files, kernel, disk)


def lines_of(check: Callable[[], Iterator[tuple[bool, str]]]) -> list[tuple[bool, str]]:
    """The lines of a check; if it cannot be made, a line that says so."""
    try:
        return list(check())
    except Exception as error:  # any error here is a finding to report
        return [(False, f"{check.__name__.replace('_', ' ')}: {type(error).__name__}: {error}: {INSTALL}")]


def main() -> int:
    failed = 0
    for check in CHECKS:
        for good, text in lines_of(check):
            print(f"{'[OK]  ' if good else '[FAIL]'} {text}", flush=True)
            failed += not good
    print("Everything is there." if not failed else f"{failed} of the lines above need attention.")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
