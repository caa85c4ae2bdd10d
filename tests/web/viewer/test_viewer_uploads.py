import io
import sys
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient
from PIL import Image

from counterscan.web import viewer_uploads
from counterscan.web.viewer import make_app

ASKED = {"classifier": "chest/classifier", "method": "grad-cam", "target": "normal"}
OFFER = {"name": "chest/classifier", "spec": "chest/classifier", "classes": ["effusion"], "targets": ["normal"]}
OFFER |= {"methods": ["grad-cam"], "prior": "", "prior_for": "", "card": ""}
WORKER = """
import json, shutil, sys, time
from pathlib import Path
folder, what, run = Path(sys.argv[3]), sys.argv[1], sys.argv[2]
print("explain: 0 of 1 cases (3 of 12 slices of the next), 2 s", file=sys.stderr, flush=True)
assert json.loads((folder / "job.json").read_text())["file"] == "upload.png"
if what == "sleep":
    time.sleep(60)
if what == "fail":
    (folder / "error.txt").write_text("effusion is no class")
    sys.exit(1)
if what == "crash":
    sys.exit(9)
shutil.copytree(run, folder / "run")
"""


@pytest.fixture
def client(tmp_path, monkeypatch, write_run):
    """A viewer whose worker does as `does` says."""
    run = write_run(tmp_path / "answer", n=1)
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(viewer_uploads, "_offer", lambda given: OFFER)
    monkeypatch.setattr(viewer_uploads.tempfile, "tempdir", str(tmp_path))

    def does(what):
        monkeypatch.setattr(viewer_uploads, "WORKER", (sys.executable, str(tmp_path / "worker.py"), what, str(run)))

    with TestClient(make_app([], megabytes=1), base_url="http://127.0.0.1") as client:
        client.headers["x-csrf-token"] = client.get("/api/archive").json()["token"]
        client.does = does
        yield client


def png():
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "PNG")
    return file.getvalue()


def ended(client, job):
    for _ in range(200):
        answer = client.get(f"/api/jobs/{job}").json()
        if answer.get("state") != "running":
            return answer
        time.sleep(0.05)
    raise AssertionError("the job does not end")


def left(tmp_path):
    return [path for path in tmp_path.glob("counterscan-viewer-*/*/*") if path.name.startswith(("upload", "incoming"))]


def test_a_scan_becomes_a_case_that_only_who_knows_its_name_sees(client, tmp_path):
    client.does("answer")
    answer = client.post("/api/jobs", params=ASKED, content=png())
    assert answer.status_code == 201
    job = answer.json()["job"]
    now = ended(client, job)
    assert (now["state"], now["case"]) == ("done", "case0")
    assert client.get(f"/api/planes/{job}/case0").status_code == 200
    assert client.get("/api/cases").json()["total"] == 0
    assert not left(tmp_path), "the scan itself is deleted"
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    time.sleep(0.2)
    assert client.get(f"/api/planes/{job}/case0").status_code == 404


def test_progress_is_told_and_a_job_can_be_cancelled(client, tmp_path):
    client.does("sleep")
    job = client.post("/api/jobs", params=ASKED, content=png()).json()["job"]
    for _ in range(100):
        now = client.get(f"/api/jobs/{job}").json()
        if now["share"]:
            break
        time.sleep(0.05)
    assert now["share"] == 0.25
    assert now["note"] == "3 of 12 slices"
    again = client.post("/api/jobs", params=ASKED, content=png())
    assert again.status_code == 409, "one at a time"
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    for _ in range(100):
        if not list(tmp_path.glob("counterscan-viewer-*/*")):
            break
        time.sleep(0.05)
    assert not list(tmp_path.glob("counterscan-viewer-*/*"))
    client.does("answer")
    assert client.post("/api/jobs", params=ASKED, content=png()).status_code == 201


@pytest.mark.parametrize(("what", "said"), [("fail", "effusion is no class"), ("crash", "ended unexpectedly")])
def test_a_job_that_fails_says_why(client, what, said):
    client.does(what)
    now = ended(client, client.post("/api/jobs", params=ASKED, content=png()).json()["job"])
    assert now["state"] == "failed"
    assert said in now["error"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"<svg/>", 415),
        (b"PK\x03\x04" + bytes(99), 415),
        (b"NRRD0004\ndata file: x", 415),
        (bytes(2 << 20), 413),
    ],
)
def test_files_of_another_kind_or_size_are_refused(client, tmp_path, content, status):
    assert client.post("/api/jobs", params=ASKED, content=content).status_code == status
    assert client.post("/api/jobs", params=ASKED, content=iter([content])).status_code == status
    assert not left(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"classifier": "os:system"}, {"method": "../x"}, {"target": ""}, {"target": "x" * 201}]
)
def test_only_what_is_offered_can_be_asked_for(client, wrong):
    assert client.post("/api/jobs", params=ASKED | wrong, content=png()).status_code == 422


def test_other_sites_cannot_upload_or_cancel(client):
    client.does("sleep")
    for headers in ({"x-csrf-token": "guess"}, {"sec-fetch-site": "cross-site"}):
        assert client.post("/api/jobs", params=ASKED, content=png(), headers=headers).status_code == 403
    job = client.post("/api/jobs", params=ASKED, content=png()).json()["job"]
    assert client.delete(f"/api/jobs/{job}", headers={"x-csrf-token": ""}).status_code == 403


def test_results_go_after_a_time_and_with_the_viewer(tmp_path, client, monkeypatch):
    client.does("answer")
    job = client.post("/api/jobs", params=ASKED, content=png()).json()["job"]
    ended(client, job)
    client.__exit__(None, None, None)
    assert not list(tmp_path.glob("counterscan-viewer-*"))
    client.__enter__()


def test_without_uploads_there_is_no_such_address(tmp_path, write_run):
    client = TestClient(make_app([write_run(tmp_path / "run")], upload=False), base_url="http://127.0.0.1")
    assert client.get("/api/archive").json()["upload"] is None
    assert client.post("/api/jobs", params=ASKED, content=png()).status_code == 404
