"""What `train` does between batches and epochs: show a line of progress, and stop when the loss is no longer a number."""

import math
import sys
import time

from IPython import get_ipython
from IPython.display import display

from course_utils.backend import keras


class TrainingError(RuntimeError):
    """A training could not go on: the loss is no longer a number, or the saved progress is not usable."""


class StopWhenNotFinite(keras.callbacks.Callback):
    """End a training whose loss is NaN or infinite with a sentence instead of useless epochs.

    Args:
        saved: the saved progress, if there is any; it is deleted, because resuming from it would fail in the same way.
    """

    def __init__(self, saved=None):
        super().__init__()
        self.saved = saved

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            if self.saved:
                self.saved.delete()
            raise TrainingError(
                f"The loss became {loss}, so the training was stopped. The usual cause is a learning rate that is too "
                "high: try a tenth of it. Otherwise look for a logarithm of zero or a division by zero in your own loss "
                "or layer. Build the model again before you go on: its weights are no longer numbers."
            )


class ProgressLine(keras.callbacks.Callback):
    """One line that updates in place: epoch, loss, validation loss, time left. A notebook stores its last state."""

    def __init__(self, epochs: int, steps_per_epoch: int):
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.losses = ""
        self.validation = ""
        self.first_epoch = None
        self.finished_epochs = 0

    def on_train_begin(self, logs=None):
        self.line = UpdatingLine()
        self.start = self.last_update = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.first_epoch is None:
            self.first_epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.last_update < 0.3:
            return
        self.last_update = now
        done = self.epoch - self.first_epoch + (batch + 1) / self.steps_per_epoch
        left = (self.epochs - self.first_epoch - done) * (now - self.start) / done
        self.line.update(
            f"epoch {self.epoch + 1} of {self.epochs} · loss {logs['loss']:.4f}{self.validation} · {left:.0f} s left"
        )

    def on_epoch_end(self, epoch, logs=None):
        if "val_loss" in logs:
            self.validation = f" · validation loss {logs['val_loss']:.4f}"
        self.losses = f" · loss {logs['loss']:.4f}{self.validation}"
        self.finished_epochs += 1

    def on_train_end(self, logs=None):
        self._finish("")

    def interrupted(self, reason: str) -> None:
        """Finish the line of a training that an exception ended, such as the student's interruption of the kernel."""
        self._finish(f", {reason}")

    def _finish(self, remark: str) -> None:
        if self.first_epoch is None:  # nothing was left to do when it was resumed, or it never began
            return
        seconds = time.perf_counter() - self.start
        epochs = f"{self.finished_epochs} epoch{'s' * (self.finished_epochs != 1)}"
        self.line.finish(f"{epochs} in {seconds:.1f} s{remark}{self.losses}")


class UpdatingLine:
    """A line of output that can be replaced: through the display protocol in Jupyter, by carriage return in a terminal."""

    def __init__(self):
        self.handle = None
        if hasattr(get_ipython(), "kernel"):
            self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, text: str) -> None:
        if self.handle:
            self.handle.update({"text/plain": text}, raw=True)
        elif sys.stdout.isatty():
            print(f"\r\033[K{text}", end="", flush=True)

    def finish(self, text: str) -> None:
        if self.handle:
            self.update(text)
        else:
            self.update("")
            print(text)
