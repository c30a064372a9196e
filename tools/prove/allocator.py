"""Measure what a memory allocator that keeps what it has saves, and write `reports/ALLOCATOR.md`: `make allocator`.

    python -m tools.prove.allocator                                        # this backend, all tasks; an hour on two cores
    python -m tools.prove.allocator --tasks dense VAE --repeats 4
    TF_ENABLE_ONEDNN_OPTS=0 python -m tools.prove.allocator                # as on a processor without VNNI
    KERAS_BACKEND=jax python -m tools.prove.allocator --tasks dense        # another backend, where it is installed
    KERAS_BACKEND=torch python -m tools.prove.allocator --tasks course --side-by-side    # what would take hours in turn

Each task runs in a fresh process, with the system's allocator and with the course's in turn (A, B, A, B, …); `lesson` is
lesson 02, `course` all lessons one after the other. Side by side, both run at the same time, each on one core. Results are
kept in `reports/allocator.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tools.shared.child import clean_environment
from tools.shared.machine import PeakPrivateMemory, machine_and_versions
from tools.shared.notebook_files import REPORTS_FOLDER, ROOT, lesson_path, notebook_paths, read_notebook, replace_file
from tools.shared.notebook_runs import run_notebook

PAGE = REPORTS_FOLDER / "ALLOCATOR.md"
DATA_FILE = REPORTS_FOLDER / "allocator.json"

TRAININGS = ("dense", "convolutional", "VAE")
LESSON = "02"
TASKS = {**dict.fromkeys(TRAININGS, 2), "lesson": 2, "course": 1}  # task → repeats
ALLOCATORS = ("system", "keep")
LONGEST_TASK = 3 * 3600  # seconds
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
# TensorFlow on Linux takes oneDNN where the processor has instructions for neural networks (VNNI and newer), and Eigen
# elsewhere; its variable overrides that.
ENGINE = BACKEND + {"0": " without oneDNN", "1": " with oneDNN"}.get(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), "")

HEAD = """\
# A memory allocator that keeps what it has

Written by `make allocator`. Each task ran in fresh processes with the system's allocator (`COURSE_ALLOCATOR=system`)
and with the course's (`=keep`, see `course_utils/backend.py`) in turn; the figures are medians, and the ratio is that
of each turn's pair. The default is the first on JAX and the second elsewhere. The trainings are those of `make bench`:
5 epochs of the dense autoencoder, 2 of the convolutional one, 5 of the VAE with 20 latents, on 55,000 digits, with
their imports; `lesson` is lesson 02, `course` all lessons. Page faults are the pages that the kernel had to provide, in
millions; private memory is the largest that all processes of the task held together, files of libraries left out.
Where it says "side by side", both ran at the same time, each on one core.
TensorFlow takes oneDNN by itself on processors with instructions for neural networks (VNNI and newer);
`TF_ENABLE_ONEDNN_OPTS` says otherwise.

