"""The bands of the checkpoints: how they are computed, measured and tied to the code."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from tests.notebooks.sample import code
from tests.tools.test_author import write
from tools.author import reference
from tools.shared.fingerprint import PACKAGE, fingerprint
from tools.shared.notebook_files import code_cells, lesson_of, notebook_paths, read_notebook
from tools.shared.notebook_runs import CellFailed


def test_a_band_is_students_prediction_interval():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    entry = reference.band(values)
    assert (entry["mean"], entry["seeds"], entry["values"]) == (4.5, 8, values)
    assert entry["std"] == pytest.approx(math.sqrt(6), rel=1e-5)
    half_width = entry["high"] - 4.5
    assert 4.5 - entry["low"] == pytest.approx(half_width, rel=1e-5)
    t = half_width / (math.sqrt(6) * math.sqrt(1 + 1 / 8))
    assert 1 - 2 * stats.t.sf(t, 7) == pytest.approx(0.9999, abs=1e-7)


def test_a_band_covers_a_further_run_as_often_as_it_should(monkeypatch):
    # At 99.99 % one would have to wait too long for a miss, so the same formula is simulated at 90 %.
    monkeypatch.setattr(reference, "PROBABILITY", 0.9)
    runs = np.random.default_rng(0).normal(10, 2, size=(2000, 9))
    bands = [reference.band(values[:8]) for values in runs.tolist()]
    inside = [b["low"] <= value <= b["high"] for b, value in zip(bands, runs[:, 8], strict=True)]
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 2000))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_band_of_a_constant_allows_rounding(sign):
    entry = reference.band([sign / 3] * 8)
    low, high = sorted([sign * 0.98 / 3, sign * 1.02 / 3])
    assert entry["low"] <= low < high <= entry["high"] < entry["low"] + 0.0134


@pytest.mark.parametrize(
    ("name", "values", "low", "high"),
    [
        ("98.writer.accuracy", [0.97, 0.99] * 4, None, 1),
        ("98.judge.classifier_accuracy", [0.97, 0.99] * 4, None, 1),
        ("98.direction.cosine", [0.9, 0.99] * 4, None, 1),
        ("98.deep.test_mse", [0.001, 0.03] * 4, 0, None),
        ("98.axes.largest_angle_deg", [0.1, 2.0] * 4, 0, None),
        ("98.superres.gain_over_bicubic_db", [-1.0, 2.0] * 4, None, None),
        ("98.cvae.inception_score", [9.0, 9.9] * 4, None, 10),
        ("98.denoising.gain_db", [-1.0, 2.0] * 4, None, None),
        ("98.judge.accuracy_gain", [0.9, 0.99] * 4, None, None),
        ("98.sound.gain_over_pca", [0.01, 0.2] * 4, None, None),
        ("98.transfer.trained_over_untrained_points", [0.1, 4.0] * 4, None, None),
        ("98.gain.pixels_over_codes", [0.1, 4.0] * 4, 0, None),
        ("98.sound.unknown_faults_auroc", [0.97, 0.99] * 4, None, 1),
        ("98.copy.weak_power", [0.01, 0.2] * 4, 0, None),
    ],
)
def test_a_band_ends_where_the_result_cannot_be(name, values, low, high):
    free, cut = reference.band(values), reference.band(values, name)
    assert cut["low"] == (free["low"] if low is None else low)
    assert cut["high"] == (free["high"] if high is None else high)
    assert low is None or free["low"] < low
    assert high is None or free["high"] > high


def test_the_stored_bands_end_where_their_results_cannot_be():
    for name, entry in json.loads(reference.REFERENCE_FILE.read_text(encoding="utf-8"))["results"].items():
        expected = reference.band(entry["values"], name)  # of values with six digits
        for end in ("low", "high"):
            assert entry[end] == pytest.approx(expected[end], rel=1e-3, abs=1e-9), name


def test_a_band_needs_eight_finite_values():
    with pytest.raises(reference.MeasurementError, match="too few"):
        reference.band([1.0] * 7)
    with pytest.raises(reference.MeasurementError, match="finite"):
        reference.band([1.0] * 7 + [math.nan])


def fake_run(path, seed):
    return {
        "seconds": seed - 41.0,  # the first of the seeds is the fastest
        "private_mb": 900 + seed,
        "results": {"98.one": 1 + seed / 1000},
        "measured": {"date": "2026-11-20"},
    }


def test_a_measurement_goes_on_where_it_stopped(notebook, tmp_path, capsys):
    path = write(notebook, tmp_path / "98_sample.ipynb")
    measured = []

    def stops_at_the_fourth(path, seed):
        measured.append(seed)
        if len(measured) == 4:
            raise CellFailed("cell 3 raised ValueError")
        return fake_run(path, seed)

    with pytest.raises(CellFailed):
        reference.measure(path, tmp_path / "runs", stops_at_the_fourth)
    assert len(list((tmp_path / "runs").iterdir())) == 3
    runs = reference.measure(path, tmp_path / "runs", stops_at_the_fourth)
    assert measured == [101, 102, 103, 104, *range(104, 113)]
    assert [run["results"]["98.one"] for run in runs] == [1 + seed / 1000 for seed in reference.SEEDS]
    output = capsys.readouterr().out
    assert "3 of 12 runs are there already" in output
    assert "seed 104, run 1 of 9: 63 s, 1,004 MB; about 8 min left" in output


def test_new_bands_replace_those_of_their_lesson_alone():
    before = {"lessons": {"97": {"seconds": 1}}, "results": {"97.x": {"mean": 1}, "98.renamed": {"mean": 2}}}
    runs = [fake_run(None, seed) for seed in reference.SEEDS]
    after = reference.updated(before, "98", runs, "c0de")
    assert after["lessons"]["97"] == {"seconds": 1}
    assert after["lessons"]["98"] == {"seconds": 60.0, "measured": {"date": "2026-11-20"}, "fingerprint": "c0de"}
    assert set(after["results"]) == {"97.x", "98.one"}
    runs[3]["results"] = {"98.two": 2.0}
    with pytest.raises(reference.MeasurementError, match="differ from seed to seed"):
        reference.updated(before, "98", runs, "c0de")


def test_bands_are_confirmed_for_changed_code_only_if_every_result_is_the_same():
    before = {"lessons": {"98": {"seconds": 1, "fingerprint": "old"}}, "results": {"98.one": {"mean": 1, "std": 0.1}}}
    same = {"98.one": 1.5}
    after = reference.confirmed(before, "98", same, same, same, "new")
    assert after == {"lessons": {"98": {"seconds": 1, "fingerprint": "new"}}, "results": before["results"]}
    for other in ({"98.one": 1.5 + 1e-12}, {"98.one": 1.5, "98.two": 2.0}, {}):
        with pytest.raises(reference.MeasurementError, match="results differ"):
            reference.confirmed(before, "98", same, other, other, "new")
    with pytest.raises(reference.MeasurementError, match="other results than the bands"):
        reference.confirmed(before, "98", {"98.two": 1.5}, {"98.two": 1.5}, {"98.two": 1.5}, "new")


def test_a_result_that_no_seed_changes_gets_a_new_band_unless_another_seed_changes_it_now():
    runs = [
        {"seconds": 2, "measured": {"date": "2026"}, "results": {"98.curve": 3.0, "98.seed": seed}} for seed in range(8)
    ]
    before = reference.updated({"lessons": {}, "results": {}}, "98", runs, "old")
    now = {"98.curve": 4.0, "98.seed": 0}
    after = reference.confirmed(before, "98", runs[0]["results"], now, {"98.curve": 4.0, "98.seed": 7}, "new")
    assert after["results"]["98.seed"] == before["results"]["98.seed"]
    curve = after["results"]["98.curve"]
    assert curve["mean"] == 4
    assert curve["values"] == [4.0] * 8
    assert curve["low"] < 4 < curve["high"] < 4.1
    with pytest.raises(reference.MeasurementError, match="results differ"):
        reference.confirmed(before, "98", runs[0]["results"], now, {"98.curve": 4.1, "98.seed": 7}, "new")


def test_a_run_records_the_checkpoints_and_leaves_the_notebook(notebook, tmp_path):
    source = (
        "import json\nimport os\n\nwith open(os.environ['COURSE_RECORD'], 'a') as file:\n"
        "    print(json.dumps({'name': NAME, 'value': float(os.environ['COURSE_SEED'])}), file=file)"
    )
    notebook.cells = [code("name", "NAME = '98.seed'"), code("record", source)]
    path = write(notebook, tmp_path / "98_sample.ipynb")
    before = path.read_bytes()
    assert reference.run_once(path, 105)["results"] == {"98.seed": 105.0}
    assert path.read_bytes() == before
    notebook.cells[0].source = "NAME = '97.seed'"
    with pytest.raises(reference.MeasurementError, match=r"97\.seed"):
        reference.run_once(write(notebook, path), 105)


def test_a_lesson_names_its_stored_files_in_full_so_that_its_fingerprint_sees_them():
    cells = {lesson_of(path): code_cells(read_notebook(path)) for path in notebook_paths()}
    for file in [*PACKAGE.glob("pretrained_files/*.json"), *PACKAGE.glob("curve_files/*.json")]:
        if not file.stem.startswith("06.map_"):  # the explorer's
            assert any(f'"{file.stem}"' in cell.source for cell in cells[file.stem[:2]]), file.stem


MODULES = {
    "training.py": '"""Trains."""\nRATE = 1  # fast\ndef f(x):\n    raise ValueError(f"{x} is bad")\n',
    "plotting.py": "WIDTH = 8\n",
    "lessons.py": "A = 1\nB = A + 3\n\ndef unused():\n    return 5\n",
}


@pytest.mark.parametrize(
    ("cell", "module", "old", "new", "matters"),
    [
        ("x = 1", "training.py", "RATE = 1", "RATE = 2", True),
        ("x = 1", "training.py", "Trains.", "Trains models.", False),
        ("x = 1", "training.py", "fast", "slow", False),
        ("x = 1", "training.py", "is bad", "is not good", False),
        ("x = 1", "plotting.py", "8", "9", False),
        ("x = 1", "lessons.py", "1", "2", False),
        ("from course_utils.lessons import A", "lessons.py", "1", "2", True),
        ("from course_utils.lessons import A", "lessons.py", "3", "4", False),
        ("from course_utils.lessons import B", "lessons.py", "1", "2", True),
        ("from course_utils.lessons import B", "lessons.py", "5", "6", False),
        ("from course_utils.lessons import unused", "lessons.py", "5", "6", True),
        ("x = 1", None, "x = 1", "x = 2", True),
        ("x = 1", None, "x = 1", "x = 1  # one", False),
        ("show(f(1), alt='a')", None, "alt='a'", "alt='b'", False),
        ("show(f(1), alt='a')", None, "f(1)", "f(2)", True),
        ("print(f'{f(1)} digits')", None, "digits", "numbers", False),
        ("print(f'{f(1)} digits')", None, "f(1)", "f(2)", True),
        ("checkpoint('98.a', x, if_not='Why?')", None, "Why?", "How?", False),
        ("checkpoint('98.a', x, above=1)", None, "above=1", "above=2", True),
    ],
)
def test_the_fingerprint_changes_with_what_can_change_a_number(cell, module, old, new, matters, notebook, tmp_path):
    package = tmp_path / "course_utils"
    package.mkdir()
    for name, source in MODULES.items():
        (package / name).write_text(source)
    notebook.cells[-1] = code("last", cell)
    before = fingerprint(write(notebook, tmp_path / "98_sample.ipynb"), package)
    if module:
        assert old in MODULES[module]
        (package / module).write_text(MODULES[module].replace(old, new))
    else:
        assert old in cell
        notebook.cells[-1] = code("last", cell.replace(old, new))
    after = fingerprint(write(notebook, tmp_path / "98_sample.ipynb"), package)
    assert (before != after) == matters


@pytest.mark.parametrize("folder", ["pretrained_files", "curve_files"])
@pytest.mark.parametrize(("cell", "matters"), [('load("98.stored")', True), ('load("98.other")', False)])
def test_the_fingerprint_changes_with_the_stored_files_that_a_lesson_names(folder, cell, matters, notebook, tmp_path):
    package = tmp_path / "course_utils"
    (package / folder).mkdir(parents=True)
    (package / "lessons.py").touch()
    stored = package / folder / "98.stored.json"
    stored.write_text("1")
    notebook.cells[-1] = code("last", cell)
    path = write(notebook, tmp_path / "98_sample.ipynb")
    before = fingerprint(path, package)
    stored.write_text("2")
    assert (before != fingerprint(path, package)) == matters
