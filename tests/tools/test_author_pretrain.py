"""`make pretrained` stores what `load_pretrained` loads, goes on after an interruption, and notices another recipe."""

from dataclasses import replace

import numpy as np
import pytest

from course_utils import callbacks, pretrained
from course_utils.lessons import VAE, build_vae_networks
from tools.author import pretrain


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A recipe of two epochs on few pictures, in folders of its own."""
    pictures = np.random.default_rng(0).uniform(size=(40, 784)).astype("float32")
    recipe = pretrain.Recipe(
        build=lambda: VAE(*build_vae_networks(hidden=(4,), latent=2)),
        sizes={"hidden": (4,), "latent": 2},
        training={"epochs": 2, "batch_size": 10, "learning_rate": 0.01},
        figures=lambda vae: {"first": float(vae.get_weights()[0].flat[0])},
        data=lambda: (pictures,),
    )
    monkeypatch.setattr(pretrain, "RECIPES", {"98.small": recipe})
    monkeypatch.setattr(pretrain, "PROGRESS_FOLDER", tmp_path / "progress")
    for module in (pretrain, pretrained):
        monkeypatch.setattr(module, "PRETRAINED_FOLDER", tmp_path / "stored")
    return recipe


@pytest.mark.slow
def test_it_goes_on_after_an_interruption_and_stores_weights_in_half_precision(small, tmp_path, monkeypatch, capsys):
    def interrupt(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ProgressLine, "on_epoch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain("98.small")
    assert not (tmp_path / "stored").exists()
    capsys.readouterr()
    pretrain.pretrain("98.small")
    assert "Resumed from 98.small.npz after epoch 1 of 2." in capsys.readouterr().out
    assert list((tmp_path / "progress").iterdir()) == []
    vae = small.build()
    known = pretrained.load_pretrained("98.small", vae)
    first = vae.get_weights()[0].flat[0]
    assert first == np.float16(first)
    assert known["figures"] == {"first": float(first)}
    assert (
        known["settings"]
        == small.settings
        == {"hidden": [4], "latent": 2, "epochs": 2, "batch_size": 10, "learning_rate": 0.01}
    )


@pytest.mark.slow
def test_a_stored_model_is_current_until_its_recipe_changes(small, monkeypatch, capsys):
    assert not pretrain.is_current("98.small")
    pretrain.pretrain("98.small")
    assert pretrain.is_current("98.small")
    for change in (
        {"training": {**small.training, "epochs": 3}},
        {"training": {**small.training, "learning_rate": 0.02}},
        {"sizes": {"hidden": (5,), "latent": 2}},
    ):
        other = replace(small, **change)
        monkeypatch.setattr(pretrain, "RECIPES", {"98.small": other})
        assert not pretrain.is_current("98.small")
