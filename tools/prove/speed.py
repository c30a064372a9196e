"""Train published recipes and ours in turn, and write `RESULTS.md` beside this file.

    make bench                                            # all comparisons, one after the other; about an hour
    python benchmarks/run.py --only dense --repeats 3     # this one again; the others keep their results

Each comparison runs in a process of its own, its recipes one after the other, and that several times over (A, B, A, B, …),
so that a slow minute of the machine hits all of them. The ratio of two times is taken within a repeat. Results are kept
in `results.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path


from tools.shared.child import read_results, send_result
from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import replace_file

FOLDER = REPORTS_FOLDER
RESULTS_FILE = FOLDER / "RESULTS.md"
DATA_FILE = FOLDER / "results.json"


def run_comparison(key: str, repeats: int) -> None:
    """In the child process: run the recipes in turn, tell the result of each training."""
    from tools.prove.recipes import COMPARISONS, machine_speed

    from course_utils.training import setup

    comparison = COMPARISONS[key]
    for repeat in range(repeats):
        os.environ["COURSE_SEED"] = str(repeat)
        setup("benchmark")
        for recipe in (*comparison.published, comparison.ours):
            result = recipe.run()
            share = result.multiply_adds / result.seconds / machine_speed(comparison.convolutional)
            print(f"{recipe.name}: {comparison.loss} {result.loss:.4f}, {result.seconds:.1f} s", flush=True)
            send_result({"recipe": recipe.name, "loss": result.loss, "seconds": result.seconds, "share": share})


def measure(key: str, repeats: int) -> list[dict]:
    """Run a comparison in a child process; return its trainings in their order.

    Raises:
        SystemExit: the child process failed.
    """
    command = [sys.executable, __file__, "--child", key, "--repeats", str(repeats)]
    runs = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if results := read_results(line):
                runs += results
            else:
                print(line, end="", flush=True)
    if process.returncode != 0:
        raise SystemExit(f"The comparison {key!r} failed with exit status {process.returncode}.")
    return runs


def table(title: str, loss: str, yardstick: str, entry: dict) -> str:
    """A Markdown table; the last recipe is ours, and every ratio is a recipe's time by ours of the same repeat."""
    by_recipe: dict[str, list[dict]] = {}
    for run in entry["runs"]:
        by_recipe.setdefault(run["recipe"], []).append(run)
    *_, ours = by_recipe.values()
    lines = [
        f"## {title}",
        "",
        f"{entry['machine']}; {_repeats(len(ours))}.",
        "",
        f"| recipe | {loss} | seconds | time / ours | share of the machine's {yardstick} |",
        "|---|---|---|---|---|",
    ]
    for name, runs in by_recipe.items():
        ratios = [run["seconds"] / our["seconds"] for run, our in zip(runs, ours, strict=True)]
        columns = [
            _spread([run["loss"] for run in runs], 4),
            _spread([run["seconds"] for run in runs], 1),
            _spread(ratios, 1),
            _spread([100 * run["share"] for run in runs], 0) + " %",
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def _repeats(n: int) -> str:
    return "one run of each" if n == 1 else f"mean ± standard deviation of {n} runs of each, in turn"


def _spread(values: list[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def page(comparisons: dict, results: dict) -> str:
    """The whole of `RESULTS.md`: a table for each comparison that was measured."""
    tables = [
        table(
            comparison.title,
            comparison.loss,
            "convolutions" if comparison.convolutional else "matrix products",
            results[key],
        )
        for key, comparison in comparisons.items()
        if key in results
    ]
    head = (
        "# Published recipes against ours\n\nWritten by `make bench`. Both sides train on the same 55,000 digits. The last "
        "column is the speed of the multiplications in the training, forward and backward, as a part of the speed of one "
        "large operation of that kind in the same process.\n"
    )
    return "\n".join([head, *tables])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="KEY", help="measure only these comparisons again")
    parser.add_argument("--child", metavar="KEY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return run_comparison(arguments.child, arguments.repeats)

    from tools.prove.recipes import COMPARISONS

    keys = arguments.only or list(COMPARISONS)
    if unknown := set(keys) - set(COMPARISONS):
        parser.error(f"no comparison named {', '.join(sorted(unknown))}; expected {', '.join(COMPARISONS)}")
    results = json.loads(DATA_FILE.read_text(encoding="utf-8")) if DATA_FILE.exists() else {}
    for key in keys:
        results[key] = {"machine": machine_and_versions(), "runs": measure(key, arguments.repeats)}
        replace_file(DATA_FILE, json.dumps(results, indent=1) + "\n")
        replace_file(RESULTS_FILE, page(COMPARISONS, results))
    print(f"Written to {RESULTS_FILE.name}.")


if __name__ == "__main__":
    main()
