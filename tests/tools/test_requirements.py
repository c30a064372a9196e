"""The lists of packages agree: the helper package, the students' and the maintainers' requirements, the oldest versions."""

import tomllib

from packaging.requirements import Requirement

from tools.shared.notebook_files import ROOT


def listed(name):
    """Package → requirement, from a file of pip's."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {requirement.name: requirement for requirement in found}


def test_students_get_what_the_package_needs_in_equal_ranges():
    students = listed("requirements.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for needed in map(Requirement, project["dependencies"]):
        assert students[needed.name].specifier == needed.specifier


def test_the_oldest_versions_are_the_lowest_that_the_ranges_allow():
    wanted, oldest = listed("requirements.txt") | listed("requirements-dev.txt"), listed("requirements-oldest.txt")
    assert set(oldest) == set(wanted)
    for name, requirement in wanted.items():
        (pin,) = oldest[name].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{pin} is outside of {requirement}"


def test_the_image_of_the_hub_leaves_out_the_maintainers_packages():
    image = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert "-r requirements.txt" in image
    assert "requirements-dev" not in image
