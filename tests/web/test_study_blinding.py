"""Blinding: all that a reader's browser receives, pixels apart, is searched for what tells real from synthetic."""

import re
import zlib

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytest.importorskip("itsdangerous")

from fastapi.testclient import TestClient

from counterscan.web import study_pictures
from counterscan.web.study_server import make_app

TRIALS, SHUFFLES, SECRET = 60, 300, b"fixed, so that the names are the same in each run"


def chunks(png):
    """The chunks of a PNG: type, content."""
    at = 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12


def beside_the_pixels(png):
    """What a PNG says that is not a pixel: its length, its chunks and their lengths, all but the image data."""
    rest = [len(png)]
    for kind, content in chunks(png):
        rest += [*kind, len(content)]
        rest += list(content) if kind != b"IDAT" else [len(zlib.decompress(content)) if content else 0]
    return rest


def heard(client, key, trial, order):
    """Everything that a browser hears about one trial, as numbers, without the pixels."""
    (name,) = trial["pictures"]
    picture = client.get(f"/api/pictures/{name}")
    given = {"trial": trial["id"], "nonce": f"{order:032x}", "rt_ms": 9000, "choice": "real", "confidence": 3}
    said = client.post("/api/answers", json=given, headers={"x-study-key": key})
    assert said.json()["feedback"] is None
    facts = [
        order,
        order % 2,
        trial["number"],
        len(str(trial)),
        len(said.content),
        len(re.sub(rb"\s+$", b"", said.content)),
    ]
    facts += [int(digit, 16) for digit in name + trial["id"]]
    facts += [sum(int(digit, 16) for digit in name), int(name[:8], 16), int(trial["id"][:8], 16)]
    for answer in (picture, said):
        facts += [len(answer.headers), len(str(answer.headers)), len(answer.content), answer.elapsed.total_seconds()]
        facts += [sum(map(ord, value)) for value in answer.headers.values()]
    return facts + beside_the_pixels(picture.content), picture.content


def session(app, reader):
    """All that a reader hears in a study: numbers `(trials, facts)`, truths `(trials,)`, the pictures' bytes."""
    client = TestClient(app)
    client.get(f"/enter/token-of-{reader}")
    rows, truths, pictures = [], [], []
    steps = app.state.desk.book(reader).steps
    for order, step in enumerate(steps):
        state = client.get("/api/state").json()
        facts, picture = heard(client, state["csrf"], state["trials"][0], order)
        rows.append(facts)
        truths.append(step.trial.answer == "synthetic")
        pictures.append(picture)
    width = max(map(len, rows))
    return np.array([row + [0] * (width - len(row)) for row in rows], float), np.array(truths, float), pictures


def accuracy(facts, truths, folds=5):
    """Cross-validated share that a ridge classifier tells rightly from `facts`."""
    spread = facts.std(0)
    scaled = np.where(spread > 0, (facts - facts.mean(0)) / np.where(spread > 0, spread, 1), 0)
    scaled = np.hstack([scaled, np.ones((len(facts), 1))])
    right, fold = 0.0, np.arange(len(facts)) % folds
    for one in range(folds):
        learn, test = fold != one, fold == one
        kernel = scaled[learn] @ scaled[learn].T + 10.0 * np.eye(learn.sum())
        weights = scaled[learn].T @ np.linalg.solve(kernel, 2 * truths[learn] - 1)
        right += ((scaled[test] @ weights > 0) == (truths[test] > 0.5)).sum()
    return right / len(facts)


def p_of(facts, truths):
    """The share of shuffled truths that are told at least as well: near 0 where the facts tell the truth."""
    chance, shuffle = np.random.default_rng(3), np.random.default_rng(4).permutation(len(truths))
    facts, truths = facts[shuffle], truths[shuffle]  # folds across the order of the study
    seen = accuracy(facts, truths)
    at_least = sum(accuracy(facts, chance.permutation(truths)) >= seen for _ in range(SHUFFLES))
    return (1 + at_least) / (1 + SHUFFLES)


@pytest.fixture
def folder(maker):
    """Real pictures are noise and synthetic ones plain: their files differ in size as much as can be."""
    maker.part("real-or-synthetic")
    maker.yes_no(TRIALS)
    return maker.save()


def test_nothing_but_the_pixels_tells_real_from_synthetic(folder):
    app = make_app(folder, secret=SECRET)
    facts, truths, pictures = session(app, "ada")
    assert len({len(picture) for picture in pictures}) == 1
    assert p_of(facts, truths) > 0.002
    told = facts.std(0) > 0
    for column in facts[:, told].T:  # nor does any one fact by itself
        assert abs(np.corrcoef(column, truths)[0, 1]) < 0.5


def test_the_test_finds_a_server_that_tells(folder, monkeypatch):
    def as_stored(self, picture):
        return self._paths[picture].read_bytes()

    monkeypatch.setattr(study_pictures.Plain, "__call__", as_stored)
    facts, truths, _ = session(make_app(folder, secret=SECRET), "ada")
    assert p_of(facts, truths) <= 0.01


def test_two_readers_share_no_name_and_no_order(folder):
    app = make_app(folder, secret=SECRET)
    ada, ben = (app.state.desk.book(reader) for reader in ("ada", "ben"))
    names = [{name for step in book.steps for name in (book.name(step), *book.pictures(step))} for book in (ada, ben)]
    assert not names[0] & names[1]
    assert [step.trial.id for step in ada.steps] != [step.trial.id for step in ben.steps]
    other = make_app(folder, secret=b"another").state.desk.book("ada")
    assert not names[0] & {other.name(step) for step in other.steps}


def test_no_word_of_the_study_file_reaches_a_reader(folder):
    app = make_app(folder, secret=SECRET)
    client = TestClient(app)
    client.get("/enter/token-of-ada")
    secrets = {one for picture in app.state.desk.study.pictures for one in (picture.id, picture.file)}
    secrets |= {trial.id for trial in app.state.desk.study.trials} | {
        card.token_hash for card in app.state.desk.study.readers
    }
    for path in ("/", "/api/state", "/api/openapi.json", "/static/study.js"):
        text = client.get(path).text
        assert not [secret for secret in secrets if secret in text]
    state = client.get("/api/state").json()
    assert not {"answer", "truth", "role", "kind", "method", "case", "arm"} & set(state["trials"][0])
