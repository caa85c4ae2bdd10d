import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from counterscan import scores
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Explanation, Target
from counterscan.data.manifest import read_manifest
from counterscan.engine.local import Workers
from counterscan.engine.sharding import Shard
from counterscan.errors import CounterscanError, ManifestError
from counterscan.metrics.masks import MaskRule
from counterscan.score import choose_rule, compare, printable, score, score_folder

SIDE = 32


class Dark:
    """A judge: a lesion where the image is dark anywhere."""

    differentiable = True
    card = Card(name="judge", shape=(1, SIDE, SIDE), classes=("cyst", "tumour"))

    def __call__(self, images):
        dark = -images.flatten(1).amin(1) * 20 - 10
        return torch.stack([dark * 0 - 5, dark], 1)


@pytest.fixture
def archive(tmp_path):
    """Eight images, two a patient; every second one has a dark square, a mask, and a twin without it."""
    root = tmp_path / "archive"
    generator = np.random.default_rng(0)
    rows = []
    for index in range(8):
        twin = generator.integers(120, 140, (SIDE, SIDE)).astype(np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        if index % 2 == 0:
            mask[8:16, 8:16] = 255
        for folder, pixels in (("images", np.where(mask, 20, twin)), ("twins", twin), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"case{index}.png")
        name = f"case{index}.png"
        paths = [f"images/{name}", f"masks/{name}" if mask.any() else "", f"twins/{name}"]
        rows.append([*paths, int(mask.any()), f"p{index // 2}"])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "mask_path", "twin_path", "tumour", "patient_id"], *rows])
    return root


def explain(archive, out, strength=1.0, attribution=False):
    """A folder as `explain` writes it: the lesion made `strength` as bright as the twin."""
    manifest = read_manifest(archive)
    out.mkdir()
    facts = {
        "explainer": "Attribution()" if attribution else "Method()",
        "manifest": str(archive),
        "target": "tumour=0",
    }
    (out / "run.json").write_text(json.dumps(facts))
    for case in manifest.cases:
        image = case.read().images((1, SIDE, SIDE))
        sick = torch.tensor([case.labels["tumour"] == 1])
        change = (image < -0.5) * 0.86 * strength
        before = torch.where(sick, 3.0, -3.0)[:, None]
        after = torch.where(sick, 3.0 - 6 * strength, -3.0)[:, None]
        target = Target(((0, 0.0),))
        explanation = Explanation(
            images=image,
            target=target,
            heatmap=change / 2 + 0.01 * torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)),
            before=before,
            found=target.reached(after),
            counterfactual=None if attribution else image + change,
            after=None if attribution else after,
            meta={
                "classes": ["tumour"],
                "seconds": 0.5,
                "queries": 2,
                "case": {"name": case.name, "path": str(case.path), "patient": case.patient, "labels": case.labels},
                "window": list(case.read().window.as_tuple()),
            },
        )
        explanation.save(out / "cases" / case.name)
    return out


def test_scores_with_truth_and_judge_are_in_the_form_of_the_results(archive, tmp_path):
    folder = explain(archive, tmp_path / "out")
    result = score(folder, judge=Dark(), rule=MaskRule(0.1), command="counterscan score out")
    assert {"command", "version", "explainer", "n", "metrics"} <= set(result)
    assert result["n"] == 8
    metrics = result["metrics"]
    assert metrics["flip_rate"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4}
    assert metrics["judge_flip_rate"]["value"] == 1
    assert metrics["iou"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4}
    assert metrics["best_iou"]["value"] == 1
    assert metrics["healthy_mask_share"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 4}
    assert metrics["twin_ratio"]["value"] < 0.1
    assert metrics["already_there"]["value"] == 0.5
    assert metrics["seconds"]["value"] == 0.5
    assert json.loads((folder / "score.json").read_text()) == result
    assert "iou" in printable(result)
    assert "threshold=0.1" in printable(result)


def test_a_weak_change_flips_nothing_and_stays_far_from_the_twin(archive, tmp_path):
    metrics = score(explain(archive, tmp_path / "out", strength=0.3), judge=Dark())["metrics"]
    assert metrics["flip_rate"]["value"] == 0
    assert metrics["judge_flip_rate"]["value"] == 0
    assert metrics["twin_ratio"]["value"] > 0.5


