"""Helper package of the autoencoder course: everything that is not the idea of a lesson.

| module | what it holds |
|---|---|
| `data` | MNIST and Fashion-MNIST from files inside the package |
| `training` | `setup` of a notebook, `train` for fitting a model |
| `plotting` | figures with alternative text |
| `evaluation` | what "good" means: PSNR, the BCE floor, PCA and the mean image as baselines |
| `checks` | `checkpoint` for results, `exercise` for answers |
| `lessons` | the definitions that the notebooks teach (generated from them) |

`python -m course_utils` checks the environment.
"""

from pathlib import Path

__version__ = "0.1.0"

PACKAGE_FOLDER = Path(__file__).resolve().parent
