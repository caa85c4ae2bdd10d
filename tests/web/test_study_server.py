"""The study's server by its requests: turns, nonces, practice, limits of time, washouts; and what it refuses."""

import json
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytest.importorskip("itsdangerous")

from fastapi.testclient import TestClient

from counterscan.errors import CounterscanError, ScanError
from counterscan.study.store import Store
from counterscan.web import study_server
from counterscan.web.study_server import LARGEST, make_app, serve

NONCE = iter(f"{number:032x}" for number in range(10**6))


class Browser:
    """A reader's browser, by its requests."""

    def __init__(self, app, reader="ada"):
        self.client = TestClient(app)
        assert self.client.get(f"/enter/token-of-{reader}").status_code == 200

    def state(self):
        return self.client.get("/api/state").json()

    def send(self, key=None, trial=None, **given):
        state = self.state()
        trial = trial or state["trials"][0]["id"]
        given = {"trial": trial, "nonce": next(NONCE), "rt_ms": 5000, "choice": "real", "confidence": 3} | given
        return self.client.post("/api/answers", json=given, headers={"x-study-key": key or state["csrf"]})


@pytest.fixture
def app(yes_no):
    return make_app(yes_no)


def test_a_reader_goes_through_the_study_once(app, yes_no):
    browser = Browser(app)
    for left in range(6, 0, -1):
        assert browser.state()["total"] - browser.state()["done"] == left
        assert browser.send().json()["stored"]
    assert browser.state()["phase"] == "done"
    kept = Store.of(yes_no).answers()
    assert len({answer.trial for answer in kept}) == 6
    assert {(answer.reader, answer.choice, answer.rt_ms) for answer in kept} == {("ada", "real", 5000)}


def test_an_answer_sent_again_is_one_answer_and_another_is_refused(app, yes_no):
    browser = Browser(app)
    trial = browser.state()["trials"][0]["id"]
    for _ in range(3):
        assert browser.send(trial=trial, nonce="a" * 32).json()["stored"]
    assert browser.send(trial=trial, choice="synthetic").status_code == 409
    assert [answer.choice for answer in Store.of(yes_no).answers()] == ["real"]


def test_another_device_goes_on_where_the_first_stopped(app):
    first, second = Browser(app), Browser(app)
    first.send()
    assert second.state()["trials"] == first.state()["trials"]
    assert second.state()["done"] == 1


def test_a_server_that_starts_again_knows_all_and_keeps_its_names(yes_no):
    before = Browser(make_app(yes_no))
    before.send()
    state = before.state()
    again = TestClient(make_app(yes_no), cookies=before.client.cookies)
    fresh = again.get("/api/state").json()
    assert {**fresh, "server_time": ""} == {**state, "server_time": ""}


def test_only_the_next_trial_can_be_answered(app):
    browser = Browser(app)
    later = browser.state()["trials"][1]["id"]
    assert browser.send(trial=later).status_code == 409
    assert browser.send(trial="0" * 32).status_code == 404


def test_pictures_of_trials_to_come_and_gone_are_not_served(app):
    browser = Browser(app)
    names = [name for trial in browser.state()["trials"] for name in trial["pictures"]]
    assert [browser.client.get(f"/api/pictures/{name}").status_code for name in names] == [200] * 3
    browser.send()
    assert browser.client.get(f"/api/pictures/{names[0]}").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "maybe"},
        {"choice": None},
        {"confidence": None},
        {"confidence": 6},
        {"confidence": 0},
        {"rt_ms": -1},
        {"nonce": "short"},
        {"text": "x" * 2001},
        {"text": "nul \x00"},
        {"tools": {"zoom": -1}},
        {"more": 1},
        {"reasons": ["x"] * 13},
    ],
)
def test_an_answer_that_is_none_is_refused(app, yes_no, wrong):
    assert Browser(app).send(**wrong).status_code == 422
    assert Store.of(yes_no).answers() == []


def test_a_body_that_is_no_text_is_refused_without_an_echo(app):
    browser = Browser(app)
    headers = {"x-study-key": browser.state()["csrf"], "content-type": "application/json"}
    for body in (b'{"text": "\\ud800"}', b"[" * 20_000, b"\xff\xfe", b"NaN", b""):
        answer = browser.client.post("/api/answers", content=body, headers=headers)
        assert 400 <= answer.status_code < 500
        assert b"ud800" not in answer.content


