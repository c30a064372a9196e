"""Train published recipes and ours in turn, and write `reports/SPEED.md`: `make bench`.

    python -m tools.prove.speed                                # all comparisons, one after the other; an hour and more
    python -m tools.prove.speed --only dense --repeats 1       # this one again; the others keep their results

Every training runs in a process of its own: a published recipe with the system's memory allocator, as its reader would run
it, and with the course's; ours with the course's. They take turns (A, B, C, A, B, C, …), so that a slow minute of the
machine hits all of them, and ratios are taken within a turn. Of the recipes that take many minutes a few epochs are timed,
and their loss is that of a whole run before. Results are kept in `reports/speed.json`.
"""

import argparse
import json
import statistics
import subprocess
import sys

from tools.shared.child import clean_environment, read_results, send_result
from tools.shared.machine import machine_and_versions
from tools.shared.notebook_files import REPORTS_FOLDER, ROOT, replace_file

PAGE = REPORTS_FOLDER / "SPEED.md"
DATA_FILE = REPORTS_FOLDER / "speed.json"

REPEATS = 3
TIMED_EPOCHS = 3  # of a recipe that is too long to be run again
LONGEST_TRAINING = 3600  # seconds

HEAD = """\
# Published recipes against ours

Written by `make bench`. Both sides train on the same 55,000 digits, in turn, each training in a fresh process. A published
recipe runs twice: with the system's memory allocator, as its reader would run it, and with the course's
([ALLOCATOR.md](ALLOCATOR.md)). The ratio of its time to ours is a product: what the recipe gains from the allocator alone,
times what our training gains. Times marked * are those of a few epochs, scaled;
the loss beside them is the published one, or that of a whole run before (`tools/prove/recipes.py`).
"""


def run_recipe(key: str, index: int, seed: int) -> None:
    """In the child process: train once, and send the result."""
    from course_utils.devices import prepare_devices
    from tools.prove.recipes import COMPARISONS

    prepare_devices()
    comparison = COMPARISONS[key]
    recipe = [*comparison.published, comparison.ours][index]
    scaled = recipe.known_loss is not None
    result = recipe.run(seed, TIMED_EPOCHS if scaled else None)
    send_result({"loss": result.loss, "seconds": result.seconds, "scaled": scaled})


def measure_once(key: str, index: int, seed: int, allocator: str, backend: str) -> dict:
    """Train a recipe in a child process with the allocator `"system"` or `"keep"`.

    Raises:
        SystemExit: the child process failed.
    """
    arguments = ["--child", key, str(index), str(seed)]
    # This process has chosen its own allocator, which no child may inherit.
    child = subprocess.run(
        [sys.executable, "-m", "tools.prove.speed", *arguments],
        cwd=ROOT,
        env=clean_environment(COURSE_ALLOCATOR=allocator, KERAS_BACKEND=backend),
        stdout=subprocess.PIPE,
        text=True,
        timeout=LONGEST_TRAINING,
    )
    if child.returncode:
        raise SystemExit(f"A training of the comparison {key!r} failed with exit status {child.returncode}.")
    return read_results(child.stdout)[-1]


def measure(key: str, recipes: list, repeats: int) -> list[dict]:
    """Run the recipes of a comparison in turn; return their trainings in order."""
    runs = []
    for repeat in range(repeats):
        for index, recipe in enumerate(recipes):
            ours = index == len(recipes) - 1
            for allocator in ["keep"] if ours else ["system", "keep"]:
                if repeat >= recipe.repeats:
                    continue
                result = measure_once(key, index, repeat, allocator, recipe.backend)
                runs.append({"recipe": recipe.name, "allocator": allocator, "repeat": repeat, **result})
                print(f"{recipe.name}, {allocator}: {result['seconds']:.1f} s, loss {result['loss']}", flush=True)
    return runs


def table(title: str, loss: str, entry: dict) -> str:
    """A Markdown table; the last recipe is ours, and every ratio is taken within a repeat."""
    names = list(dict.fromkeys(run["recipe"] for run in entry["runs"]))
    runs = {(run["recipe"], run["allocator"], run["repeat"]): run for run in entry["runs"]}

    def of(name: str, allocator: str, key: str) -> list:
        return [run[key] for (recipe, kind, _), run in runs.items() if (recipe, kind) == (name, allocator)]

    def ratios(name: str, allocator: str, other: str, other_allocator: str) -> list[float]:
        return [
            run["seconds"] / runs[other, other_allocator, repeat]["seconds"]
            for (recipe, kind, repeat), run in runs.items()
            if (recipe, kind) == (name, allocator)
        ]

    lines = [
        f"## {title}",
        "",
        f"{entry['machine']}; mean ± standard deviation over the runs, in turn.",
        "",
        f"| recipe | runs | {loss} | seconds, system's allocator | with the course's | time / ours "
        "| allocator's part | training's part |",
        "|---|---|---|---|---|---|---|---|",
    ]
    *published, ours = names
    for name in published:
        columns = [
            str(len(of(name, "system", "seconds"))),
            spread(of(name, "system", "loss"), 4),
            spread(of(name, "system", "seconds"), 1) + "*" * any(of(name, "system", "scaled")),
            spread(of(name, "keep", "seconds"), 1) + "*" * any(of(name, "keep", "scaled")),
            f"**{spread(ratios(name, 'system', ours, 'keep'), 1)}**",
            spread(ratios(name, "system", name, "keep"), 2),
            spread(ratios(name, "keep", ours, "keep"), 1),
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    columns = [str(len(of(ours, "keep", "seconds"))), spread(of(ours, "keep", "loss"), 4), ""]
    columns += [spread(of(ours, "keep", "seconds"), 1)]
    lines.append(f"| {ours} | {' | '.join(columns)} | 1 | | |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int) -> str:
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def page(comparisons: dict, results: dict) -> str:
    """The whole page: a table for each comparison that was measured."""
    measured = {key: comparison for key, comparison in comparisons.items() if key in results}
    tables = [table(c.title, c.loss, results[key]) for key, c in measured.items()]
    left_out = ""
    if "vae20" in results and not any("on PyTorch" in run["recipe"] for run in results["vae20"]["runs"]):
        left_out = "The example on PyTorch itself was left out: torch and torchvision were not installed.\n"
    return "\n".join([HEAD, *tables, left_out]).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, choices=range(1, REPEATS + 1), default=REPEATS)
    parser.add_argument("--only", nargs="+", metavar="KEY", help="measure only these comparisons again")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        key, index, seed = arguments.child
        return run_recipe(key, int(index), int(seed))

    from tools.prove.recipes import COMPARISONS

    keys = arguments.only or list(COMPARISONS)
    if unknown := set(keys) - set(COMPARISONS):
        parser.error(f"no comparison named {', '.join(sorted(unknown))}; expected {', '.join(COMPARISONS)}")
    results = json.loads(DATA_FILE.read_text(encoding="utf-8")) if DATA_FILE.exists() else {}
    for key in keys:
        recipes = [*COMPARISONS[key].published, COMPARISONS[key].ours]
        results[key] = {"machine": machine_and_versions(), "runs": measure(key, recipes, arguments.repeats)}
        replace_file(DATA_FILE, json.dumps(results, indent=1) + "\n")
        replace_file(PAGE, page(COMPARISONS, {k: v for k, v in results.items() if k in COMPARISONS}))
    print(f"Written to {PAGE.name}.")


if __name__ == "__main__":
    main()