def test_without_a_manifest_only_what_needs_no_truth_is_scored(archive, tmp_path):
    folder = explain(archive, tmp_path / "out")
    (folder / "run.json").write_text("{}")
    metrics = score(folder)["metrics"]
    assert "flip_rate" in metrics
    assert not {"iou", "twin_ratio", "best_iou", "judge_flip_rate"} & set(metrics)


def test_each_image_is_in_the_table_with_its_patient(archive, tmp_path):
    folder = explain(archive, tmp_path / "out")
    score(folder, rule=MaskRule(0.1))
    rows = list(csv.DictReader((folder / "scores.csv").open()))
    assert [row["patient"] for row in rows] == [f"p{index // 2}" for index in range(8)]
    assert rows[0]["iou"] == "1.0"
    assert rows[1]["iou"] == ""


def test_the_rule_is_chosen_on_validation_and_told(archive, tmp_path):
    folder, validation = explain(archive, tmp_path / "out"), explain(archive, tmp_path / "validation")
    result = score(folder, validation=validation)
    assert result["calibration"]["feasible"]
    assert result["mask_rule"] == choose_rule(validation).rule.to_dict()
    assert result["metrics"]["iou"]["value"] == 1
    assert score(folder)["mask_rule"] == MaskRule.published_difference().to_dict()


def test_paired_comparison_of_two_folders(archive, tmp_path):
    strong, weak = explain(archive, tmp_path / "strong"), explain(archive, tmp_path / "weak", 0.3)
    for folder in (strong, weak):
        score(folder, rule=MaskRule(0.2))
    differences = compare(strong, weak)
    assert differences["iou"].value == 1
    assert differences["flip_rate"].n == 4
    with pytest.raises(CounterscanError, match="counterscan score"):
        compare(strong, tmp_path / "archive")


def test_an_attribution_is_scored_by_its_map(archive, tmp_path):
    metrics = score(explain(archive, tmp_path / "out", attribution=True), rule=MaskRule(0.1))["metrics"]
    assert metrics["iou"]["value"] == 1
    assert metrics["auprc"]["value"] == 1
    assert "flip_rate" not in metrics


def test_the_command_writes_json_and_the_page(archive, tmp_path):
    folder = explain(archive, tmp_path / "out")
    table = score_folder(folder, truth=archive, json_file=tmp_path / "figures.json", command="counterscan score out")
    assert "flip_rate" in table
    assert json.loads((tmp_path / "figures.json").read_text())["command"] == "counterscan score out"
    assert "true healthy twin" in (folder / "index.html").read_text()


def test_faults_name_the_cure(archive, tmp_path):
    with pytest.raises(CounterscanError, match=r"run\.json"):
        score(tmp_path)
    folder = explain(archive, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "labels.csv").write_text("path,tumour\nx.png,1\n")
    with pytest.raises(ManifestError, match="knows none"):
        score(folder, truth=read_manifest(tmp_path / "other"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.json").write_text("{}")
    with pytest.raises(CounterscanError, match="no finished"):
        score(tmp_path / "empty")
    in_the_making = tmp_path / "empty" / "cases" / ".a.part"
    in_the_making.mkdir(parents=True)
    (in_the_making / "explanation.json").touch()
    with pytest.raises(CounterscanError, match="no finished"):
        score(tmp_path / "empty")


def test_a_classifier_that_nobody_named_is_not_asked(archive, tmp_path):
    folder = explain(archive, tmp_path / "out")
    run = json.loads((folder / "run.json").read_text()) | {"classifier": "chest/not-there"}
    (folder / "run.json").write_text(json.dumps(run))
    for place in (folder / "cases").iterdir():
        one = Explanation.load(place)
        noted = one.meta | {"cases": [{"reconstruction_flips": False}]}
        replace(one, reconstruction=one.images.clone(), meta=noted).save(place)
    told = score_folder(folder)
    assert "reconstruction_flip_rate" in told
    assert "deletion" not in told


def elsewhere(archive):
    """The same images as those of other patients, twice, because real ones must be enough for two sets."""
    root = archive.parent / "real"
    shutil.copytree(archive, root)
    rows = list(csv.reader((root / "labels.csv").open()))
    twice = [[*row[:-1], f"{row[-1]}-{time}"] for time in range(2) for row in rows[1:]]
    for number, row in enumerate(twice):
        shutil.copy(root / row[0], root / f"{number}.png")
        row[0] = f"{number}.png"
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *twice])
    return root


