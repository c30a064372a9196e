"""Plant known faults in a copy of the course, one at a time, and see which check finds each: `make faults`.

    python tools/faults.py                   # all faults; a quarter of an hour or more
    python tools/faults.py --lessons 04 05   # these lessons' faults; prints, and writes nothing

A fault is one replaced piece of text, in a cell of a notebook or in a module of the helper package. First the unit tests
run that are about that place; if they pass, the whole lesson, with its checkpoints in strict mode. The table goes to
`benchmarks/FAULTS.md`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.shared.notebook_runs import CellFailed, run_notebook
from tools.shared.notebook_files import ROOT, lesson_path, notebook_text, read_notebook, replace_file

RESULTS_FILE = REPORTS_FOLDER / "FAULTS.md"

# The unit tests of a module of the helper; those of a lesson's definitions are in `test_lesson_NN.py`.
UNIT_TESTS = {"data.py": "test_data.py", "evaluation.py": "test_evaluation.py", "training.py": "test_train.py"}


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in `where`: the id of a cell of the lesson, or a module of the helper such as `data.py`."""

    lesson: str
    name: str
    where: str
    old: str
    new: str


FAULTS = (
    Fault("01", "pixel values 0–255", "data.py", "np.float32(255)", "np.float32(1)"),
    Fault(
        "01",
        "sigmoid applied twice",
        "build-function",
        "return keras.Model(x, decoder(encoder(x)))",
        "return keras.Model(x, keras.ops.sigmoid(decoder(encoder(x))))",
    ),
    Fault("01", "training on the test set", "train-32", "    x_train,\n    x_train,", "    x_test,\n    x_test,"),
    Fault("01", "PSNR with the natural logarithm", "evaluation.py", "-10 * np.log10(error)", "-10 * np.log(error)"),
    Fault(
        "01",
        "PCA without subtracting the mean",
        "evaluation.py",
        "return (x - pca.mean_) @ axes.T",
        "return x @ axes.T",
    ),
    Fault(
        "01",
        "inputs and targets shuffled apart",
        "training.py",
        "array[some].astype",
        "array[np.random.permutation(some)].astype",
    ),
    Fault("02", "training on the test set", "train-conv", "    x_train,\n    x_train,", "    x_test,\n    x_test,"),
    Fault("02", "checkerboard measured along the diagonal only", "phase-spread", "j::2]", "i::2]"),
    Fault("02", "encoder without strides in its second layer", "build-encoder", "32, 3, strides=2", "32, 3, strides=1"),
    Fault(
        "03",
        "denoising with swapped targets",
        "conv-train",
        "    x_train,\n    x_train,",
        "    x_train,\n    noisy_copy(noises['Gaussian 0.5'], x_train, 9),",
    ),
    Fault(
        "03",
        "noise fixed once",
        "noise-kinds",
        "keras.random.normal(ops.shape(x), seed=self.seed_generator)",
        "keras.random.normal(ops.shape(x), seed=1)",
    ),
    Fault(
        "03",
        "evaluation on clean images",
        "conv-measure",
        "restore(conv_denoiser, noisy_test[name])",
        "restore(conv_denoiser, x_test)",
    ),
    Fault(
        "03",
        "noise outside training too",
        "noise-layer",
        "return self.corrupt(x) if training else x",
        "return self.corrupt(x)",
    ),
    Fault(
        "03",
        "masking keeps what it should remove",
        "noise-kinds",
        "ops.where(u < self.amount, 0.0, x)",
        "ops.where(u < self.amount, x, 0.0)",
    ),
    Fault("04", "penalty on the mean over the whole matrix", "kl-layer", "ops.mean(z, axis=0)", "ops.mean(z)"),
    Fault("04", "1-p/1-p_hat", "kl-function", "(1 - rho) / (1 - rho_hat)", "1 - rho / 1 - rho_hat"),
    Fault(
        "04",
        "top-k along the wrong axis",
        "topk-layer",
        "ops.top_k(z, self.k)[0][:, -1:]",
        "ops.transpose(ops.top_k(ops.transpose(z), self.k)[0][:, -1:])",
    ),
    Fault("04", "labels shifted by one", "probe-function", "        y_train,", "        (y_train + 1) % 10,"),
    Fault(
        "05",
        "frozen contractive weights",
        "layer",
        "contractive_penalty(h, self.kernel)",
        "contractive_penalty(h, ops.stop_gradient(self.kernel))",
    ),
    Fault("05", "slope not squared", "penalty", "ops.square(h * (1 - h))", "h * (1 - h)"),
    Fault("05", "estimate not divided by the step", "estimator", ") / epsilon", ")"),
    Fault("06", "KL averaged over the latents", "kl", "0.5 * ops.sum(", "0.5 * ops.mean("),
    Fault("06", "KL without the mean term", "kl", "ops.square(mu) + ops.exp", "ops.exp"),
    Fault(
        "06",
        "log-variance read as log of the standard deviation",
        "sampling",
        "ops.exp(log_var / 2)",
        "ops.exp(log_var)",
    ),
    Fault(
        "06",
        "reconstruction averaged over the pixels",
        "vae",
        "ops.sum(ops.binary_crossentropy(x, x_hat), axis=-1)",
        "ops.mean(ops.binary_crossentropy(x, x_hat), axis=-1)",
    ),
    Fault(
        "06",
        "KL left out of the loss",
        "vae",
        "ops.mean(reconstruction) + self.beta * ops.mean(kl)",
        "ops.mean(reconstruction)",
    ),
    Fault("06", "bound without the division by K", "iwae", "- np.log(k)", ""),
    Fault(
        "07",
        "labels ignored by the decoder",
        "build-networks",
        "keras.Model([z, y] if n_labels else z, pixels",
        "keras.Model([z, y] if n_labels else z, layers.Dense(784, activation='sigmoid')(z)",
    ),
    Fault(
        "07",
        "labels shuffled against the pictures",
        "train-cvae",
        "one_hot[y_train]",
        "one_hot[rng.permutation(y_train)]",
    ),
    Fault("07", "Fréchet distance without the covariances' overlap", "maths-frechet", "- 2 * overlap", ""),
    Fault("07", "inception score of the joint instead of the mean", "maths-score", "p.mean(axis=0)", "p.sum(axis=0)"),
    Fault(
        "07", "VAE sampled with a tenth of the noise", "look-write", '"VAE": rng.normal(', '"VAE": 0.1 * rng.normal('
    ),
)


