"""Publishing: what `make publish` writes and refuses, and whether the published lesson 01 runs in Google Colab."""

import importlib.util
import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from tests.processes import environment, needs_clone
from tools.author import publish, stamp
from tools.shared.notebook_files import (
    ROOT,
    code_cells,
    has_tag,
    lesson_path,
    notebook_paths,
    read_notebook,
    replace_file,
)
from tools.shared.working_copy import WorkingCopy

pytestmark = needs_clone

ADDRESS = "https://github.com/someone/course-of.autoencoders"
VERSION = stamp.project()["version"]


@pytest.fixture
def course(tmp_path):
    """A repository with the course's files as they are now."""
    copy = WorkingCopy(tmp_path / "course")
    return copy


def output_of(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder, *arguments):
    output_of("git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments, cwd=folder)


@pytest.mark.slow
def test_publish_writes_the_address_everywhere_and_again_for_another(course):
    for address in (ADDRESS, "https://github.com/someone-else/course"):
        done = course.python("-m", "tools.author.publish", address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"git tag v{VERSION}" in done.stdout
        for path in notebook_paths(course.folder / "notebooks"):
            cells = read_notebook(path).cells
            badge, bootstrap = (next(c.source for c in cells if has_tag(c, tag)) for tag in ("badge", "bootstrap"))
            assert f"{address.removeprefix('https://github.com/')}/blob/v{VERSION}/notebooks/{path.name})" in badge
            assert f'"git+{address}@v{VERSION}"' in bootstrap
        assert stamp.project(course.folder)["urls"]["Repository"] == address
        assert address in (course.folder / "CITATION.cff").read_text(encoding="utf-8")
        assert publish.published_files(course.folder, address) == {}, "a second time changes nothing"
    assert [path for path, text in publish.text_files(course.folder).items() if ADDRESS in text] == []


def test_a_bad_address_is_refused():
    wrong = (
        "http://github.com/a/b",
        "https://gitlab.com/a/b",
        "https://github.com/a",
        "https://github.com/PLACEHOLDER/b",
    )
    for address in (*wrong, "a/b", f"{ADDRESS}/", f"{ADDRESS}.git", f"{ADDRESS}/tree/main", f" {ADDRESS}"):
        with pytest.raises(publish.PublishError, match="is not an address like"):
            publish.published_files(ROOT, address)


@pytest.mark.slow
def test_contradictions_are_named_and_nothing_is_written(course):
    edits = {
        "CHANGELOG.md": ("## ", "## 0.0.9\n\n## "),
        "CITATION.cff": ("\nversion:", "\nversion: 7.0.0 #"),
        "README.md": ("\n", "\nhttps://github.com/PLACEHOLDER/old-name git+https://github.com/x/y@v1\n"),
        "deploy/JUPYTERHUB.md": ("\n", "\nhttps://colab.research.google.com/github/x/y/blob/main/z.ipynb\n"),
    }
    for name, (old, new) in edits.items():
        text = (course.folder / name).read_text(encoding="utf-8")
        assert old in text
        replace_file(course.folder / name, text.replace(old, new, 1))
    before = publish.text_files(course.folder)
    done = course.python("-m", "tools.author.publish", ADDRESS)
    assert done.returncode == 1
    for message in (
        f"CHANGELOG.md has 0.0.9; pyproject.toml has version {VERSION}.",
        f"CITATION.cff has 7.0.0; pyproject.toml has version {VERSION}.",
        "README.md still has a placeholder for the address.",
        "README.md installs git+https://github.com/x/y@v1",
        "JUPYTERHUB.md links to colab.research.google.com/github/x/y/blob/main/z.ipynb",
        "Nothing was written.",
    ):
        assert message in done.stderr
    assert publish.text_files(course.folder) == before


def test_bootstrap_cell(monkeypatch):
    addresses = (ADDRESS, "https://github.com/PLACEHOLDER/course")
    installed, unpublished = (stamp.bootstrap_cell(address, "1.2.0") for address in addresses)
    commands = []

    def pip(command):  # succeeds at first, then fails
        commands.append(command)
        return SimpleNamespace(returncode=len(commands) - 1)

    def run(source):
        exec(source, {})

    monkeypatch.setattr(subprocess, "run", pip)
    for source in (installed, unpublished):
        assert source.startswith("# @title ")
        run(source)  # the course is installed here
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for source in (installed, unpublished):
        with pytest.raises(RuntimeError, match=r"pip install -r requirements\.txt"):
            run(source)
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    with pytest.raises(RuntimeError, match="not published yet"):
        run(unpublished)
    assert commands == [], "nothing is fetched outside Colab or from a placeholder"
    run(installed)
    assert commands == [[sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"git+{ADDRESS}@v1.2.0"]]
    with pytest.raises(RuntimeError, match="could not be installed"):
        run(installed)


# What Colab's kernel does with the cells, up to the first checkpoint.
LIKE_COLAB = """
import json, sys
import google.colab
for cell in json.load(open("cells.json", encoding="utf-8")):
    exec(compile(cell, "cell", "exec"), globals())
import course_utils
print(course_utils.__file__)
"""


@pytest.mark.slow
def test_published_lesson_01_runs_in_an_environment_like_colabs(course, tmp_path):
    """The cell's own text installs the course at its tag; only git is made to look for the address on this computer."""
    for path, text in publish.published_files(course.folder, ADDRESS).items():
        replace_file(path, text)
    for command in (["add", "-A"], ["commit", "-qm", "publish"], ["tag", f"v{VERSION}"]):
        git(course.folder, *command)

    colab, uv = tmp_path / "colab", (sys.executable, "-m", "uv")
    output_of(*uv, "venv", "--seed", "--python", sys.executable, colab)
    output_of(*uv, "pip", "install", "--python", colab, "-r", ROOT / "requirements-oldest.txt")
    packages_before = output_of(*uv, "pip", "freeze", "--python", colab).splitlines()
    (site_packages,) = colab.glob("lib/python*/site-packages")
    replace_file(site_packages / "google" / "colab" / "__init__.py", "")

    cells = code_cells(read_notebook(lesson_path("01", course.folder / "notebooks")))
    first = next(i for i, cell in enumerate(cells) if has_tag(cell, "checkpoint"))
    replace_file(tmp_path / "content" / "cells.json", json.dumps([cell.source for cell in cells[: first + 1]]))
    key = f"url.{course.folder.as_uri()}.insteadOf"
    found_here = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": ADDRESS}
    variables = environment(**found_here, COURSE_STRICT="1", MPLBACKEND="agg", PYTHONPATH="")
    said = output_of(colab / "bin" / "python", "-c", LIKE_COLAB, cwd=tmp_path / "content", env=variables)
    assert "✓ dense, code of 32: " in said
    assert said.splitlines()[-1].startswith(str(site_packages))
    (added,) = set(output_of(*uv, "pip", "freeze", "--python", colab).splitlines()) ^ set(packages_before)
    assert added.startswith(("course-utils @ git+", "course_utils @ git+"))
