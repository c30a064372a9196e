"""`checkpoint` says on which side of its band a result lies and why."""

import ast
import json
import math

import pytest

from course_utils import checks
from tools.shared.notebook_files import code_cells, has_tag, notebook_paths, read_notebook

BAND = {"mean": 0.092, "std": 0.0004, "seeds": 5, "low": 0.09, "high": 0.094}
CAUSE = "Did you train for all epochs?"


@pytest.fixture(autouse=True)
def fresh_session(monkeypatch):
    """A reference with one band, no result so far, and none of the variables that change what a check does."""
    reference = {"lessons": {"01": {"seconds": 41.2}, "02": {"seconds": 40}}, "results": {"01.bce": BAND}}
    monkeypatch.setattr(checks, "_reference", lambda: reference)
    monkeypatch.setattr(checks, "_results", {})
    monkeypatch.delenv("COURSE_STRICT", raising=False)
    monkeypatch.delenv("COURSE_RECORD", raising=False)


@pytest.mark.parametrize("value", [0.09, 0.092, 0.094])
def test_a_result_inside_its_band_or_on_its_edge_is_right(value, capsys):
    checks.checkpoint("01.bce", value, if_not=CAUSE)
    assert capsys.readouterr().out == f"✓ BCE {value:.4g} (expected 0.09–0.094)\n"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0899, "0.0899 is below the band"),
        (0.0941, "0.0941 is above the band"),
        (math.inf, "inf is above the band"),
        (-math.inf, "-inf is below the band"),
        (math.nan, "nan is not in the band"),
    ],
)
def test_a_result_outside_its_band_is_named_with_side_and_cause(value, words, capsys):
    checks.checkpoint("01.bce", value, if_not=CAUSE)
    assert capsys.readouterr().out == f"✗ 01.bce = {words} 0.09–0.094 of 5 seeds. {CAUSE}\n"


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"above": 0.092}, "is not above 0.092"),  # the claim is more than equality
        ({"above": 0.093}, "is not above 0.093"),
        ({"below": 0.092}, "is not below 0.092"),
        ({"below": 0.09, "above": 0.08}, "is not below 0.09"),
    ],
)
def test_a_result_inside_its_band_that_contradicts_the_claim_is_wrong(claim, words, monkeypatch, capsys):
    checks.checkpoint("01.bce", 0.092, if_not=CAUSE, **claim)
    assert capsys.readouterr().out == f"✗ 01.bce = 0.092 {words}, as the lesson claims. {CAUSE}\n"
    monkeypatch.setenv("COURSE_STRICT", "1")
    with pytest.raises(checks.CheckpointError, match=words):
        checks.checkpoint("01.bce", 0.092, if_not=CAUSE, **claim)


@pytest.mark.parametrize("claim", [{"above": 0.0919}, {"below": 0.0921}, {"above": -1, "below": 1}])
def test_a_result_that_agrees_with_band_and_claim_is_right(claim, capsys):
    checks.checkpoint("01.bce", 0.092, if_not=CAUSE, **claim)
    assert capsys.readouterr().out == "✓ BCE 0.092 (5 seeds: 0.0920 ± 0.0004)\n"


@pytest.mark.parametrize("std", [0.0, 1e-8])
def test_a_result_that_no_seed_changes_is_not_counted_by_seeds(std, monkeypatch, capsys):
    band = {"low": 1.0, "high": 1.4, "mean": 1.202, "std": std, "seeds": 8}
    monkeypatch.setattr(checks, "_reference", lambda: {"results": {"02.ratio": band}})
    checks.checkpoint("02.ratio", 1.202, if_not=CAUSE, above=1)
    checks.results_table()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "✓ ratio 1.202 (1.202, whatever the seed)"
    assert printed[-1].split() == ["ratio", "1.202", "1.202,", "whatever", "the", "seed"]


@pytest.mark.parametrize("claim", [{"above": 0.05}, {"below": 0.2}])
def test_what_agrees_with_the_claim_must_still_lie_inside_the_band(claim, capsys):
    checks.checkpoint("01.bce", 0.1, if_not=CAUSE, **claim)
    assert "is above the band" in capsys.readouterr().out


def test_a_result_without_a_band_says_so_and_names_the_known_ones(capsys):
    checks.checkpoint("01.bec", 0.092, if_not=CAUSE)
    assert capsys.readouterr().out == "✗ 01.bec = 0.092 has no measured band yet (those of this lesson: 01.bce).\n"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("01.bce", 0.1, "above the band"),
        ("01.bce", 0.08, "below the band"),
        ("01.bce", math.nan, "not in the band"),
        ("01.other", 0.092, "no measured band"),
    ],
)
def test_strict_mode_raises_for_whatever_is_not_inside_a_band(name, value, words, monkeypatch):
    monkeypatch.setenv("COURSE_STRICT", "1")
    with pytest.raises(checks.CheckpointError, match=words):
        checks.checkpoint(name, value, if_not=CAUSE)