class Copy:
    """The tracked files of the repository in a temporary folder, in which faults are planted and taken out again."""

    def __init__(self, folder: Path):
        self.folder = folder
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        self.files = [name for name in listed.split("\0") if name]
        self.environment = os.environ | {"PYTHONPATH": str(folder), "COURSE_STRICT": "1"}

    def restore(self) -> None:
        for name in self.files:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)

    def notebook(self, lesson: str) -> Path:
        return lesson_path(lesson, self.folder / "notebooks")

    def plant(self, fault: Fault) -> None:
        """Replace the one place that the fault names.

        Raises:
            ValueError: the place is not there exactly once, so the fault no longer fits the course.
        """
        if fault.where.endswith(".py"):
            path = self.folder / "course_utils" / fault.where
            replace_file(path, _replaced(path.read_text(encoding="utf-8"), fault))
            return
        path = self.notebook(fault.lesson)
        notebook = read_notebook(path)
        (cell,) = (cell for cell in notebook.cells if cell.get("id") == fault.where)
        cell.source = _replaced(cell.source, fault)
        replace_file(path, notebook_text(notebook))
        self.python("tools/export_lessons.py")

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def caught_by(self, fault: Fault) -> str | None:
        """The first check that fails, or `None`."""
        tests = f"tests/{UNIT_TESTS.get(fault.where, f'test_lesson_{fault.lesson}.py')}"
        if (self.folder / tests).exists():
            run = self.python("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests)
            if run.returncode:
                found = re.search(r"^(?:FAILED|ERROR) \S*?(?:::(\w+))?(?:\[| |$)", run.stdout, re.MULTILINE)
                return f"unit test `{found[1]}`" if found and found[1] else f"`{tests}`, which does not even start"
        try:
            path = self.notebook(fault.lesson)
            run_notebook(read_notebook(path), path.parent, COURSE_STRICT="1", PYTHONPATH=str(self.folder))
        except CellFailed as error:
            return f"lesson {fault.lesson}: {_cause(str(error))}"
        return None


def _replaced(text: str, fault: Fault) -> str:
    if text.count(fault.old) != 1:
        raise ValueError(
            f"{fault.name!r}: expected {fault.old!r} once in {fault.where!r}, but it is there {text.count(fault.old)} times."
        )
    return text.replace(fault.old, fault.new)


def _cause(text: str) -> str:
    name = re.search(r"\d\d(?:\.\w+)+", text)
    return f"checkpoint `{name[0]}`" if name else text.splitlines()[0][:100]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", nargs="+", choices=sorted({fault.lesson for fault in FAULTS}), metavar="NN")
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if arguments.lessons is None or fault.lesson in arguments.lessons]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder).resolve())
        for fault in faults:
            copy.restore()
            copy.plant(fault)
            check = copy.caught_by(fault)
            rows.append((fault, check))
            print(f"lesson {fault.lesson}, {fault.name}: {f'caught by {check}' if check else 'NOT CAUGHT'}", flush=True)
    caught = sum(check is not None for _, check in rows)
    print(f"{caught} of {len(rows)} faults were caught")
    if arguments.lessons is None:
        lines = [f"| {fault.lesson} | {fault.name} | {check or '**not caught**'} |" for fault, check in rows]
        head = f"# Planted faults\n\nWritten by `make faults`: {caught} of {len(rows)} were caught.\n\n"
        table = "\n".join(["| lesson | fault | caught by |", "|---|---|---|", *lines])
        replace_file(RESULTS_FILE, f"{head}{table}\n")


if __name__ == "__main__":
    main()
