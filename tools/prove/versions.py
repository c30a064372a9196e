"""Run all tests with the packages that are installed, and write what came of it into `reports/VERSIONS.md`.

    python -m tools.prove.versions oldest

`make test-versions` (see noxfile.py) installs the packages of either end and calls this program in each environment.
"""

import argparse
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import REPORTS_FOLDER
from tools.shared.pytest_runs import run_pytest
from tools.shared.report_pages import replace_section
from tools.shared.working_copy import WorkingCopy

PAGE = REPORTS_FOLDER / "VERSIONS.md"
SHOWN = ("scipy", "scikit-learn", "scikit-image", "matplotlib", "ipykernel", "jupyterlab", "nbclient", "pytest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("end", choices=["oldest", "newest"], help="what the installed packages are")
    end = parser.parse_args().end
    with tempfile.TemporaryDirectory() as folder:
        copy = WorkingCopy(Path(folder).resolve())  # so that nothing can change below a run that takes this long
        tests = run_pytest(copy.folder, KERAS_BACKEND="tensorflow")
    installed = {package.name.lower(): package.version for package in distributions()}
    others = ", ".join(f"{name} {installed[name]}" for name in SHOWN if name in installed)
    replace_section(PAGE, end.capitalize(), f"- {machine_and_versions()}, {others}\n- tests: {tests}")
    if tests.failed:
        raise SystemExit(f"{len(tests.failed)} tests failed; see {PAGE.name}.")


if __name__ == "__main__":
    main()
