"""Weights that were trained in advance are the ones that were stored, or the reader is told what is wrong."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from course_utils import pretrained
from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.lessons import VAE, build_vae_networks
from course_utils.pretrained import PretrainedError, load_pretrained, pretrained_names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the stored models."""
    copied = shutil.copytree(pretrained.PRETRAINED_FOLDER, tmp_path / "files")
    monkeypatch.setattr(pretrained, "PRETRAINED_FOLDER", copied)
    return copied


def vae20():
    return VAE(*build_vae_networks([400, 200], 20, activation="silu"))


def test_the_vae_with_20_latents_reaches_what_was_stored_and_what_the_course_promises():
    vae, (x_test, _) = vae20(), load_mnist(flat=True)[2]
    known = load_pretrained("06.vae20", vae)
    vae.compile()
    measured = vae.evaluate(x_test, batch_size=1000, verbose=0, return_dict=True)
    assert measured["loss"] == pytest.approx(known["figures"]["test_nelbo"], abs=0.3)  # the draws of z differ
    assert known["figures"]["test_nelbo"] <= 98
    assert known["seconds"] > 0
    assert {"epochs", "batch_size", "learning_rate"} <= set(known["settings"])


def test_everything_stored_is_small_and_has_the_digest_of_its_description():
    sizes = []
    for name in pretrained_names():
        content = (pretrained.PRETRAINED_FOLDER / f"{name}.npz").read_bytes()
        sizes.append(len(content))
        description = json.loads((pretrained.PRETRAINED_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        assert description["sha256"] == hashlib.sha256(content).hexdigest(), name
        assert description["figures"], name
    assert sizes
    assert sum(sizes) <= 8_000_000


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")


def without_figures(path):
    description = json.loads(path.read_text(encoding="utf-8"))
    del description["figures"]
    path.write_text(json.dumps(description), encoding="utf-8")


@pytest.mark.parametrize("change", [cut, without_figures])
def test_a_damaged_description_is_refused_and_the_model_unchanged(change, folder):
    change(folder / "06.vae20.json")
    vae = vae20()
    before = vae.get_weights()[0]
    with pytest.raises(PretrainedError, match=r"06\.vae20\.json is damaged: restore it"):
        load_pretrained("06.vae20", vae)
    np.testing.assert_array_equal(vae.get_weights()[0], before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damage, r"06\.vae20\.npz are damaged or were changed: restore it"),
        (lambda path: path.unlink(), r"06\.vae20\.npz cannot be read \(No such file or directory\): restore it"),
    ],
)
def test_a_damaged_or_missing_file_is_refused_and_the_model_unchanged(change, words, folder):
    change(folder / "06.vae20.npz")
    vae = vae20()
    before = vae.get_weights()
    with pytest.raises(PretrainedError, match=words):
        load_pretrained("06.vae20", vae)
    for weight, unchanged in zip(vae.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, unchanged)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(PretrainedError, match=r"No model '06\.vae21' .*'06\.vae20'"):
        load_pretrained("06.vae21", vae20())


def test_a_model_of_other_layers_is_refused_with_both_shapes():
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(3)])
    with pytest.raises(PretrainedError, match=r"\(784, 400\).*this model has \[\(784, 3\), \(3,\)\]: build it"):
        load_pretrained("06.vae20", model)
