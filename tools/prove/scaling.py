"""Measure how training time and memory grow with the data and with the code, and draw it: `make growth`.

    python benchmarks/growth.py               # three repeats; ten minutes or more on two cores
    python benchmarks/growth.py --repeats 5
    python benchmarks/growth.py --draw        # the picture and the table again, from `growth.json`

Every training runs in a fresh process, so that its peak memory is its own. The trainings run in turn (A, B, C, …, A, B,
C, …), so that a slow minute of the machine hits all of them. What was measured goes to `growth.json`, the picture to
`growth.svg`, both beside this file.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from scipy import stats


from tools.shared.child import read_results, send_result
from tools.shared.machine import machine_and_versions, megabytes
from tools.shared.notebook_files import replace_file

FOLDER = REPORTS_FOLDER
DATA_FILE = FOLDER / "growth.json"
PICTURE_FILE = FOLDER / "growth.svg"

ALL_DIGITS = 55_000
SHARES = (8, 4, 2, 1)  # an eighth, a quarter, a half and all of the digits

# The epochs and rates of lessons 01 and 02, as in `recipes.py`. The convolutional code is 4 × 4 × channels.
TRAINING = {
    "dense": {"epochs": 4, "learning_rate": 0.01},
    "convolutional": {"epochs": 2, "learning_rate": 0.004},
}
LESSON_CODE = {"dense": 32, "convolutional": 128}
CODES = {"dense": (2, 8, 32, 128, 512), "convolutional": (16, 32, 128, 512)}

SAMPLING_SECONDS = 0.05


class Point(NamedTuple):
    """One training: which model, on how many digits, with how many numbers in its code."""

    model: str
    digits: int
    code: int


class Cost(NamedTuple):
    """What a training took. The memory is that of the whole process, with imports, data and test, in MB."""

    seconds: float
    resident_mb: float
    private_mb: float | None
    loss: float


def by_digits(model: str) -> list[Point]:
    """The lesson's model on shares of the digits."""
    return [Point(model, ALL_DIGITS // share, LESSON_CODE[model]) for share in SHARES]


def by_code(model: str) -> list[Point]:
    """Models with other codes, on all digits."""
    return [Point(model, ALL_DIGITS, code) for code in CODES[model]]


# A point that stands in both curves is measured once per repeat.
POINTS = tuple(dict.fromkeys(point for model in TRAINING for point in by_digits(model) + by_code(model)))


# ---------------------------------------------------------------------------------------------------------------------
# Measure
# ---------------------------------------------------------------------------------------------------------------------


def private_mb() -> float | None:
    """What this program's child processes hold in memory and share with no file; `None` where only Linux could say."""
    if not psutil.LINUX:
        return None
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            memory = process.memory_info()
        except psutil.Error:  # it ended in the meantime
            continue
        total += memory.rss - memory.shared
    return total / 1e6


class PeakPrivateMemory:
    """Looks at `private_mb` again and again while a `with` block runs; the highest value is in `mb`."""

    def __init__(self, look: Callable[[], float | None] = private_mb):
        self.mb = look()
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while self.mb is not None and not self._ended.wait(SAMPLING_SECONDS):
            self.mb = max(self.mb, self._look())

    def __enter__(self) -> "PeakPrivateMemory":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()


def train_point(point: Point) -> None:
    """In the child process: train, and print seconds, peak resident memory and test loss as a JSON line."""
    import resource  # not on Windows, where this file can be imported all the same

    from course_utils.data import load_mnist
    from course_utils.lessons import build_autoencoder, build_conv_autoencoder
    from course_utils.training import setup, train

    setup("growth")
    (x_train, _), (x_val, _), (x_test, _) = load_mnist(flat=point.model == "dense")
    x_train, x_val = x_train[: point.digits].copy(), x_val.copy()  # what is not trained on shall not stay in memory
    if point.model == "dense":
        model = build_autoencoder([784, point.code])[0]
    else:
        model = build_conv_autoencoder(point.code // 16)[0]
    start = time.perf_counter()
    train(model, x_train, x_train, loss="binary_crossentropy", validation_data=(x_val, x_val), **TRAINING[point.model])
    seconds = time.perf_counter() - start
    loss = model.evaluate(x_test, x_test, batch_size=1000, verbose=0)
    resident_mb = megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    send_result([seconds, resident_mb, loss])


def measure(point: Point, seed: int) -> Cost:
    """Run a training in a child process with this seed.

    Raises:
        SystemExit: the child process failed.
    """
    command = [sys.executable, __file__, "--child", json.dumps(point)]
    environment = os.environ | {"COURSE_SEED": str(seed)}
    with PeakPrivateMemory() as peak:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    results = read_results(done.stdout)
    if done.returncode != 0 or not results:
        raise SystemExit(f"The training {describe(point)} failed with exit status {done.returncode}.")
    seconds, resident_mb, loss = results[-1]
    return Cost(seconds, resident_mb, peak.mb, loss)


def measure_all(seed: int) -> list[tuple[Point, Cost]]:
    """One repeat: every point once."""
    costs = []
    for point in POINTS:
        cost = measure(point, seed)
        memory = "" if cost.private_mb is None else f", {cost.private_mb:,.0f} MB of it private"
        print(f"{describe(point)}: {cost.seconds:.1f} s, {cost.resident_mb:,.0f} MB{memory}", flush=True)
        costs.append((point, cost))
    return costs


def describe(point: Point) -> str:
    return f"{point.model}, {point.digits:,} digits, code of {point.code}"


# ---------------------------------------------------------------------------------------------------------------------
# Table and picture
# ---------------------------------------------------------------------------------------------------------------------

Costs = dict[Point, list[Cost]]  # of each point, one per repeat


class Power(NamedTuple):
    """The exponent of a power law, and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:z.2f} ({self.low:z.2f} … {self.high:z.2f})"


def exponent(x: list[float], y: list[float]) -> Power:
    """`b` of the power law y = a·x^b, by the method of Theil and Sen on logarithmic axes.

    It is the median of the slopes of all pairs of points, so one disturbed run does not move it.

    Raises:
        ValueError: fewer than three values leave no uncertainty to state.
    """
    if len(x) < 3:
        raise ValueError(f"expected at least three points for a fit, but there are {len(x)}.")
    fit = stats.theilslopes([math.log(value) for value in y], [math.log(value) for value in x], 0.95)
    return Power(float(fit.slope), float(fit.low_slope), float(fit.high_slope))


def curve_exponent(costs: Costs, points: list[Point], x: str, y: str) -> Power:
    """The exponent with which the cost `y` grows with `x` along these points, over all repeats."""
    pairs = [(getattr(point, x), getattr(cost, y)) for point in points for cost in costs[point]]
    return exponent(*(list(values) for values in zip(*pairs, strict=True)))


def table(costs: Costs) -> str:
    """The median of the repeats with the lowest and the highest, a line per point."""
    lines = [f"{'model':15}{'digits':>8}{'code':>6}{'seconds':>23}{'peak MB':>23}{'private MB':>23}{'test loss':>28}"]
    for point in POINTS:
        seconds, resident, private, loss = zip(*costs[point], strict=True)
        lines.append(
            f"{point.model:15}{point.digits:8,}{point.code:6}{_spread(seconds, 2):>23}{_spread(resident, 0):>23}"
            f"{_spread(private, 0):>23}{_spread(loss, 4):>28}"
        )
    return "\n".join(lines)


def _spread(values: tuple[float | None, ...], digits: int) -> str:
    if None in values:
        return "not measured"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"


CURVES = (("digits", by_digits, "training digits"), ("code", by_code, "numbers per code"))


def quantities(costs: Costs) -> tuple[tuple[str, str], tuple[str, str]]:
    """Which fields of `Cost` are drawn, with their labels; resident memory where the private part is not measured."""
    if costs[POINTS[0]][0].private_mb is None:
        return ("seconds", "training time (s)"), ("resident_mb", "peak resident memory (MB)")
    return ("seconds", "training time (s)"), ("private_mb", "peak private memory (MB)")


def exponents(costs: Costs) -> str:
    """A line per curve: with which power of digits or code time and memory grow in the measured range.

    A part of the cost is fixed, such as TensorFlow itself, so an exponent below 1 does not mean that it falls off later.
    """
    lines = []
    for model in TRAINING:
        for x, points, label in CURVES:
            for y, quantity in quantities(costs):
                lines.append(
                    f"{model}, {quantity}: exponent in the {label} {curve_exponent(costs, points(model), x, y)}"
                )
    return "\n".join(lines)


def draw(costs: Costs, measured: str) -> None:
    """Write the picture: time and memory against digits and code, with a line of slope 1 for orientation."""
    import matplotlib.pyplot as plt

    from course_utils.plotting import COLOURS, MARKERS, WIDTH

    plt.rcParams["svg.hashsalt"] = "growth"  # the same data make the same file
    figure, axes = plt.subplots(2, 2, figsize=(1.5 * WIDTH, 9), sharex="col", sharey="row", layout="constrained")
    for row, (y, quantity) in zip(axes, quantities(costs), strict=True):
        values = [getattr(cost, y) for repeats in costs.values() for cost in repeats]
        for axis, (x, points, label) in zip(row, CURVES, strict=True):
            for number, model in enumerate(TRAINING):
                _draw_curve(axis, costs, points(model), x, y, color=COLOURS[number], marker=MARKERS[number])
            # From a power of ten below, so that a small growth does not look large.
            axis.set(xscale="log", yscale="log", ylim=(10 ** math.floor(math.log10(min(values))), 2 * max(values)))
            if axis in axes[1]:
                axis.set_xlabel(label)
            if axis in axes[:, 0]:
                axis.set_ylabel(quantity)
            _slope_one(axis)
            _plain_ticks(axis, sorted({getattr(point, x) for model in TRAINING for point in points(model)}))
            axis.legend(fontsize=12)
    figure.suptitle(
        f"Median of {len(costs[POINTS[0]])} repeats, from the lowest to the highest. {measured}", fontsize=10
    )
    figure.savefig(PICTURE_FILE, metadata={"Date": None})
    plt.close(figure)


def _draw_curve(axis, costs: Costs, points: list[Point], x: str, y: str, **style) -> None:
    values = [[getattr(cost, y) for cost in costs[point]] for point in points]
    medians = [statistics.median(repeats) for repeats in values]
    below = [median - min(repeats) for median, repeats in zip(medians, values, strict=True)]
    above = [max(repeats) - median for median, repeats in zip(medians, values, strict=True)]
    axis.errorbar(
        [getattr(point, x) for point in points],
        medians,
        yerr=[below, above],
        label=f"{points[0].model}: exponent {curve_exponent(costs, points, x, y)}",
        markersize=9,
        capsize=4,
        **style,
    )


def _slope_one(axis) -> None:
    """A dotted line of slope 1 through the lower left corner, cut at the frame."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    end = min(right / left, high / low)
    axis.plot([left, left * end], [low, low * end], ":", color="black", linewidth=1.5, label="slope 1")
    axis.set(xlim=(left, right), ylim=(low, high))


def _plain_ticks(axis, values: list[int]) -> None:
    """Plain numbers where something was measured, instead of powers of ten."""
    from matplotlib.ticker import LogLocator

    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="draw and print what growth.json holds, measure nothing")
    parser.add_argument("--child", metavar="POINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return train_point(Point(*json.loads(arguments.child)))
    if not arguments.draw:
        runs = [[*point, *cost] for seed in range(arguments.repeats) for point, cost in measure_all(seed)]
        content = {"measured": machine_and_versions(), "columns": [*Point._fields, *Cost._fields], "runs": runs}
        replace_file(DATA_FILE, json.dumps(content, indent=1) + "\n")
    content = json.loads(DATA_FILE.read_text(encoding="utf-8"))
    costs: Costs = {}
    for run in content["runs"]:
        costs.setdefault(Point(*run[:3]), []).append(Cost(*run[3:]))
    print(table(costs), exponents(costs), sep="\n\n")
    draw(costs, content["measured"])
    print(f"Written to {DATA_FILE.name} and {PICTURE_FILE.name}.")


if __name__ == "__main__":
    main()
