"""Manifests and folders as `explain` leaves them, small and made without a classifier."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

SIDE = 24


def picture(path, seed, bright=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).uniform(20, 200, (SIDE, SIDE)) + bright
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def manifest(tmp_path):
    """Makes a folder with labels.csv: `n` images of patients p0, p1, ... with columns effusion and view."""

    def make(name="real", n=60, first=0):
        folder = tmp_path / name
        lines = ["path,patient_id,effusion,view"]
        for one in range(first, first + n):
            picture(folder / f"images/{one:04}.png", one)
            lines.append(f"images/{one:04}.png,p{one},{one % 2},{'AP' if one % 3 else 'PA'}")
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
        return folder

    return make


@pytest.fixture
def explained(tmp_path):
    """Makes what `explain` leaves: a counterfactual (or only a heat map) of each image of a manifest."""

    def make(source, name="ours", already=(), missed=(), bright=30.0, maps_only=False):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"explainer": "Ours()", "manifest": str(source), "dataset": ""}))
        for path in sorted((source / "images").glob("*.png")):
            number, case = int(path.stem), folder / "cases" / path.stem
            case.mkdir(parents=True)
            files = {"figure": "figure.png"}
            if not maps_only:
                picture(case / "counterfactual.png", number, 0 if number in already else bright)
                files["counterfactual"] = "counterfactual.png"
            heat = np.zeros((1, 1, SIDE, SIDE), np.float32)
            heat[:, :, 4:9, 4:9] = 0.4
            save_file({"heatmap": heat}, case / "explanation.safetensors")
            row = {"slices": 1, "already": number in already, "found": number not in missed}
            facts = {"name": path.stem, "path": str(path.resolve()), "patient": f"p{number}"}
            meta = {
                "case": {**facts, "split": "", "labels": {"effusion": number % 2}},
                "window": [0.0, 255.0, ""],
                "files": files,
                "row": row,
            }
            (case / "explanation.json").write_text(json.dumps({"target": [[0, 0.0]], "meta": meta}))
        return folder

    return make
