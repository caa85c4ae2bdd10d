import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from counterscan.web.viewer import make_app

LOCAL = "http://127.0.0.1"


@pytest.fixture
def runs(tmp_path, write_run):
    write_run(tmp_path / "dir" / "inpainting", frames=4)
    write_run(tmp_path / "dir" / "maps", attribution=True)
    write_run(tmp_path / "dir" / "volume", n=2, slices=3, archive="volumes")
    return tmp_path / "dir"


@pytest.fixture
def client(runs):
    return TestClient(make_app([runs]), base_url=LOCAL, raise_server_exceptions=False)


def parsed(content):
    length = int.from_bytes(content[:4], "little")
    head, start, planes = json.loads(content[4 : 4 + length]), 4 + length, {}
    for plane in head["planes"]:
        kind = np.uint8 if plane["kind"] == "u8" else np.dtype("<u2")
        planes[plane["name"]] = np.frombuffer(content, kind, int(np.prod(plane["shape"])), start).reshape(
            plane["shape"]
        )
        start += planes[plane["name"]].nbytes + planes[plane["name"]].nbytes % 2
    assert start == len(content)
    return head, planes


def test_the_gallery_pages_through_the_cases(client):
    assert client.get("/api/archive").json()["cases"] == 8
    answer = client.get("/api/cases", params={"run": "0", "sort": "iou", "down": True, "start": 1, "count": 2}).json()
    assert answer["total"] == 6
    assert [row["name"] for row in answer["rows"]] == ["case1", "case2"]
    found = client.get("/api/cases", params={"run": "0", "find": "case3", "beside": "1"}).json()
    assert found["place"] == 3
    assert "/archive" not in client.get("/api/cases").text, "paths stay here"


def test_a_case_has_its_pictures_as_numbers(client):
    head, planes = parsed(client.get("/api/planes/0/case0").content)
    assert head["state"] == "found"
    assert head["answers"][0] == {
        "name": "tumour", "index": 0, "before": 0.8808, "after": 0.0474, "asked": True, "wanted": 0.0
    }  # fmt: skip
    assert head["limit"] == 0.2
    assert planes["mask"][0, 8:16, 8:16].all()
    assert planes["mask"].sum() == planes["truth"].sum() == 64
    change = (planes["counterfactual"].astype(float) - planes["image"]) / 65535
    assert np.allclose(change[0, 8:16, 8:16], 0.2, atol=1e-4)


def test_of_an_attribution_there_is_a_map(client):
    head, planes = parsed(client.get("/api/planes/1/case0").content)
    assert set(planes) == {"image", "heat", "mask", "truth"}
    assert planes["heat"].max() == 65535
    assert head["heat_limit"] == pytest.approx(0.2)


def test_what_was_there_already_is_not_changed(client):
    head, planes = parsed(client.get("/api/planes/0/case5").content)
    assert head["state"] == "already there"
    assert (planes["image"] == planes["counterfactual"]).all()


def test_slices_of_a_volume_one_at_a_time(client):
    telling, _ = parsed(client.get("/api/planes/2/case0").content)
    assert (telling["slice"], telling["slices"]) == (1, 3)
    first, planes = parsed(client.get("/api/planes/2/case0", params={"slice": 0}).content)
    assert first["answers"][0]["before"] == pytest.approx(0.7311, abs=1e-4)
    assert len(first["profile"]) == len(first["masked"]) == 3
    assert planes["image"].shape == (1, 32, 32)
    assert client.get("/api/planes/2/case0", params={"slice": 3}).status_code == 404


def test_frames_of_the_path(client):
    _, planes = parsed(client.get("/api/frames/0/case0").content)
    assert len(planes) == 4
    assert client.get("/api/frames/1/case0").status_code == 404


def test_a_case_names_the_other_methods_and_its_own_files(client):
    facts = client.get("/api/case/0/case0").json()
    assert [one["label"] for one in facts["methods"]] == ["Inpainting", "LayerCAM"]
    assert facts["files"] == ["facts", "mask", "tensors"]
    assert facts["window"] == [-160, 240, "HU"]
    answer = client.get("/file/0/case0/mask")
    assert answer.content.startswith(b"\x89PNG")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert client.get("/file/0/case0/outside").status_code == 404


