"""The glossary of the site: every bold term of the lessons has a Chinese name."""

import re

import nbformat
import pytest

from tests.notebooks.sample import markdown, sample_notebook
from tools.shared.notebook_files import notebook_paths
from tools.site import glossary


@pytest.fixture(scope="module")
def introductions():
    return glossary.introductions(notebook_paths())


def test_every_term_of_the_lessons_has_a_chinese_name(introductions):
    without = [
        place.term
        for place in introductions
        if not re.search("[\u4e00-\u9fff]", glossary.GLOSSARY["terms"][place.term])
    ]
    assert not without, f"Their names in {glossary.GLOSSARY_FILE} are not Chinese."


def test_a_new_term_needs_an_entry(tmp_path):
    notebook = sample_notebook()
    known = (
        "## A section\n\n**Cure:** see **Lesson 02** for **`2 * x`**. It is **not** a **kernel**, nor are **Kernels**."
    )
    notebook.cells += [markdown("known", known), markdown("new", "The **quux** is\nnew.\n\n```python\n2**x**y\n```")]
    lesson = tmp_path / "98_sample.ipynb"
    nbformat.write(notebook, lesson)
    message = (
        r'glossary\.toml; add each to \[terms\] with its Chinese name(.|\n)*: "Kernels"\n98_sample\.ipynb: "quux"$'
    )
    with pytest.raises(glossary.GlossaryError, match=message):
        glossary.introductions([lesson])


def test_a_sentence_that_points_back_comes_with_the_one_before_it(introductions):
    sentence = next(place.sentence for place in introductions if place.term == "weight sharing")
    assert sentence.endswith("This is called **weight sharing**.")
    assert not sentence.startswith("This")
