"""Measure what every lesson costs, and compute what a hub for a class needs: `make bill`.

Every lesson runs three times (`--repeats`) from top to bottom in a fresh kernel, about half an hour in all on two cores.
The tables go to `CLASS.md` beside this file; `JUPYTERHUB.md` says where its numbers belong in a hub's configuration.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.machine import PeakPrivateMemory
from tools.shared.machine import machine_and_versions
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from tools.shared.notebook_files import notebook_paths, read_notebook, replace_file

RESULTS_FILE = REPORTS_FOLDER / "CLASS.md"

# The assumptions of the second half of the page.
STUDENTS = (30, 3000)
CLASS_MINUTES = 90
RUNS = (1, 3, 10)  # complete runs of the lesson per student and class
GUARANTEED_RUNS = 3  # the CPU guarantee is for so many
NODE_CORES, NODE_GIB = 16, 64
USABLE = 0.9  # of a node; the rest is for its system and the hub

CPU_SECONDS = (
    "import resource; used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime, end='')"
)


class Cost(NamedTuple):
    """What running a lesson took; the memory in MB, the private part `None` where the system does not tell it."""

    lesson: str
    cpu_seconds: float
    seconds: float
    resident_mb: float
    private_mb: float | None

    @property
    def memory_mb(self) -> float:
        """What a student's container has to hold; without knowledge of the private part, all of it."""
        return self.resident_mb if self.private_mb is None else self.private_mb


# ---------------------------------------------------------------------------------------------------------------------
# Measure
# ---------------------------------------------------------------------------------------------------------------------


def measure(notebook: NotebookNode, folder: Path) -> Cost:
    """Run all cells of a notebook in a fresh kernel that starts in `folder`."""
    notebook.cells.append(new_code_cell(CPU_SECONDS))
    with PeakPrivateMemory() as peak:
        run = run_notebook(notebook, folder)
    cpu_seconds = float(notebook.cells.pop().outputs[0].text)
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    return Cost(title, cpu_seconds, run.seconds, run.peak_memory_mb, peak.mb)


def typical_time_and_largest_memory(runs: list[Cost]) -> Cost:
    """Of several runs of a lesson: other programs make a time longer, but a container must hold the largest memory."""
    cpu_seconds = statistics.median(run.cpu_seconds for run in runs)
    seconds = statistics.median(run.seconds for run in runs)
    return Cost(runs[0].lesson, cpu_seconds, seconds, *_largest_memory(runs))


def _largest_memory(costs: list[Cost]) -> tuple[float, float | None]:
    """The largest resident and the largest private memory in MB."""
    private = [cost.private_mb for cost in costs]
    return max(cost.resident_mb for cost in costs), None if None in private else max(private)


def server_mb() -> float:
    """Private memory of a JupyterLab server that has started and runs no notebook; 0 where the system does not tell it.

    Raises:
        RuntimeError: the server ended before it said that it is running.
    """
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    with (
        PeakPrivateMemory() as peak,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server,
    ):
        started = any("is running at" in line for line in server.stderr)
        server.terminate()
    if not started:
        raise RuntimeError(f"{' '.join(command[1:])} ended before it served; run it by hand to see why.")
    return peak.mb or 0.0


# ---------------------------------------------------------------------------------------------------------------------
# What a class needs
# ---------------------------------------------------------------------------------------------------------------------


def gib(mb: float) -> float:
    """MB (10⁶ bytes) in GiB (2³⁰ bytes), which is what a hub's `G` means."""
    return mb * 1e6 / 2**30


def up_to_tenth(value: float) -> float:
    """Rounded up to one decimal; a remainder below a millionth is a rounding error of the computer."""
    return math.ceil(value * 10 - 1e-6) / 10


def memory_guarantee(costs: list[Cost], server: float) -> float:
    """GiB per student: the server and the lesson that needs most."""
    return up_to_tenth(gib(server + max(cost.memory_mb for cost in costs)))


def memory_limit(costs: list[Cost], server: float) -> float:
    """GiB per student: the server and the two lessons that need most, because a notebook left open keeps its kernel."""
    return up_to_tenth(gib(server + sum(sorted(cost.memory_mb for cost in costs)[-2:])))


def busy_cores(students: int, runs: int, cpu_seconds: float) -> float:
    """Cores that are busy on average over the class."""
    return students * runs * cpu_seconds / (60 * CLASS_MINUTES)


def minutes_at_once(students: int, cores: int, dearest: Cost) -> float:
    """How long a run takes if all students start it at the same moment."""
    return max(students * dearest.cpu_seconds / cores, dearest.seconds) / 60


def nodes(students: int, cores: int, guarantee: float) -> tuple[int, str]:
    """How many nodes the class needs, and whether memory or cores ask for them."""
    by_memory = math.ceil(students / math.floor(USABLE * NODE_GIB / guarantee))
    by_cores = math.ceil(cores / (USABLE * NODE_CORES))
    return max(by_memory, by_cores), "memory" if by_memory >= by_cores else "cores"


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------


def cost_table(costs: list[Cost]) -> str:
    """A line per lesson and one for all: sums of time, maxima of memory."""
    cpu_seconds = sum(cost.cpu_seconds for cost in costs)
    seconds = sum(cost.seconds for cost in costs)
    total = Cost("all lessons", cpu_seconds, seconds, *_largest_memory(costs))
    lines = [
        f"| lesson | CPU seconds | seconds on {cores_here()} cores | peak resident memory | of it private |",
        "|---|---|---|---|---|",
    ]
    for cost in [*costs, total]:
        held = "not measured" if cost.private_mb is None else f"{cost.private_mb:,.0f} MB"
        lines.append(
            f"| {cost.lesson} | {cost.cpu_seconds:,.0f} | {cost.seconds:,.0f} | {cost.resident_mb:,.0f} MB | {held} |"
        )
    return "\n".join(lines)


