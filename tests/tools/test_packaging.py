"""The helper as it is installed from a wheel or from an archive of its sources; Google Colab gets the former."""

import os
import subprocess
import sys
from importlib.metadata import distributions

import pytest

from tests.processes import environment, needs_clone
from tools.shared.notebook_files import ROOT, lesson_path
from tools.shared.working_copy import WorkingCopy

pytestmark = needs_clone

# One of the drawings, and the code cells of a lesson up to and including the first one with a checkpoint.
TRY_IT = """
import json, sys
import course_utils
from course_utils import plotting
print(course_utils.__file__, *sys.path)
plotting.diagram("autoencoder", alt="A digit, a code, and the digit again.")
cells = json.load(open(sys.argv[1], encoding="utf-8"))["cells"]
sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
first = next(index for index, source in enumerate(sources) if "checkpoint(" in source)
names = {}
for source in sources[: first + 1]:
    exec(source, names)
"""


def run(*command, cwd, **variables):
    """Run a command, which has to succeed, and return everything it prints."""
    variables = environment(PYTHONPATH="", PYTHONDONTWRITEBYTECODE="", **variables)
    # The first time, TensorFlow is downloaded.
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with wheel and source archive, and what was printed while they were built."""
    folder = tmp_path_factory.mktemp("packaging")
    WorkingCopy(folder / "copy")
    printed = run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", "dist", "copy", cwd=folder)
    return folder / "dist", printed


@pytest.mark.slow
def test_building_warns_of_nothing(built):
    _, printed = built
    assert "warning" not in printed.lower(), printed


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_the_installed_package_runs_lesson_01_without_the_repository(built, pattern, tmp_path):
    (package,) = built[0].glob(pattern)
    same_versions = tmp_path / "same_versions.txt"
    lines = (f"{item.name}=={item.version}\n" for item in distributions() if item.name != "course_utils")
    same_versions.write_text("".join(lines))
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--python", sys.executable, "env", cwd=tmp_path)
    run(*uv, "pip", "install", "--python", python, "--constraints", same_versions, package, cwd=tmp_path)

    printed = run(python, "-I", "-c", TRY_IT, lesson_path("01"), cwd=tmp_path, COURSE_STRICT="1", MPLBACKEND="agg")
    assert str(ROOT) not in printed, "something of the repository was used"
    assert str(tmp_path / "env") in printed
