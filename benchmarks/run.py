"""Train published recipes and ours in turn, and write `RESULTS.md` beside this file.

    make bench                                        # all comparisons, three repeats
    python benchmarks/run.py --only dense --repeats 5

Each comparison runs in a process of its own, its recipes one after the other, and that several times over (A, B, A, B, …),
so that a slow minute of the machine hits all of them. The ratio of two times is taken within a repeat.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

RESULTS_FILE = Path(__file__).resolve().parent / "RESULTS.md"
MARK = "result: "  # a child process prints its result behind it


def run_comparison(key: str, repeats: int) -> None:
    """In the child process: run the recipes in turn, print one JSON line per training."""
    from recipes import COMPARISONS

    from course_utils.training import setup

    comparison = COMPARISONS[key]
    for repeat in range(repeats):
        os.environ["COURSE_SEED"] = str(repeat)
        setup("benchmark")
        for recipe in (*comparison.published, comparison.ours):
            result = recipe.run()
            print(f"{recipe.name}: {comparison.loss} {result.loss:.4f}, {result.seconds:.1f} s", flush=True)
            print(MARK + json.dumps([recipe.name, result.loss, result.seconds]), flush=True)


def measure(key: str, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Run a comparison in a child process; return `(loss, seconds)` of each repeat by recipe."""
    command = [sys.executable, __file__, "--child", key, "--repeats", str(repeats)]
    results: dict[str, list[tuple[float, float]]] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith(MARK):
                name, loss, seconds = json.loads(line.removeprefix(MARK))
                results.setdefault(name, []).append((loss, seconds))
            else:
                print(line, end="", flush=True)
    if process.returncode != 0:
        raise SystemExit(f"The comparison {key!r} failed with exit status {process.returncode}.")
    return results


def table(title: str, loss: str, results: dict[str, list[tuple[float, float]]]) -> str:
    """A Markdown table; the last recipe is ours, and every ratio is a recipe's time by ours of the same repeat."""
    ours = [seconds for _, seconds in list(results.values())[-1]]
    lines = [f"## {title}", "", f"| recipe | {loss} | seconds | time / ours |", "|---|---|---|---|"]
    for name, runs in results.items():
        ratios = [seconds / our for (_, seconds), our in zip(runs, ours, strict=True)]
        columns = [
            _spread([loss for loss, _ in runs], 4),
            _spread([seconds for _, seconds in runs], 1),
            _spread(ratios, 1),
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("keras", "tensorflow", "numpy"))
    return (
        f"{datetime.date.today()}, Python {platform.python_version()}, {versions}, {platform.machine()} with "
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} CPU cores"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="KEY", help="run these comparisons and print them, write nothing")
    parser.add_argument("--child", metavar="KEY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return run_comparison(arguments.child, arguments.repeats)

    from recipes import COMPARISONS

    keys = arguments.only or list(COMPARISONS)
    if unknown := set(keys) - set(COMPARISONS):
        parser.error(f"no comparison named {', '.join(sorted(unknown))}; expected {', '.join(COMPARISONS)}")
    tables = []
    for key in keys:
        comparison = COMPARISONS[key]
        tables.append(table(comparison.title, comparison.loss, measure(key, arguments.repeats)))
        print(tables[-1])
    if not arguments.only:
        head = (
            f"# Published recipes against ours\n\nWritten by `make bench`: {machine()}; mean ± standard deviation over "
            f"{arguments.repeats} repeats, run in turn. Both sides train on the same 55,000 digits.\n"
        )
        RESULTS_FILE.write_text("\n".join([head, *tables]), encoding="utf-8")
        print(f"Written to {RESULTS_FILE.name}.")


if __name__ == "__main__":
    main()
