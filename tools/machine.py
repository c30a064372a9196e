"""What the pages of measurements say about where they were made. Programs import it; it is not called."""

import datetime
import os
import platform
import sys
from importlib.metadata import version


def machine() -> str:
    """Today's date, the system, the processor and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{datetime.date.today()}, {platform.system()} on {platform.machine()} with {cores} CPU cores"


def megabytes(ru_maxrss: int) -> float:
    """The peak memory that `resource.getrusage` tells, whose unit is bytes on macOS and KiB on Linux, in MB."""
    return ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def machine_and_versions() -> str:
    """`machine()`, and the versions of Python and of what computes."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("keras", "tensorflow", "numpy"))
    return f"{machine()}, Python {platform.python_version()}, {versions}"