def test_a_large_body_is_refused_also_where_it_hides_its_size(app):
    browser = Browser(app)
    headers = {"x-study-key": browser.state()["csrf"], "content-type": "application/json"}
    parts = (b" " * 1024 for _ in range(LARGEST // 1024 + 1))
    assert browser.client.post("/api/answers", content=parts, headers=headers).status_code == 413


def test_the_shortest_time_is_kept(maker):
    maker.part("real-or-synthetic", shortest=2.0)
    maker.yes_no(2)
    browser = Browser(make_app(maker.save()))
    assert browser.send(rt_ms=1999).status_code == 422
    assert browser.send(rt_ms=2000).status_code == 200


def test_after_the_longest_time_the_picture_is_gone_and_the_answer_still_counts(maker, monkeypatch):
    maker.part("real-or-synthetic", longest=1.0)
    maker.yes_no(2)
    browser = Browser(make_app(maker.save()))
    (trial,) = browser.state()["trials"]  # nothing is sent ahead of its time
    assert browser.client.get(f"/api/pictures/{trial['pictures'][0]}").status_code == 200
    monkeypatch.setattr("counterscan.web.study_desk.GRACE", -1.0)
    assert browser.client.get(f"/api/pictures/{trial['pictures'][0]}").status_code == 410
    assert browser.state()["left"] <= 1
    assert browser.send().status_code == 200


def test_practice_tells_what_was_right_and_notes_that_it_did(maker):
    maker.part("real-or-synthetic", feedback=True)
    maker.yes_no(2, "training")
    maker.yes_no(2)
    folder = maker.save()
    browser = Browser(make_app(folder))
    answers = [browser.send(choice="synthetic").json()["feedback"] for _ in range(4)]
    assert answers[2:] == [None, None]
    assert sorted(one["truth"] for one in answers[:2]) == ["real", "synthetic"]
    assert [one["right"] for one in answers[:2]] == [one["truth"] == "synthetic" for one in answers[:2]]
    assert len(Store.of(folder).notes("ada", "feedback")) == 2


def test_a_choice_by_place_becomes_the_picture_that_was_there(maker):
    maker.part("forced-choice")
    for _ in range(3):
        real, synthetic = maker.picture("real"), maker.picture("synthetic")
        maker.trial([real, synthetic], synthetic)
    folder = maker.save()
    app = make_app(folder)
    browser, steps = Browser(app), app.state.desk.book("ada").steps
    for step in steps:
        assert browser.send(choice="2", confidence=None).status_code == 422
        assert browser.send(choice="1", confidence=None).status_code == 200
        assert Store.of(folder).answers()[-1].choice == step.pictures[1]


def test_a_washout_holds_the_next_part_back(maker):
    maker.part("real-or-synthetic", pair="p", washout_days=28)
    maker.yes_no(1)
    maker.part("realism", pair="p", washout_days=28)
    maker.trial([maker.picture("real")])
    browser = Browser(make_app(maker.save()))
    task = browser.state()["part"]["task"]
    browser.send(**({"choice": None, "confidence": None, "rating": 4} if task == "realism" else {}))
    state = browser.state()
    assert state["phase"] == "wait"
    assert "trials" not in state
    wait = datetime.fromisoformat(state["until"]) - datetime.now(UTC)
    assert timedelta(days=27.9) < wait < timedelta(days=28)


def test_a_database_that_does_not_answer_acknowledges_nothing(app, monkeypatch):
    from sqlalchemy.exc import OperationalError

    browser = Browser(app)

    def fails(answer):
        raise OperationalError("disk full", {}, Exception())

    monkeypatch.setattr(app.state.desk.store, "add", fails)
    answer = TestClient(app, cookies=browser.client.cookies, raise_server_exceptions=False)
    state = browser.state()
    given = {"trial": state["trials"][0]["id"], "nonce": "a" * 32, "rt_ms": 1, "choice": "real", "confidence": 3}
    reply = answer.post("/api/answers", json=given, headers={"x-study-key": state["csrf"]})
    assert reply.status_code == 503
    assert "stored" not in reply.json()


def test_pictures_of_two_sizes_are_refused_at_the_start(maker):
    maker.part("real-or-synthetic")
    maker.yes_no(1)
    maker.side = 30
    maker.yes_no(1)
    with pytest.raises(ScanError, match="2 sizes would tell them apart"):
        make_app(maker.save())


# ---- who may do what ----


@pytest.mark.parametrize("path", ["/api/state", "/api/pictures/" + "0" * 32])
def test_nothing_is_said_without_a_session(app, path):
    assert TestClient(app).get(path).status_code == 401
    forged = TestClient(app, cookies={"counterscan_reader": "WyJhZGEiLCJ4Il0.awEtpg.m1rLHUvHRtsZQzOKWCTwuXsXlKY"})
    assert forged.get(path).status_code == 401


def test_a_change_needs_the_key_of_its_own_session(app):
    ada, ben, again = Browser(app), Browser(app, "ben"), Browser(app)
    assert ada.send(key="x").status_code == 403
    assert ada.send(key=ben.state()["csrf"]).status_code == 403
    assert ada.send(key=again.state()["csrf"]).status_code == 403
    assert ada.client.post("/api/remarks", json={"kind": "about", "facts": {}}).status_code == 403


def test_a_reader_cannot_ask_for_what_is_anothers(app):
    ada, ben = Browser(app), Browser(app, "ben")
    trial = ada.state()["trials"][0]
    assert ben.client.get(f"/api/pictures/{trial['pictures'][0]}").status_code == 404
    assert ben.send(trial=trial["id"]).status_code == 404
    shared = {name for one in ben.state()["trials"] for name in (one["id"], *one["pictures"])}
    assert not shared & {name for one in ada.state()["trials"] for name in (one["id"], *one["pictures"])}


def test_the_owners_pages_are_for_the_owner(app):
    ada, keys = Browser(app), app.state.desk.keys
    ada.send()
    for path in ("/owner", "/owner/answers.jsonl", "/owner/enter/wrong"):
        assert ada.client.get(path).status_code == 404
    as_owner = TestClient(app, cookies={"counterscan_owner": ada.client.cookies["counterscan_reader"]})
    assert as_owner.get("/owner").status_code == 404  # a reader's cookie under the owner's name
    owner = TestClient(app)
    assert owner.get(f"/owner/enter/{keys.owner_token()}").status_code == 200
    assert "1 of 6" in owner.get("/owner").text
    assert json.loads(owner.get("/owner/answers.jsonl").text)["reader"] == "ada"
    assert owner.get("/api/state").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/static/../study_server.py",
        "/static/..%2f..%2fstudy.json",
        "/static/%2e%2e/study.json",
        "/api/pictures/..%2f..%2fstudy.json",
        "/pictures/x.png",
        "/study.json",
        "/secret.key",
        "/answers.db",
        "/docs",
    ],
)
def test_no_path_leads_to_a_file(app, path):
    answer = Browser(app).client.get(path)
    assert answer.status_code in (401, 404)
    assert b"sha256" not in answer.content


