"""`make bench` and `make allocator` compare within a turn."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tools.prove import allocator, speed


def test_recipes_take_turns_with_both_allocators_and_ours_with_one(monkeypatch):
    calls = []

    def measure_once(key, index, seed, allocator, backend):
        calls.append((index, seed, allocator))
        return {"loss": 0.1, "seconds": 1.0, "scaled": False}

    monkeypatch.setattr(speed, "measure_once", measure_once)
    recipes = [
        SimpleNamespace(name=name, repeats=n, backend="tensorflow")
        for name, n in [("short", 3), ("long", 1), ("ours", 3)]
    ]
    speed.measure("dense", recipes, 2)
    first = [(0, 0, "system"), (0, 0, "keep"), (1, 0, "system"), (1, 0, "keep"), (2, 0, "keep")]
    assert calls == [*first, (0, 1, "system"), (0, 1, "keep"), (2, 1, "keep")]


def test_a_child_does_not_inherit_its_parents_allocator(monkeypatch):
    def run(command, env, **settings):
        assert env["COURSE_ALLOCATOR"] == "system"
        assert "TF_CPU_ALLOCATOR_USE_BFC" not in env
        return SimpleNamespace(returncode=0, stdout="result: " + json.dumps({"seconds": 1}))

    monkeypatch.setenv("TF_CPU_ALLOCATOR_USE_BFC", "true")
    monkeypatch.setattr(speed.subprocess, "run", run)
    assert speed.measure_once("dense", 0, 0, "system", "tensorflow") == {"seconds": 1}


def test_no_task_of_the_allocators_page_inherits_an_allocator(monkeypatch):
    class Started(Exception):
        """The environment was as expected."""

    def start(command, env, **settings):
        assert env["COURSE_ALLOCATOR"] == "system"
        assert "TF_CPU_ALLOCATOR_USE_BFC" not in env
        raise Started

    monkeypatch.setenv("TF_CPU_ALLOCATOR_USE_BFC", "true")
    monkeypatch.setattr(allocator.subprocess, "Popen", start)
    with pytest.raises(Started):
        allocator.measure_once("dense", "system")


def run(recipe, allocator, repeat, seconds, scaled=False):
    return {
        "recipe": recipe, "allocator": allocator, "repeat": repeat, "seconds": seconds, "loss": 0.1,
        "scaled": scaled,
    }  # fmt: skip


def test_every_ratio_is_taken_within_a_turn_and_is_memory_times_training():
    runs = [run("theirs", "system", 0, 60.0), run("theirs", "keep", 0, 30.0, True), run("ours", "keep", 0, 10.0)]
    runs += [run("theirs", "system", 1, 120.0), run("theirs", "keep", 1, 60.0, True), run("ours", "keep", 1, 20.0)]
    *_, theirs, ours = speed.table("T", "loss", {"machine": "M", "runs": runs}).splitlines()
    columns = [cell.strip() for cell in theirs.strip("|").split("|")]
    assert columns[1:3] == ["2", "0.1000 ± 0.0000"]
    assert columns[4].endswith("*")
    assert columns[5:] == ["**6.0 ± 0.0**", "2.00 ± 0.00", "3.0 ± 0.0"]
    assert ours.startswith("| ours | 2 | 0.1000 ± 0.0000 |")


def test_the_ratio_of_allocators_is_that_of_each_pair():
    def cost(seconds):
        return {"seconds": seconds, "cpu_seconds": seconds, "page_faults": 1e6 * seconds, "private_mb": 100}

    pairs = [{"system": cost(10), "keep": cost(5)}, {"system": cost(30), "keep": cost(24)}]
    assert allocator.row("jax", "dense", pairs).startswith("| jax | dense | 2 | 20.0 → 14.5 | 0.50, 0.80 |")


def test_side_by_side_each_allocator_has_a_core_of_its_own(monkeypatch):
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs Linux and two cores")
    monkeypatch.setattr(
        allocator, "measure_once", lambda task, name: {"ran": (task, name), "cores": os.sched_getaffinity(0)}
    )
    # Linux binds threads one by one, so threads can stand for the processes.
    monkeypatch.setattr(allocator, "ProcessPoolExecutor", lambda n, mp_context: ThreadPoolExecutor(n))
    found = allocator.measure_side_by_side("dense")
    assert {name: run["ran"] for name, run in found.items()} == {n: ("dense", n) for n in ("system", "keep")}
    assert [len(run["cores"]) for run in found.values()] == [1, 1]
    assert not found["system"]["cores"] & found["keep"]["cores"]


def test_side_by_side_needs_two_cores(monkeypatch):
    monkeypatch.setattr(allocator.os, "sched_getaffinity", lambda process: {0}, raising=False)
    with pytest.raises(SystemExit, match="a core of its own"):
        allocator.measure_side_by_side("dense")


@pytest.mark.parametrize("name", ["the example in Keras", "the example on PyTorch"])
def test_the_page_says_when_pytorch_was_not_there(name):
    results = {
        "vae20": {
            "machine": "M",
            "runs": [run(name, a, 0, 9.0) for a in ("system", "keep")] + [run("ours", "keep", 0, 1.0)],
        }
    }
    page = speed.page({"vae20": SimpleNamespace(title="T", loss="loss")}, results)
    assert ("were not installed" in page) == ("on PyTorch" not in name)
