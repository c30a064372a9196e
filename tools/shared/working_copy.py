"""A copy of the repository's tracked files in another folder, in which a program may change and break things."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.shared.notebook_files import ROOT

TIMEOUT = 1800  # seconds for one command in the copy


class WorkingCopy:
    """The tracked files of the repository, as they are now, in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        self.files = [name for name in listed.split("\0") if name]
        self.environment = os.environ | {"PYTHONPATH": str(folder), "COURSE_STRICT": "1"}
        self.restore()

    def restore(self) -> None:
        """Undo every change of a tracked file."""
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
