"""Build the data files of `course_utils/data_files/` from the authors' IDX files.

    python -m tools.author.make_data mnist FOLDER            # four IDX files -> mnist.npz
    python -m tools.author.make_data fashion_mnist FOLDER    # the two test files -> fashion_mnist_test.npz

FOLDER holds the files under their usual names (`train-images-idx3-ubyte`, ...), gzipped (`.gz`) or not. Every input is
compared with its published SHA-256 before anything is written. The same input always gives the same bytes with the same
zlib; the digest of the written file is printed and belongs into `course_utils/data.py` and `course_utils/data_files/README.md`.
"""

import argparse
import gzip
import hashlib
import io
import struct
from pathlib import Path

import numpy as np

from course_utils.data import DATA_FOLDER
from tools.shared.notebook_files import replace_file

# SHA-256 of the uncompressed IDX files, by the name of the array that they become.
SOURCES = {
    "mnist": {
        "x_train": ("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        "y_train": ("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        "x_test": ("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        "y_test": ("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    },
    "fashion_mnist": {
        "x_test": ("t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        "y_test": ("t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    },
}
FILES = {"mnist": "mnist.npz", "fashion_mnist": "fashion_mnist_test.npz"}


def read_idx(path: Path, sha256: str) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not, after comparing its digest."""
    gzipped = path.with_name(path.name + ".gz")
    if not path.exists() and not gzipped.exists():
        raise SystemExit(f"{path} is missing, and so is {gzipped.name}.")
    content = path.read_bytes() if path.exists() else gzip.decompress(gzipped.read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise SystemExit(f"{path} has SHA-256 {digest}, expected {sha256}.")
    # Header: two zero bytes, the type (8 = unsigned byte), the number of axes, then one big-endian length per axis.
    _, _, dtype, n_axes = content[:4]
    assert dtype == 8, f"{path}: IDX type {dtype}, expected 8 (unsigned byte)"
    shape = struct.unpack(f">{n_axes}I", content[4 : 4 + 4 * n_axes])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=SOURCES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arrays = {name: read_idx(arguments.folder / file, sha) for name, (file, sha) in SOURCES[arguments.dataset].items()}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    replace_file(DATA_FOLDER / FILES[arguments.dataset], content.getvalue())
    print(f"{FILES[arguments.dataset]}: SHA-256 {hashlib.sha256(content.getvalue()).hexdigest()}")


if __name__ == "__main__":
    main()
