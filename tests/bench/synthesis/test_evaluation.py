"""The suite `synthesis` on toy archives: a fresh one is at the floor, and each kind of bad one is found out."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from counterscan.bench import run_suite
from counterscan.bench.synthesis import teaching
from counterscan.bench.synthesis.archives import both
from counterscan.bench.synthesis.page import areas, histogram
from counterscan.bench.synthesis.setting import Setting
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.errors import CounterscanError, UnknownName, WeightsError

SIDE, CLASSES = 32, ("left", "right")
CARD = Card(name="toy", shape=(1, SIDE, SIDE), classes=CLASSES)


class Quarters(nn.Module):
    """Answers by the mean and the spread of each quarter, which are its features."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        parts = images.unfold(2, SIDE // 2, SIDE // 2).unfold(3, SIDE // 2, SIDE // 2).flatten(4)
        return self.head(torch.cat([parts.mean(-1).flatten(1), parts.std(-1).flatten(1)], 1))


def drawn(n, seed, together=0.0):
    """Noise of many shades; a bright square on the left, on the right, or both."""
    generator = np.random.default_rng(seed)
    for _ in range(n):
        left = generator.random() < 0.5
        right = left if generator.random() < together else generator.random() < 0.5
        pixels = generator.normal(generator.uniform(60, 120), generator.uniform(5, 20), (SIDE, SIDE))
        pixels[4:12, 2:10] += 80 * left * generator.uniform(0.8, 1.2)
        pixels[4:12, 20:28] += 80 * right * generator.uniform(0.8, 1.2)
        yield pixels.clip(0, 255).astype(np.uint8), int(left), int(right)


def archive(root, images, third="accepted"):
    """The folder of an archive with a `third` column of its own."""
    (root / "images").mkdir(parents=True)
    rows = [["path", *CLASSES, third]]
    for index, (pixels, *labels) in enumerate(images):
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        rows.append([f"images/{index}.png", *labels, 1])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (root / "dataset.toml").write_text("window = [0.0, 255.0]\n")
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("archives")
    real, fresh = list(drawn(160, 0)), list(drawn(120, 1))
    return {
        "real": archive(root / "real", real, "erect"),
        "fresh": archive(root / "fresh", fresh),
        "repeated": archive(root / "repeated", [fresh[0]] * 60),
        "copied": archive(root / "copied", real[:60]),
        "tied": archive(root / "tied", drawn(120, 2, together=0.9)),
    }


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    torch.manual_seed(0)
    toy = TorchClassifier(Quarters(), CARD)
    monkeypatch.setattr("counterscan.bench.synthesis.setting.load_classifier", lambda name: toy)


def evaluated(folders, name, out, *methods, **words):
    told = {"data": str(folders[name]), "real": folders["real"], "out": out, "say": lambda line: None, "quick": True}
    return run_suite("synthesis", **(told | {"named": ["judge=toy"], "methods": methods} | words))


def test_a_fresh_archive_is_as_real_images_are(folders, tmp_path):
    found = evaluated(folders, "fresh", tmp_path, "distances", "copies", "cooccurrence", "diversity")
    assert not found.failed
    lines = {line["name"]: line for line in found.parts["distances"]}
    assert list(lines) == ["all images", "left", "right", "no finding", "16 px"]
    assert lines["all images"]["n"] == 80, "half of the real images are the floor"
    assert lines["all images"]["times_floor"] < 2
    assert lines["all images"]["metrics"]["recall"]["value"] > 0.8
    assert not found.parts["copies"]["reference"]["alarming"]
    assert found.parts["copies"]["reference"]["copied"] == 0
    assert found.parts["cooccurrence"]["patterns"]["distance_p"] > 0.01
    diverse = found.parts["diversity"][0]
    assert diverse["synthetic"]["value"] == pytest.approx(diverse["real"]["value"], abs=0.1)
    page = (tmp_path / "index.html").read_text()
    assert all(f'id="{part}"' in page for part in ("distances", "copies", "cooccurrence", "diversity"))
    told = json.loads((tmp_path / "synthesis.json").read_text())
    assert {"command", "version", "explainer", "n", "metrics"} <= told.keys()
    assert all({"value", "low", "high", "n"} == figure.keys() for figure in told["metrics"].values())
    assert told["metrics"]["recall"] == {
        k: v for k, v in lines["all images"]["metrics"]["recall"].items() if k != "floor"
    }
    assert "kernel_distance_floor_left" in told["metrics"]


def test_one_image_repeated_has_no_recall_and_repeats_itself(folders, tmp_path):
    found = evaluated(folders, "repeated", tmp_path, "distances", "copies")
    assert found.parts["distances"][0]["metrics"]["recall"]["value"] < 0.05
    assert found.parts["distances"][0]["times_floor"] > 3
    assert found.parts["copies"]["repeats"]["alarming"]


def test_copies_of_training_images_are_named(folders, tmp_path):
    found = evaluated(folders, "copied", tmp_path, "copies")
    copied = found.parts["copies"]
    assert copied["reference"]["alarming"]
    assert copied["reference"]["copied"] >= 30, "those of the training part"
    first = copied["pairs"]["made"][0]
    assert first["distance"] == 0
    assert first["name"] == first["nearest_name"]


