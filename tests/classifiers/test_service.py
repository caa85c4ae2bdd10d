import io
import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from counterscan.classifiers import service as door
from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.service import Service
from counterscan.core import Card
from counterscan.errors import ClassifierError, WeightsError

ASKED = {"remember": False, "patience": 0.2}
CARD = Card(name="ward", shape=(1, 4, 4), classes=("normal", "bright"), output="binary", settings=ASKED)
IMAGES = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def rule(pixels: np.ndarray) -> np.ndarray:
    return pixels.mean((1, 2, 3)) * 3


def with_settings(**settings) -> Card:
    return CARD.model_copy(update={"settings": ASKED | settings})


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Ward(BaseHTTPRequestHandler):
    """A service whose answers the test chooses: `server.answer(pixels)` gives status, headers and body."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        self.reply(*self.server.answer(np.load(io.BytesIO(body))))

    def do_GET(self):
        self.reply(*self.server.card)

    def reply(self, status, headers, body):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def ward(monkeypatch):
    monkeypatch.setattr(door, "FIRST", 0.001)
    monkeypatch.setattr(door, "LONGEST", 0.02)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ward)
    server.seen, server.card = [], (501, {}, b"no")
    server.answer = lambda pixels: (200, {}, npy(rule(pixels)))
    server.url = f"http://127.0.0.1:{server.server_port}/ask"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Clock:
    """Time that passes only where a service is waited for."""

    def __init__(self, classifier):
        self.now, self.waits = 0.0, []
        classifier.function._given_up.wait = self.wait

    def monotonic(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        self.waits.append(seconds)


FORMS = {
    "npy": lambda scores: npy(scores),
    "npy of columns": lambda scores: npy(scores[:, None].astype(">f8")),
    "json list": lambda scores: json.dumps(scores.tolist()).encode(),
    "json rows": lambda scores: json.dumps(scores[:, None].tolist()).encode(),
    "json answers": lambda scores: json.dumps({"answers": scores.tolist(), "model": 3}).encode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_it_answers_as_the_function_behind_it_in_portions(ward, form):
    ward.answer = lambda pixels: (200, {}, form(rule(pixels)))
    classifier = load_classifier(ward.url, with_settings(batch=2))
    expected = FunctionClassifier(rule, CARD)(IMAGES)
    torch.testing.assert_close(classifier(IMAGES), expected)
    assert [len(np.load(io.BytesIO(body))) for _, _, body in ward.seen] == [2, 2, 1]
    assert not classifier.differentiable


def test_nothing_but_the_pixels_is_sent(ward, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # a proxy would see them, too
    load_classifier(ward.url + "?model=3", CARD)(IMAGES)
    ((path, headers, body),) = ward.seen
    assert path == "/ask?model=3"
    assert set(headers) == {"Host", "Accept-Encoding", "Accept", "Content-Type", "Content-Length"}
    np.testing.assert_array_equal(np.load(io.BytesIO(body)), IMAGES.numpy())


def test_the_service_may_say_its_card(ward):
    with pytest.raises(WeightsError, match=r"answered 501 .* to GET .*; give --card, or let the service answer GET"):
        load_classifier(ward.url)
    ward.card = (200, {}, CARD.model_dump_json().encode())
    assert load_classifier(ward.url).card == CARD
    ward.card = (200, {}, b"<html>hello</html>")
    with pytest.raises(WeightsError, match="to GET is no card"):
        load_classifier(ward.url)


BAD = {
    "an HTML page": (200, {}, b"<!DOCTYPE html><title>Log in</title>", r"answered an HTML page \(<!DOCTYPE html>"),
    "never implemented": (501, {}, b"no\n scores", r"answered 501 Not Implemented to POST \(no scores\)"),
    "too large": (413, {}, b"5 > 4", r"to POST of up to 32 images \(5 > 4\); say \"settings\": \{\"batch\": FEWER\}"),
    "not found": (404, {}, b"", "answered 404 Not Found"),
    "elsewhere": (307, {"Location": "http://other/"}, b"", "points to http://other/: name that address"),
    "too much": (200, {}, b"[" + b"1," * (1 << 23) + b"1]", "answered more than 16 MiB; it must answer scores"),
    "words": (200, {}, b'["high"]', "neither an .npy file nor JSON with numbers"),
    "ragged": (200, {}, b"[[1],[2,3]]", "neither an .npy file nor JSON with numbers"),
    "deep": (200, {}, b"[" * 100000, "neither an .npy file nor JSON with numbers"),
    "another key": (200, {}, b'{"scores": [1]}', "neither an .npy file nor JSON with numbers"),
    "no rows": (200, {}, b"[]", r"answered \(0,\) for 5 images; it must answer one row an image"),
    "wrong columns": (200, {}, npy(np.zeros((5, 3))), r"answered \(5, 3\) for 5 images, where its card promises"),
    "NaN": (200, {}, b"[NaN, 0, 0, 0, 0]", "answered NaN or infinity for 1 of 5 images"),
    "infinity": (200, {}, b"[0, 0, -Infinity, 0, 0]", r"NaN or infinity for 1 of 5 images \(first: number 2\)"),
    "a short file": (200, {}, npy(np.zeros(5))[:-8], "neither an .npy file nor JSON"),
}


@pytest.mark.parametrize(("status", "headers", "body", "words"), BAD.values(), ids=BAD)
def test_a_bad_answer_is_one_line_and_is_not_asked_for_again(ward, status, headers, body, words):
    ward.answer = lambda pixels: (status, headers, body)
    with pytest.raises(ClassifierError, match=words) as caught:
        load_classifier(ward.url, CARD)(IMAGES)
    assert "\n" not in str(caught.value)
    assert len(ward.seen) == 1


def test_a_service_that_is_busy_is_asked_again(ward, monkeypatch):
    classifier = load_classifier(ward.url, CARD)
    monkeypatch.setattr(door, "time", Clock(classifier))
    fine = (200, {}, npy(rule(IMAGES.numpy())))
    answers = [(503, {}, b""), (500, {}, b""), (429, {}, b""), (200, {"Content-Length": "999"}, b"cut"), fine]
    ward.answer = lambda pixels: answers[len(ward.seen) - 1]
    torch.testing.assert_close(classifier(IMAGES), FunctionClassifier(rule, CARD)(IMAGES))
    assert len(ward.seen) == 5


def test_a_service_that_stays_ill_is_given_up_and_gets_no_patience_before_it_answers(ward, monkeypatch):
    classifier = load_classifier(ward.url, CARD)
    monkeypatch.setattr(door, "time", Clock(classifier))
    ward.answer = lambda pixels: (500, {}, b"out of\n memory")
    words = r"500 Internal Server Error \(out of memory\), {}; is the service running there\?"
    with pytest.raises(ClassifierError, match=words.format(r"\d+ times")):
        classifier(IMAGES)
    seen = len(ward.seen)
    assert seen > 3
    with pytest.raises(ClassifierError, match=words.format("once")):  # a thousand images are not waited for, each
        classifier(IMAGES)
    assert len(ward.seen) == seen + 1
    fine = (200, {}, npy(rule(IMAGES.numpy())))
    ward.answer = lambda pixels: fine
    classifier(IMAGES)
    answers = [(503, {}, b""), fine]
    ward.answer = lambda pixels: answers.pop(0)
    classifier(IMAGES)


@pytest.mark.parametrize("form", ["20", "date"])
def test_a_busy_service_is_not_asked_before_the_time_that_it_names(ward, monkeypatch, form):
    classifier = load_classifier(ward.url, with_settings(patience=30))
    monkeypatch.setattr(door, "time", clock := Clock(classifier))
    text = form if form == "20" else format_datetime(datetime.now(UTC) + timedelta(seconds=21), usegmt=True)
    answers = [(429, {"Retry-After": text}, b""), (200, {}, npy(rule(IMAGES.numpy())))]
    ward.answer = lambda pixels: answers[len(ward.seen) - 1]
    classifier(IMAGES)
    (wait,) = clock.waits
    assert 19 < wait < 21.1


def test_a_service_that_wants_more_patience_than_there_is_says_so_at_once(ward, monkeypatch):
    ward.answer = lambda pixels: (429, {"Retry-After": "3600"}, b"")
    words = (
        r'429 Too Many Requests, once; it asks for 3600 s: run this again then, or say "settings": {"patience": 3660}'
    )
    with pytest.raises(ClassifierError, match=words):
        load_classifier(ward.url, CARD)(IMAGES)
    for nonsense in ("soon", "-5", "Mon, 99 Foo 2026", "1e9"):
        ward.answer = lambda pixels, text=nonsense: (429, {"Retry-After": text}, b"")
        classifier = load_classifier(ward.url, CARD)
        monkeypatch.setattr(door, "time", Clock(classifier))
        with pytest.raises(ClassifierError, match=r"times; is the service running"):
            classifier(IMAGES)


def test_as_many_questions_as_the_card_says_are_under_way_and_no_more(ward):
    under_way, most, together = [], [], threading.Barrier(3)

    def answer(pixels):
        under_way.append(1)
        together.wait(5)  # fails where there are fewer
        most.append(len(under_way))
        together.wait(5)
        under_way.pop()
        return 200, {}, npy(rule(pixels))

    ward.answer = answer
    images = torch.linspace(-1, 1, 12).reshape(12, 1, 1, 1).expand(12, 1, 4, 4)
    answers = load_classifier(ward.url, with_settings(batch=1, parallel=3))(images)
    torch.testing.assert_close(answers, FunctionClassifier(rule, CARD)(images))  # in the order of the images
    assert max(most) == 3
    together = threading.Barrier(1)
    most.clear()
    load_classifier(ward.url, with_settings(batch=4))(images)
    assert max(most) == 1


PROBABILITIES = {
    "which do not sum to 1": ([[0.5, 0.3]] * 5, r"do not sum to 1 \(but to 0.8\); say output='multilabel'"),
    "beyond 1": ([[1.5, -0.5]] * 5, r"answered -0.5 to 1.5, not probabilities; say scale='logits'"),
}


@pytest.mark.parametrize(("rows", "words"), PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_of_a_softmax_are_checked(ward, rows, words):
    ward.answer = lambda pixels: (200, {}, json.dumps(rows).encode())
    with pytest.raises(ClassifierError, match=words):
        load_classifier(ward.url, CARD.model_copy(update={"output": "softmax", "scale": "probabilities"}))(IMAGES)


def test_a_service_that_is_not_there_is_tried_again_ever_later(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    classifier = load_classifier(f"http://127.0.0.1:{port}/", with_settings(patience=60))
    monkeypatch.setattr(door, "time", clock := Clock(classifier))
    with pytest.raises(ClassifierError, match=r"ConnectionRefusedError .* \d+ times; is the service running"):
        classifier(IMAGES)
    whole = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert all(full / 2 <= wait <= full for wait, full in zip(clock.waits, whole, strict=False))
    assert len({wait / full for wait, full in zip(clock.waits, whole, strict=False)}) > 3  # by chance
    assert 30 < sum(clock.waits) <= 60


def test_an_address_that_never_answered_gets_little_patience(monkeypatch):
    classifier = FunctionClassifier(service := Service("http://127.0.0.1:1/"), CARD)
    monkeypatch.setattr(door, "time", clock := Clock(classifier))
    with pytest.raises(ClassifierError, match="is the service running"):
        service.card()
    assert 0 < sum(clock.waits) <= door.FIRST_CONTACT


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "1000"}])
def test_a_service_that_hangs_or_drips_is_left_in_time(ward, headers):
    def drip(pixels):
        time.sleep(0.1)
        return 200, headers, b"["

    reply = Ward.reply

    def slowly(self, status, headers, body):
        reply(self, status, headers, body)
        for _ in range(100):  # each byte would start a socket's own timeout anew
            self.wfile.write(b" ")
            time.sleep(0.05)

    ward.answer = drip
    ward.RequestHandlerClass = type("Slow", (Ward,), {"reply": slowly, "handle_error": print})
    ward.handle_error = lambda *words: None  # the line is hung up on it
    start = time.monotonic()
    with pytest.raises(ClassifierError, match=r'did not answer within 0.5 s; say "settings": {"timeout": SECONDS}'):
        load_classifier(ward.url, with_settings(timeout=0.5))(IMAGES)
    assert time.monotonic() - start < 4
    assert len(ward.seen) == 1


@pytest.mark.parametrize("url", ["http://", "http://a b/", "http://h:port/", "http://h:99999/", "http://[::1/"])
def test_what_is_no_address_says_so(url):
    with pytest.raises(ClassifierError, match="is no address"):
        Service(url)


def test_passwords_in_an_address_are_refused_and_not_repeated():
    with pytest.raises(ClassifierError, match="must hold no user or password") as caught:
        Service("https://me:hush@host/ask")
    assert "hush" not in str(caught.value)


def test_it_knows_whether_pixels_are_exposed():
    assert [Service(f"{url}/").exposed for url in ("http://127.0.0.1", "http://[::1]", "https://far.org")] == [
        False
    ] * 3
    assert Service("http://far.org/").exposed


@pytest.mark.parametrize(
    "settings",
    [{"timeout": -1}, {"batch": "many"}, {"timeout": True}, {"parallel": 0}, {"repeat": -1}, {"patience": "x"}],
)
def test_settings_that_are_no_positive_numbers_are_refused(settings):
    with pytest.raises(ClassifierError, match="must be a positive number"):
        load_classifier("http://127.0.0.1:1/", CARD.model_copy(update={"settings": settings}))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"remember": "no"}, "remember must be true or false"), ({"repeat": 2}, "repeat is a share from 0 to 1, got 2")],
)
def test_settings_of_the_memory_are_checked(settings, words):
    with pytest.raises(ClassifierError, match=words):
        load_classifier("http://127.0.0.1:1/", with_settings(**settings))
