"""The suite of all methods on toys: a classifier of dark squares, and an editor that brightens and darkens them."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from counterscan.bench import run_suite
from counterscan.bench.every.lines import Line, kept_lines
from counterscan.bench.every.places import FOUR, kinds_of, models_of
from counterscan.bench.methods import registered
from counterscan.bench.parts import Models
from counterscan.bench.suite import Asked
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.errors import CounterscanError, UnknownName, WeightsError
from counterscan.registry import EXPLAINERS

SIDE, ILL, WELL = 32, 5, 128
CARD = Card(name="toy", shape=(1, SIDE, SIDE), classes=("tumour",))
SQUARE = (..., slice(8, 16), slice(10, 18))


class Editor:
    """Brightens what is dark, or draws a dark square, as the target asks."""

    card = CARD.model_copy(update={"kind": "editor", "name": "editor", "sha256": "e" * 64})
    edited = 0

    def __call__(self, images, target):
        Editor.edited += len(images)
        ((_, p),) = target.wanted
        if p < 0.5:
            return torch.where(images < -0.5, torch.zeros(()), images)
        changed = images.clone()
        changed[SQUARE] = -0.95
        return changed


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Images to measure (`test`) and to stand for real ones (`validation`), half with a dark square, all with twins."""
    root, rows, generator = tmp_path_factory.mktemp("data"), [], np.random.default_rng(0)
    for index in range(24):
        twin = generator.integers(WELL - 8, WELL + 8, (SIDE, SIDE)).astype(np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[SQUARE] = 255 * (index % 2)
        image = np.where(mask > 0, ILL, twin).astype(np.uint8)
        for folder, pixels in (("images", image), ("masks", mask), ("twins", twin)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{index:02d}.png")
        split = "test" if index < 12 else "validation"
        files = [f"{folder}/{index:02d}.png" for folder in ("images", "masks", "twins")]
        rows.append([*files, index % 2, split, f"p{index}"])
    with (root / "labels.csv").open("w", newline="") as file:
        heads = ["path", "mask_path", "twin_path", "tumour", "split", "patient_id"]
        csv.writer(file).writerows([heads, *rows])
    return root


@pytest.fixture(autouse=True)
def models(monkeypatch, dark):
    """The suite finds a classifier, a judge and one editor, and no other model."""
    from counterscan.bench import setting
    from counterscan.bench.every import checks
    from counterscan.explainers import build

    Editor.edited = 0
    places = {"classifier": "runs/classifier", "judge": "runs/judge", "inpainting": "runs/inpainting"}

    def load(place):
        card = CARD.model_copy(update={"name": place, "sha256": place})
        return TorchClassifier(dark(0.5 * place.endswith("judge")).eval(), card)

    monkeypatch.setattr(setting, "load_classifier", load)
    monkeypatch.setattr(Models, "there", lambda self, name, fold=None: name in places)
    monkeypatch.setattr(build, "LOADERS", {kind: lambda place: Editor() for kind in build.LOADERS})
    monkeypatch.setattr(checks, "peak_memory", lambda work: work() or 1.0)  # which walks through all objects there are


def bench(manifest, out, *names, **words):
    told = {"models": "runs", "methods": names or ("inpainting", "gradient", "progressive"), "quick": True, "n": 3}
    return run_suite("all", data=str(manifest), out=out, say=lambda line: None, **(told | words))


def lines(table):
    return {(line.direction, line.method): line for line in table.lines}


def test_every_method_is_measured_in_both_directions_or_says_why_not(manifest, tmp_path):
    out = tmp_path / "out"
    table = bench(manifest, out, command="counterscan bench all", json_file=tmp_path / "table.json")
    found = lines(table)
    assert len(found) == 6
    for direction in ("removed", "added"):
        ours = found[direction, "inpainting"]
        for name, n in {"flip_rate": 3, "judge_flip_rate": 3, "black_box_flip_rate": 1}.items():
            assert ours.metrics[name] == {"value": 1, "low": 1, "high": 1, "n": n}, name
        assert ours.result["black_box"] == "works"
        assert ours.value("kernel_distance") < 0.01
        assert ours.value("queries") >= 2
        assert ours.metrics["cpu_seconds"]["n"] == 1
        assert 0 < ours.value("l1") < 0.1
        gradient = found[direction, "gradient"]
        assert gradient.result["black_box"] == "needs gradients"
        assert not {"flip_rate", "kernel_distance", "black_box_flip_rate"} & gradient.metrics.keys()
        assert "no prior for this kind: counterscan train progressive" in found[direction, "progressive"].absent
    removed, added = (found[direction, "inpainting"] for direction in ("removed", "added"))
    assert removed.value("twin_ratio") < 0.1
    assert removed.value("auprc") > 0.95
    assert not {"twin_ratio", "auprc"} & added.metrics.keys(), "there is no lesion to find"
    assert removed.result["target"] == "tumour=0"
    assert added.result["target"] == "tumour=1"
    assert removed.value("sanity_correlation") > 0.9, "this editor never asks the classifier"
    assert removed.result["weights"] == {"classifier": "runs/classifier", "judge": "runs/judge", "prior": "e" * 64}
    assert not table.failed, "a prior that is not there is no fault of the run"
    assert "4 measured, 2 failed" in str(table)


def test_what_is_written_is_what_was_found(manifest, tmp_path):
    out = tmp_path / "out"
    table = bench(manifest, out, json_file=tmp_path / "table.json")
    told = json.loads((tmp_path / "table.json").read_text())
    assert [Line.from_dict(row) for row in told["rows"]] == list(table.lines) == kept_lines(out)
    assert json.loads((out / "table.json").read_text()) == told
    own = json.loads((out / "results" / f"{manifest.name}-removed-inpainting.json").read_text())
    assert {"command", "version", "explainer", "n", "metrics", "versions", "weights", "machine", "seed"} <= own.keys()
    page, text = (out / "index.html").read_text(), (out / "table.md").read_text()
    for name, columns in (("removed", 4), ("added", 3)):
        sheet = f"sheets/{manifest.name}-{name}-inpainting.webp"
        assert f'href="{sheet}"' in page
        with Image.open(out / sheet) as picture:
            assert picture.width // 176 == columns, "image, counterfactual, change; a twin where it is another image"
    assert page.count('class="why"') == 2
    assert "no prior for this kind" in page
    assert "no prior for this kind" in text
    assert "needs gradients" in page
    assert str(tmp_path) not in page + text + json.dumps(told)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_what_was_measured_is_not_measured_again_and_runs_add_up(manifest, tmp_path):
    out = tmp_path / "out"
    first = bench(manifest, out, "inpainting")
    edited = Editor.edited
    both = bench(manifest, out, "gradient")
    assert Editor.edited == edited
    again = bench(manifest, out, "inpainting")
    assert Editor.edited == edited
    assert len(both.lines) == len(again.lines) == 4
    assert lines(again)["removed", "inpainting"] == lines(first)["removed", "inpainting"]
    with pytest.raises(CounterscanError, match="was measured with n 3, now 2"):
        bench(manifest, out, "inpainting", n=2)


def test_a_run_that_was_stopped_goes_on(manifest, tmp_path, monkeypatch):
    from counterscan.bench.every import measuring

    undisturbed = bench(manifest, tmp_path / "one", "inpainting")
    edited, Editor.edited = Editor.edited, 0
    real, calls = measuring.checked, []

    def stopped(*words):
        if not calls:
            calls.append(words)
            raise KeyboardInterrupt
        return real(*words)

    monkeypatch.setattr(measuring, "checked", stopped)
    with pytest.raises(KeyboardInterrupt):
        bench(manifest, tmp_path / "two", "inpainting")
    resumed = bench(manifest, tmp_path / "two", "inpainting")
    assert Editor.edited == edited, "nothing was done twice"
    for one, two in zip(undisturbed.lines, resumed.lines, strict=True):
        assert one.value("flip_rate") == two.value("flip_rate")
        assert one.value("twin_ratio") == two.value("twin_ratio")


def test_a_method_that_raises_is_a_failed_line_and_stops_no_other(manifest, tmp_path, monkeypatch):
    def broken(self, images, target):
        raise RuntimeError("this editor\nis broken")

    monkeypatch.setattr(Editor, "__call__", broken)
    table = bench(manifest, tmp_path / "out", "inpainting", "gradient")
    found = lines(table)
    assert table.failed
    assert found["removed", "inpainting"].failed == "RuntimeError: this editor is broken"
    assert found["removed", "gradient"].metrics["auprc"]["n"] == 3
    assert "failed: RuntimeError" in (tmp_path / "out" / "index.html").read_text()
    monkeypatch.undo()


def test_an_image_that_a_method_fails_on_counts_as_not_flipped(manifest, tmp_path, monkeypatch):
    whole = Editor.__call__

    def fails_on_some(self, images, target):
        if (images.flatten(1).sum(1) < FAINT).any():
            raise CounterscanError("this image is too dark")
        return whole(self, images, target)

    from counterscan.data.batches import load_batch
    from counterscan.data.manifest import read_manifest

    ill = [case for case in read_manifest(manifest).cases if case.labels["tumour"] and case.split == "test"]
    sums = sorted(float(load_batch([case], CARD.shape).sum()) for case in ill)
    FAINT = (sums[1] + sums[2]) / 2  # two of six are darker
    monkeypatch.setattr(Editor, "__call__", fails_on_some)
    line = lines(bench(manifest, tmp_path / "out", "inpainting", n=6))["removed", "inpainting"]
    assert line.metrics["flip_rate"]["n"] == 6
    assert line.value("flip_rate") == pytest.approx(4 / 6, abs=1e-3)
    assert "failed on 2 images" in line.result["notes"][0]


def test_a_check_that_raises_is_a_note(manifest, tmp_path, monkeypatch):
    from counterscan.bench.every import checks

    def broken(*words, **more):
        raise ValueError("no noise today")

    monkeypatch.setattr(checks, "sensitivity", broken)
    line = lines(bench(manifest, tmp_path / "out", "gradient"))["removed", "gradient"]
    assert line.result["notes"] == ["stability: no noise today"]
    assert "sensitivity" not in line.metrics
    assert line.metrics["auprc"]["n"] == 3


def test_every_registered_explainer_takes_part_with_settings_that_it_has():
    for quick in (False, True):
        methods = registered(quick=quick)
        assert {method.name for method in methods} == set(EXPLAINERS)
        for method in methods:
            assert method.settings.keys() <= EXPLAINERS[method.name].__dataclass_fields__.keys()


def asked(tmp_path, **words):
    return Asked(**({"data": "phantoms", "out": tmp_path / "out"} | words))


def test_kinds_are_those_named_or_all_four(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert kinds_of(asked(tmp_path), None) == FOUR
    assert kinds_of(asked(tmp_path), "oct, chest") == ("oct", "chest")
    assert kinds_of(asked(tmp_path, data="fundus"), None) == ("fundus",)
    with pytest.raises(UnknownName, match="did you mean 'chest'"):
        kinds_of(asked(tmp_path), "chset")
    with pytest.raises(CounterscanError, match="leave one of them out"):
        kinds_of(asked(tmp_path, data="fundus"), "oct")
    with pytest.raises(CounterscanError, match="leave --target out"):
        kinds_of(asked(tmp_path, target="dr=0"), None)
    with pytest.raises(WeightsError, match="no classifier nowhere/oct/classifier"):
        kinds_of(asked(tmp_path, models="nowhere/{kind}"), "oct")


def test_a_model_may_be_named_for_one_kind_or_for_all(tmp_path):
    named = ("oct/growing-gan=runs/own", "growing-gan=runs/any", "judge=runs/judge")
    found = models_of(asked(tmp_path, named=named, models="runs/{kind}"), "oct")
    assert found.place("growing-gan") == "runs/own"
    assert found.place("judge") == "runs/judge"
    assert found.place("denoiser") == "runs/oct/denoiser"
    assert models_of(asked(tmp_path, named=named), "chest").place("growing-gan") == "runs/any"
    assert models_of(asked(tmp_path), "chest").place("denoiser") == "chest/denoiser"
    with pytest.raises(UnknownName, match="did you mean 'oct'"):
        models_of(asked(tmp_path, named=["otc/judge=runs/judge"]), "oct")
    with pytest.raises(CounterscanError, match="did you mean 'denoiser'"):
        models_of(asked(tmp_path, named=["denoisre=runs/x"]), "oct")
