"""`make faults`: every fault fits the course as it is, and what finds nothing is not taken for a check."""

import functools
import time
from types import SimpleNamespace

import pytest

from tools.prove import faults
from tools.prove.faults import Fault
from tools.shared.notebook_files import ROOT


def test_every_fault_fits_the_course_as_it_is(monkeypatch):
    """Else `make faults` would stop there after a quarter of an hour."""
    monkeypatch.setattr(faults, "cell_sources", functools.cache(faults.cell_sources))
    all_faults = faults.all_faults()
    assert len({(fault.name, fault.place) for fault in all_faults}) == len(all_faults)
    for fault in all_faults:
        text = faults.source(fault.place, ROOT)
        assert faults.with_fault(fault, text) != text, fault
        assert (ROOT / faults.unit_tests(fault)).exists(), fault


def test_a_fault_that_no_longer_fits_is_named():
    for place in ("course_utils/data.py", "course_utils/missing.py", "01/setup", "01/missing"):
        with pytest.raises(ValueError, match=r"'a fault' no longer fits: .* is there 0 times"):
            faults.planted(Fault("a fault", place, "no such text", ""), ROOT)


def test_a_fault_changes_its_place_and_nothing_else():
    path, text = faults.planted(Fault("a fault", "01/halfway", "(z_val[i] + z_val[j]) / 2", "z_val[i]"), ROOT)
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [(a, b) for a, b in zip(lines, text.splitlines(), strict=True) if a != b]
    ((before, after),) = changed
    assert before.replace("(z_val[i] + z_val[j]) / 2", "z_val[i]") == after


def test_a_fault_is_caught_by_what_fails_and_by_nothing_else(monkeypatch, tmp_path):
    copy, fault = SimpleNamespace(folder=tmp_path), Fault("a fault", "course_utils/data.py", "a", "b")
    for failed, check in ((["tests.test_data::test_x[1]"], "unit test `test_x`"), ([], None)):
        monkeypatch.setattr(faults, "run_pytest", lambda *arguments, failed=failed: SimpleNamespace(failed=failed))
        assert faults.caught_by(fault, copy) == check


def test_every_fault_is_planted_and_no_copy_serves_two_at_once():
    def in_copy(item, copy):
        assert not copy.is_used
        copy.is_used = True
        time.sleep(0.01 * (3 - item))
        copy.is_used = False
        return item

    copies = [SimpleNamespace(is_used=False) for _ in range(2)]
    assert sorted(faults.in_turn(in_copy, [0, 1, 2, 3], copies)) == [0, 1, 2, 3]


def test_faults_that_are_planted_again_get_new_rows_and_the_others_keep_theirs(monkeypatch, tmp_path):
    planted = [Fault(name, place, "a", "b") for name, place in (("x", "a.py"), ("y", "b.py"), ("z", "c.py"))]
    monkeypatch.setattr(faults, "all_faults", lambda: planted)
    monkeypatch.setattr(faults, "PAGE", tmp_path / "FAULTS.md")

    def stored(*row):
        faults.store(list(row))
        return faults.PAGE.read_text(encoding="utf-8").splitlines()

    assert stored("gone.py", "w", "unit test `w`")[-1] == "| --- | --- | --- |"
    assert "1 of 1 were caught; 2 were not planted yet." in stored("c.py", "z", "a | b")[2]
    head, *rows = stored("a.py", "x", faults.NOT_CAUGHT)[2:]
    assert "1 of 2 were caught; 1 were not planted yet." in head
    assert rows[-2:] == ["| a.py | x | **not caught** |", "| c.py | z | a \\| b |"]
    head, *rows = stored("b.py", "y", "unit test `y`")[2:]
    assert head.endswith("2 of 3 were caught.")
    assert rows[-1] == "| c.py | z | a \\| b |"
    assert stored("a.py", "x", "unit test `x`")[2].endswith("3 of 3 were caught.")
    assert set(faults.stored_rows()) == {("a.py", "x"), ("b.py", "y"), ("c.py", "z")}


def test_faults_are_chosen_by_their_texts_or_because_they_have_no_row(monkeypatch, tmp_path):
    x, y, z = planted = [Fault(name, place, "a", "b") for name, place in (("x", "a.py"), ("y", "b.py"), ("z", "c.py"))]
    monkeypatch.setattr(faults, "all_faults", lambda: planted)
    monkeypatch.setattr(faults, "PAGE", tmp_path / "FAULTS.md")
    assert faults.selected([""], only_new=True) == planted
    faults.store(["b.py", "y", "unit test `y`"])
    assert faults.selected([""], only_new=True) == [x, z]
    assert faults.selected([""], only_new=False) == planted
    assert faults.selected(["b.p", "z"], only_new=False) == [y, z]


def test_after_an_error_nothing_more_is_planted():
    def in_copy(item, copy):
        begun.append(item)
        time.sleep(0.01)
        raise ValueError("no longer fits")

    begun = []
    with pytest.raises(ValueError, match="no longer fits"):
        list(faults.in_turn(in_copy, list(range(50)), [SimpleNamespace()]))
    assert len(begun) < 10
