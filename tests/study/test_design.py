"""Design: from manifests and explanations to a balanced, blinded study folder; too little is refused with the cure."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from counterscan.errors import CounterscanError
from counterscan.study.description import described, read_description
from counterscan.study.design import make
from counterscan.study.draft import draft
from counterscan.study.links import hashed, read_links, renew
from counterscan.study.records import Study


def asked(real, synthetic, /, *parts, **more):
    given = {"real": [str(real)], "synthetic": {name: str(path) for name, path in synthetic.items()}}
    return described({"readers": ["ann", "bob"], "seed": 1, "parts": list(parts), **given, **more})


@pytest.fixture
def two(manifest, explained):
    """A real manifest, and two methods that explained the same images of others."""
    source = manifest("source", 40, first=100)
    return manifest(n=90), {"ours": explained(source), "theirs": explained(source, "theirs", bright=10)}


def levels(path):
    with Image.open(path) as image:
        return np.asarray(image, float)


def patients(study, trials):
    return [study.picture[one].facts["patient"] for trial in trials for one in trial.pictures]


def test_every_task_is_balanced_and_shows_each_patient_once(two, tmp_path):
    few = {"training": 1, "checks": 1}
    study = make(
        draft(
            asked(
                *two,
                {"task": "real-or-synthetic", "cases": 12, **few},
                {"task": "forced-choice", "cases": 4, **few},
                {"task": "odd-one-out", "cases": 4, **few},
                {"task": "realism", "cases": 6, **few},
                {"task": "side-by-side", "cases": 4, **few},
            )
        ),
        tmp_path / "study",
    )
    tests = [[trial for trial in study.trials if trial.part == n and trial.role == "test"] for n in range(1, 6)]
    assert Counter((trial.answer, trial.arm) for trial in tests[0]) == {
        ("real", ""): 6,
        ("synthetic", "ours"): 3,
        ("synthetic", "theirs"): 3,
    }
    assert Counter(trial.arm for trial in tests[1]) == {"ours": 2, "theirs": 2}
    assert all(study.picture[trial.answer].kind == "synthetic" for trial in tests[1])
    kinds = Counter(
        (study.picture[trial.answer].kind, *sorted(study.picture[one].kind for one in trial.pictures))
        for trial in tests[2]
    )
    assert kinds == {("synthetic", "real", "real", "synthetic"): 2, ("real", "real", "synthetic", "synthetic"): 2}
    assert Counter(trial.arm for trial in tests[3]) == {"": 2, "ours": 2, "theirs": 2}
    assert all(len(set(patients(study, [trial]))) == 1 for trial in tests[4])
    once = [trial for trial in study.trials if trial.role != "repeat" and trial.task != "side-by-side"]
    assert max(Counter(patients(study, once)).values()) == 1
    assert not set(patients(study, once)) & set(patients(study, tests[4]))
    assert Counter(trial.role for trial in study.trials if trial.part == 1) == {
        "test": 12,
        "repeat": 1,
        "training": 1,
        "check": 1,
    }


def test_a_picture_tells_nothing_but_its_pixels(two, tmp_path):
    folder = tmp_path / "study"
    study = make(draft(asked(*two, {"task": "real-or-synthetic", "cases": 24})), folder)
    files = sorted((folder / "pictures").iterdir())
    assert {path.stem for path in files} == set(study.picture)
    assert len({path.stat().st_size for path in files}) == 1
    assert len({path.stat().st_mtime for path in files}) == 1
    kinds = [picture.kind for picture in sorted(study.pictures, key=lambda one: one.id)]
    assert sum(a != b for a, b in itertools.pairwise(kinds)) > 5
    listed = [picture.kind for picture in study.pictures]
    assert sum(a != b for a, b in itertools.pairwise(listed)) > 5


def test_a_real_image_and_its_unchanged_counterfactual_give_the_same_pixels(manifest, explained, tmp_path):
    """Whatever window the file is shown in, it is that of the scan: else brightness would tell."""
    source = manifest("source", 12)
    (source / "dataset.toml").write_text('window = [0.0, 0.5, "intensity"]\nslope = 0.00390625\n')
    folder = explained(source, bright=0)
    for path in folder.glob("cases/*/explanation.json"):
        told = json.loads(path.read_text())
        told["meta"]["window"] = [0.0, 0.5, "intensity"]
        path.write_text(json.dumps(told))
    words = {"cases": 4, "training": 0, "checks": 0, "repeats": 0}
    study = make(draft(asked(source, {"ours": folder}, {"task": "realism", **words})), tmp_path / "study")
    for picture in study.pictures:
        with (
            Image.open(tmp_path / "study" / picture.file) as shown,
            Image.open(source / f"images/{picture.case}.png") as s,
        ):
            wanted = np.clip(np.asarray(s, float) * 255 / 128, 0, 255)
            assert np.abs(np.asarray(shown) - wanted).max() <= 1


def test_the_same_seed_makes_the_same_study_with_other_links(two, tmp_path):
    wish = asked(*two, {"task": "forced-choice", "cases": 6})
    first, second = (make(draft(wish), tmp_path / name) for name in ("a", "b"))
    same = {"created": "", "readers": ()}
    assert first.model_copy(update=same) == second.model_copy(update=same)
    assert first.readers != second.readers
    other = make(draft(wish.model_copy(update={"seed": 2})), tmp_path / "c")
    assert {one.id for one in other.pictures}.isdisjoint(first.picture)


def test_unchanged_and_failed_counterfactuals_are_left_out(manifest, explained):
    folder = explained(manifest("source", 20, first=100), already=range(100, 105), missed=range(105, 108))
    made = draft(asked(manifest(), {"ours": folder}, {"task": "real-or-synthetic", "cases": 16, "training": 0}))
    assert made.left_out == {"ours": {"already at the target": 5, "target not reached": 3}}
    shown = {source.name for one in made.trials for source in one.sources if source.kind == "synthetic"}
    assert not shown & {f"{n:04}" for n in range(100, 108)}


@pytest.mark.parametrize("maps_only", [False, True])
def test_a_lesion_is_judged_with_and_without_the_explanation_on_the_same_cases(
    manifest, explained, tmp_path, maps_only
):
    folder = explained(manifest("source", 24), maps_only=maps_only)
    part = {"task": "lesion", "lesion": "effusion", "cases": 8, "training": 2}
    study = make(
        draft(described({"readers": ["a"], "seed": 1, "synthetic": {"ours": folder}, "parts": [part]})), tmp_path / "s"
    )
    assert [part.pair for part in study.parts] == ["pair 1", "pair 1"]
    assert [part.washout_days for part in study.parts] == [28, 28]
    without, beside = ([trial for trial in study.trials if trial.part == number] for number in (1, 2))
    assert {(one.case, one.role, one.answer) for one in without} == {(o.case, o.role, o.answer) for o in beside}
    assert {one.pictures[0] for one in without} == {one.pictures[0] for one in beside}
    assert Counter(one.answer for one in without if one.role == "test") == {"present": 4, "absent": 4}
    captions = {tuple(study.picture[p].facts["shown"] for p in one.pictures) for one in beside if one.role == "test"}
    assert captions == ({("image", "heat")} if maps_only else {("image", "counterfactual", "difference")})
    truth = {"present": "1", "absent": "0"}
    tests = [one for one in without if one.role == "test"]
    assert all(study.picture[one.pictures[0]].facts["effusion"] == truth[one.answer] for one in tests)


def test_real_pictures_are_matched_to_the_synthetic_ones(manifest, explained):
    folder = explained(manifest("source", 30, first=100))
    part = {"task": "forced-choice", "cases": 12, "training": 2}
    made = draft(asked(manifest(), {"ours": folder}, part, match=["view"]))
    for one in made.trials:
        if one.plan.role != "check":
            assert len({source.facts["view"] for source in one.sources}) == 1


def test_parts_share_pictures_where_they_may_but_never_those_of_training(manifest, explained):
    folder = explained(manifest("source", 16, first=100))
    parts = [{"task": "real-or-synthetic", "cases": 20, "training": 2}, {"task": "realism", "cases": 20, "training": 2}]
    with pytest.raises(CounterscanError, match="too few patients"):
        draft(asked(manifest(n=30), {"ours": folder}, *parts))
    made = draft(asked(manifest("again", n=30), {"ours": folder}, *parts, reuse=True))
    roles = {
        role: {s.key for t in made.trials if (t.plan.role == "test") == role for s in t.sources} for role in (0, 1)
    }
    assert not roles[0] & roles[1]


@pytest.mark.parametrize(
    ("part", "more", "message"),
    [
        ({"task": "forced-choice", "cases": 200}, {}, "too few patients: .*fewer --cases"),
        ({"task": "real-or-synthetic", "cases": 7}, {}, "ask for 4 or 8 cases"),
        ({"task": "forced-choice"}, {"readers": ["ann", "ann"]}, "'ann' is named twice"),
        ({"task": "forced-choice"}, {"synthetic": {}}, "give --synthetic NAME=DIR"),
        ({"task": "forced-choice"}, {"real": []}, "give --real MANIFEST"),
        ({"task": "forced-chioce"}, {}, "did you mean 'forced-choice'"),
        ({"task": "forced-choice", "case": 3}, {}, "unknown key 'case'; did you mean 'cases'"),
        ({"task": "realism", "anchors": ["bad", "good"]}, {}, "give 5"),
        ({"task": "lesion"}, {}, "explanations of one method"),
        ({"task": "lesion", "methods": ["ours"], "lesion": "efusion"}, {}, "'efusion' is not among them"),
        ({"task": "forced-choice", "cases": 4}, {"match": ["sex"]}, "no column 'sex'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(two, part, more, message):
    with pytest.raises(CounterscanError, match=message):
        draft(asked(*two, part, **more))


def test_a_folder_with_a_study_or_other_files_is_never_touched(two, tmp_path):
    made = draft(asked(*two, {"task": "forced-choice", "cases": 4}))
    study = make(made, tmp_path / "study")
    (tmp_path / "study" / "answers.db").write_bytes(b"answers")
    with pytest.raises(CounterscanError, match="holds a study already"):
        make(made, tmp_path / "study")
    assert Study.load(tmp_path / "study") == study
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "answers.db").write_bytes(b"answers")
    with pytest.raises(CounterscanError, match="holds other files"):
        make(made, tmp_path / "other")
    (tmp_path / "study" / "answers.db").unlink()
    (tmp_path / "study" / "study.json").unlink()  # as a run that was killed leaves it
    assert len(make(made, tmp_path / "study").pictures) == len(list((tmp_path / "study/pictures").iterdir()))


def test_links_are_for_their_owner_only_and_can_be_renewed(two, tmp_path):
    folder = tmp_path / "study"
    study = make(draft(asked(*two, {"task": "forced-choice", "cases": 4})), folder)
    assert (folder / "links.csv").stat().st_mode & 0o777 == 0o600
    before = read_links(folder)
    assert {one.name: one.token_hash for one in study.readers} == {name: hashed(t) for name, t in before.items()}
    assert not any(token in (folder / "study.json").read_text() for token in before.values())
    renewed, after = renew(folder, study, ["bob"]), read_links(folder)
    assert after["ann"] == before["ann"]
    assert after["bob"] != before["bob"]
    assert Study.load(folder) == renewed
    assert {one.name: one.token_hash for one in renewed.readers}["bob"] == hashed(after["bob"])
    with pytest.raises(CounterscanError, match="did you mean 'bob'"):
        renew(folder, study, ["bbo"])


def test_a_file_describes_a_study_with_paths_beside_it(two, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        'title = "T"\nreaders = ["ann"]\nreal = "real"\n[synthetic]\nours = "ours"\n'
        '[[parts]]\ntask = "realism"\ncases = 4\n[[parts]]\ntask = "forced-choice"\n'
    )
    told = read_description(path, drawn=7)
    assert (told.seed, told.real, told.synthetic) == (7, (tmp_path / "real",), {"ours": tmp_path / "ours"})
    assert read_description(path, seed=3, title="U").title == "U"
    path.write_text("title = [")
    with pytest.raises(CounterscanError, match=r"docs/study\.md"):
        read_description(path)
