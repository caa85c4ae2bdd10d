"""Small runs as `explain` and `score` leave them, for the tests of the viewer."""

import csv
import json

import pytest
import torch
from PIL import Image

from counterscan.core import Explanation, Target


@pytest.fixture
def write_run():
    """The function that writes a run."""
    return written


def written(folder, n=6, attribution=False, slices=1, frames=0, scored=True, archive="scans"):
    """A run: the last case was already there, the one before was not found; IoU falls from case to case."""
    torch.manual_seed(0)
    target, rows = Target(((0, 0.0),)), []
    for index in range(n):
        name, labels = f"case{index}", {"tumour": int(index % 2 == 0), "cyst": 0}
        explanation = _explanation(index, n, target, labels, attribution, slices, frames, archive)
        explanation.save(folder / "cases" / name)
        Image.new("L", (8, 8)).save(folder / "cases" / name / "mask.png")
        already = bool(target.reached(explanation.before)[0])
        row = {"name": name, "path": f"/archive/{archive}/{name}.png", "patient": f"p{index}", "slices": slices}
        row |= {"already": already, "found": "" if attribution else bool(explanation.found[0]) or already}
        row |= {"p_before_tumour": round(float(explanation.before[0, 0].sigmoid()), 4), "mask_share": 0.1}
        rows.append(row if attribution else row | {"p_after_tumour": 0.05})
    facts = {
        "kind": "explain",
        "explainer": "LayerCAM(layer=3)" if attribution else "Inpainting(editor=x)",
        "classifier": "abdomen/classifier",
        "target": "tumour=0",
    }
    (folder / "run.json").write_text(json.dumps(facts))
    write_csv(folder / "cases.csv", rows)
    if scored:
        write_csv(folder / "scores.csv", [{"name": f"case{i}", "slice": 0, "iou": 1 - i / n} for i in range(n)])
        (folder / "truth").mkdir()
        for index in range(n):
            truth = Image.new("L", (32, 32 * slices))
            truth.paste(255, (8, 8, 16, 16))
            truth.save(folder / "truth" / f"case{index}.mask.png")
    return folder


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _explanation(index, n, target, labels, attribution, slices, frames, archive):
    images = torch.rand(slices, 1, 32, 32) - 0.5
    changed = images.clone()
    changed[:, :, 8:16, 8:16] += 0.4
    before = torch.full((slices, 2), -2.0 if index == n - 1 else 2.0)
    if slices > 1:
        before[0, 0] = 1.0  # the first slice is not the telling one
    after = torch.full((slices, 2), 1.0 if index == n - 2 else -3.0)
    meta = {
        "classes": ["tumour", "cyst"],
        "mask_rule": {"threshold": 0.1},
        "window": [-160, 240, "HU"],
        "already": target.reached(before).tolist(),
        "case": {"name": f"case{index}", "split": "train" if index < 2 else "test", "labels": labels},
        "files": {"mask": "mask.png", "outside": "../case0/explanation.json", "gone": "gone.png"},
        "explainer": "x",
    }
    return Explanation(
        images=images,
        target=target,
        heatmap=(changed - images).abs() / 2,
        before=before,
        found=target.reached(after),
        counterfactual=None if attribution else changed,
        after=None if attribution else after,
        path=torch.stack([images, changed], 1).repeat(1, frames // 2, 1, 1, 1) if frames else None,
        meta=meta,
    )
