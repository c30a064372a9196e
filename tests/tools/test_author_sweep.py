"""`make curves` stores what `load_curve` reads, goes on after an interruption, and notices another sweep."""

import json
from dataclasses import replace

import numpy as np
import pytest

from course_utils import pretrained
from course_utils.backend import keras
from tools.author import sweep


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A sweep of two values and three seeds that draws one number each; the list of what was measured."""
    measured = []

    def measure(x):
        measured.append(x)
        drawn = keras.ops.convert_to_numpy(keras.random.normal(()))
        return {"double": 2 * x, "drawn": drawn}

    monkeypatch.setattr(
        sweep, "SWEEPS", {"98.double": sweep.Sweep(x=(1, 4), measure=measure, settings={"epochs": 3}, seeds=3)}
    )
    monkeypatch.setattr(sweep, "PROGRESS_FOLDER", tmp_path / "progress")
    monkeypatch.setattr(
        keras.utils, "clear_session", lambda: None
    )  # there is no model, and looking for one takes a second
    for module in (sweep, pretrained):
        monkeypatch.setattr(module, "CURVE_FOLDER", tmp_path / "stored")
    return measured


def change(monkeypatch, **settings):
    monkeypatch.setitem(sweep.SWEEPS, "98.double", replace(sweep.SWEEPS["98.double"], **settings))


def test_mean_and_spread_over_the_seeds_are_stored(calls):
    sweep.sweep("98.double")
    curve = pretrained.load_curve("98.double")
    assert calls == [1, 1, 1, 4, 4, 4]
    assert (curve["x"], curve["seeds"], curve["settings"]) == ([1, 4], 3, {"epochs": 3})
    assert curve["mean"]["double"] == [2, 8]
    assert curve["std"]["double"] == [0, 0]
    draws = []
    for seed in (1, 2, 3):
        keras.utils.set_random_seed(seed)
        draws.append(float(keras.ops.convert_to_numpy(keras.random.normal(()))))
    assert curve["mean"]["drawn"] == pytest.approx([np.mean(draws)] * 2, rel=1e-3)
    assert curve["std"]["drawn"] == pytest.approx([np.std(draws, ddof=1)] * 2, rel=1e-3)


def test_an_interrupted_sweep_goes_on_where_it_was(calls, monkeypatch, tmp_path):
    measure = sweep.SWEEPS["98.double"].measure

    def interrupted(x):
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(x)

    change(monkeypatch, measure=interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep("98.double")
    assert not (tmp_path / "stored").exists()
    change(monkeypatch, measure=measure)
    sweep.sweep("98.double")
    assert calls == [1, 1, 1, 4, 4, 4]
    assert list((tmp_path / "progress").iterdir()) == []


@pytest.mark.parametrize("other", [{"settings": {"epochs": 4}}, {"x": (1, 5)}, {"seeds": 2}])
def test_another_sweep_is_noticed_and_measured_anew(other, calls, monkeypatch):
    assert not sweep.is_current("98.double")
    sweep.sweep("98.double")
    assert sweep.is_current("98.double")
    change(monkeypatch, **other)
    assert not sweep.is_current("98.double")


def test_an_unknown_curve_is_refused_with_the_known_ones(calls):
    sweep.sweep("98.double")
    with pytest.raises(pretrained.PretrainedError, match=r"No curve '98\.duoble' .*'98\.double'"):
        pretrained.load_curve("98.duoble")


def test_all_stored_curves_belong_to_the_present_sweeps():
    stored = sorted(path.stem for path in pretrained.CURVE_FOLDER.glob("*.json"))
    assert stored == sorted(sweep.SWEEPS)
    for name in stored:
        assert sweep.is_current(name), name
        curve = json.loads((pretrained.CURVE_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        assert all(len(row) == len(curve["x"]) for part in ("mean", "std") for row in curve[part].values()), name