| engine | task | turns | seconds | ratio | processor seconds | ratio | page faults | private MB |
|---|---|---|---|---|---|---|---|---|
"""


def run_training(task: str) -> None:
    """In the child process: train one of the models of `make bench`."""
    from course_utils.devices import setup
    from tools.prove.recipes import COMPARISONS

    setup("allocator")
    key = {"dense": "dense", "convolutional": "convolutional", "VAE": "vae20"}[task]
    COMPARISONS[key].ours.run(seed=0)


def run_lessons(task: str) -> None:
    """In the child process: run lessons in fresh kernels."""
    for path in [lesson_path(LESSON)] if task == "lesson" else notebook_paths():
        run_notebook(read_notebook(path), path.parent, COURSE_ALLOCATOR=os.environ["COURSE_ALLOCATOR"])


def measure_once(task: str, allocator: str) -> dict:
    """Run a task in a child process; return what it and the processes that it started took.

    Raises:
        SystemExit: the child process failed.
    """
    command = [sys.executable, "-m", "tools.prove.allocator", "--child", task]
    start = time.perf_counter()
    with PeakPrivateMemory() as memory:
        # This process has chosen its own allocator, which no child may inherit.
        child = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(COURSE_ALLOCATOR=allocator), stdout=subprocess.DEVNULL
        )
        limit = threading.Timer(LONGEST_TASK, child.kill)
        limit.start()
        _, status, used = os.wait4(child.pid, 0)
        limit.cancel()
    if status:
        raise SystemExit(f"The task {task!r} failed with the allocator {allocator!r}; it says why above.")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "page_faults": used.ru_minflt,
        "private_mb": memory.mb,
    }


def measure_on_core(task: str, allocator: str, core: int) -> dict:
    """`measure_once`, with nothing but one core; it binds the process that calls it."""
    os.sched_setaffinity(0, {core})
    return measure_once(task, allocator)


def measure_side_by_side(task: str) -> dict[str, dict]:
    """A pair of measurements at the same time, by allocator, each on a core of its own.

    Raises:
        SystemExit: there is only one core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < len(ALLOCATORS):
        raise SystemExit("Side by side, each of the two runs needs a core of its own; this machine offers one.")
    with ProcessPoolExecutor(len(ALLOCATORS), mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(measure_on_core, task, *pair) for pair in zip(ALLOCATORS, cores, strict=False)]
        return {allocator: run.result() for allocator, run in zip(ALLOCATORS, runs, strict=True)}


def measure(task: str, repeats: int, side_by_side: bool) -> list[dict]:
    """Pairs of measurements, by allocator."""
    pairs = []
    for _ in range(repeats):
        if side_by_side:
            pairs.append(measure_side_by_side(task))
        else:
            pairs.append({allocator: measure_once(task, allocator) for allocator in ALLOCATORS})
        print(ENGINE, task, {a: {k: round(v, 1) for k, v in m.items()} for a, m in pairs[-1].items()}, flush=True)
    return pairs


def row(engine: str, task: str, pairs: list[dict]) -> str:
    """A line of the table."""

    def both(key: str, unit: float, digits: int) -> str:
        medians = [statistics.median(pair[allocator][key] for pair in pairs) / unit for allocator in ALLOCATORS]
        return " → ".join(f"{value:,.{digits}f}" for value in medians)

    def ratio(key: str) -> str:
        return ", ".join(f"{pair['keep'][key] / pair['system'][key]:.2f}" for pair in pairs)

    columns = [engine, task, str(len(pairs)), both("seconds", 1, 1), ratio("seconds"), both("cpu_seconds", 1, 1)]
    columns += [ratio("cpu_seconds"), both("page_faults", 1e6, 2), both("private_mb", 1, 0)]
    return f"| {' | '.join(columns)} |"


def page(results: dict) -> str:
    """The whole page; `results` holds engine → task → pairs."""
    rows = [
        row(engine, task, found[task]) for engine, found in results["runs"].items() for task in TASKS if task in found
    ]
    machines = [f"{engine}: {machine}." for engine, machine in results["machines"].items()]
    return HEAD + "\n".join([*rows, "", *machines]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, help="pairs of runs; by default two, and one of the whole course")
    parser.add_argument("--side-by-side", action="store_true", help="both runs of a pair at once, each on one core")
    parser.add_argument("--child", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return run_training(arguments.child) if arguments.child in TRAININGS else run_lessons(arguments.child)
    results = json.loads(DATA_FILE.read_text(encoding="utf-8")) if DATA_FILE.exists() else {"runs": {}, "machines": {}}
    engine = ENGINE + ", side by side" * arguments.side_by_side
    for task in arguments.tasks:
        pairs = measure(task, arguments.repeats or TASKS[task], arguments.side_by_side)
        results["runs"].setdefault(engine, {})[task] = pairs
        results["machines"][engine] = machine_and_versions()
        replace_file(DATA_FILE, json.dumps(results, indent=1) + "\n")
        replace_file(PAGE, page(results))
    print(f"Written to {PAGE.name}.")


if __name__ == "__main__":
    main()
