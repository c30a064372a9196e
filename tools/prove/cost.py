"""Measure what every lesson costs, and compute what a hub for a class needs: `make cost`.

Every lesson runs three times (`--repeats`) from top to bottom in a fresh kernel, about half an hour in all on two cores.
The tables go to `reports/COST.md`; `deploy/JUPYTERHUB.md` says where its numbers belong in a hub's configuration.
"""

import argparse
import math
import statistics
import subprocess
import sys
import threading

from tools.shared.machine import PeakPrivateMemory, machine_and_versions
from tools.shared.notebook_files import REPORTS_FOLDER, lesson_of, notebook_paths, read_notebook, replace_file
from tools.shared.notebook_runs import CellFailed, Run, run_notebook
from tools.shared.report_pages import table

PAGE = REPORTS_FOLDER / "COST.md"

# The assumptions of the second half of the page.
STUDENTS = (30, 3000)
CLASS_MINUTES = 90
RUNS = (1, 3, 10)  # complete runs of the lesson per student and class
GUARANTEED_RUNS = 3  # the CPU guarantee is for so many
NODE_CORES, NODE_GIB = 16, 64
USABLE = 0.9  # of a node; the rest is for its system and the hub

SERVER_TIMEOUT = 120  # seconds until JupyterLab serves


def typical_time_and_largest_memory(runs: list[Run]) -> Run:
    """Of several runs of a lesson: other programs make a time longer, but a container must hold the largest memory."""
    seconds, cpu_seconds, memory = zip(*((run.seconds, run.cpu_seconds, run.private_mb) for run in runs), strict=True)
    return Run(statistics.median(seconds), statistics.median(cpu_seconds), max(memory))


def server_mb() -> float:
    """Private memory in MB of a JupyterLab server that has started and runs no notebook.

    Raises:
        RuntimeError: the server ended, or took too long, before it said that it is running.
    """
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with PeakPrivateMemory() as memory, subprocess.Popen(command, **pipes) as server:
        limit = threading.Timer(SERVER_TIMEOUT, server.kill)
        limit.start()
        started = any("is running at" in line for line in server.stderr)
        limit.cancel()
        server.kill()
    if not started:
        raise RuntimeError(f"{' '.join(command[1:])} did not come to serve; run it by hand to see why.")
    return memory.mb


# ---------------------------------------------------------------------------------------------------------------------
# What a class needs
# ---------------------------------------------------------------------------------------------------------------------


def gib(mb: float) -> float:
    """MB (10⁶ bytes) in GiB (2³⁰ bytes), which is what a hub's `G` means."""
    return mb * 1e6 / 2**30


def up_to_tenth(value: float) -> float:
    """Rounded up to one decimal; a remainder below a millionth is a rounding error of the computer."""
    return math.ceil(value * 10 - 1e-6) / 10


def memory_and_cores(lessons: list[Run], server: float) -> tuple[float, float, float]:
    """What each student needs for these lessons, at least two, and a server that holds `server` MB.

    Returns:
        Memory guarantee in GiB, for the server and the largest lesson; memory limit, for one lesson more, because a
        notebook left open keeps its kernel; and the guarantee of cores.
    """
    *_, second, largest = sorted(lesson.private_mb for lesson in lessons)
    cores = busy_cores(1, GUARANTEED_RUNS, max(lesson.cpu_seconds for lesson in lessons))
    return up_to_tenth(gib(server + largest)), up_to_tenth(gib(server + largest + second)), up_to_tenth(cores)


def busy_cores(students: int, runs: int, cpu_seconds: float) -> float:
    """Cores that are busy on average over the class."""
    return students * runs * cpu_seconds / (60 * CLASS_MINUTES)


def minutes_at_once(students: int, cores: int, lesson: Run) -> float:
    """How long a run of the lesson takes if all students start it at the same moment."""
    return max(students * lesson.cpu_seconds / cores, lesson.seconds) / 60


def nodes(students: int, cores: int, guarantee: float) -> tuple[int, str]:
    """How many nodes the class needs, and whether memory or cores ask for them."""
    by_memory = math.ceil(students / math.floor(USABLE * NODE_GIB / guarantee))
    by_cores = math.ceil(cores / (USABLE * NODE_CORES))
    return max(by_memory, by_cores), "memory" if by_memory >= by_cores else "cores"


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------


