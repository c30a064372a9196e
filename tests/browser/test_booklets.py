"""The instructor's answers and exam bank in a real browser."""

import pytest

from tools.author.student import answer_booklet, exam_bank
from tools.shared.notebook_files import notebook_paths, read_notebook

pytestmark = pytest.mark.slow


@pytest.fixture
def open_booklet(tmp_path, open_page):
    def open_booklet(make, paths, **device):
        file = tmp_path / f"{make.__name__}.html"
        file.write_text(make([read_notebook(path) for path in paths]), encoding="utf-8")
        return open_page(file, size=(390, 844), **device)

    return open_booklet


@pytest.mark.parametrize("make", [answer_booklet, exam_bank])
def test_booklets_fit_on_a_phone(make, open_booklet, overflow):
    assert overflow(open_booklet(make, notebook_paths())) == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("make", [answer_booklet, exam_bank])
def test_booklets_can_be_read_by_all(make, dark, open_booklet, grave_violations):
    assert grave_violations(open_booklet(make, notebook_paths()[:1], dark=dark)) == []
