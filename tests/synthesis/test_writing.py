"""An archive ends the same however often it is killed, holds nothing twice, and never takes a part for the whole."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from counterscan.classifiers.features import Extractor
from counterscan.data.batches import load_batch
from counterscan.data.manifest import read_manifest
from counterscan.errors import CounterscanError, ScanError
from counterscan.synthesis import writing
from counterscan.synthesis.gate import Gate, own_limits
from counterscan.synthesis.making import Making
from counterscan.synthesis.specs import evenly
from counterscan.synthesis.storage import Storage
from counterscan.synthesis.writing import Archive, write_archive

ASKED = ("a=1", "a=0,b=1", "normal")


@pytest.fixture
def archive(tiles, bright, tmp_path, monkeypatch):
    """Builds an archive of 8 scans in chunks of 4; other parts as they are named."""
    monkeypatch.setattr(writing, "CHUNK", 4)
    monkeypatch.setattr(writing, "HOPELESS", 2)

    def build(name="out", labels=ASKED, n=8, judge_bias=-0.3, card=None, **parts):
        classifier, judge = (bright(bias=bias, **(card or {})) for bias in (0.0, judge_bias))
        extractor, storage = Extractor.of(judge), Storage(tiles.card)
        gate = Gate(tiles, classifier, judge, extractor, own_limits(tiles, extractor))
        making = Making(tiles, classifier, gate, storage.stored, draws=4)
        requests = evenly(labels, n, classifier.card)
        known = {"seed": 3, "facts": {"seed": 3, "requests": list(labels)}}
        return Archive(tmp_path / name, requests, making, storage, classifier.card, **known | parts)

    return build


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_manifest_says_what_each_image_shows_and_where_it_comes_from(archive, tiles, bright):
    job = archive()
    told = write_archive(job)
    assert (told["asked"], told["written"], told["failed"]) == (8, 8, [])
    manifest = read_manifest(job.out)
    assert manifest.classes == ("a", "b", "c")
    assert len({case.path for case in manifest.cases}) == len(manifest) == 8
    images = load_batch(manifest.cases, tiles.card.shape)
    latents = torch.from_numpy(np.load(job.out / "latents.npy"))
    assert torch.allclose(tiles(latents), images, atol=1e-4), "the latents make the images again"
    answers = bright()(images)
    for case, row in zip(manifest.cases, answers, strict=True):
        assert case.facts["seed"] == "3"
        assert float(case.facts["p_a"]) == pytest.approx(float(torch.sigmoid(row[0])), abs=2e-3)
        assert float(case.facts["judge_p_a"]) < float(case.facts["p_a"])
        for part in case.facts["asked"].split(","):
            name, value = part.split("=")
            assert case.labels[name] == int(value) == int(row["abc".index(name)] > 0)
        for name, value in case.labels.items():
            assert value is None or value == int(row["abc".index(name)] > 0)


@pytest.mark.parametrize("moment", [3, 6, 9, 13, 15])  # in a chunk, at its note, in the next, at the end, at the last
def test_killed_at_any_moment_and_run_again_it_is_as_if_it_never_stopped(archive, monkeypatch, moment):
    whole = archive("whole")
    write_archive(whole)
    job, count, rename = archive("killed"), [0], os.replace

    def dies(*paths):
        count[0] += 1
        if count[0] == moment:
            Path(job.out / "images" / "000099.png.part").write_bytes(b"half")  # a kill leaves such files behind
            raise KeyboardInterrupt
        rename(*paths)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        write_archive(job)
    monkeypatch.setattr(os, "replace", rename)
    assert not (job.out / "labels.csv").exists()
    write_archive(job)
    assert contents(job.out) == contents(whole.out)


def test_run_again_when_it_is_whole_it_makes_nothing(archive):
    job = archive()
    told = write_archive(job)
    before = contents(job.out)
    assert write_archive(replace(job, making=None)) == told
    assert contents(job.out) == before


def test_a_disk_that_fills_up_is_one_line_and_nothing_is_lost(archive, monkeypatch):
    job, count, write = archive(), [0], Path.write_bytes

    def full(path, content):
        count[0] += 1
        if count[0] > 8:
            write(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ScanError, match=r"No space left on device\); make room there") as caught:
        write_archive(job)
    assert "\n" not in str(caught.value)
    assert not (job.out / "labels.csv").exists()
    assert not list(job.out.rglob("*.part"))
    monkeypatch.setattr(Path, "write_bytes", write)
    whole = archive("whole")
    assert write_archive(job) == write_archive(whole)
    assert contents(job.out) == contents(whole.out)


def test_what_no_latent_reaches_is_told_and_the_others_are_written(archive, bright):
    job = archive(labels=("a=1", "a=1,b=1,c=1"), n=12)
    deaf = bright(bias=-0.3)
    with torch.no_grad():
        deaf.module.readout.bias[2] = -40
    gate = replace(job.making.gate, judge=deaf)
    job = replace(job, making=replace(job.making, gate=gate))
    told = write_archive(job)
    assert told["written"] == 6
    assert len(told["failed"]) == 1
    assert told["failed"][0].startswith("a=1,b=1,c=1: 6 of 6 not reached in ")
    assert "by judge" in told["failed"][0]
    assert "c 0." in told["failed"][0]
    assert {case.facts["asked"] for case in read_manifest(job.out).cases} == {"a=1"}
    tries = next(one for one in told["requests"] if one["labels"] == "a=1,b=1,c=1")["tries"]
    assert tries == 2 * 3, "two slots of the first chunk are tried three times, then no more are"


def test_an_archive_of_nothing_is_an_error(archive):
    with pytest.raises(CounterscanError, match="not one scan was taken; a=1: 4 of 4 not reached in 12 tries"):
        write_archive(archive(labels=("a=1",), n=4, judge_bias=-40))


def test_a_model_of_one_class_an_image_gives_a_label_a_row(archive):
    job = archive(labels=("a=1", "b=1"), n=8, card={"output": "softmax"}, judge_bias=0.1)
    write_archive(job)
    manifest = read_manifest(job.out)
    assert manifest.exclusive
    for case in manifest.cases:
        assert case.labels[case.facts["asked"][0]] == 1


def test_a_folder_that_holds_something_else_is_refused(archive):
    write_archive(archive())
    with pytest.raises(CounterscanError, match=r"another archive \(seed was 3, now 4"):
        write_archive(archive(facts={"seed": 4}))
    other = archive("other")
    other.out.mkdir()
    (other.out / "notes.txt").write_text("mine")
    with pytest.raises(CounterscanError, match="holds other files"):
        write_archive(other)
    assert (other.out / "notes.txt").read_text() == "mine"


def test_a_folder_where_nothing_was_finished_is_free_for_other_words(archive, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_make", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_archive(archive())
    assert write_archive(archive(labels=("b=1",), n=4, facts={"seed": 4}))["written"] == 4


def test_the_summary_counts_tries_and_refusals(archive):
    told = write_archive(archive(judge_bias=-2.0))
    summary = json.loads((archive().out / "summary.json").read_text())
    assert summary == told
    for request in told["requests"]:
        assert request["tries"] == request["written"] + sum(request["refused"].values())
