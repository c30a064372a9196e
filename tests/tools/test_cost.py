"""The arithmetic of `make cost`."""

import pytest

from tools.prove import cost
from tools.shared.notebook_runs import Run

# The lesson with the most memory is not the one with the most CPU seconds.
LESSONS = {
    "01 · One": Run(seconds=60.0, cpu_seconds=108.0, private_mb=1000.0),
    "02 · Two": Run(seconds=40.0, cpu_seconds=54.0, private_mb=2000.0),
    "03 · Three": Run(seconds=50.0, cpu_seconds=81.0, private_mb=500.0),
}


def test_of_several_runs_the_median_time_and_the_largest_memory_count():
    runs = [Run(10, 3, 4), Run(30, 1, 1), Run(11, 2, 2)]
    assert cost.typical_time_and_largest_memory(runs) == Run(11, 2, 4)


def test_a_student_needs_the_largest_lessons_and_the_server():
    assert cost.gib(2**30 / 1e6) == pytest.approx(1)
    # 2,100 MB are 1.956 GiB, 3,100 MB are 2.887 GiB, and 3 × 108 / 5,400 cores are 0.06.
    assert cost.memory_and_cores(list(LESSONS.values()), server=100.0) == (2.0, 2.9, 0.1)


def test_rounding_goes_up_but_not_for_nothing():
    for value, rounded in [(1.01, 1.1), (1.1, 1.1), (0.1 * 3, 0.3), (1.19, 1.2)]:
        assert cost.up_to_tenth(value) == rounded


def test_cores_and_waiting():
    # 90 minutes have 5,400 seconds.
    assert cost.busy_cores(100, 1, 108.0) == pytest.approx(2)
    assert cost.busy_cores(30, 10, 108.0) == pytest.approx(6)
    assert cost.minutes_at_once(100, 2, LESSONS["01 · One"]) == pytest.approx(90)
    assert cost.minutes_at_once(1, 64, LESSONS["01 · One"]) == pytest.approx(1)  # not faster than alone


def test_nodes_are_for_what_is_scarcer():
    # 90 % of 64 GiB hold 28 students of 2 GiB, and 90 % of 16 cores are 14.4.
    assert cost.nodes(28, 1, 2.0) == (1, "memory")
    assert cost.nodes(29, 1, 2.0) == (2, "memory")
    assert cost.nodes(29, 29, 2.0) == (3, "cores")


def test_the_page_sums_time_takes_the_largest_memory_and_has_the_settings():
    text = cost.page(LESSONS, 5, 100.0, "today, one core")
    for cells in (
        ("all lessons", "243", "150", "2,000 MB"),
        ("3,000", "3", "180", "30 min", "6,000 GiB", "108, for the memory"),
        ("memory limit", "`memory.limit`", "`c.Spawner.mem_limit`", "2.9G"),
    ):
        assert f"| {' | '.join(cells)} |" in text
