"""The bands of the checkpoints: how they are computed, measured and tied to the code."""

import math

import numpy as np
import pytest

from tests.notebooks.sample import code
from tests.tools.test_author import write
from tools.author import reference
from tools.shared.notebook_runs import CellFailed


def test_band_by_hand():
    # Mean 3, s = √2.5, and with four degrees of freedom Student's distribution has a closed form.
    entry = reference.band([1.0, 2.0, 3.0, 4.0, 5.0])
    assert entry["mean"] == 3
    assert entry["std"] == pytest.approx(math.sqrt(2.5), rel=1e-5)
    assert entry["high"] - 3 == pytest.approx(3 - entry["low"], rel=1e-5)
    t = (entry["high"] - 3) / (math.sqrt(2.5) * math.sqrt(1 + 1 / 5))
    u = 1 + t**2 / 4
    assert 1 / 2 + 3 / 8 * t / math.sqrt(u) * (1 - t**2 / (12 * u)) == pytest.approx(0.99995, abs=1e-8)
    assert (entry["seeds"], entry["values"]) == (5, [1, 2, 3, 4, 5])


def test_band_covers_a_further_run(monkeypatch):
    # At 99.99 % one would have to wait too long for a miss, so the same formula is simulated at 90 %.
    monkeypatch.setattr(reference, "PROBABILITY", 0.9)
    runs = np.random.default_rng(0).normal(10, 2, size=(2000, 9))
    bands = [reference.band(values[:8]) for values in runs.tolist()]
    inside = [b["low"] <= value <= b["high"] for b, value in zip(bands, runs[:, 8], strict=True)]
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 2000))


def test_band_of_a_constant_allows_rounding():
    entry = reference.band([1 / 3] * 8)
    assert entry["std"] == 0
    assert entry["low"] <= (1 - 1e-6) / 3 < (1 + 1e-6) / 3 <= entry["high"]
    assert entry["high"] - entry["low"] < 5e-6
    negative = reference.band([-1 / 3] * 8)
    assert negative["low"] <= -(1 + 1e-6) / 3 < -(1 - 1e-6) / 3 <= negative["high"]


def test_band_refuses_too_few_and_nan():
    with pytest.raises(reference.MeasurementError, match="too few"):
        reference.band([1.0] * 4)
    with pytest.raises(reference.MeasurementError, match="finite"):
        reference.band([1.0] * 7 + [math.nan])


def fake_run(path, seed):
    return {
        "seconds": seed - 41.0,  # the first of the seeds is the fastest
        "peak_memory_mb": 900 + seed,
        "results": {"98.one": 1 + seed / 1000},
        "measured": {"date": "2026-11-20"},
    }


def test_measurement_goes_on_where_it_stopped(notebook, tmp_path, capsys):
    path = write(notebook, tmp_path / "98_sample.ipynb")
    asked = []

    def stops_at_the_fourth(path, seed):
        asked.append(seed)
        if len(asked) == 4:
            raise CellFailed("cell 3 raised ValueError")
        return fake_run(path, seed)

    with pytest.raises(CellFailed):
        reference.measure(path, tmp_path / "runs", stops_at_the_fourth)
    assert len(list((tmp_path / "runs").iterdir())) == 3
    runs = reference.measure(path, tmp_path / "runs", stops_at_the_fourth)
    assert asked == [101, 102, 103, 104, 104, 105, 106, 107, 108]
    assert [run["results"]["98.one"] for run in runs] == [1 + seed / 1000 for seed in reference.SEEDS]
    said = capsys.readouterr().out
    assert "3 of 8 runs are there already" in said
    assert "seed 104, run 1 of 5: 63 s, 1,004 MB; about 4 min left" in said


def test_reference_keeps_other_lessons_and_drops_old_results():
    before = {"lessons": {"97": {"seconds": 1}}, "results": {"97.x": {"mean": 1}, "98.renamed": {"mean": 2}}}
    after = reference.updated(before, "98", [fake_run(None, seed) for seed in reference.SEEDS])
    assert after["lessons"]["97"] == {"seconds": 1}
    assert after["lessons"]["98"] == {"seconds": 60.0, "measured": {"date": "2026-11-20"}}
    assert set(after["results"]) == {"97.x", "98.one"}
    assert after["results"]["98.one"]["mean"] == 1.1045
    runs = [fake_run(None, seed) for seed in reference.SEEDS]
    runs[3]["results"] = {"98.two": 2.0}
    with pytest.raises(reference.MeasurementError, match="differ from seed to seed"):
        reference.updated(before, "98", runs)


def test_run_once_records_the_checkpoints(notebook, tmp_path):
    source = (
        "import json\nimport os\n\nwith open(os.environ['COURSE_RECORD'], 'a') as file:\n"
        "    print(json.dumps({'name': NAME, 'value': float(os.environ['COURSE_SEED'])}), file=file)"
    )
    notebook.cells = [code("name", "NAME = '98.seed'"), code("record", source)]
    path = write(notebook, tmp_path / "98_sample.ipynb")
    before = path.read_bytes()
    run = reference.run_once(path, 105)
    assert run["results"] == {"98.seed": 105.0}
    assert {"date", "python", "keras", "tensorflow", "numpy", "cores"} == set(run["measured"])
    assert path.read_bytes() == before
    notebook.cells[0].source = "NAME = '97.seed'"
    with pytest.raises(reference.MeasurementError, match=r"97\.seed"):
        reference.run_once(write(notebook, path), 105)


def test_fingerprint_changes_with_what_changes_results(notebook, tmp_path):
    package = tmp_path / "course_utils"
    package.mkdir()
    modules = {
        "training.py": '"""Trains."""\nRATE = 1  # fast\n',
        "plotting.py": "WIDTH = 8\n",
        "lessons.py": "A = 1\n",
    }
    for name, source in modules.items():
        (package / name).write_text(source)

    def changed(cell_source, name, source):
        """Whether one cell and then one module make a difference to the notebook as it is."""
        notebook.cells[-1] = code("last", cell_source)
        before = reference.fingerprint(write(notebook, tmp_path / "98_sample.ipynb"), package)
        (package / name).write_text(source)
        after = reference.fingerprint(tmp_path / "98_sample.ipynb", package)
        (package / name).write_text(modules[name])
        return before != after

    assert changed("x = 1", "training.py", "RATE = 2")
    assert not changed("x = 1", "training.py", '"""Trains models."""\n\nRATE = 1\n')
    assert not changed("x = 1", "plotting.py", "WIDTH = 9")
    assert not changed("x = 1", "lessons.py", "A = 2")
    assert changed("from course_utils.lessons import A", "lessons.py", "A = 2")

    digests = set()
    for source in ("x = 1", "x = 1  # one", "x = 2"):
        notebook.cells[-1] = code("last", source)
        digests.add(reference.fingerprint(write(notebook, tmp_path / "98_sample.ipynb"), package))
    assert len(digests) == 2
