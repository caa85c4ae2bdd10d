"""Both ends of a service are real here: what `serve` runs, and what `--classifier http://...` asks."""

import http.client
import json
import socket
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from counterscan import cli
from counterscan.classifiers import server as door
from counterscan.classifiers import service
from counterscan.classifiers.arrays import from_npy, to_npy
from counterscan.classifiers.check import check_classifier
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.server import build_app, build_server, offered_card, scores
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.errors import ClassifierError, CounterscanError, MissingExtra
from counterscan.listening import open_port

IMAGES = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def box(output="softmax", classes=("normal", "dull", "bright"), gain=5.0, **more):
    """A small network whose card changes everything on the way: normalisation, temperature, settings."""
    outputs = 1 if output == "binary" else len(classes)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, outputs))
    torch.nn.init.normal_(module[1].weight, std=gain, generator=torch.Generator().manual_seed(1))
    known = {"mean": (0.1,), "std": (0.5,), "temperature": (1.7,), "command": "train --data secret/folder"}
    card = Card(name="ward/box", shape=(1, 4, 4), classes=classes, output=output, **known, **more)
    return TorchClassifier(module, card)


@contextmanager
def served(classifier, port=0, **limits):
    """A running server; yields its address, and the server, which `should_exit` ends."""
    line = open_port("127.0.0.1", port)
    server = build_server(build_app(classifier, **limits))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [line]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{line.getsockname()[1]}/", server
    finally:
        server.should_exit = True
        thread.join()
        line.close()


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERSCAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(service, "FIRST", 0.01)
    monkeypatch.setattr(service, "LONGEST", 0.05)


def asked(url, method="POST", body=b"", headers=(), path="/"):
    line = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    line.request(method, path, body or None, dict(headers))
    response = line.getresponse()
    return response.status, response.headers, response.read()


KINDS = {
    "softmax": {},
    "multilabel": {"output": "multilabel"},
    "two classes, one output": {"output": "binary", "classes": ("normal", "bright")},
    "one class": {"output": "binary", "classes": ("bright",)},
    "sure of itself": {"gain": 60.0},
}


@pytest.mark.parametrize("words", KINDS.values(), ids=KINDS)
def test_what_is_served_answers_as_what_it_serves(words):
    classifier = box(**words)
    with served(classifier, batch=4) as (url, _):
        far = load_classifier(url)
        torch.testing.assert_close(far(IMAGES), classifier(IMAGES).detach(), rtol=1e-4, atol=1e-4)
        told = json.loads(asked(url, "GET", path="/health")[2])
    assert far.asked == told["images"] == 10
    assert far.classifier.function.batch == 4
    assert (far.card.classes, far.card.output) == (classifier.card.classes, classifier.card.output)


def test_nothing_of_the_machine_is_told_and_another_temperature_is_another_version():
    card = box(window=(-160.0, 240.0, "HU"), normal="normal", sha256="f" * 64).card
    offered = offered_card(card, 8)
    assert "secret" not in offered.model_dump_json()
    assert (offered.window, offered.normal, offered.sha256) == (card.window, "normal", "f" * 64)
    hotter = offered_card(card.model_copy(update={"temperature": (2.0,)}), 8)
    assert hotter.settings["version"] != offered.settings["version"]


def test_a_person_with_curl_gets_json():
    classifier = box()
    with served(classifier) as (url, _):
        status, headers, body = asked(url, body=to_npy(IMAGES.numpy()), headers={"Accept": "*/*"})
        assert (status, headers["Content-Type"]) == (200, "application/json")
        told = json.loads(body)
        assert told["classes"] == ["normal", "dull", "bright"]
        np.testing.assert_allclose(told["answers"], scores(classifier, IMAGES.numpy()), rtol=1e-4)
        assert asked(url, "GET")[2] == asked(url, "GET", path="/card")[2]
        assert asked(url, "GET", path="/nowhere")[0] == 404
        assert asked(url, "PUT")[0] == 405
        status, headers, body = asked(url, body=to_npy(IMAGES.double().numpy()), headers={"Accept": door.NPY})
        assert from_npy(body).shape == (10, 3)