def test_findings_tied_together_are_told(folders, tmp_path):
    patterns = evaluated(folders, "tied", tmp_path, "cooccurrence", named=[]).parts["cooccurrence"]
    assert patterns["patterns"]["distance_p"] < 0.01
    assert patterns["odds"][0]["pair"] == ["left", "right"]
    assert patterns["odds"][0]["ratio"]["low"] > 1


@pytest.fixture
def taught(monkeypatch):
    """Instead of a training: a card, and a classifier that sees both squares, the one taught by `fresh` less well."""
    calls = []

    class Recipe:
        def __init__(self, **settings):
            self.steps, self.size, self.settings = settings.get("steps", 3000), settings["size"], settings

        def train(self, manifest, out, **words):
            calls.append((out.name.split("-")[0], self.steps, manifest.classes))
            out.mkdir(parents=True)
            (out / "card.json").write_text("{}")

        def __repr__(self):
            return "Recipe()"

    def load(place):
        noise = 0.3 if "synthetic" in place else 0.0

        def answer(images):
            generator = torch.Generator().manual_seed(0)
            squares = torch.stack([images[:, 0, 4:12, x : x + 8].mean((1, 2)) for x in (2, 20)], 1)
            return squares + noise * torch.randn(squares.shape, generator=generator)

        return type("Toy", (), {"card": CARD, "__call__": lambda self, images: answer(images)})()

    monkeypatch.setattr(teaching, "RECIPES", {"classifier": Recipe})
    monkeypatch.setattr(teaching, "load_classifier", load)
    return calls


def test_both_archives_teach_and_both_are_tested_on(folders, tmp_path, taught):
    found = evaluated(folders, "fresh", tmp_path, "training", steps=7, named=[])
    assert taught == [("synthetic", 7, CLASSES), ("real", 7, CLASSES)], "a column that only one has is no class"
    tested = found.parts["training"]["tested_on"]
    for on, lines in tested.items():
        assert [line["name"] for line in lines] == [*CLASSES, "mean"]
        mean = lines[-1]
        assert mean["from_real"]["value"] > mean["from_synthetic"]["value"] > 0.5, on
    line = tested["real"][0]
    difference = line["from_synthetic"]["value"] - line["from_real"]["value"]
    assert line["difference"]["value"] == pytest.approx(difference, abs=1e-3)
    assert evaluated(folders, "fresh", tmp_path, "training", steps=7, named=[]).parts == found.parts
    assert len(taught) == 2, "what was trained is not trained again"
    assert 'id="training"' in (tmp_path / "index.html").read_text()


def test_a_part_that_is_done_is_not_done_again_until_the_archive_changes(folders, tmp_path, monkeypatch):
    seen = []
    extract = Setting._extract
    monkeypatch.setattr(Setting, "_extract", lambda self, one: (seen.append(one.name), extract(self, one))[1])
    mine = {**folders, "mine": archive(tmp_path / "mine", drawn(40, 5))}
    for _ in range(2):
        evaluated(mine, "mine", tmp_path / "out", "distances")
    assert seen == ["synthetic", "real"]
    table = tmp_path / "mine" / "labels.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    evaluated(mine, "mine", tmp_path / "out", "distances")
    assert seen == ["synthetic", "real", "synthetic"]


def test_a_part_that_fails_is_a_line_and_the_others_are_there(folders, tmp_path):
    lone = archive(tmp_path / "lone", drawn(1, 7))
    found = evaluated({**folders, "lone": lone}, "lone", tmp_path / "out", "copies", "cooccurrence")
    assert found.failed
    assert "copies failed" in str(found)
    assert "cooccurrence" in found.parts


@pytest.mark.parametrize(
    ("words", "error", "line"),
    [
        ({"real": None}, CounterscanError, "--real MANIFEST"),
        ({"named": []}, WeightsError, "--model judge="),
        ({"methods": ["copeis"]}, UnknownName, "did you mean 'copies'"),
        ({"target": "left=0"}, CounterscanError, "leave --target out"),
        ({"folds": "all"}, CounterscanError, "the one real fold"),
        ({"data": "nowhere"}, CounterscanError, "no manifest"),
        ({"masks": 9}, CounterscanError, "no --masks"),
    ],
)
def test_words_that_do_not_fit_are_refused_before_anything_is_written(folders, tmp_path, words, error, line):
    with pytest.raises(error, match=line):
        evaluated(folders, "fresh", tmp_path / "out", **words)
    assert not (tmp_path / "out").exists()


def test_archives_need_a_class_in_common_of_the_same_kind(folders, tmp_path):
    other = archive(tmp_path / "other", drawn(4, 9))
    table = other / "labels.csv"
    table.write_text(table.read_text().replace("left", "up").replace("right", "down"))
    with pytest.raises(CounterscanError, match="none is in both"):
        both(other, folders["real"])


def test_drawings_stay_within_their_frames():
    shape = histogram({"made": [0.0, 1.0], "real": [0.5, 0.5], "top": 2.0, "limits": {"1": 0.5}})
    points = [tuple(map(float, point.split(","))) for one in shape["shapes"].values() for point in one.split()]
    assert all(0 <= x <= shape["size"][0] and 0 <= y <= shape["size"][1] for x, y in points)
    figure = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 9}
    unknown = {"value": None, "low": None, "high": None, "n": 0}
    drawing = areas([{"name": "a", "from_real": figure, "from_synthetic": unknown}], "real")
    (dot,) = drawing["rows"][0]["dots"]
    assert drawing["ticks"][0]["x"] > dot["low"] >= 130
