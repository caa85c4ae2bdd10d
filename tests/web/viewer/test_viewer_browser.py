"""The viewer as a person uses it, in a real browser."""

import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import uvicorn

from counterscan.listening import address, open_port
from counterscan.web import viewer_uploads
from counterscan.web.viewer import make_app

OFFER = {"name": "made/classifier", "spec": "", "classes": ["tumour"], "targets": [], "methods": ["inpainting"]}
OFFER |= {"prior": "", "prior_for": "", "card": ""}
SLOW = 30_000  # milliseconds: the first case waits for torch
PAINTED = """name => { const canvas = document.querySelector(`canvas[aria-label="${name}"]`);
  if (!canvas?.width) return 0;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0; for (let i = 0; i < pixels.length; i += 97) sum += pixels[i]; return sum; }"""


@pytest.fixture
def page(chromium, tmp_path, monkeypatch, write_run):
    """A page at the gallery of three runs; an upload is answered with one of them."""
    write_run(tmp_path / "dir" / "inpainting", n=30, frames=4)
    write_run(tmp_path / "dir" / "maps", n=30, attribution=True)
    write_run(tmp_path / "dir" / "volume", n=1, slices=3, archive="volumes")
    program = f"import shutil, sys; shutil.copytree({str(tmp_path / 'dir' / 'volume')!r}, sys.argv[1] + '/run')"
    monkeypatch.setattr(viewer_uploads, "WORKER", (sys.executable, "-c", program))
    monkeypatch.setattr(viewer_uploads, "_offer", lambda given: OFFER)
    line = open_port("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app([tmp_path / "dir"]), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [line]}, daemon=True)
    thread.start()
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, has_touch=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_default_timeout(SLOW)
    page.goto(address(line))
    yield page
    assert said == [], "the browser complained"
    context.close()
    server.should_exit = True
    thread.join(10)


def painted(page, name):
    page.wait_for_function(f"name => ({PAINTED})(name) > 0", arg=name)
    return page.evaluate(PAINTED, name)


def test_a_person_walks_through_it(page, tmp_path):
    page.wait_for_selector(".tile-case img")
    assert page.get_by_role("status").first.inner_text() == "31 cases"
    assert page.locator(".tile-case").count() < 31, "only what can be seen exists"

    page.get_by_role("button", name="not found").click()
    page.wait_for_function("() => document.getElementById('count').textContent === '1 case'")
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("button", name="Inpainting inpainting").click()
    page.select_option("#sort", "iou")
    page.click("#reverse")
    page.wait_for_function("() => document.querySelector('.tile-case .value')?.textContent === 'IoU 1'")
    page.locator(".tile-case").first.focus()
    page.keyboard.press("End")
    page.wait_for_function("() => document.activeElement.getAttribute('aria-posinset') === '30'")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")

    image = painted(page, "image")
    for name in ("counterfactual", "signed difference", "image with outlines"):
        assert painted(page, name)
    assert "/case/0/case1?" in page.url
    assert page.get_by_text("2 of 30").is_visible()
    assert page.locator(".answer.asked").inner_text().split() == ["tumour", "0.88", "→", "0.05"]

    page.locator("input[aria-label='window width']").fill("0.3")
    page.wait_for_timeout(100)
    assert page.evaluate(PAINTED, "image") != image, "the window reaches the picture"
    page.keyboard.press("0")
    page.locator("canvas[aria-label='image']").hover()
    page.mouse.wheel(0, -400)
    page.wait_for_selector(".stage.zoomed")
    page.mouse.dblclick(200, 300)
    page.wait_for_selector(".stage:not(.zoomed)")

    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/case/0/case2?**")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/case/0/case1?**")


def test_swipe_blink_path_and_methods(page):
    page.locator(".tile-case").first.click()
    painted(page, "image")
    page.keyboard.press("s")
    knob = page.get_by_role("slider", name="where the counterfactual begins")
    assert knob.get_attribute("aria-valuenow") == "50"
    knob.focus()
    page.keyboard.press("ArrowRight")
    assert knob.get_attribute("aria-valuenow") == "52"
    box = knob.bounding_box()
    page.mouse.move(box["x"] + 22, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] - 178, box["y"] + 100)
    page.mouse.up()
    assert int(knob.get_attribute("aria-valuenow")) < 40

    page.keyboard.press("b")
    tag = page.locator(".tag")
    assert tag.inner_text() == "image"
    page.wait_for_function("() => document.querySelector('.tag').textContent === 'counterfactual'")
    page.keyboard.press("b")

    page.keyboard.press(",")
    page.wait_for_function("() => document.querySelector('.scrub output').textContent === 'frame 4 of 4'")
    assert page.get_by_text("the way there, frame 4").is_visible()

    page.get_by_role("button", name="Side by side").click()
    assert painted(page, "image with outlines by LayerCAM")
    assert page.locator(".view").count() == 5
    page.keyboard.press("?")
    assert page.get_by_role("heading", name="Keys and gestures").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.wait_for_selector("#gallery:not([hidden])")


def test_fingers_pinch_and_swipe(page):
    page.locator(".tile-case").first.click()
    painted(page, "image")
    box = page.locator("canvas[aria-label='image']").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)

    def fingers(kind, *places):
        points = [{"x": x + dx, "y": y, "id": number} for number, dx in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", -20, 20)
    for far in (30, 50, 80):
        fingers("touchMove", -far, far)
    fingers("touchEnd")
    page.wait_for_selector(".stage.zoomed")
    page.keyboard.press("0")
    fingers("touchStart", 60)
    for dx in (30, 0, -40, -60):
        fingers("touchMove", dx)
    fingers("touchEnd")
    page.wait_for_url("**?i=1")


def test_an_upload_becomes_a_case_with_slices(page, tmp_path):
    Image.new("L", (16, 16)).save(tmp_path / "scan.png")
    page.get_by_role("link", name="Explain a scan").click()
    page.set_input_files("#up-file", Path(tmp_path / "scan.png"))
    assert page.get_by_text("scan.png").is_visible()
    page.get_by_role("button", name="Explain").click()
    page.wait_for_url("**/case/*/case0")
    painted(page, "image")
    assert page.get_by_text("slice 1 of 3").is_visible()
    page.keyboard.press("]")
    page.wait_for_function("() => document.querySelector('.scrub output').textContent === 'slice 2 of 3'")
