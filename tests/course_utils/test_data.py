"""The data are the ones that the course was built with, in the promised form, or the reader is told what is wrong."""

import hashlib
import re
import shutil
import traceback

import numpy as np
import pytest

from course_utils import data, evaluation

LOADERS = {"mnist.npz": data.load_mnist, "fashion_mnist_test.npz": data.load_fashion_mnist}


@pytest.fixture(scope="module")
def mnist():
    return data.load_mnist()


@pytest.fixture
def copied_data(tmp_path, monkeypatch):
    folder = shutil.copytree(data.DATA_FOLDER, tmp_path / "data")
    monkeypatch.setattr(data, "DATA_FOLDER", folder)
    return folder


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def test_mnist_has_the_promised_splits_shapes_and_types(mnist):
    for (x, y), n in zip(mnist, (55_000, 5_000, 10_000), strict=True):
        assert x.shape == (n, 28, 28, 1)
        assert x.dtype == np.float32
        assert y.shape == (n,)
        assert y.dtype == np.int64


def test_mnist_pixels_reach_exactly_from_zero_to_one(mnist):
    for x, _ in mnist:
        assert x.min() == 0
        assert x.max() == 1


def test_flat_mnist_is_the_same_as_rows_of_784_pixels(mnist):
    for (flat, flat_labels), (x, y) in zip(data.load_mnist(flat=True), mnist, strict=True):
        assert flat.shape == (len(x), 784)
        assert flat.dtype == np.float32
        np.testing.assert_array_equal(flat, x.reshape(len(x), 784))
        np.testing.assert_array_equal(flat_labels, y)


def test_training_and_validation_digits_are_the_archive_cut_once(mnist):
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = mnist
    with np.load(data.DATA_FOLDER / "mnist.npz") as archive:
        images = np.float32(archive["x_train"]) / np.float32(255)
        np.testing.assert_array_equal(np.concatenate([x_train, x_val])[..., 0], images)
        np.testing.assert_array_equal(np.concatenate([y_train, y_val]), archive["y_train"])
        np.testing.assert_array_equal(x_test[..., 0], np.float32(archive["x_test"]) / np.float32(255))
        np.testing.assert_array_equal(y_test, archive["y_test"])


def test_the_test_set_has_the_known_number_of_each_digit(mnist):
    counts = np.bincount(mnist[2][1])
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_gray_pixels_have_the_known_entropy(mnist):
    (x_train, _), (x_val, _), (x_test, _) = mnist
    assert evaluation.bce_floor(x_test) == pytest.approx(0.05808, abs=5e-6)
    assert evaluation.bce_floor(np.concatenate([x_train, x_val])) == pytest.approx(0.0584, abs=5e-5)


def test_fashion_mnist_has_a_thousand_images_of_each_of_ten_named_classes():
    x, y = data.load_fashion_mnist()
    assert x.shape == (10_000, 28, 28, 1)
    assert x.dtype == np.float32
    assert (x.min(), x.max()) == (0, 1)
    assert y.dtype == np.int64
    assert np.bincount(y).tolist() == [1000] * 10
    assert len(set(data.FASHION_NAMES)) == 10


def test_flat_fashion_mnist_is_the_same_as_rows_of_784_pixels():
    flat, _ = data.load_fashion_mnist(flat=True)
    np.testing.assert_array_equal(flat, data.load_fashion_mnist()[0].reshape(10_000, 784))


def test_digests_in_the_code_in_the_readme_and_of_the_files_agree():
    readme = (data.DATA_FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+\.npz)` \|.*\| ([\d,]+) \| `([0-9a-f]{64})` \|$", readme, flags=re.MULTILINE)
    written = {name: (int(size.replace(",", "")), digest) for name, size, digest in rows}
    files = {path.name: path.read_bytes() for path in data.DATA_FOLDER.glob("*.npz")}
    assert written == {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    assert {name: digest for name, (_, digest) in written.items()} == data.SHA256


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_byte, "is damaged or was changed"),
        (truncate, "is damaged or was changed"),
        (empty, r"is damaged or was changed \(0 bytes"),
        (delete, "is missing"),
        (replace_by_folder, "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence_with_the_remedy(name, damage, words, copied_data):
    damage(copied_data / name)
    with pytest.raises(data.DataFileError, match=words) as caught:
        LOADERS[name]()
    message = str(caught.value)
    assert str(copied_data / name) in message
    assert "git checkout -- course_utils/data" in message
    assert re.fullmatch(r"[A-Z].*[^.]\.", message)
    assert ". " not in message
    shown = "".join(traceback.format_exception(caught.value)).replace(str(copied_data), "")
    assert not re.search("zipfile|pickle|EOFError|FileNotFoundError|IsADirectoryError", shown)


def test_pickled_objects_are_refused_even_with_a_registered_digest(copied_data, monkeypatch):
    path = copied_data / "pickled.npz"
    np.savez(path, x_test=np.array([{"any": "object"}], dtype=object))
    monkeypatch.setitem(data.SHA256, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        data.read_verified(path.name)
