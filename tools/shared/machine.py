"""What a measurement says about its machine, and how much memory its child processes hold."""

import datetime
import platform
import threading
from importlib.metadata import version

import psutil

from course_utils import usable_cores

SAMPLING_SECONDS = 0.1


def machine() -> str:
    """Today's date, the system, the processor and how many of its cores this process may use."""
    return f"{datetime.date.today()}, {platform.system()} on {platform.machine()} with {usable_cores()} CPU cores"


def machine_and_versions() -> str:
    """`machine()` with its GPUs, and the versions of Python and of what computes."""
    from course_utils.backend import BACKEND  # not above: programs that only start others need no Keras
    from course_utils.devices import prepare_devices

    gpus = "".join(f" and {name}" for name in sorted({name for name, _ in prepare_devices()}))
    versions = ", ".join(f"{name} {version(name)}" for name in ("keras", BACKEND, "numpy"))
    return f"{machine()}{gpus}, Python {platform.python_version()}, {versions}"


def children_private_mb() -> float:
    """Memory in MB that this program's child processes hold and share with no file: what a container must provide.

    Where the system tells it, that is the resident memory without the pages of files. psutil's unique set size, which is
    taken elsewhere, counts the libraries' pages too whenever no other process has them mapped.
    """
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            memory = process.memory_info()
            total += memory.rss - memory.shared if hasattr(memory, "shared") else process.memory_full_info().uss
        except psutil.Error:  # it has ended in the meantime
            continue
    return total / 1e6


class PeakPrivateMemory:
    """Looks at `children_private_mb` again and again while a `with` block runs; the highest value is in `mb`."""

    def __init__(self, look=children_private_mb):
        self.mb = 0.0
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLING_SECONDS):
            self.mb = max(self.mb, self._look())

    def __enter__(self) -> "PeakPrivateMemory":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()
        self.mb = max(self.mb, self._look())
