"""The images of a folder that `explain` wrote: what is damaged is refused, and nothing outside the folder is read."""

import json

import pytest

from counterscan.errors import CounterscanError, ScanError
from counterscan.study.sources import explained as found
from counterscan.study.sources import synthetic_pool


@pytest.fixture
def folder(manifest, explained):
    return explained(manifest(n=2))


def told(folder):
    return folder / "cases" / "0000" / "explanation.json"


def test_a_counterfactual_lies_in_its_own_folder_whatever_its_record_says(folder):
    facts = json.loads(told(folder).read_text())
    facts["meta"]["files"]["counterfactual"] = "../../../../etc/passwd"
    told(folder).write_text(json.dumps(facts))
    changed = [source.changed for source, _ in found(folder)]
    assert changed[0] == told(folder).with_name("passwd").resolve()


def test_a_run_without_a_manifest_does_not_read_the_working_folder(folder, monkeypatch):
    (folder / "run.json").write_text("{}")
    monkeypatch.setattr("counterscan.study.sources.find_cases", lambda path: pytest.fail(f"{path} was read"))
    assert len(list(found(folder))) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"meta": {}}', '{"meta": {"case": 3}}'])
def test_a_damaged_record_is_named(folder, content):
    told(folder).write_text(content)
    with pytest.raises(ScanError, match=r"0000/explanation\.json is damaged"):
        synthetic_pool("ours", folder)


def test_a_damaged_run_is_named(folder):
    (folder / "run.json").write_text("{")
    with pytest.raises(CounterscanError, match=r"run\.json is damaged"):
        synthetic_pool("ours", folder)