def test_strict_mode_is_content_with_a_result_inside_its_band(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STRICT", "1")
    checks.checkpoint("01.bce", 0.092, if_not=CAUSE)
    assert capsys.readouterr().out.startswith("✓")


def test_recording_appends_a_json_line_per_result_and_overrides_strict_mode(monkeypatch, tmp_path, capsys):
    file = tmp_path / "results.jsonl"
    file.write_text('{"name": "earlier", "value": 1.0}\n', encoding="utf-8")
    monkeypatch.setenv("COURSE_STRICT", "1")
    monkeypatch.setenv("COURSE_RECORD", str(file))
    checks.checkpoint("01.bce", 0.5, if_not=CAUSE)
    checks.checkpoint("01.new", 2, if_not=CAUSE)
    recorded = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert recorded == [
        {"name": "earlier", "value": 1.0},
        {"name": "01.bce", "value": 0.5},
        {"name": "01.new", "value": 2.0},
    ]


def test_an_empty_record_variable_records_nothing_and_leaves_strict_mode_on(monkeypatch):
    monkeypatch.setenv("COURSE_STRICT", "1")
    monkeypatch.setenv("COURSE_RECORD", "")
    with pytest.raises(checks.CheckpointError):
        checks.checkpoint("01.bce", 0.5, if_not=CAUSE)


@pytest.mark.parametrize(("lesson", "seconds"), [("01", 45), ("02", 40), ("99", None)])
def test_expected_seconds_are_rounded_up_to_five(lesson, seconds):
    assert checks.expected_seconds(lesson) == seconds


def test_the_results_table_shows_each_result_beside_its_reference(capsys):
    checks.checkpoint("01.bce", 0.5, if_not=CAUSE)
    checks.checkpoint("01.new", 2.25, if_not=CAUSE)
    checks.checkpoint("01.bce", 0.0915, if_not=CAUSE)
    capsys.readouterr()
    checks.results_table()
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["result", "this", "run", "reference", "runs"]
    assert [row.split() for row in rows] == [
        ["BCE", "0.0915", "5", "seeds:", "0.0920", "±", "0.0004"],
        ["new", "2.25", "not", "measured"],
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("01.deep32.test_mse", "deep, code of 32: test MSE"),
        ("03.gauss05.psnr_db", "Gaussian 0.5: PSNR (dB)"),
        ("01.linear_ae.largest_angle_deg", "linear AE largest angle (degrees)"),
    ],
)
def test_a_name_is_printed_in_words(name, words):
    assert checks.readable(name) == words


def test_the_results_table_without_results_says_what_to_do(capsys):
    checks.results_table()
    assert capsys.readouterr().out == "No checkpoint was reached yet: run the cells above first.\n"


def test_every_stored_band_holds_its_own_mean_and_was_measured_over_enough_seeds():
    for name, band in json.loads(checks.REFERENCE_FILE.read_text(encoding="utf-8"))["results"].items():
        assert band["low"] <= band["mean"] <= band["high"], name
        assert band["std"] >= 0, name
        assert band["seeds"] >= 8, name


def claims_of_the_lessons() -> dict[str, dict[str, float]]:
    """By the name of the result: what its checkpoint says that it is above or below."""
    claims = {}
    for path in notebook_paths():
        for cell in code_cells(read_notebook(path)):
            if has_tag(cell, "checkpoint"):
                for call in ast.walk(ast.parse(cell.source)):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "checkpoint":
                        bounds = {
                            word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg != "if_not"
                        }
                        if bounds:
                            claims[ast.literal_eval(call.args[0])] = bounds
    return claims


def test_every_claim_held_for_every_seed():
    bands = json.loads(checks.REFERENCE_FILE.read_text(encoding="utf-8"))["results"]
    claims = claims_of_the_lessons()
    assert claims
    for name, bounds in claims.items():
        for side, bound in bounds.items():
            assert all(value > bound if side == "above" else value < bound for value in bands[name]["values"]), name


def test_mean_and_std():
    for mean, std, format_spec, expected in [
        (0.94312, 0.00096, "", "0.943 ± 0.001"),
        (76.27, 12.3, "", "76 ± 12"),
        (0.83114, 0, "", "0.8311"),
        (50992, 0, "", "50,992"),
        (83.11, 1e-9, "", "83.11"),
        (0.94312, 0.00012, ".2f", "0.94"),
        (0.971, 0.002, ".1%", "97.1% ± 0.2%"),
    ]:
        assert checks.mean_and_std(mean, std, format_spec) == expected
