"""`make faults`: every fault fits the course as it is, and what finds nothing is not taken for a check."""

import time
from types import SimpleNamespace

import pytest

from tools.prove import faults
from tools.prove.faults import Fault
from tools.shared.notebook_files import ROOT


def test_every_fault_fits_the_course_as_it_is():
    """Else `make faults` would stop there after a quarter of an hour."""
    all_faults = faults.all_faults()
    assert len({(fault.name, fault.place) for fault in all_faults}) == len(all_faults)
    for fault in all_faults:
        path, text = faults.planted(fault, ROOT)
        assert text != path.read_text(encoding="utf-8"), fault
        assert (ROOT / faults.unit_tests(fault)).exists(), fault


def test_a_fault_that_no_longer_fits_is_named():
    for place in ("course_utils/data.py", "course_utils/missing.py", "01/setup", "01/missing"):
        with pytest.raises(ValueError, match=r"'a fault' no longer fits: .* is there 0 times"):
            faults.planted(Fault("a fault", place, "no such text", ""), ROOT)


def test_a_fault_is_caught_by_what_fails_and_by_nothing_else(monkeypatch, tmp_path):
    copy, fault = SimpleNamespace(folder=tmp_path), Fault("a fault", "course_utils/data.py", "a", "b")
    for failed, check in ((["tests.test_data::test_x[1]"], "unit test `test_x`"), ([], None)):
        monkeypatch.setattr(faults, "run_pytest", lambda *arguments, failed=failed: SimpleNamespace(failed=failed))
        assert faults.caught_by(fault, copy) == check


def test_every_fault_has_its_row_in_order_and_no_copy_serves_two_at_once():
    def in_copy(item, copy):
        assert not copy.is_used
        copy.is_used = True
        time.sleep(0.01 * (3 - item))
        copy.is_used = False
        return item

    copies = [SimpleNamespace(is_used=False) for _ in range(2)]
    assert list(faults.in_turn(in_copy, [0, 1, 2, 3], copies)) == [0, 1, 2, 3]