def cores_here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def class_table(costs: list[Cost], server: float) -> str:
    """A line per number of students and of runs, with the formula of the cores written out."""
    dearest = max(costs, key=lambda cost: cost.cpu_seconds)
    guarantee = memory_guarantee(costs, server)
    lines = [
        "| students | runs each | cores = students × runs × CPU seconds / class | all start at once: done after | "
        f"guaranteed memory | nodes of {NODE_CORES} cores, {NODE_GIB} GiB |",
        "|---|---|---|---|---|---|",
    ]
    for students in STUDENTS:
        for runs in RUNS:
            busy = busy_cores(students, runs, dearest.cpu_seconds)
            cores = math.ceil(busy)
            number, reason = nodes(students, cores, guarantee)
            lines.append(
                f"| {students:,} | {runs} | {students:,} × {runs} × {dearest.cpu_seconds:,.0f} / {60 * CLASS_MINUTES:,} = "
                f"{busy:,.1f}, so {cores:,} | {minutes_at_once(students, cores, dearest):.0f} min | "
                f"{students:,} × {guarantee:.1f} = {students * guarantee:,.0f} GiB | {number:,}, for the {reason} |"
            )
    return "\n".join(lines)


def page(costs: list[Cost], repeats: int, server: float, measured: str) -> str:
    """The whole of `CLASS.md`."""
    guarantee, limit = memory_guarantee(costs, server), memory_limit(costs, server)
    dearest = max(costs, key=lambda cost: cost.cpu_seconds)
    second, largest = sorted(costs, key=lambda cost: cost.memory_mb)[-2:]
    cpu_guarantee = up_to_tenth(busy_cores(1, GUARANTEED_RUNS, dearest.cpu_seconds))
    return f"""# The bill for a class

Written by `make bill`: {measured}.

## What a lesson costs

{cost_table(costs)}

CPU seconds are those of the kernel, user and system, over a complete run with its imports. Resident memory counts the
pages of the libraries' files too, which exist once per machine, however many students share them. Private memory is what
every student needs anew; a container's memory limit must hold it. The JupyterLab server itself, without a notebook,
holds {server:,.0f} MB of private memory. Runs of each lesson: {repeats}. The times are the medians, the memory is the largest.

## What a hub needs

Assumed: all students work in the same class of {CLASS_MINUTES} minutes on the same lesson, the one that needs most. A node has
{NODE_CORES} cores and {NODE_GIB} GiB, of which {USABLE:.0%} are for students. GiB are 2³⁰ bytes, MB are 10⁶.

- Memory guarantee: the server and the lesson with the largest memory ({largest.lesson}),
  {gib(server):.2f} + {gib(largest.memory_mb):.2f} = {gib(server + largest.memory_mb):.2f}, rounded up to **{guarantee:.1f} GiB**.
- Memory limit: room for one more lesson ({second.lesson}), because a notebook left open keeps its kernel,
  {gib(server):.2f} + {gib(largest.memory_mb):.2f} + {gib(second.memory_mb):.2f} = {gib(server + largest.memory_mb + second.memory_mb):.2f}, rounded up to **{limit:.1f} GiB**.
- CPU guarantee: {GUARANTEED_RUNS} complete runs of the lesson with the most CPU seconds ({dearest.lesson}),
  {GUARANTEED_RUNS} × {dearest.cpu_seconds:,.0f} / {60 * CLASS_MINUTES:,} = {busy_cores(1, GUARANTEED_RUNS, dearest.cpu_seconds):.3f}, rounded up to **{cpu_guarantee:.1f} cores** per student.

{class_table(costs, server)}

"Done after" is students × CPU seconds / cores: how long everybody waits when the teacher says "run all cells now". It is
the figure to choose the number of cores by; the average alone is met by too few.

For Zero to JupyterHub:

```yaml
singleuser:
  memory:
    guarantee: {guarantee:.1f}G
    limit: {limit:.1f}G
  cpu:
    guarantee: {cpu_guarantee:.1f}
```

For a hub with another spawner, if that spawner enforces limits:

```python
c.Spawner.mem_guarantee = "{guarantee:.1f}G"
c.Spawner.mem_limit = "{limit:.1f}G"
c.Spawner.cpu_guarantee = {cpu_guarantee:.1f}
```

[JUPYTERHUB.md](JUPYTERHUB.md) says what else belongs in the configuration.
"""


def measure_lesson(path: Path) -> Cost:
    """`measure` the lesson in the file `path`, and print what it cost; a cell that fails ends the program."""
    try:
        cost = measure(read_notebook(path), path.parent)
    except CellFailed as failure:
        sys.exit(f"{path.name}, {failure}\n{RESULTS_FILE.name} was left as it was.")
    print(
        f"{cost.lesson}: {cost.cpu_seconds:.0f} CPU seconds in {cost.seconds:.0f} s, {cost.resident_mb:,.0f} MB at "
        f"most, of which a container must hold {cost.memory_mb:,.0f} MB",
        flush=True,
    )
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    if repeats < 1:
        parser.error(f"--repeats is {repeats}; expected at least 1.")

    costs = [
        typical_time_and_largest_memory([measure_lesson(path) for _ in range(repeats)]) for path in notebook_paths()
    ]
    replace_file(RESULTS_FILE, page(costs, repeats, server_mb(), machine_and_versions()))
    print(f"Written to {RESULTS_FILE.name}.")


if __name__ == "__main__":
    main()
