"""A whole study in a real browser: three readers at once, one of whom reloads, loses the connection and comes back."""

import json
import re
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytest.importorskip("itsdangerous")

from counterscan.study.analysis import analyse
from counterscan.study.records import Answer, Study, readings
from counterscan.study.store import Store
from counterscan.web.study_server import make_app

DESKTOP, TABLET = {"width": 1280, "height": 800}, {"width": 1024, "height": 768}
WAIT = 30_000  # ms: the machine may be busy


def until(page, condition, *facts):
    """Wait until `condition` holds in the page, whose policy lets Playwright's own waiting evaluate nothing."""
    end = time.monotonic() + WAIT / 1000
    while not page.evaluate(condition, *facts):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


class Eyes:
    """One reader at a browser of their own, and what that browser sent."""

    def __init__(self, chromium, url, reader, touch=False):
        self.reader, self.sent, self.errors = reader, {}, []
        self.context = chromium.new_context(viewport=TABLET if touch else DESKTOP, has_touch=touch)
        self.context.set_default_timeout(WAIT)
        self.page = self.context.new_page()
        self.page.on("request", self.note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/enter/token-of-{reader}")

    def note(self, request):
        if request.url.endswith("/api/answers"):
            given = json.loads(request.post_data)
            assert self.sent.setdefault(given["nonce"], given) == given  # sent again, it is the same

    def ready(self):
        """Wait for a trial or a page between, and go through the latter: whether there is a trial."""
        while True:
            self.page.wait_for_selector("#sheet:visible, #desk:not(.loading):visible #question")
            if self.page.is_visible("#desk"):
                return True
            if self.page.inner_text(".kicker") in ("FINISHED", "Finished"):
                return False
            self.page.click("#sheet button.main")
            self.page.wait_for_timeout(50)

    def number(self):
        return self.page.inner_text("#panel .kicker")

    def answer(self, turn):
        """Answer the trial that is shown by the keyboard alone, and wait until it is gone."""
        before, pair = self.number(), self.page.query_selector("#choice-1") is not None
        choice, sure = ("ab" if pair else "rs")[(turn + len(self.reader)) % 2], 1 + turn % 5
        self.page.wait_for_selector("#desk:not(.loading)")
        self.page.keyboard.press("+")
        self.page.keyboard.press(choice)
        if self.page.query_selector(".scale"):
            self.page.keyboard.press(str(sure))
        self.page.wait_for_selector("#confirm:enabled")
        self.page.keyboard.press("Enter")
        changed = "before => desk.hidden || document.querySelector('#panel .kicker').innerText !== before"
        until(self.page, changed, before)

    def net(self):
        return self.page.inner_text("#net")


@pytest.fixture
def study(maker):
    """Two parts: four yes/no trials and three pairs."""
    maker.part("real-or-synthetic", reasons=("texture",), shortest=0.2)
    maker.yes_no(5)
    maker.part("forced-choice")
    for _ in range(3):
        real, synthetic = maker.picture("real"), maker.picture("synthetic")
        maker.trial([real, synthetic], synthetic)
    return maker.save()


def test_three_readers_one_of_whom_loses_the_connection(chromium, serving, study):
    app = make_app(study)
    with serving(app) as served:
        eyes = [Eyes(chromium, served.url, reader, reader == "cleo") for reader in ("ada", "ben", "cleo")]
        going, turn = list(eyes), 0
        while going:
            for reader in list(going):
                if not reader.ready():
                    going.remove(reader)
                    continue
                if reader.reader == "ben" and turn == 1:
                    interrupted(reader)
                if reader.ready():
                    reader.answer(turn)
            turn += 1
        for reader in eyes:
            until(reader.page, "document.querySelector('#net').innerText === 'All answers stored'")
            assert reader.errors == []
            reader.context.close()
    stored = Store.of(study).answers()
    assert len(stored) == 24
    assert sorted(map(essence, stored)) == sorted(essence(one) for reader in eyes for one in as_answers(app, reader))
    assert all(answer.rt_ms >= 200 for answer in stored if answer.confidence)
    assert all(answer.tools["zoom"] >= 1 for answer in stored)
    compare(Study.load(study), stored, [one for reader in eyes for one in as_answers(app, reader)])


def interrupted(reader):
    """Reload the page, answer two trials without a connection, and come back."""
    number = reader.number()
    reader.page.reload()
    reader.ready()
    assert reader.number() == number
    reader.page.wait_for_timeout(300)  # the next pictures are fetched ahead
    reader.context.set_offline(True)
    reader.answer(7)
    assert "kept here, will be sent" in reader.net()
    reader.answer(8)
    until(reader.page, "document.querySelector('#net').innerText.includes('2 answers')")
    reader.context.set_offline(False)
    until(reader.page, "document.querySelector('#net').innerText === 'All answers stored'")
    until(reader.page, "!document.querySelector('#sheet').innerText.includes('Waiting for the server')")


def as_answers(app, reader):
    """What a browser sent, as answers, by the study's own names."""
    book = app.state.desk.book(reader.reader)
    for given in reader.sent.values():
        step = book.by_name[given["trial"]]
        choice = step.pictures[int(given["choice"])] if given["choice"].isdigit() else given["choice"]
        yield Answer(**{**given, "reader": reader.reader, "trial": step.trial.id, "choice": choice})


def essence(answer):
    return json.dumps(answer.model_dump(exclude={"session", "received"}), sort_keys=True)


def compare(study, stored, sent):
    """What the analysis makes of both is the same."""
    place = {answer.nonce: at for at, answer in enumerate(stored)}
    sent = sorted(sent, key=lambda answer: place[answer.nonce])
    assert readings(study, stored) == readings(study, sent)
    assert analyse(study, stored).to_dict() == analyse(study, sent).to_dict()


def test_a_link_from_another_site_leads_in(chromium, serving, yes_no):
    """A cookie that is only for this site is left behind by a redirection, so that there must be none."""
    with serving(make_app(yes_no)) as served:
        page = chromium.new_page()
        elsewhere = served.url.replace("127.0.0.1", "localhost") + "/elsewhere"
        mail = f'<a href="{served.url}/enter/token-of-ada">link</a>'
        page.route("**/elsewhere", lambda route: route.fulfill(body=mail, content_type="text/html"))
        page.goto(elsewhere)
        page.click("a")
        page.wait_for_selector("#sheet h1", timeout=WAIT)
        assert page.inner_text("#sheet h1") == "A small study"
        page.close()


def test_every_control_has_a_name_and_the_question_has_the_focus(chromium, serving, yes_no):
    with serving(make_app(yes_no)) as served:
        reader = Eyes(chromium, served.url, "ada")
        assert reader.ready()
        until(reader.page, "document.activeElement.id === 'question'")
        nameless = """[...document.querySelectorAll('button, input, textarea, canvas, progress')].filter(one =>
            !(one.ariaLabel || one.innerText?.trim() || one.labels?.length)).map(one => one.outerHTML)"""
        assert reader.page.evaluate(nameless) == []
        assert reader.page.evaluate("document.querySelectorAll('canvas[role=img]').length") == 1
        reader.context.close()


def test_window_zoom_and_reset_change_what_is_seen(chromium, serving, maker):
    maker.part("realism")
    maker.trial([maker.picture("real")])
    with serving(make_app(maker.save())) as served:
        reader = Eyes(chromium, served.url, "ada")
        reader.ready()
        reader.page.wait_for_selector("#desk:not(.loading) canvas")
        seen = {"": look(reader.page)}
        for keys in ("i", "0", "]", "+", "+ArrowLeft", "0 "):
            for key in re.findall(r"Arrow\w+|.", keys.strip()):
                reader.page.keyboard.press(key)
            reader.page.wait_for_timeout(150)
            seen[keys] = look(reader.page)
        assert seen["0"] == seen["0 "] == seen[""]
        assert len({seen[one] for one in ("", "i", "]", "+", "+ArrowLeft")}) == 5
        reader.context.close()


def look(page):
    return page.evaluate("document.querySelector('canvas').toDataURL()")
