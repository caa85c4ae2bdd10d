"""The suite on toys: a classifier of dark squares, and an editor that brightens them."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from counterscan.bench import run_suite
from counterscan.bench.rows import Row
from counterscan.bench.setting import Setting
from counterscan.bench.table import markdown, read_table
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.errors import CounterscanError, UnknownName, WeightsError

SIDE = 32
CARD = Card(name="toy", shape=(1, SIDE, SIDE), classes=("tumour",))


class Brighten:
    """An editor that makes what is dark as bright as the rest."""

    card = CARD.model_copy(update={"kind": "editor", "name": "brighten", "sha256": "e" * 64})
    edited = 0

    def __call__(self, images, target):
        Brighten.edited += len(images)
        return torch.where(images < -0.5, torch.zeros(()), images)


@pytest.fixture
def manifest(tmp_path):
    """Two folds of eight images, two a patient; half with a dark square of one of three sizes."""
    root, rows = tmp_path / "data", []
    generator = np.random.default_rng(0)
    for index in range(16):
        pixels = generator.integers(120, 136, (SIDE, SIDE)).astype(np.uint8)
        mask, side = np.zeros((SIDE, SIDE), np.uint8), 5 + index // 2 % 3
        if index % 2 == 0:
            mask[8 : 8 + side, 10 : 10 + side] = 255
        pixels[mask > 0] = 5
        name = f"{index:02d}.png"
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / folder / name)
        rows.append(
            [f"images/{name}", f"masks/{name}", int(index % 2 == 0), index // 2 % 2, f"p{index // 2}", "0.5,0.5"]
        )
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "mask_path", "tumour", "fold", "patient_id", "spacing_mm"], *rows])
    return root


@pytest.fixture(autouse=True)
def models(monkeypatch, dark):
    """The suite finds its models by these names, and no others."""
    from counterscan.bench import parts, setting
    from counterscan.explainers import build

    loaded = []
    Brighten.edited = 0

    def load(place):
        loaded.append(place)
        bias = 0.5 if place.endswith("judge") else 0.0
        return TorchClassifier(dark(bias).eval(), CARD.model_copy(update={"name": place, "sha256": place}))

    monkeypatch.setattr(setting, "load_classifier", load)
    monkeypatch.setattr(
        parts.Models, "there", lambda self, name, fold=None: name in ("classifier", "judge", "inpainting")
    )
    monkeypatch.setattr(build, "LOADERS", {kind: lambda place: Brighten() for kind in build.LOADERS})
    return loaded


def bench(manifest, out, *names, **words):
    names = names or ("inpainting", "progressive", "layer-cam")
    told = {"models": "runs/{fold}", "methods": names, "say": lambda line: None, "command": "counterscan bench ..."}
    return run_suite("segmentation", data=str(manifest), out=out, **(told | words))


def lines(table):
    return {(row.method, row.rule): row for row in table.rows}


def test_one_table_of_all_methods_over_all_folds(manifest, tmp_path, models):
    out = tmp_path / "out"
    table = bench(manifest, out, json_file=tmp_path / "table.json")
    found = lines(table)
    assert set(models) == {f"runs/{fold}/{name}" for fold in (0, 1) for name in ("classifier", "judge")}
    ours = found["inpainting", "tuned"].metrics
    assert ours["iou"]["value"] > 0.95
    assert ours["iou"]["n"] == 8
    assert ours["micro_iou"]["value"] > 0.95
    assert ours["flip_rate"]["value"] == ours["judge_flip_rate"]["value"] == 1
    assert ours["healthy_mask_share"]["value"] == 0
    assert ours["seconds"]["value"] > 0
    assert sum(ours[f"iou_{size}"]["n"] for size in ("small", "medium", "large")) == 8
    assert "mm²" in table.facts["sizes"]  # the column spacing_mm says how large a pixel is
    assert ours["frechet_distance"]["n"] == 8
    assert ours["frechet_floor"]["value"] >= 0
    assert "iou_difference" not in ours
    assert "frechet_distance" not in found["layer-cam", "tuned"].metrics
    assert found["layer-cam", "published rule"].metrics["iou_difference"]["n"] == 8
    assert ("layer-cam", "published rule") in found
    assert ("layer-cam", "published layer and rule") in found
    assert found["progressive", "tuned"].absent == "no model runs/0/progressive"
    assert not table.failed
    result = json.loads((out / "results" / "layer-cam-published-rule.json").read_text())
    assert {"command", "version", "explainer", "n", "metrics", "parts"} <= result.keys()
    assert {part["fold"] for part in result["parts"]} == {0, 1}
    assert "absent: no model" in str(table)
    page = (out / "index.html").read_text()
    assert "layer-cam" in page
    assert "absent: no model runs/0/progressive" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    again = read_table(tmp_path / "table.json")
    assert markdown(again) == markdown(table) == (out / "table.md").read_text()


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(manifest, tmp_path, monkeypatch):
    undisturbed = bench(manifest, tmp_path / "one", "inpainting", folds="0")
    edited, Brighten.edited = Brighten.edited, 0
    real = Setting.explain

    def stopped(self, explainer, images, out, rule=None):
        if out.name == "test":
            raise KeyboardInterrupt
        return real(self, explainer, images, out, rule)

    monkeypatch.setattr(Setting, "explain", stopped)
    with pytest.raises(KeyboardInterrupt):
        bench(manifest, tmp_path / "two", "inpainting", folds="0")
    monkeypatch.setattr(Setting, "explain", real)
    resumed = bench(manifest, tmp_path / "two", "inpainting", folds="0")
    assert Brighten.edited == edited  # nothing was done twice
    cost = ("seconds", "memory_mb")
    for one, two in zip(undisturbed.rows, resumed.rows, strict=True):
        figures = [{k: v for k, v in row.metrics.items() if k not in cost} for row in (one, two)]
        assert figures[0] == figures[1]
    bench(manifest, tmp_path / "two", "inpainting", folds="0")
    assert Brighten.edited == edited


def test_a_method_that_fails_is_a_line_and_stops_no_other(manifest, tmp_path, monkeypatch):
    def broken(self, images, target):
        raise CounterscanError("this editor\nis broken")

    monkeypatch.setattr(Brighten, "__call__", broken)
    table = bench(manifest, tmp_path / "out", "inpainting", "gradient", folds="1")
    assert table.failed
    assert lines(table)["inpainting", "tuned"].failed == "this editor is broken"
    assert lines(table)["gradient", "tuned"].metrics["iou"]["n"] == 4


def test_words_that_are_wrong_are_answered_with_the_cure(manifest, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'segmentation'"):
        run_suite("segmentatoin", data="phantoms", out=tmp_path)
    with pytest.raises(UnknownName, match="did you mean 'layer-cam'"):
        bench(manifest, tmp_path / "out", "layer-cma")
    with pytest.raises(WeightsError, match="--models"):
        bench(manifest, tmp_path / "out", models="")
    with pytest.raises(CounterscanError, match="did you mean 'judge'"):
        bench(manifest, tmp_path / "out", named=["jugde=runs/judge"])
    assert not (tmp_path / "out").exists()


def test_a_line_without_figures_has_a_name_for_its_file():
    assert Row("layer-cam", "published layer and rule").file == "layer-cam-published-layer-rule"
    assert Row("rise").file == "rise"
