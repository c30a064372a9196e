"""Makes the programs in `tools/` importable for the tests, and gives them a small notebook that keeps all rules."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))


@pytest.fixture
def notebook():
    """A notebook that keeps all rules, to be broken by a test."""
    from tests.notebooks.sample import sample_notebook

    return sample_notebook()