def test_thumbnails_are_small_pictures(client):
    for run in "012":
        answer = client.get(f"/thumb/{run}/case1")
        assert answer.headers["content-type"] == "image/webp"
        assert answer.content[8:12] == b"WEBP"
        assert len(answer.content) < 40_000


def test_every_answer_is_locked_down(client):
    for address in ("/", "/static/viewer.js", "/api/archive", "/nowhere", "/api/case/0/none"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    page = client.get("/").text
    assert "style=" not in page
    assert "<script>" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    "address",
    [
        "/static/..%2fviewer.py",
        "/static/%2e%2e/%2e%2e/errors.py",
        "/thumb/0/..%2f..%2frun.json",
        "/thumb/0/%2e%2e",
        "/api/case/0/..%2fcase1",
        "/api/case/9/case0",
        "/file/0/case0/..%2fmask.png",
        "/api/planes/0/case0?slice=-1",
        "/api/planes/0/case0?slice=99999999999999999999",
        "/api/cases?start=-1",
        "/api/cases?count=100000",
        "/api/cases?low=nan&column=iou",
        "/api/cases?sort=%00&run=%ff&text=%F0%9F%92%A9",
        "/api/jobs/../../etc",
    ],
)
def test_odd_requests_get_plain_answers(client, address):
    answer = client.get(address)
    assert answer.status_code in (200, 404, 422)
    assert b"root" not in answer.content
    assert b"Traceback" not in answer.content


def test_another_name_of_this_machine_is_refused_unless_it_was_opened(runs):
    assert TestClient(make_app([runs]), base_url="http://evil.example").get("/").status_code == 403
    opened = make_app([runs], host="0.0.0.0")
    assert TestClient(opened, base_url="http://scans.example").get("/").status_code == 200


def test_links_in_the_folder_are_not_followed(runs, client, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes((runs / "inpainting" / "cases" / "case0" / "mask.png").read_bytes())
    case = runs / "inpainting" / "cases" / "case0"
    (case / "mask.png").unlink()
    os.symlink(secret, case / "mask.png")
    assert client.get("/file/0/case0/mask").status_code == 404
    os.rename(case, tmp_path / "moved")
    os.symlink(tmp_path / "moved", case)
    for address in ("/thumb/0/case0", "/api/planes/0/case0", "/api/case/0/case0"):
        assert client.get(address).status_code == 404


def test_a_damaged_case_says_so_and_hurts_no_other(runs, client):
    case = runs / "inpainting" / "cases" / "case0"
    (case / "explanation.safetensors").write_bytes((case / "explanation.safetensors").read_bytes()[:100])
    for address in ("/thumb/0/case0", "/api/planes/0/case0"):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "damaged" in answer.json()["detail"]
    assert client.get("/thumb/0/case1").status_code == 200


@pytest.mark.parametrize("facts", ["[]", "{", '{"meta": 3}', '{"target": [[7, 0]], "meta": {"window": [NaN, 1, "x"]}}'])
def test_facts_of_any_kind_are_survived(runs, client, facts):
    (runs / "inpainting" / "cases" / "case0" / "explanation.json").write_text(facts)
    for address in ("/thumb/0/case0", "/api/planes/0/case0", "/api/case/0/case0"):
        assert client.get(address).status_code in (200, 404)


def test_the_description_of_the_interface_can_be_read_and_holds(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/cases", "/thumb/{run}/{name}", "/api/jobs"} <= set(paths)


def test_schemathesis_finds_no_error_of_the_server(runs):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app([runs], host="0.0.0.0"))
    for operation in schema.get_all_operations():

        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.ok().as_strategy())
        def holds(case):
            assert case.call().status_code < 500

        holds()


def test_the_command_says_where_and_warns_where_it_is_open(runs):
    program = "from counterscan.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", str(runs), "--port", "0", "--host", "0.0.0.0", "--no-upload"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout.readline().startswith("viewer: http://")
        assert "no passwords" in process.stdout.readline()
    finally:
        process.terminate()
        process.wait()


def test_the_gallery_needs_no_torch(runs):
    program = (
        "import sys\nfrom pathlib import Path\nfrom counterscan.web.viewer import Rooms\n"
        f"rooms = Rooms([Path({str(runs)!r})], (), 1, True)\nrooms.told(); rooms.thumbnail(rooms.row('0', 'case0'))\n"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"
