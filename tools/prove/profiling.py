"""Measure where the time of the slowest lesson goes, and that of single training steps: `make profile`.

    python benchmarks/profiling.py                  # a few minutes; writes PROFILE.md beside this file
    python benchmarks/profiling.py --lesson 06      # another lesson's time; prints, and writes no page

A lesson runs in a fresh kernel under Python's own profiler, so it takes a little longer than without. The times of steps
are the shortest of several rounds, in each of which all models and all parts have their turn: a noisy machine only adds.
"""

import argparse
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.machine import machine_and_versions
from nbformat.v4 import new_code_cell
from tools.shared.notebook_files import lesson_of, lesson_path, notebook_paths, read_notebook, replace_file
from tools.shared.notebook_files import REFERENCE_FILE

RESULTS_FILE = REPORTS_FOLDER / "PROFILE.md"

ROUNDS = 5
STEPS = 200  # per round

# What Python's profiler calls the functions whose time is told apart; `own` time is without the functions they call.
SPANS = {
    "TensorFlow computes: trainings, predictions, single operations": (
        "own",
        ("TFE_Py_Execute", "TFE_Py_FastPathExecute"),
    ),
    "graphs are built for trainings and predictions": ("whole", ("trace_function",)),
    "modules are imported": ("whole", ("_find_and_load",)),
    "pictures are drawn": ("whole", ("print_figure",)),
}
REST = "the rest: NumPy, scikit-learn, the Python of Keras and of the lesson, the start of the kernel"


# ---------------------------------------------------------------------------------------------------------------------
# A lesson
# ---------------------------------------------------------------------------------------------------------------------


def slowest_lesson() -> str:
    """The number of the lesson that takes longest, as `make reference` measured it."""
    lessons = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))["lessons"]
    return max(lessons, key=lambda lesson: lessons[lesson]["seconds"])


