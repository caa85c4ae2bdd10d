"""The demo runs end to end on weights that know nothing, and trains what is missing, once."""

import json
from pathlib import Path

import pytest
import torch

from counterscan import demo
from counterscan.core import Card
from counterscan.data.phantoms.base import module
from counterscan.errors import WeightsError
from counterscan.nets import build
from counterscan.registry import RECIPES
from counterscan.weights.store import save_weights


@pytest.fixture
def untrained(tmp_path):
    """Weights fresh from their random start, for a kind of phantom."""
    drawer = module("abdomen")
    torch.manual_seed(0)
    card = Card(name="a", shape=(1, 64, 64), classes=tuple(drawer.CLASSES), window=tuple(drawer.WINDOW))
    outputs = {"channels": 1, "outputs": len(card.classes)}
    classifier = card.model_copy(update={"network": "resnet", "settings": outputs})
    editor = card.model_copy(
        update={"kind": "editor", "network": "unet", "settings": {"conditions": len(card.classes)}}
    )
    save_weights(tmp_path / "classifier", build("resnet", classifier.settings), classifier)
    save_weights(tmp_path / "editor", build("unet", editor.settings), editor)
    return demo.Models(*(str(tmp_path / name) for name in ("classifier", "classifier", "editor")))


def test_the_demo_writes_one_page_and_prints_a_table(tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(demo, "KINDS", ("abdomen",))
    monkeypatch.setattr(demo, "shipped", lambda say: {"abdomen": untrained})
    monkeypatch.setattr(demo, "METHODS", {"inpainting": {}, "layer-cam": {}, "rise": {"masks": 4}})
    answer = demo.run_demo(tmp_path / "out", n=3, say=lambda line: None)
    assert answer.splitlines()[0].split()[0] == "abdomen"
    assert [line.split()[0] for line in answer.splitlines()[1:4]] == ["inpainting", "layer-cam", "rise"]
    assert answer.endswith(str(tmp_path / "out" / "index.html"))
    assert "true healthy twin" in (tmp_path / "out" / "index.html").read_text()
    figures = json.loads((tmp_path / "out" / "abdomen" / "rise" / "score.json").read_text())["metrics"]
    assert "healthy_mask_share" in figures


def test_training_skips_what_is_trained(tmp_path, monkeypatch):
    trained = []

    def train(recipe, manifest, out, **rest):
        trained.append((Path(out).name, rest["resume"]))
        out.mkdir()
        (out / "card.json").write_text("{}")

    monkeypatch.setattr(demo, "TRAINING", 2)
    for name in ("classifier", "inpainting"):
        monkeypatch.setattr(RECIPES[name], "train", train)
    models = demo.trained("chest", tmp_path / "trained", say=lambda line: None)
    assert trained == [("classifier", True), ("judge", True), ("inpainting", True)]
    assert Path(models.prior) == tmp_path / "trained" / "inpainting"
    demo.trained("chest", tmp_path / "trained", say=lambda line: None)
    assert len(trained) == 3


def test_without_shipped_weights_the_demo_says_how_to_train(monkeypatch):
    monkeypatch.setattr(demo, "shipped_weights", lambda: ())
    with pytest.raises(WeightsError, match="demo --train"):
        demo.shipped(print)


def test_a_kind_without_all_its_weights_is_named_and_left_out(monkeypatch):
    monkeypatch.setattr(demo, "shipped_weights", lambda: ("chest/classifier", "chest/judge", "chest/inpainting"))
    said = []
    assert list(demo.shipped(said.append)) == ["chest"]
    assert said == [
        "abdomen: no weights abdomen/classifier, abdomen/judge, abdomen/inpainting are shipped; --train trains them"
    ]
