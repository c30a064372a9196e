"""A small notebook that keeps all rules, for the tests of rules and programs."""

import pytest

from tests.notebooks.sample import sample_notebook


@pytest.fixture
def notebook():
    """A notebook that keeps all rules, to be broken by a test."""
    return sample_notebook()
