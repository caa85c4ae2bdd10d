import csv
import json
import re

import pytest
import torch

from counterscan import report
from counterscan.core import Explanation, Target
from counterscan.errors import CounterscanError
from counterscan.report import write_page


def run(folder, n=4, attribution=False, slices=1, manifest="m", labels=None):
    """A folder as `explain` writes it; the last case was already there, the one before was not found."""
    torch.manual_seed(0)
    target, rows = Target(((0, 0.0),)), []
    for index in range(n):
        images = torch.rand(slices, 1, 32, 32) - 0.5
        changed = images.clone()
        changed[:, :, 8:16, 8:16] += 0.4
        before = torch.full((slices, 2), -2.0 if index == n - 1 else 2.0)
        after = torch.full((slices, 2), 1.0 if index == n - 2 else -3.0)
        already = bool(target.reached(before)[0])
        meta = {
            "classes": ["tumour", "cyst"],
            "mask_rule": {"threshold": 0.1},
            "case": {"name": f"case{index}", "patient": f"p{index}", "labels": labels or {"tumour": 1, "cyst": 0}},
        }
        explanation = Explanation(
            images=images,
            target=target,
            heatmap=(changed - images).abs() / 2,
            before=before,
            found=target.reached(after),
            counterfactual=None if attribution else changed,
            after=None if attribution else after,
            meta=meta,
        )
        explanation.save(folder / "cases" / f"case{index}")
        found = "" if attribution else bool(explanation.found[0]) or already
        rows.append({"name": f"case{index}", "already": already, "found": found, "seconds": 0.25})
    explainer = "LayerCAM(layer=3)" if attribution else "Inpainting(editor=x)"
    facts = {"explainer": explainer, "classifier": "abdomen/classifier", "target": "tumour=0", "manifest": manifest}
    (folder / "run.json").write_text(json.dumps(facts))
    with (folder / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_one_page_that_needs_nothing_beside_it(tmp_path):
    page = write_page(run(tmp_path / "a"))
    text = page.read_text()
    assert page == tmp_path / "a" / "index.html"
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert not page.with_name("index.html.part").exists()


def test_every_case_has_its_pictures_and_its_answers(tmp_path):
    text = write_page(run(tmp_path / "a")).read_text()
    cards = text.split("<article")[1:]
    assert len(cards) == 4
    assert [re.search(r'data-state="([a-z ]+)"', card)[1] for card in cards] == [
        "found",
        "found",
        "not found",
        "already there",
    ]
    for part in ('alt="image"', 'alt="counterfactual"', 'alt="signed difference"', "0.88 → <b>0.05</b>", "+20%"):
        assert part in cards[0]
    assert 'alt="mask outline"' in cards[0]
    assert 'alt="mask outline"' not in cards[3]  # already there: no mask, and the picture and answer that it had
    sources = [re.search(rf'alt="{alt}"[^>]*src="([^"]+)"', cards[3]) for alt in ("image", "counterfactual")]
    assert sources[0][1] == sources[1][1]
    assert "0.12 → <b>0.12</b>" in cards[3]


def test_the_headline_divides_by_all_attempted(tmp_path):
    text = write_page(run(tmp_path / "a")).read_text()
    assert "2 of 3 reached the target" in text
    assert "67%" in text


def test_scores_come_with_their_intervals(tmp_path):
    folder = run(tmp_path / "a")
    figure = {"value": 0.61234, "low": 0.5, "high": 0.7, "n": 3}
    (folder / "score.json").write_text(json.dumps({"metrics": {"iou": figure}}))
    (folder / "scores.csv").write_text("name,slice,patient,iou\ncase0,0,p0,0.75\n")
    text = write_page(folder).read_text()
    assert "0.50 to 0.70, n=3" in text
    assert 'data-iou="0.75"' in text
    assert '<option value="iou">' in text


def test_methods_of_one_section_stand_side_by_side(tmp_path):
    folders = [run(tmp_path / "a"), run(tmp_path / "b", attribution=True), run(tmp_path / "c", manifest="other")]
    text = write_page(folders, tmp_path / "all.html", title="demo").read_text()
    assert text.count("<main") == 2
    first = text.split("<main")[1].split("<article")[1]
    assert "Inpainting" in first
    assert "LayerCAM" in first
    assert 'alt="evidence"' in first
    assert first.count('alt="image"') == 1
    assert "<title>demo</title>" in text


def test_a_page_stays_small_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SHOWN", 2)
    text = write_page(run(tmp_path / "a")).read_text()
    assert text.count("<article") == 2
    assert "first 2 of 4 cases" in text


def test_of_a_volume_the_telling_slice_is_shown(tmp_path):
    text = write_page(run(tmp_path / "a", n=2, slices=3)).read_text()
    assert "slice 1 of 3" in text
    assert text.count("<article") == 2


def test_what_users_wrote_is_text_and_not_markup(tmp_path):
    text = write_page(run(tmp_path / "a", labels={"<script>alert(1)</script>": 1})).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_a_folder_without_explanations_is_refused(tmp_path):
    with pytest.raises(CounterscanError, match="counterscan explain"):
        write_page(tmp_path)


def test_the_mask_shown_is_the_one_that_was_scored(tmp_path):
    folder = run(tmp_path / "a", n=2)
    (folder / "score.json").write_text(json.dumps({"metrics": {}, "mask_rule": {"threshold": 0.9}}))
    assert 'alt="mask outline"' not in write_page(folder).read_text()


def test_a_mask_says_how_sure_it_is_where_that_is_known(tmp_path):
    folder = run(tmp_path / "a")
    assert "confidence" not in write_page(folder).read_text()
    rule = {"threshold": 0.1, "confidence_intercept": 2.0, "confidence_slope": 0.0}
    (folder / "score.json").write_text(json.dumps({"metrics": {}, "mask_rule": rule}))
    text = write_page(folder).read_text()
    masks = len(list((folder / "cases").iterdir())) - 1  # the last was already there, and has none
    assert text.count(">confidence 0.88<") == masks


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("cases.csv", b"name,seconds\na,\xff\n"),
        ("cases.csv", b"name,seconds\na,soon\n"),
        ("run.json", b'{"explainer": '),
        ("score.json", b"[1]"),
        ("scores.csv", b"name\ncase0\n"),
        ("cases/case0/explanation.json", b'{"target": [[0, 0.0]], "meta": {"case": {"labels": 3}}}'),
    ],
)
def test_what_is_damaged_is_named_and_no_half_page_is_left(tmp_path, file, content):
    folder = run(tmp_path / "a")
    (folder / file).write_bytes(content)
    with pytest.raises(CounterscanError, match="is damaged"):
        write_page(folder)
    assert not list(folder.glob("index.html*"))