def lessons_table(lessons: dict[str, Run]) -> str:
    """A line per lesson and one for all: sums of time, the largest memory."""
    runs = lessons.values()
    total = Run(sum(r.seconds for r in runs), sum(r.cpu_seconds for r in runs), max(r.private_mb for r in runs))
    rows = [
        [title, f"{run.cpu_seconds:,.0f}", f"{run.seconds:,.0f}", f"{run.private_mb:,.0f} MB"]
        for title, run in {**lessons, "all lessons": total}.items()
    ]
    return table(["lesson", "CPU seconds", "seconds", "largest private memory"], rows)


def class_table(most_expensive: Run, guarantee: float) -> str:
    """A line per number of students and of runs of the lesson with the most CPU seconds."""
    rows = []
    for students in STUDENTS:
        for runs in RUNS:
            cores = math.ceil(busy_cores(students, runs, most_expensive.cpu_seconds))
            minutes = f"{minutes_at_once(students, cores, most_expensive):.0f} min"
            number, reason = nodes(students, cores, guarantee)
            memory, needed = f"{students * guarantee:,.0f} GiB", f"{number:,}, for the {reason}"
            rows.append([f"{students:,}", str(runs), f"{cores:,}", minutes, memory, needed])
    return table(["students", "runs each", "cores", "all start at once: done after", "memory", "nodes"], rows)


TEMPLATE = f"""\
# What a class costs

Written by `make cost`: {{measured}}.

## A lesson

{{lessons}}

A complete run in a fresh kernel, imports included: the median times and the largest memory of {{repeats}}. CPU seconds
are those of the kernel, user and system. Private memory is what every student needs anew; files of libraries come on top
once per machine. The JupyterLab server itself, without a notebook, holds {{server:,.0f}} MB.

## A hub

All students work for {CLASS_MINUTES} minutes on the lesson that needs most. A node has {NODE_CORES} cores and {NODE_GIB} GiB, of
which {USABLE:.0%} are for students. Cores = students × runs × {{cpu_seconds:,.0f}} CPU seconds / {60 * CLASS_MINUTES:,} s; "done
after" = students × {{cpu_seconds:,.0f}} / cores, which says how long everybody waits after "run all cells now". Choose the
number of cores by this waiting time; the average load alone suggests too few.

{{students}}

Memory is guaranteed for the server and the largest lesson, and limited to one lesson more, because a notebook left open
keeps its kernel. Cores are guaranteed for {GUARANTEED_RUNS} runs per class. All are rounded up to a tenth; GiB are 2³⁰ bytes.

| setting | Zero to JupyterHub (`singleuser`) | another spawner that enforces limits | value |
| --- | --- | --- | --- |
| memory guarantee | `memory.guarantee` | `c.Spawner.mem_guarantee` | {{guarantee:.1f}}G |
| memory limit | `memory.limit` | `c.Spawner.mem_limit` | {{limit:.1f}}G |
| CPU guarantee | `cpu.guarantee` | `c.Spawner.cpu_guarantee` | {{cores:.1f}} |

[JUPYTERHUB.md](../deploy/JUPYTERHUB.md) says what else belongs in the configuration.
"""


def page(lessons: dict[str, Run], repeats: int, server: float, measured: str) -> str:
    """The whole of `COST.md`."""
    guarantee, limit, cores = memory_and_cores(list(lessons.values()), server)
    most_expensive = max(lessons.values(), key=lambda run: run.cpu_seconds)
    tables = {"lessons": lessons_table(lessons), "students": class_table(most_expensive, guarantee)}
    numbers = {
        "repeats": "one run" if repeats == 1 else f"{repeats} runs",
        "server": server,
        "guarantee": guarantee,
        "limit": limit,
        "cores": cores,
    }
    return TEMPLATE.format(measured=measured, cpu_seconds=most_expensive.cpu_seconds, **tables, **numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, choices=range(1, 21), default=3, metavar="N", help="default: 3")
    repeats = parser.parse_args().repeats
    lessons = {}
    for path in notebook_paths():
        notebook = read_notebook(path)
        try:
            runs = [run_notebook(notebook, path.parent) for _ in range(repeats)]
        except CellFailed as failure:
            sys.exit(f"Lesson {lesson_of(path)}, {failure}\n{PAGE.name} was left as it was.")
        print(path.name, *runs, sep="\n  ", flush=True)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        lessons[title] = typical_time_and_largest_memory(runs)
    replace_file(PAGE, page(lessons, repeats, server_mb(), machine_and_versions()))
    print(f"Written to {PAGE.name}.")


if __name__ == "__main__":
    main()
