"""A copy of the repository's files in another folder, in which a program may change and break things."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.shared.notebook_files import ROOT

TIMEOUT = 1800  # seconds for one command in the copy


def is_clone(root: Path = ROOT) -> bool:
    """Whether git is installed and can read the repository at `root`."""
    if shutil.which("git") is None:
        return False
    return subprocess.run(["git", "status"], cwd=root, capture_output=True, timeout=TIMEOUT).returncode == 0


def repository_files(root: Path = ROOT) -> list[str]:
    """The names of the files in the repository at `root`, as they are now: all but those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if not is_clone(root):
        raise RuntimeError(f"{root} is no clone that git can read: get the course with `git clone`, not as a ZIP file.")
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=TIMEOUT).stdout.decode()
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


class WorkingCopy:
    """The repository's files, as they are now, in `folder`: all but those that git ignores.

    The copy is a repository without commits, because some programs and tests ask git which files there are.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = repository_files()
        subprocess.run(["git", "init", "-q", str(folder)], capture_output=True, check=True, timeout=TIMEOUT)
        self.environment = os.environ | {"PYTHONPATH": str(folder), "COURSE_STRICT": "1"}
        self.restore()

    def restore(self) -> None:
        """Undo every change of one of these files."""
        for name in self.files:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Python in the copy, with the helper package of the copy."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT
        )
