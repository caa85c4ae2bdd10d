"""How soon the viewer shows a folder of many explanations.

    python bench/viewer.py [FOLDER] [--cases 10000] [--json FILE]

A folder of made-up explanations (128 px, one tensor file a case, tables as `explain` and `score` write them) is served
by `counterscan serve` in a process of its own. Measured are the start, the first page and picture as a client asks for
them, a sorted and filtered page, a case, the picture in a real browser where there is one, and memory.
"""

import argparse
import csv
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save

CLASSES = ("effusion", "nodule")
KINDS = 40  # different pictures; the rest are copies under other names


def write_folder(folder: Path, cases: int, side: int = 128) -> Path:
    """A run of so many explanations."""
    generator, rows, scores = np.random.default_rng(0), [], []
    tensors = [save(_tensors(generator, side)) for _ in range(KINDS)]
    for index in range(cases):
        name, p = f"case{index:06d}", random.Random(index).random()
        row: dict[str, Any] = {"name": name, "path": f"images/{name}.png", "patient": f"p{index // 2}", "slices": 1}
        row |= {"already": p < 0.1, "found": p < 0.9, "mask_share": round(p / 9, 4), "seconds": 0.1}
        row |= {f"p_{when}_{c}": round(p, 4) for when in ("before", "after") for c in CLASSES}
        rows.append(row)
        scores.append({"name": name, "slice": 0, "patient": row["patient"], "iou": round(1 - p, 4), "l1": round(p, 4)})
        case = folder / "cases" / name
        case.mkdir(parents=True)
        (case / "explanation.safetensors").write_bytes(tensors[index % KINDS])
        facts = {"name": name, "split": "test", "labels": {"effusion": index % 2, "nodule": int(index % 5 == 0)}}
        meta = {"classes": CLASSES, "case": facts, "already": [p < 0.1], "window": [0, 1, "intensity"]}
        (case / "explanation.json").write_text(json.dumps({"target": [[0, 0.0]], "meta": meta}))
    for file, lines in (("cases.csv", rows), ("scores.csv", scores)):
        with (folder / file).open("w", newline="") as out:
            writer = csv.DictWriter(out, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    (folder / "run.json").write_text(json.dumps({"kind": "explain", "explainer": "Made()", "target": "effusion=0"}))
    return folder


def _tensors(generator: np.random.Generator, side: int) -> dict[str, np.ndarray]:
    image = generator.uniform(-1, 1, (1, 1, side // 8, side // 8)).repeat(8, 2).repeat(8, 3).astype(np.float32)
    change = np.zeros_like(image)
    change[..., side // 4 : side // 2, side // 4 : side // 2] = 0.4
    answers = {"before": np.full((1, 2), 2, np.float32), "after": np.full((1, 2), -2, np.float32)}
    pictures = {"images": image, "counterfactual": image + change, "heatmap": np.abs(change) / 2}
    return {**pictures, **answers, "found": np.ones(1, bool)}


def measure(folder: Path) -> dict[str, float]:
    """Seconds, and megabytes at the end."""
    started = time.perf_counter()
    command = [sys.executable, "-c", "from counterscan.cli import main; main()", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = re.findall(r"http://\S+", process.stdout.readline())[0]
        found = {"start": time.perf_counter() - started}
        with httpx.Client(base_url=address, timeout=120) as client:
            found |= _asked(client)
        found |= _seen(address)
        status = Path(f"/proc/{process.pid}/status").read_text()
        return found | {"megabytes": int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024}
    finally:
        process.terminate()
        process.wait()


def _asked(client: httpx.Client) -> dict[str, float]:
    def first() -> None:
        client.get("/")
        assert client.get("/api/archive").json()["cases"]
        row = client.get("/api/cases").json()["rows"][0]
        assert client.get(f"/thumb/{row['run']}/{row['name']}").status_code == 200

    def page(**query: Any) -> Callable[[], object]:
        return lambda: client.get("/api/cases", params=query).raise_for_status()

    found = {"first picture": _timed(first)}
    found["sorted by IoU"] = _timed(page(sort="iou", down=True))
    found["filtered by probability"] = _timed(page(column="p_before_effusion", low=0.4, high=0.6, sort="iou"))
    found["60 thumbnails"] = _timed(lambda: [client.get(f"/thumb/0/case{index:06d}") for index in range(5000, 5060)])
    while client.get("/api/archive").json()["known"] < 1:
        time.sleep(0.2)
    client.get("/api/planes/0/case000007")  # the first loads what cases need
    found["a case"] = _timed(lambda: client.get("/api/planes/0/case009000").raise_for_status())
    return found


def _seen(address: str) -> dict[str, float]:
    """From the address to the first picture and to a case far down, in a browser."""
    browser = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if browser is None:
        return {}
    drawn = "() => [...document.querySelectorAll('.tile-case img')].some(one => one.complete && one.naturalWidth)"
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page(viewport={"width": 1440, "height": 900})
        page.goto("about:blank")

        def first() -> None:
            page.goto(address)
            page.wait_for_function(drawn, polling=20)

        def far() -> None:
            page.keyboard.press("End")
            page.wait_for_function("() => document.activeElement?.getAttribute('aria-posinset') > 9000", polling=20)

        found = {"first picture in a browser": _timed(first)}
        page.locator(".tile-case").first.focus()
        found["to the last case in a browser"] = _timed(far)
        opened.close()
    return found


def _timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    """Write a folder unless one is named, measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = words.folder or Path(scratch) / "run"
        if not (folder / "run.json").exists():
            write_folder(folder, words.cases)
        found = measure(folder)
    for name, value in found.items():
        print(f"{name:32}{value:9.3f}{'' if name == 'megabytes' else ' s'}")
    if words.json:
        words.json.write_text(json.dumps({"cases": words.cases, "seconds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