PICKLE = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."
OBJECTS = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(117) + b"\n" + PICKLE
PIXELS = to_npy(IMAGES.numpy())
BAD = {
    "nothing": (b"", 415, "is no .npy file of numbers; send what numpy.save writes"),
    "JSON": (b"[[0.5]]", 415, "is no .npy file"),
    "a pickle": (PICKLE, 415, "is no .npy file"),
    "objects": (b"\x93NUMPY\x01\x00v\x00" + OBJECTS, 415, "is no .npy file"),
    "cut": (PIXELS[:-4], 415, "is no .npy file"),
    "a huge shape": (PIXELS.replace(b"(10, 1, 4, 4)", b"(9999, 9, 9) "), 415, "is no .npy file"),
    "another size": (to_npy(np.zeros((1, 5, 5))), 422, "images (1, 5, 5) where ward/box takes (n, 1, 4, 4)"),
    "one number": (to_npy(np.float32(1)), 422, "images () where"),
    "no image": (to_npy(np.zeros((0, 1, 4, 4))), 413, "0 images; send 1 to 16 at once"),
    "too many": (to_npy(np.zeros((17, 1, 4, 4))), 413, "17 images; send 1 to 16 at once"),
    "NaN": (to_npy(np.full((1, 1, 4, 4), np.nan)), 422, "pixels from nan to nan where [-1, 1]"),
    "grey values": (to_npy(np.full((1, 1, 4, 4), 255)), 422, "pixels from 255 to 255 where [-1, 1]"),
    "too much": (to_npy(np.zeros((200, 1, 4, 4))), 413, "the body is larger than 6144 bytes"),
}


def test_a_bad_body_is_refused_with_its_reason_and_the_next_question_is_answered():
    with served(box(), batch=16) as (url, _):
        for name, (body, status, words) in BAD.items():
            found, _, told = asked(url, body=body)
            assert (name, found) == (name, status)
            assert words in json.loads(told)["detail"], name
        assert asked(url, body=to_npy(IMAGES.numpy()))[0] == 200


def test_a_client_of_too_large_portions_is_told_the_cure():
    with served(box(), batch=4) as (url, _):
        card = load_classifier(url).card.model_copy(update={"settings": {}})
        with pytest.raises(ClassifierError, match=r"413 .* of up to 32 images \(.*send 1 to 4 at once.*say .*FEWER"):
            load_classifier(url, card)(IMAGES)


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(door, "SLOW", 0.1)
    with served(box()) as (url, _), socket.create_connection(("127.0.0.1", int(url.split(":")[2][:-1]))) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        assert b"408" in line.recv(1000)
        assert json.loads(asked(url, "GET", path="/health")[2])["waiting"] == 0


class Slow:
    """Answers when it is let go."""

    differentiable = False

    def __init__(self):
        self.card, self.go, self.begun, self.most = box().card, threading.Event(), 0, 0
        self._now = 0

    def __call__(self, images):
        self.begun += 1
        self._now += 1
        self.most = max(self.most, self._now)
        self.go.wait(5)
        self._now -= 1
        return images.mean((1, 2, 3))[:, None] * torch.tensor([1.0, 2.0, 3.0])


def test_one_question_is_answered_at_a_time_and_one_too_many_is_told_to_come_later():
    slow, statuses = Slow(), []
    with served(slow, limit=2) as (url, _):
        body = to_npy(IMAGES[:1].numpy())
        threads = [threading.Thread(target=lambda: statuses.append(asked(url, body=body)[0])) for _ in range(2)]
        for thread in threads:
            thread.start()
        while json.loads(asked(url, "GET", path="/health")[2])["waiting"] < 2:
            time.sleep(0.005)
        status, headers, told = asked(url, body=body)
        assert (status, json.loads(told)["detail"]) == (429, "2 questions wait already")
        assert 1 <= int(headers["Retry-After"]) <= 5
        slow.go.set()
        for thread in threads:
            thread.join()
        assert asked(url, body=body)[0] == 200
    assert statuses == [200, 200]
    assert slow.most == 1