def test_as_a_set_they_stand_beside_real_images(archive, tmp_path):
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, 2))
    folder, real = explain(archive, tmp_path / "out"), read_manifest(elsewhere(archive))
    result = score(folder, judge=TorchClassifier(network, Dark.card), real=real)
    assert result["realism"]["n"] == 4
    assert {"kernel_distance", "frechet_distance"} <= set(result["realism"]["metrics"])
    assert "4 counterfactuals against" in printable(result)
    assert "real ones" in printable(result)


def test_masks_that_say_how_sure_they_are_are_asked_how_far_they_are_off(archive, tmp_path):
    folder = explain(archive, tmp_path / "out")
    assert "confidence_error" not in score(folder, rule=MaskRule(0.1))["metrics"]
    sure = MaskRule(0.1, confidence_intercept=0.0, confidence_slope=1e-9)  # says one half of all; all are true
    assert score(folder, rule=sure)["metrics"]["confidence_error"]["value"] == pytest.approx(0.5, abs=1e-3)


def test_real_images_need_a_judge(archive, tmp_path):
    with pytest.raises(CounterscanError, match="give --judge"):
        score(explain(archive, tmp_path / "out"), real=read_manifest(archive))


@pytest.fixture
def by_three(monkeypatch):
    monkeypatch.setattr(scores, "TOGETHER", 3)


def told(folder):
    return [(folder / name).read_bytes() for name in ("score.json", "scores.csv")]


SURE = MaskRule(0.1, confidence_intercept=0.0, confidence_slope=1.0)


@pytest.mark.usefixtures("by_three")
def test_who_measures_and_in_what_order_does_not_matter(archive, tmp_path, elsewhere):
    one, many = explain(archive, tmp_path / "one"), explain(archive, tmp_path / "many")
    score(one, rule=SURE, judge=Dark())
    score(many, rule=SURE, judge=Dark(), engine=elsewhere(2))
    assert told(many) == told(one)
    assert [sorted(path.name for path in (folder / "truth").iterdir()) for folder in (one, many)] == [
        sorted([f"case{index}.{kind}.png" for index in range(8) for kind in ("mask", "twin")])
    ] * 2


@pytest.mark.usefixtures("by_three")
def test_parts_keep_what_they_measured_until_all_are_there(archive, tmp_path):
    whole, parts = explain(archive, tmp_path / "whole"), explain(archive, tmp_path / "parts")
    score(whole, rule=SURE, judge=Dark())
    waiting = score(parts, rule=SURE, judge=Dark(), shard=Shard(3, 3))
    assert waiting == {"shard": "3/3", "missing": ["1/3", "2/3"]}
    assert "missing: 1/3, 2/3" in printable(waiting)
    score(parts, shard=Shard(1, 3))  # another question, whose answers are no use here
    assert score(parts, rule=SURE, judge=Dark(), shard=Shard(2, 3))["missing"] == ["1/3"]
    assert "metrics" in score(parts, rule=SURE, judge=Dark(), shard=Shard(1, 3))
    assert told(parts) == told(whole)
    score(parts, rule=SURE, judge=Dark())
    assert not (parts / ".shards").exists()
    assert told(parts) == told(whole)


def test_two_workers_with_models_of_their_own_measure_what_one_process_measures(archive, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])  # where a worker finds the judge
    monkeypatch.setattr(scores, "TOGETHER", 4)
    one, two = explain(archive, tmp_path / "one"), explain(archive, tmp_path / "two")
    score(one, judge=Dark())
    score(two, judge=Dark(), engine=Workers(2), again=models)
    assert told(two) == told(one)


def models():
    return scores.Models(judge=Dark())
