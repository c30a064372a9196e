"""The arithmetic and the tables of the benchmarks; nothing is trained here."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from tools.shared.notebook_files import ROOT
from tests.notebooks.sample import code

sys.path.insert(0, str(REPORTS_FOLDER))

from tools.prove import cost
from tools.prove import scaling
from tools.prove import profiling

# ---------------------------------------------------------------------------------------------------------------------
# growth
# ---------------------------------------------------------------------------------------------------------------------


def made_up_costs(repeats=2):
    """Time goes as digits^0.8·code^0.25, memory as the square root of the digits; the repeats differ by factors."""
    costs = {}
    for point in growth.POINTS:
        seconds, memory = 1e-3 * point.digits**0.8 * point.code**0.25, 10 * point.digits**0.5
        costs[point] = [
            growth.Cost(seconds * 1.1**repeat, 500 + memory + repeat, memory + repeat / 100, 0.1 + repeat / 100)
            for repeat in range(repeats)
        ]
    return costs


def test_points_are_the_lessons_models_each_once():
    assert len(set(growth.POINTS)) == len(growth.POINTS) == 15
    assert [point.digits for point in growth.by_digits("dense")] == [6875, 13750, 27500, 55000]
    assert {point.code for point in growth.by_digits("convolutional")} == {128}
    for model in growth.TRAINING:
        assert set(growth.by_digits(model)) & set(growth.by_code(model)) == {
            growth.Point(model, 55000, growth.LESSON_CODE[model])
        }
    assert all(point.code % 16 == 0 for point in growth.by_code("convolutional"))


def test_exponent_finds_the_power_in_spite_of_a_disturbed_run():
    x = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    y = [3 * value**0.7 for value in x]
    assert growth.exponent(x, y) == pytest.approx((0.7, 0.7, 0.7))
    y[-1] *= 10
    power = growth.exponent(x, y)
    assert power.value == pytest.approx(0.7)
    assert power.low < 0.71 < power.high
    assert str(growth.Power(-0.001, -1.234, 0.5)) == "0.00 (-1.23 … 0.50)"


def test_exponent_is_uncertain_when_the_repeats_differ():
    x = [1.0, 2.0, 4.0, 8.0] * 2
    power = growth.exponent(x, [1.0, 2.0, 4.0, 8.0, 2.0, 3.0, 4.1, 5.0])
    assert power.low < 0.5 < power.value < 0.9 < power.high


def test_exponent_wants_three_points():
    with pytest.raises(ValueError, match="at least three points"):
        growth.exponent([1.0, 2.0], [1.0, 2.0])


def test_curve_exponent_uses_its_own_axis_and_all_repeats():
    costs = made_up_costs()
    power = growth.curve_exponent(costs, growth.by_digits("dense"), "digits", "seconds")
    assert power.value == pytest.approx(0.8)
    assert power.low < 0.79 < 0.81 < power.high  # the repeats differ
    assert growth.curve_exponent(costs, growth.by_code("dense"), "code", "seconds").value == pytest.approx(0.25)
    power = growth.curve_exponent(costs, growth.by_digits("dense"), "digits", "private_mb")
    assert power == pytest.approx((0.5, 0.5, 0.5), abs=0.01)


def test_table_has_median_and_range_per_point():
    lines = growth.table(made_up_costs(repeats=3)).splitlines()
    assert len(lines) == 1 + len(growth.POINTS)
    (line,) = (line for line in lines if line.split()[:3] == ["convolutional", "6,875", "128"])
    seconds = 1e-3 * 6875**0.8 * 128**0.25
    assert f" {1.1 * seconds:.2f} ({seconds:.2f} … {1.21 * seconds:.2f})" in line
    assert line.endswith(" 0.1100 (0.1000 … 0.1200)")


def test_without_private_memory_the_resident_is_shown():
    costs = {point: [cost._replace(private_mb=None) for cost in repeats] for point, repeats in made_up_costs().items()}
    assert "not measured" in growth.table(costs)
    sentences = growth.exponents(costs).splitlines()
    assert len(sentences) == 8
    assert "dense, peak resident memory (MB)" in sentences[1]


def test_exponents_are_named():
    sentences = growth.exponents(made_up_costs()).splitlines()
    assert len(sentences) == 8
    assert sentences[0].startswith("dense, training time (s): exponent in the training digits 0.80 (0.")


def test_picture_is_the_same_for_the_same_data(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "PICTURE_FILE", tmp_path / "growth.svg")
    growth.draw(made_up_costs(), "today")
    first = growth.PICTURE_FILE.read_bytes()
    growth.draw(made_up_costs(), "today")
    assert growth.PICTURE_FILE.read_bytes() == first
    assert first.count(b"axes_") == 4


def test_stored_growth_is_complete():
    stored = json.loads(growth.DATA_FILE.read_text(encoding="utf-8"))
    assert stored["columns"] == [*growth.Point._fields, *growth.Cost._fields]
    assert {growth.Point(*run[:3]) for run in stored["runs"]} == set(growth.POINTS)


def test_peak_is_the_highest_of_what_was_seen(monkeypatch):
    monkeypatch.setattr(growth, "SAMPLING_SECONDS", 0.001)
    values = iter([1.0, 3.0, 2.0])
    with growth.PeakPrivateMemory(lambda: next(values, 0.0)) as peak:
        time.sleep(0.2)
    assert peak.mb == 3.0
    with growth.PeakPrivateMemory(lambda: None) as peak:
        pass
    assert peak.mb is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells private memory")
def test_private_memory_is_that_of_child_processes_without_files(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(100_000_000))
    own = bytearray(os.urandom(1)) * 300_000_000  # ours: not counted
    child = "import mmap, sys; own = bytearray(b'x') * 200_000_000; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); sum(m[::4096]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", child, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        mb = growth.private_mb()
        process.communicate("\n")
    assert len(own) == 300_000_000
    assert 200 < mb < 250


# ---------------------------------------------------------------------------------------------------------------------
# bill
# ---------------------------------------------------------------------------------------------------------------------

# The lesson with the most memory is not the one with the most CPU seconds.
COSTS = [
    bill.Cost("01 · One", cpu_seconds=108.0, seconds=60.0, resident_mb=1500.0, private_mb=1000.0),
    bill.Cost("02 · Two", cpu_seconds=54.0, seconds=40.0, resident_mb=2500.0, private_mb=2000.0),
    bill.Cost("03 · Three", cpu_seconds=81.0, seconds=50.0, resident_mb=1400.0, private_mb=500.0),
]
SERVER = 100.0


def test_measure_gives_the_kernels_own_cost(notebook, tmp_path):
    notebook.cells = [
        notebook.cells[0],
        code("burn", "import time\nstart = time.process_time()\nwhile time.process_time() < start + 1:\n    pass"),
        code("hold", "held = bytearray(b'x') * 300_000_000\ntime.sleep(0.5)\ndel held"),
    ]
    cells = len(notebook.cells)
    cost = bill.measure(notebook, tmp_path)
    assert cost.lesson == notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    assert len(notebook.cells) == cells
    assert 1 <= cost.cpu_seconds < 10
    assert cost.seconds > 1.5
    assert cost.resident_mb > 300
    if sys.platform == "linux":
        assert 300 < cost.private_mb < cost.resident_mb


def test_of_several_runs_the_median_time_and_the_largest_memory_count():
    runs = [
        bill.Cost("01", cpu_seconds=3, seconds=10, resident_mb=5, private_mb=4),
        bill.Cost("01", cpu_seconds=1, seconds=30, resident_mb=9, private_mb=1),
        bill.Cost("01", cpu_seconds=2, seconds=11, resident_mb=6, private_mb=2),
    ]
    assert bill.typical_time_and_largest_memory(runs) == ("01", 2, 11, 9, 4)
    unknown = [*runs[:2], runs[2]._replace(private_mb=None)]
    assert bill.typical_time_and_largest_memory(unknown).private_mb is None


def test_server_memory_is_measured_while_it_runs():
    mb = bill.server_mb()
    assert 50 < mb < 500 if sys.platform == "linux" else mb == 0


@pytest.mark.skipif(shutil.which("true") is None, reason="there is no program that ends at once")
def test_server_that_does_not_start_is_named(monkeypatch):
    monkeypatch.setattr(bill.sys, "executable", shutil.which("true"))
    with pytest.raises(RuntimeError, match=r"-m jupyterlab .* ended before it served"):
        bill.server_mb()


def test_memory_per_student():
    assert bill.gib(2**30 / 1e6) == pytest.approx(1)
    assert bill.memory_guarantee(COSTS, SERVER) == 2.0  # 2,100 MB are 1.956 GiB
    assert bill.memory_limit(COSTS, SERVER) == 2.9  # 3,100 MB are 2.887 GiB
    assert bill.memory_guarantee([COSTS[0]._replace(private_mb=None)], 0) == 1.4  # all of the 1,500 MB resident


@pytest.mark.parametrize(("value", "rounded"), [(1.01, 1.1), (1.1, 1.1), (0.1 * 3, 0.3), (1.19, 1.2)])
def test_rounding_goes_up_but_not_for_nothing(value, rounded):
    assert bill.up_to_tenth(value) == rounded


def test_cores_and_waiting():
    # 90 minutes have 5,400 seconds.
    assert bill.busy_cores(100, 1, 108.0) == pytest.approx(2)
    assert bill.busy_cores(30, 10, 108.0) == pytest.approx(6)
    assert bill.minutes_at_once(100, 2, COSTS[0]) == pytest.approx(90)
    assert bill.minutes_at_once(1, 64, COSTS[0]) == pytest.approx(1)  # not faster than alone


def test_nodes_are_for_what_is_scarcer():
    # 90 % of 64 GiB hold 28 students of 2 GiB, and 90 % of 16 cores are 14.4.
    assert bill.nodes(28, 1, 2.0) == (1, "memory")
    assert bill.nodes(29, 1, 2.0) == (2, "memory")
    assert bill.nodes(29, 29, 2.0) == (3, "cores")


def test_cost_table_sums_time_and_takes_the_largest_memory():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in bill.cost_table(COSTS).splitlines()]
    assert rows[2] == ["01 · One", "108", "60", "1,500 MB", "1,000 MB"]
    assert rows[-1] == ["all lessons", "243", "150", "2,500 MB", "2,000 MB"]
    unknown = [COSTS[0]._replace(private_mb=None), *COSTS[1:]]
    assert bill.cost_table(unknown).count("not measured") == 2


def test_class_table_writes_the_formula_out():
    lines = bill.class_table(COSTS, SERVER).splitlines()
    assert len(lines) == 2 + len(bill.STUDENTS) * len(bill.RUNS)
    assert (
        "| 3,000 | 3 | 3,000 × 3 × 108 / 5,400 = 180.0, so 180 | 30 min | 3,000 × 2.0 = 6,000 GiB | 108, for the memory |"
        in lines
    )
    assert "| 30 | 1 | 30 × 1 × 108 / 5,400 = 0.6, so 1 | 54 min | 30 × 2.0 = 60 GiB | 2, for the memory |" in lines


def test_page_states_what_belongs_into_the_configuration():
    page = bill.page(COSTS, 5, SERVER, "today, one core")
    assert "Written by `make bill`: today, one core." in page
    assert "Runs of each lesson: 5. " in page
    assert "0.09 + 1.86 = 1.96, rounded up to **2.0 GiB**" in page
    assert "0.09 + 1.86 + 0.93 = 2.89, rounded up to **2.9 GiB**" in page
    assert "3 × 108 / 5,400 = 0.060, rounded up to **0.1 cores**" in page
    assert "    guarantee: 2.0G\n    limit: 2.9G\n  cpu:\n    guarantee: 0.1\n" in page
    assert 'c.Spawner.mem_guarantee = "2.0G"\nc.Spawner.mem_limit = "2.9G"\nc.Spawner.cpu_guarantee = 0.1\n' in page


# ---------------------------------------------------------------------------------------------------------------------
# profiling
# ---------------------------------------------------------------------------------------------------------------------

# As `pstats` counts: number of calls twice, own seconds, whole seconds, callers.
COUNTED = {
    ("~", 0, "<built-in method tensorflow.python._pywrap_tfe.TFE_Py_Execute>"): (9, 9, 30.0, 31.0, {}),
    ("~", 0, "<built-in method tensorflow.python._pywrap_tfe.TFE_Py_FastPathExecute>"): (9, 9, 4.0, 4.0, {}),
    ("tracing_compilation.py", 107, "trace_function"): (5, 5, 0.5, 6.0, {}),
    ("<frozen importlib._bootstrap>", 1165, "_find_and_load"): (99, 1, 0.1, 5.0, {}),
    ("pylabtools.py", 116, "print_figure"): (7, 7, 0.1, 3.0, {}),
    ("elsewhere.py", 1, "my_trace_function"): (1, 1, 100.0, 100.0, {}),
}


def test_spans_of_a_lesson_add_up_to_its_seconds():
    spans = profiling.seconds_by_span(COUNTED, 60.0)
    assert list(spans.values()) == pytest.approx([34, 6, 5, 3, 12])
    table = profiling.lesson_table("03", 60.0, spans)
    assert "| modules are imported | 5.0 | 8% |" in table
    assert "## Lesson 03, 60 s under the profiler" in table


@pytest.mark.parametrize("key", list(COUNTED)[:-1])
def test_function_that_has_another_name_is_no_zero(key):
    counted = {other: entry for other, entry in COUNTED.items() if other != key}
    with pytest.raises(RuntimeError, match="saw no call of"):
        profiling.seconds_by_span(counted, 60.0)


def test_slowest_lesson_is_that_of_the_reference(tmp_path, monkeypatch):
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({"lessons": {"01": {"seconds": 9}, "02": {"seconds": 11}, "03": {"seconds": 10}}}))
    monkeypatch.setattr(profiling, "REFERENCE_FILE", reference)
    assert profiling.slowest_lesson() == "02"


def test_steps_are_compared_with_their_products():
    step = profiling.Step(products=0.2, loss=0.5, gradients=0.75, update=0.8, reading=0.4, training=1.6)
    row = profiling.steps_table({"a model": step}).splitlines()[-1]
    assert row == "| a model | 0.20 | 0.50 | 0.75 | 0.80 | 1.60 | 0.40 | 12% |"
