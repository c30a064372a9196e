"""Make the repository ready for its address on GitHub and for a release: `make publish REPOSITORY=https://github.com/you/course`.

    python -m tools.author.publish https://github.com/you/course

Writes the address wherever the present one stands (in `pyproject.toml` first of all), stamps the notebooks and the README,
and checks that everything names one address and one version. If any check fails, nothing is written.
"""

import argparse
import contextlib
import re
import sys
from pathlib import Path

from tools.author.stamp import StampError, project, stamped_files
from tools.shared.notebook_files import ROOT, replace_file
from tools.shared.working_copy import repository_files

ADDRESS = re.compile(r"https://github\.com/(?!PLACEHOLDER/)[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+(?<!\.git)")

# Where the version stands besides `pyproject.toml`; the first match counts, so in the changelog the newest heading.
VERSIONS = {"CITATION.cff": r"^version: *[\"']?([^\"'\s]+)", "CHANGELOG.md": r"^## \[?v?(\d[^\]\s]*)"}

STEPS = """\
What remains to be done by hand:
  1. make test, then commit
  2. git tag v{version}
  3. git push {address} HEAD v{version}
  4. open {address}/releases/new?tag=v{version} and paste what CHANGELOG.md says of {version}
The Colab links work as soon as the tag is there."""


class PublishError(ValueError):
    """The repository cannot be published like this; the message says why, one line per reason."""


def text_files(root: Path) -> dict[Path, str]:
    """Path → text of all files of the repository, except programs and tests, which talk about addresses."""
    texts = {}
    for name in repository_files(root):
        with contextlib.suppress(UnicodeDecodeError):  # data
            if not name.startswith(("tools/", "tests/")):
                texts[root / name] = (root / name).read_text(encoding="utf-8")
    return texts


def published_files(root: Path, address: str) -> dict[Path, str]:
    """Path → fresh text of all files that change when the repository is published at `address`; nothing is written.

    Raises:
        PublishError: the address is not one of GitHub, or the files do not agree.
        StampError: see `tools.author.stamp`.
    """
    if not ADDRESS.fullmatch(address):
        raise PublishError(
            f"{address!r} is not an address like https://github.com/you/course (no / or .git at its end)."
        )
    present = project(root)["urls"]["Repository"]
    old = text_files(root)
    fresh = {
        # Not where another repository's name only begins like the course's.
        path: re.sub(re.escape(present) + r"(?![\w-])", address, text)
        for path, text in (old | stamped_files(root, address)).items()
    }
    reasons = disagreements({path.relative_to(root).as_posix(): text for path, text in fresh.items()}, root, address)
    if reasons:
        raise PublishError("\n".join(reasons))
    return {path: text for path, text in fresh.items() if old.get(path) != text}


def disagreements(texts: dict[str, str], root: Path, address: str) -> list[str]:
    """What contradicts the address or the version of `pyproject.toml`, a sentence each; `texts` by name, as published."""
    version = project(root)["version"]
    reasons = []
    for name, pattern in VERSIONS.items():
        found = re.search(pattern, texts.get(name, ""), re.MULTILINE)
        if not found or found[1] != version:
            reasons.append(f"{name} has {found[1] if found else 'no version'}; pyproject.toml has version {version}.")
    if f"repository-code: {address}" not in re.sub("[\"']", "", texts.get("CITATION.cff", "")):
        reasons.append(f"CITATION.cff lacks the line `repository-code: {address}`.")
    repository = address.removeprefix("https://github.com/")
    for name, text in texts.items():
        if "github.com/PLACEHOLDER" in text:
            reasons.append(f"{name} still has a placeholder for the address.")
        for link in re.findall(r"colab\.research\.google\.com/github/[^\s)\"\\]+", text):
            if not link.startswith(f"colab.research.google.com/github/{repository}/blob/v{version}/"):
                reasons.append(f"{name} links to {link}, which is not {repository} at v{version}.")
        for source in re.findall(r"git\+https?:[^\s)`\"\\]+", text):
            if source != f"git+{address}@v{version}":
                reasons.append(f"{name} installs {source}; expected git+{address}@v{version}.")
    return reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="such as https://github.com/you/course")
    address = parser.parse_args().address
    try:
        fresh = published_files(ROOT, address)
    except (PublishError, StampError) as error:
        sys.exit(f"{error}\nNothing was written.")
    # The file that says which address to replace is the last: after an interruption the command can be repeated.
    for path in sorted(fresh, key=lambda path: path.name == "pyproject.toml"):
        replace_file(path, fresh[path])
        print(f"wrote {path.relative_to(ROOT)}")
    print(STEPS.format(address=address, version=project()["version"]))


if __name__ == "__main__":
    main()
