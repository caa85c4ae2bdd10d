"""An agent is fitted from a manifest, asks each image once whatever happens, and says how far it can be trusted."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from counterscan import agents, cli
from counterscan.core import Card
from counterscan.data.manifest import read_manifest
from counterscan.explainers import build
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.fitting import ImageCodec

SIDE, D = 6, 5
BASIS = torch.linalg.qr(torch.randn(SIDE * SIDE, D, generator=torch.Generator().manual_seed(0)))[0]
SCALE = 0.12
MODEL = """
from pathlib import Path
import numpy as np
from counterscan.core import Card

BASIS = np.load("basis.npy")
seen = []

def reader(images):
    seen.append(len(images))
    if Path("down").exists() and sum(seen) > 64:
        raise ConnectionError("nobody answers")
    return images.reshape(len(images), -1) @ BASIS[:, :2] * 20 + np.array([0.2, -0.1])

reader.card = Card(name="reader", shape=(1, 6, 6), classes=("a", "b"))

def blind(images):
    return np.random.default_rng(0).normal(size=(len(images), 2)) * images.std()

blind.card = reader.card
"""


class Plane:
    """A codec in closed form: a plane through grey, coded by its coordinates; what stands off it is noise."""

    card = Card(name="plane", kind="codec", shape=(1, SIDE, SIDE), classes=(), sha256="f" * 64)
    evaluations = 10

    def encode(self, images):
        return images.flatten(1) @ BASIS / SCALE

    def invert(self, images, latents):
        return images - (latents @ BASIS.T * SCALE).view_as(images)

    def decode(self, latents, noise):
        return (noise + (latents @ BASIS.T * SCALE).view_as(noise)).clamp(-1, 1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in: a black box in Python, and a manifest of 150 images, 100 of them for training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COUNTERSCAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "toy_agent_model", raising=False)
    monkeypatch.setitem(build.LOADERS, ImageCodec, lambda name: Plane())
    (tmp_path / "toy_agent_model.py").write_text(MODEL)
    np.save(tmp_path / "basis.npy", BASIS.numpy())
    codes = torch.randn(150, D, generator=torch.Generator().manual_seed(3))
    images = ((codes @ BASIS.T * SCALE).view(-1, SIDE, SIDE).clamp(-1, 1) + 1) * 127.5
    (tmp_path / "in").mkdir()
    rows = ["path,split,patient_id"]
    for number, image in enumerate(images):
        Image.fromarray(image.round().byte().numpy()).save(tmp_path / "in" / f"{number}.png")
        rows.append(f"{number}.png,{'train' if number // 2 % 3 else 'test'},p{number // 2}")
    (tmp_path / "in" / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def counterscan(command, *words, classifier="toy_agent_model:reader"):
    words = [command, *words, "--classifier", classifier, "--prior", "plane"]
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def asked():
    return sum(sys.modules["toy_agent_model"].seen)


def test_it_asks_each_training_image_once_and_tells_how_faithful_the_agent_is(place):
    answer = counterscan("fit", "in", "--out", "agent")
    assert answer.exit_code == 0, answer.output
    agent = Agent.load(place / "agent")
    assert agent.facts["n"] == 80
    assert agent.facts["real"]["agreement"] > 0.95
    assert asked() == agent.facts["queries"] == 100 + 20
    assert "agent of reader in the code of plane: linear, fitted to 80 images" in answer.stdout
    lines = [line.split() for line in answer.stdout.splitlines()]
    real = agent.facts["real"]
    assert ["real", "images", "20", f"{real['agreement']:.3f}", f"{real['constant']:.3f}"] in [x[:5] for x in lines]
    assert "reader was asked 120 images; 0 answers were there already" in answer.stdout
    assert "counterscan:" not in answer.stderr


def test_a_finished_fit_is_told_again_and_asks_nothing(place):
    first = counterscan("fit", "in", "--out", "agent")
    before = asked()
    again = counterscan("fit", "in", "--out", "agent")
    assert again.exit_code == 0, again.output
    assert asked() == before
    assert "nothing was asked" in again.stdout
    assert first.stdout.splitlines()[:4] == again.stdout.splitlines()[:4]


def test_a_black_box_that_dies_half_way_is_asked_only_the_rest_afterwards(place):
    (place / "down").touch()
    answer = counterscan("fit", "in", "--out", "agent")
    assert answer.exit_code == 1
    assert "nobody answers" in answer.stderr.splitlines()[-1]
    assert not (place / "agent" / "agent.json").exists()
    (place / "down").unlink()
    sys.modules["toy_agent_model"].seen.clear()
    assert counterscan("fit", "in", "--out", "agent").exit_code == 0
    assert asked() == 120 - 64


def test_an_agent_is_used_by_explain_and_the_way_is_filmed(place):
    counterscan("fit", "in", "--out", "agent")
    images = [place / "in" / f"{number}.png" for number in range(6)]
    words = [*images, "--target", "a=0", "--with", "diffusion-autoencoder", "--set", "fitted=agent"]
    answer = counterscan("explain", *words, "--set", "path=true", "--out", "answer")
    assert answer.exit_code == 0, answer.output
    page = (place / "answer" / "index.html").read_text()
    rows = [json.loads(path.read_text())["meta"] for path in (place / "answer").glob("cases/*/explanation.json")]
    moved = [meta for meta in rows if meta["row"]["found"] and not meta["row"]["already"]]
    assert moved
    for meta in rows:
        folder = place / "answer" / "cases" / meta["case"]["name"]
        assert (folder / "strip.png").exists() == (folder / "film.webp").exists() == (meta in moved)
        assert ("film" in meta["files"]) == (meta in moved)
    with Image.open(folder.parent / moved[0]["case"]["name"] / "film.webp") as film:
        assert film.n_frames > 1
    assert page.count("the way there") == len(moved)
    for meta in rows:
        (case,) = meta["cases"]
        assert f"{case['queries']:.0f} queries · {case['evaluations']:.0f} evaluations of the network" in page
        assert 1 / (1 + np.exp(-case["answers"][-1][0])) == pytest.approx(meta["row"]["p_after_a"], abs=1e-3)
    plain = counterscan("explain", *words, "--out", "plain")
    assert plain.exit_code == 0
    assert not list((place / "plain").glob("cases/*/film.webp"))


def test_a_faithless_agent_is_told_now_and_later(place):
    for _ in range(2):
        answer = counterscan("fit", "in", "--out", "agent", classifier="toy_agent_model:blind")
        assert answer.exit_code == 0
        assert "less than 90%: what it points at may not be what counts" in answer.stderr


def test_directions_are_ranked_and_drawn(place):
    counterscan("fit", "in", "--out", "agent")
    answer = counterscan("directions", "in", "--fitted", "agent", "--class", "b", "-n", 3, "--out", "driven")
    assert answer.exit_code == 0, answer.output
    told = json.loads((place / "driven" / "directions.json").read_text())["directions"]
    shares = [one["share"] for one in told["b"]]
    assert list(told) == ["b"]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 3
    assert all(np.diff(one["probabilities"]).min() > 0 for one in told["b"][:1])
    assert f"b: {shares[0]:.0%}" in answer.stdout
    with Image.open(place / "driven" / "b.png") as picture:
        assert picture.height > 3 * 2 * 160


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--limit", 30), "an agent needs 40 images or more to be fitted to, got 30"),
        (("--set", "kind=liner"), "did you mean 'linear'"),
        (("--set", "stepp=sparse"), "no setting 'stepp'; did you mean 'step'"),
        (("--split", "trian"), "no image is in split 'trian'"),
        (("--window", "5"), "low:high"),
    ],
)
def test_a_users_error_is_one_line_and_asks_nothing(place, words, line):
    answer = counterscan("fit", "in", "--out", "agent", *words)
    assert answer.exit_code == 1
    assert line in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not (place / "agent").exists()
    assert asked() == 0


def test_what_does_not_fit_together_is_refused(place, monkeypatch):
    cards = {
        "takes images of shape": {"shape": (1, 4, 6, 6)},
        "which have no 'a'": {"classes": ("c",)},
    }
    for line, changed in cards.items():
        other = Plane()
        other.card = Plane.card.model_copy(update=changed)
        monkeypatch.setitem(build.LOADERS, ImageCodec, lambda name, other=other: other)
        answer = counterscan("fit", "in", "--out", "agent")
        assert answer.exit_code == 1
        assert line in answer.stderr
    down = counterscan("fit", "in", "--out", "agent", classifier="http://127.0.0.1:9/")
    assert down.exit_code == 1
    assert "http://127.0.0.1:9/" in down.stderr.splitlines()[-1]


def test_a_folder_of_another_agent_is_refused_and_an_unfinished_one_is_not(place):
    (place / "down").touch()
    assert counterscan("fit", "in", "--out", "agent").exit_code == 1
    (place / "down").unlink()
    assert counterscan("fit", "in", "--out", "agent", "--limit", 60).exit_code == 0
    answer = counterscan("fit", "in", "--out", "agent", "--limit", 50)
    assert answer.exit_code == 1
    assert "holds another agent (images was 60, now 50)" in answer.stderr
    answer = counterscan("fit", "in", "--out", "in")
    assert "holds other files and no agent" in answer.stderr


def test_some_images_are_taken_evenly_and_all_where_there_are_fewer(place):
    manifest = agents.training_part(read_manifest(place / "in"))
    assert {case.split for case in manifest.cases} == {"train"}
    assert len(agents.some_of(manifest, 7)) == 7
    numbers = [int(case.name) for case in agents.some_of(manifest, 7).cases]
    assert max(np.diff(numbers)) <= 1.5 * 150 / 7
    assert agents.some_of(manifest, 1000) is manifest
