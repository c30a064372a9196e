"""Run pytest in a process of its own and collect what it found."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

TIMEOUT = 3 * 3600  # seconds; all tests, lessons included, take less than half an hour on two cores


@dataclass(frozen=True)
class TestRun:
    """Numbers of tests by outcome, the names of those that failed, and seconds."""

    __test__ = False  # for pytest, which takes the name for a test's

    counts: dict[str, int]
    failed: list[str]
    seconds: float

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {outcome}" for outcome, number in self.counts.items() if number)
        names = f"; failed: {', '.join(f'`{name}`' for name in self.failed)}" if self.failed else ""
        return f"{counts or 'pytest found no test'}, {self.seconds:.0f} s{names}"


def run_pytest(folder: Path, *arguments: str, timeout: float = TIMEOUT, **environment: str) -> TestRun:
    """Run pytest in `folder`, whose modules come first; its output is shown.

    Raises:
        RuntimeError: pytest came to no result: it could not start, its process died, or it took longer than `timeout`.
    """
    with tempfile.TemporaryDirectory() as results:
        file = Path(results) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={file}", *arguments]
        start = time.perf_counter()
        variables = os.environ | {"PYTHONPATH": str(folder)} | environment
        try:
            status = subprocess.run(command, cwd=folder, env=variables, timeout=timeout).returncode
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"pytest did not end within {timeout:.0f} s.") from None
        if not file.exists():
            raise RuntimeError(f"pytest ended with exit status {status} and no results; see its output above.")
        return _read_results(file, time.perf_counter() - start)


def _read_results(file: Path, seconds: float) -> TestRun:
    cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    failed = [case for case in cases if any(case.find(tag) is not None for tag in ("failure", "error"))]
    n_skipped = sum(case.find("skipped") is not None for case in cases)
    counts = {"passed": len(cases) - len(failed) - n_skipped, "failed": len(failed), "skipped": n_skipped}
    return TestRun(
        counts, [f"{case.get('classname')}::{case.get('name')}".removeprefix("::") for case in failed], seconds
    )