def test_a_classifier_that_fails_says_why_and_the_server_lives(monkeypatch):
    classifier = box()
    monkeypatch.setattr(door, "scores", lambda classifier, images: 1 / 0)
    with served(classifier) as (url, _):
        status, _, told = asked(url, body=to_npy(IMAGES.numpy()))
        assert (status, json.loads(told)["detail"]) == (500, "ward/box failed: ZeroDivisionError: division by zero")
        monkeypatch.undo()
        assert asked(url, body=to_npy(IMAGES.numpy()))[0] == 200


class Mortal:
    """Fails at its `life`-th question, and takes the server down with it."""

    differentiable = False

    def __init__(self, classifier, life):
        self.classifier, self.card, self.life, self.server = classifier, classifier.card, life, None

    def __call__(self, images):
        self.life -= 1
        if self.life <= 0:
            self.server.should_exit = True
            raise ClassifierError("its memory is full")
        return self.classifier(images)


def test_a_service_that_dies_half_way_and_comes_back_is_asked_only_for_the_rest():
    classifier = box()
    mortal = Mortal(classifier, life=3)
    with served(mortal, batch=3) as (url, mortal.server):
        card = load_classifier(url).card
        settings = card.settings | {"patience": 0.3}
        far = load_classifier(url, card.model_copy(update={"settings": settings}))
        with pytest.raises(ClassifierError, match="is the service running there"):
            far(IMAGES)
    assert far.asked == 6
    with served(classifier, port=int(url.split(":")[2][:-1]), batch=3) as (url, _):
        again = load_classifier(url)
        torch.testing.assert_close(again(IMAGES), classifier(IMAGES).detach(), rtol=1e-4, atol=1e-4)
        assert json.loads(asked(url, "GET", path="/health")[2])["images"] == 4
        assert (again.asked, again.recalled) == (4, 6)


def test_the_check_asks_the_service_itself_and_not_the_memory():
    classifier = box()
    with served(classifier) as (url, _):
        far = load_classifier(url)
        with torch.no_grad():
            far(IMAGES)
        before = json.loads(asked(url, "GET", path="/health")[2])["images"]
        summary = check_classifier(far)
        assert json.loads(asked(url, "GET", path="/health")[2])["images"] > before + 30
    assert summary.ok, summary
    assert "Service(url=" in summary.facts["kind"]


def test_a_port_that_is_taken_and_an_address_that_is_none_are_one_line():
    words = r"cannot listen on 127.0.0.1:\d+: .*; give another --port"
    with socket.create_server(("127.0.0.1", 0)) as line, pytest.raises(CounterscanError, match=words):
        open_port("127.0.0.1", line.getsockname()[1])
    with pytest.raises(CounterscanError, match=r"cannot listen on nowhere\.invalid"):
        open_port("nowhere.invalid", 0)


@pytest.mark.parametrize("library", ["fastapi", "uvicorn"])
def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"{library} is not installed; run: pip install 'counterscan\[web\]'"):
        build_server(build_app(box()))


def test_the_command_serves_what_it_is_asked_to(monkeypatch):
    seen = {}

    class Server:
        def run(self, sockets):
            seen["port"] = sockets[0].getsockname()[1]
            sockets[0].close()

    def build(classifier, batch, limit):
        seen.update(card=classifier.card, limits=(batch, limit))
        return build_app(classifier, batch, limit)

    monkeypatch.setattr(door, "build_app", build)
    monkeypatch.setattr(door, "build_server", lambda app: Server())
    words = ["classifier", "serve", "fundus/classifier", "--port", "0", "--batch", "5", "--limit", "2"]
    answer = CliRunner().invoke(cli.app, words)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == f"fundus/classifier: http://127.0.0.1:{seen['port']}/ (Ctrl-C ends it)\n"
    assert (seen["card"].name, seen["limits"]) == ("fundus/classifier", (5, 2))
    answer = CliRunner().invoke(cli.app, ["classifier", "serve", "fundus/clasifier"])
    assert (answer.exit_code, len(answer.stderr.splitlines())) == (1, 1)
    assert "did you mean 'fundus/classifier'?" in answer.stderr