def test_a_session_is_for_the_server_alone_and_for_this_site_alone(app):
    cookie = TestClient(app).get("/enter/token-of-ada").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    secure = TestClient(app, base_url="https://study").get("/enter/token-of-ada").headers["set-cookie"]
    assert "Secure" in secure


@pytest.mark.parametrize("path", ["/", "/api/state", "/static/study.js", "/nowhere", "/enter/unknown"])
def test_every_answer_says_how_it_may_be_used(app, path):
    headers = TestClient(app).get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert not {"etag", "last-modified", "server"} & set(headers)


def test_pages_ask_for_nothing_from_elsewhere():
    from importlib.resources import files

    home = files("counterscan")
    texts = [(home / "web" / "static" / name).read_text() for name in study_server.STATIC]
    pages = ("study", "study_enter", "study_unknown", "study_owner")
    texts += [(home / "templates" / f"{name}.html").read_text() for name in pages]
    for text in texts:
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "").replace('"/', "")
        assert "style=" not in text
        assert "innerHTML" not in text


def test_the_secret_stays_with_the_owner(yes_no):
    make_app(yes_no)
    assert (yes_no / "secret.key").stat().st_mode & 0o777 == 0o600
    (yes_no / "secret.key").write_text("short")
    with pytest.raises(CounterscanError, match="damaged"):
        make_app(yes_no)


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True)]
)
def test_an_open_host_is_said_plainly(yes_no, monkeypatch, host, warned):
    monkeypatch.setattr(study_server.uvicorn.Server, "run", lambda self: None)
    said = []
    serve(yes_no, host=host, say=said.append)
    assert ("OPEN TO THE NETWORK" in " ".join(said)) is warned
    assert any("/owner/enter/" in line for line in said)