def profile_lesson(lesson: str) -> tuple[float, pstats.Stats]:
    """Run a lesson in a fresh kernel under the profiler; return the seconds and what the profiler counted.

    Raises:
        CellFailed: a cell did not come to its end.
    """
    path = lesson_path(lesson)
    notebook = read_notebook(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lesson.prof"
        start = "import cProfile as _cProfile\n_profile = _cProfile.Profile()\n_profile.enable()"
        stop = f"_profile.disable()\n_profile.dump_stats({str(file)!r})"
        notebook.cells = [new_code_cell(start), *notebook.cells, new_code_cell(stop)]
        run = run_notebook(notebook, path.parent)
        return run.seconds, pstats.Stats(str(file))


def seconds_by_span(counted: dict, seconds: float) -> dict[str, float]:
    """Seconds of each of `SPANS`, and the rest of all `seconds`.

    Args:
        counted: `pstats.Stats.stats`: by (file, line, name) the numbers of calls, own and whole seconds, and callers.
        seconds: of the lesson.

    Raises:
        RuntimeError: a function of `SPANS` was not called, so it has another name in this version of its library.
    """
    spans = {}
    for title, (kind, names) in SPANS.items():
        column = {"own": 2, "whole": 3}[kind]
        found = {name: [entry[column] for key, entry in counted.items() if _is_called(key[2], name)] for name in names}
        if missing := [name for name, times in found.items() if not times]:
            raise RuntimeError(f"The profiler saw no call of {', '.join(missing)}: put the new name into SPANS.")
        spans[title] = sum(sum(times) for times in found.values())
    return {**spans, REST: seconds - sum(spans.values())}


def _is_called(label: str, name: str) -> bool:
    """Whether a profiler's label is of the function: a name alone, or `<built-in method module.name>`."""
    return label == name or (label.startswith("<built-in") and label.rstrip(">").endswith(f".{name}"))


def lesson_table(lesson: str, seconds: float, spans: dict[str, float]) -> str:
    lines = [
        f"## Lesson {lesson}, {seconds:.0f} s under the profiler",
        "",
        "| what | seconds | share |",
        "|---|---|---|",
        *(f"| {title} | {span:.1f} | {span / seconds:.0%} |" for title, span in spans.items()),
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Training steps
# ---------------------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """Milliseconds per training step: of its parts, each with those before it, and of the whole."""

    products: float  # the multiplications alone, at the speed of one large operation
    loss: float  # forward, and the loss
    gradients: float  # and backward
    update: float  # and Adam
    reading: float  # a batch is read, in a thread beside
    training: float  # all of it in `train`


class StepTimer:
    """The parts of a model's training step, ready to be timed one after the other."""

    def __init__(self, title: str, model, batch_size: int, flat: bool, reconstructs: bool):
        """
        Args:
            title: what the table calls it.
            model: as a recipe builds it.
            batch_size: examples per step.
            flat: whether the model takes pictures as rows of 784 numbers.
            reconstructs: whether the pictures are the targets too; otherwise the model computes its loss itself.
        """
        import numpy as np
        import tensorflow as tf
        from tools.prove.recipes import multiply_adds

        from course_utils.data import load_mnist
        from course_utils.training import _Reader, train

        x = load_mnist(flat=flat)[0][0][: STEPS * batch_size]
        y = x if reconstructs else None
        # It also compiles the model, as a lesson does.
        train(model, x, y, loss="binary_crossentropy" if reconstructs else None, epochs=1, batch_size=batch_size)
        batch = tf.constant(x[:batch_size])
        targets = batch if reconstructs else None

        def loss():
            return model.compute_loss(batch, targets, model(batch, training=True))

        def gradients():
            with tf.GradientTape() as tape:
                value = loss()
            return tape.gradient(value, model.trainable_variables)

        def update():
            model.optimizer.apply(gradients())

        def compiled(function: Callable) -> Callable:
            step = tf.function(function, autograph=False, jit_compile=model.jit_compile)
            step()  # the first call compiles
            return lambda: [step() for _ in range(STEPS)]

        reader = _Reader(x, y, batch_size, np.arange)
        self.title = title
        self.n_multiplications = 3 * multiply_adds(model) * batch_size  # forward, and twice as many backward
        self.parts = {
            "loss": compiled(loss),
            "gradients": compiled(gradients),
            "update": compiled(update),
            "reading": lambda: list(map(len, reader.dataset())),
            "training": lambda: model.fit(reader.dataset(), shuffle=False, verbose=0),
        }

    def milliseconds(self) -> dict[str, float]:
        """Time every part once; milliseconds per step."""
        times = {}
        for name, run in self.parts.items():
            start = time.perf_counter()
            run()
            times[name] = 1000 * (time.perf_counter() - start) / STEPS
        return times


def measure_steps() -> dict[str, Step]:
    """The shortest times of several rounds, for the models that the recipes of `make bench` train."""
    from tools.prove.recipes import DENOISING_NOISE, machine_speed

    from course_utils.lessons import (
        VAE,
        GaussianNoise,
        build_autoencoder,
        build_conv_autoencoder,
        build_conv_denoiser,
        build_vae_networks,
    )
    from course_utils.training import setup

    setup("benchmark")
    dense = [
        StepTimer("dense autoencoder 784-32-784, batch 128", build_autoencoder([784, 32])[0], 128, True, True),
        StepTimer("VAE 784-400-200-20, batch 128", VAE(*build_vae_networks([400, 200], 20)), 128, True, False),
    ]
    convolutional = [
        StepTimer("convolutional autoencoder, batch 128", build_conv_autoencoder()[0], 128, False, True),
        StepTimer("denoiser, batch 64", build_conv_denoiser(GaussianNoise(DENOISING_NOISE)), 64, True, True),
    ]
    rounds = [[timer.milliseconds() for timer in dense + convolutional] for _ in range(ROUNDS)]
    steps = {}
    for timer, times in zip(dense + convolutional, zip(*rounds, strict=True), strict=True):
        products = 1000 * timer.n_multiplications / machine_speed(timer in convolutional)
        parts = {name: min(time[name] for time in times) for name in timer.parts}
        steps[timer.title] = Step(products=products, **parts)
    return steps


def steps_table(steps: dict[str, Step]) -> str:
    lines = [
        f"## Training steps, the shortest of {ROUNDS} rounds of {STEPS}",
        "",
        "Milliseconds per step. The products alone are what the multiplications of dense and convolutional layers would "
        "take at the speed of one large operation of that kind. The next three columns are one compiled function each, "
        "which does what the column before it does, and more. In `train`, Keras adds its loop and its metrics, and a "
        "second thread reads the batches meanwhile.",
        "",
        "| model | products alone | forward and loss | with gradients | with Adam | in `train` | reading alone | products / `train` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for title, step in steps.items():
        times = (step.products, step.loss, step.gradients, step.update, step.training, step.reading)
        columns = " | ".join(f"{value:.2f}" for value in times)
        lines.append(f"| {title} | {columns} | {step.products / step.training:.0%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", choices=[lesson_of(path) for path in notebook_paths()], metavar="NN")
    arguments = parser.parse_args()
    lesson = arguments.lesson or slowest_lesson()
    try:
        seconds, stats = profile_lesson(lesson)
    except CellFailed as failure:
        sys.exit(f"Lesson {lesson}, {failure}")
    table = lesson_table(lesson, seconds, seconds_by_span(stats.stats, seconds))
    print(table, flush=True)
    if arguments.lesson is None:
        head = f"# Where the time goes\n\nWritten by `make profile`: {machine_and_versions()}.\n"
        steps = steps_table(measure_steps())
        print(steps)
        replace_file(RESULTS_FILE, "\n".join([head, table, steps]))


if __name__ == "__main__":
    main()
