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
from counterscan.engine.local import Workers
from counterscan.engine.sharding import Shard
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


@pytest.fixture
def crowded(archive):
    """Builds an archive whose scans often repeat one another, so that chunks matter to later ones."""

    def build(name):
        job = archive(name, n=24)
        limits = replace(job.making.gate.limits, repeat=job.making.gate.limits.repeat * 5)
        return replace(job, making=replace(job.making, gate=replace(job.making.gate, limits=limits)))

    return build


@pytest.fixture
def deaf(bright):
    """Gives an archive a judge that never sees the third class."""
    judge = bright(bias=-0.3)
    with torch.no_grad():
        judge.module.readout.bias[2] = -40
    return lambda job: replace(job, making=replace(job.making, gate=replace(job.making.gate, judge=judge)))


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


@pytest.mark.parametrize("file", [".chunks/00000000.npz", "images/000001.png", "images/000005.png"])
def test_a_file_that_is_damaged_half_way_is_made_again(archive, monkeypatch, file):
    whole, job = archive("whole"), archive("half")
    write_archive(whole)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_archive(job)
    monkeypatch.undo()
    monkeypatch.setattr(writing, "CHUNK", 4)
    monkeypatch.setattr(writing, "HOPELESS", 2)
    content = (job.out / file).read_bytes()
    (job.out / file).write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="is not as it was written; its scans are made again"):
        write_archive(job)
    assert contents(job.out) == contents(whole.out)


@pytest.mark.parametrize("file", ["labels.csv", "latents.npy", "summary.json", "dataset.toml", "images/000001.png"])
def test_a_whole_archive_with_a_damaged_file_is_not_taken_for_whole(archive, file):
    job = archive()
    write_archive(job)
    (job.out / file).write_bytes((job.out / file).read_bytes()[:-1])
    with pytest.raises(CounterscanError, match=f"{file} is not as it was written; restore it from a copy"):
        write_archive(job)


def test_a_kill_at_the_very_end_leaves_nothing_once_it_is_run_again(archive):
    job = archive()
    write_archive(job)
    whole = contents(job.out)
    (job.out / ".chunks").mkdir()
    (job.out / ".chunks" / "00000000.npz").write_bytes(b"left")
    write_archive(job)
    assert contents(job.out) == whole


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


def test_what_no_latent_reaches_is_told_and_the_others_are_written(archive, deaf):
    job = deaf(archive(labels=("a=1", "a=1,b=1,c=1"), n=12))
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
        patch.setattr(writing.Chunks, "__call__", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_archive(archive())
    assert write_archive(archive(labels=("b=1",), n=4, facts={"seed": 4}))["written"] == 4


def test_the_summary_counts_tries_and_refusals(archive):
    told = write_archive(archive(judge_bias=-2.0))
    summary = json.loads((archive().out / "summary.json").read_text())
    assert summary == told
    for request in told["requests"]:
        assert request["tries"] == request["written"] + sum(request["refused"].values())


@pytest.mark.parametrize("ahead", [2, 6])
def test_chunks_made_at_once_and_out_of_order_are_those_made_in_turn(crowded, elsewhere, monkeypatch, ahead):
    turn, made = crowded("turn"), []
    told = write_archive(turn)
    assert sum(one["refused"].get("duplicate", 0) for one in told["requests"]) > 2
    make = writing.Chunks.__call__
    monkeypatch.setattr(writing.Chunks, "__call__", lambda self, order: made.append(order) or make(self, order))
    engine = elsewhere(ahead)
    assert write_archive(crowded("once"), engine) == told
    assert contents(turn.out.with_name("once")) == contents(turn.out)
    assert len(made) > len(engine.tasks) == 6, "some chunk had to be made anew"


def test_what_is_given_up_is_given_up_at_the_same_scan(archive, deaf, elsewhere):
    words = {"labels": ("a=1", "a=1,b=1,c=1"), "n": 24}
    turn, once = (deaf(archive(name, **words)) for name in ("turn", "once"))
    told = write_archive(turn)
    assert [one["written"] for one in told["requests"]] == [12, 0]
    assert write_archive(once, elsewhere(3)) == told
    assert contents(once.out) == contents(turn.out)


def test_parts_on_machines_that_share_a_folder_end_as_the_whole(crowded):
    whole = crowded("whole")
    told = write_archive(whole)
    parts = [Shard(2, 3), Shard(3, 3), Shard(1, 3)]
    first, second, last = (write_archive(crowded("parts"), shard=part) for part in parts)
    assert first == {"shard": "2/3", "missing": ["1/3", "3/3"]}
    assert second["missing"] == ["1/3"]
    assert last == told
    assert contents(whole.out.with_name("parts")) == contents(whole.out)


def test_a_part_that_was_killed_goes_on_and_spares_the_others(crowded, monkeypatch):
    whole = crowded("whole")
    write_archive(whole)
    write_archive(crowded("parts"), shard=Shard(1, 2))
    save = writing.Chunk.save

    def dies(chunk, path):
        if len(list(path.parent.glob("made-*"))) == 4:
            raise KeyboardInterrupt
        save(chunk, path)

    with monkeypatch.context() as patch:
        patch.setattr(writing.Chunk, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            write_archive(crowded("parts"), shard=Shard(2, 2))
    write_archive(crowded("parts"))
    assert contents(whole.out.with_name("parts")) == contents(whole.out)


def test_two_workers_write_what_one_process_writes(crowded, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # where a worker finds the networks of these tests
    one = crowded("one")
    told = write_archive(one)
    assert write_archive(crowded("two"), Workers(2)) == told
    assert contents(one.out.with_name("two")) == contents(one.out)
