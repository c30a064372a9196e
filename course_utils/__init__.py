"""Helper package of the autoencoder course: everything that is not the idea of a lesson.

| module | what it holds |
|---|---|
| `data` | MNIST and Fashion-MNIST from files inside the package |
| `backend` | Keras, imported quietly, with an allocator that keeps its memory |
| `devices` | `setup` of a notebook: seeds, CPU or GPUs |
| `training` | `train` for fitting a model; `batches`, `callbacks`, `resume`, `input_checks` and `splits` are its parts |
| `pretrained` | `load_pretrained` for models that were trained in advance, `load_curve` for the results of many trainings |
| `plotting` | figures with alternative text |
| `evaluation` | what "good" means: PSNR, the BCE floor, PCA and the mean image as baselines |
| `checks` | `checkpoint` for results |
| `exercises` | `exercise` for answers |
| `lessons` | the definitions that the notebooks teach (generated from them) |

`python -m course_utils` checks the environment.
"""

import os
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).resolve().parent


def usable_cores() -> int:
    """Cores that the scheduler lets this process use; a container's quota of processor time does not show here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
