"""The recipe `diffusion-autoencoder`, small and quick: it resumes to the same weights; what it writes is decoded."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from counterscan.core import Card
from counterscan.data.archive import write_phantoms
from counterscan.data.batches import open_images
from counterscan.data.manifest import read_manifest
from counterscan.errors import ManifestError
from counterscan.nets.code_reader import CodeReader
from counterscan.priors.codec import NETWORK, DiffusionCodec, Told, load_codec
from counterscan.priors.denoiser import NetworkDenoiser
from counterscan.registry import RECIPES
from counterscan.train.parts import parts
from counterscan.train.recipes import diffusion_autoencoder as recipe
from counterscan.train.recipes.diffusion_autoencoder import CodecTask, Reading, followed, round_trip, rows_of
from counterscan.train.starting import FLOOR, with_statistics
from counterscan.weights.store import load_card

QUICK = {
    "size": 32,
    "steps": 2,
    "batch": 4,
    "latents": 2,
    "places": 4,
    "widths": (16, 16),
    "name": "fundus/tiny",
    "flip": True,
}


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "MEASURED_AT", (2, 4))
        patch.setattr(recipe, "SHOWN_IN", 2)
        yield


@pytest.fixture(scope="module")
def trained(eyes, tmp_path_factory):
    out = tmp_path_factory.mktemp("codec")
    return RECIPES[NETWORK](**QUICK).train(read_manifest(eyes), out, say=lambda _: None, command="as tested")


def test_what_it_writes_loads_and_leads_there_and_back(trained):
    codec = load_codec(trained)
    assert (codec.card.name, codec.card.kind, codec.card.shape) == ("fundus/tiny", "codec", (3, 32, 32))
    assert codec.card.command == "as tested"
    images = torch.rand(2, 3, 32, 32)
    assert codec.encode(images).shape == (2, 32)
    assert codec.round_trip(images).shape == images.shape
    assert len(list(trained.glob("previews/*.png"))) == 2
    assert not (trained / "card.json.part").exists()


def test_the_card_says_what_the_round_trip_costs(trained):
    metrics = load_card(trained).metrics
    trips = [metrics[f"test_round_trip_in_{steps}"] for steps in (2, 4)]
    assert [trip["evaluations"] for trip in trips] == [2 * steps for steps in (2, 4)]
    assert trips[-1]["rmse"] < trips[0]["rmse"] <= trips[0]["rmse_worst"]
    assert trips[-1]["psnr"] > trips[0]["psnr"]
    assert trips[-1]["ssim"] <= 1
    assert {"test_error_at_1", "test_swap_followed"} < metrics.keys()
    assert 0 <= metrics["test_labels_auc"] <= 1


def test_statistics_are_those_of_the_training_part_in_float32(eyes, trained):
    codec = load_codec(trained)
    images = open_images(parts(read_manifest(eyes), fold=0, flip=True)["train"], codec.card.shape)
    rows = rows_of(codec.network.module, codec.card, images)
    maps = rows.view(len(rows), 2, -1)
    assert maps.mean((0, 2)).abs().max() < 0.1
    assert (maps.std((0, 2), correction=0) - 1).abs().max() < 0.1
    told = json.loads((trained / "card.json").read_text())["settings"]
    assert told["scale"] == torch.tensor(told["scale"], dtype=torch.float32).tolist()
    assert told["scale"] != torch.tensor(told["scale"]).half().tolist(), "half precision would shift codes"


def test_a_number_that_says_nothing_is_not_blown_up():
    settings = {"channels": 1, "spread": 0.5, "latents": 3, "places": 1}
    card = Card(name="x", kind="codec", shape=(1, 8, 8), classes=(), network=NETWORK, settings=settings)
    rows = torch.tensor([[1.0, 5.0, 100.0], [1.0, 7.0, 300.0]])
    told = with_statistics(card, rows).settings
    assert told["centre"] == [1.0, 6.0, 200.0]
    assert told["scale"] == pytest.approx([100 * FLOOR, 1.0, 100.0])
    assert told["spread"] == 0.5
    assert with_statistics(card, rows * 0).settings["scale"] == [1.0] * 3


class Coded(torch.nn.Module):
    """A network whose encoder answers these rows, whatever it sees."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def encode(self, images):
        return self.rows[: len(images)]


def card_of(shape):
    settings = {"channels": shape[0], "spread": 0.5, "latents": 2, "places": 4, "widths": (16, 16)}
    return Card(name="x", kind="codec", shape=shape, classes=(), network=NETWORK, settings=settings)


def test_labels_that_are_known_teach_the_code_of_images_and_of_moved_ones():
    torch.manual_seed(0)
    labels = torch.tensor([[1.0, torch.nan], [0.0, torch.nan], [torch.nan, torch.nan]])
    images = SimpleNamespace(labels=labels, batch=lambda chosen: torch.rand(len(chosen), 1, 8, 8))
    rows, moved = (torch.randn(3, 32, requires_grad=True) for _ in range(2))
    network = NetworkDenoiser(Coded(moved), card_of((1, 8, 8)))
    read = Reading(CodeReader(2, 4, 2), images, 0.5)
    lost = read(Told(network, rows), torch.tensor([0, 1, 2]))["labels"]
    answers = torch.cat([read.reader(one)[:2, 0] for one in (rows, moved)])
    missed = F.binary_cross_entropy_with_logits(answers, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(lost, 0.5 * missed)
    lost.backward()
    for some in (rows, moved):
        assert some.grad[:2].abs().sum() > 0 == some.grad[2].abs().sum()
    assert read(Told(network, rows), torch.tensor([2])) == {}, "nothing is known of it"
    assert replace(read, weight=0.0)(Told(network, rows), torch.tensor([0])) == {}


def test_labels_are_read_off_images_that_were_not_learned_from(eyes):
    images = open_images(read_manifest(eyes), (3, 32, 32))
    knows = Coded(torch.cat([images.labels, torch.zeros(len(images), 30)], 1))
    own, wrong = torch.nn.Linear(32, 2, bias=False), torch.nn.Linear(32, 2, bias=False)
    own.weight.data, wrong.weight.data = torch.eye(2, 32), -torch.eye(2, 32)
    for reader, weight, expected in ((own, 0.1, {"labels_auc": 1}), (wrong, 0.1, {"labels_auc": 0}), (own, 0.0, {})):
        read = Reading(reader, images, weight)
        task = CodecTask(knows, {"validation": images}, card_of((3, 32, 32)), beside=read)
        assert task.labels_read(knows, "validation") == expected


def test_labels_alone_come_first_where_that_is_asked(eyes, trained, tmp_path):
    once = RECIPES[NETWORK](**{**QUICK, "start": str(trained), "labels_first": 1, "flip": False})
    out = once.train(read_manifest(eyes), tmp_path / "first", say=lambda _: None)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [{"loss", "labels"} & line.keys() for line in lines] == [{"labels"}, {"labels", "loss"}]
    before, after = (load_codec(folder).network.module for folder in (trained, out))
    assert not torch.equal(before.encoder.head.weight, after.encoder.head.weight)
    plain = RECIPES[NETWORK](**{**QUICK, "labels_first": 1, "labels": 0.0})
    with pytest.raises(ManifestError, match="labels_first needs labels"):
        plain.train(read_manifest(eyes), tmp_path / "none", say=lambda _: None)


def test_a_code_that_reads_better_scores_better(eyes):
    images = open_images(read_manifest(eyes), (3, 32, 32))
    own, wrong = torch.nn.Linear(32, 2, bias=False), torch.nn.Linear(32, 2, bias=False)
    own.weight.data, wrong.weight.data = torch.eye(2, 32), -torch.eye(2, 32)
    scores = []
    for reader in (own, wrong):
        knows = Coded(torch.cat([images.labels, torch.zeros(len(images), 30)], 1))
        read = Reading(reader, images, 0.1)
        told = {"told": lambda network, card, clean: lambda noisy, sigma: noisy, "beside": read}
        scores.append(CodecTask(knows, {"validation": images}, card_of((3, 32, 32)), **told).validate(knows)["score"])
    assert scores[0] == pytest.approx(scores[1] + 0.5)


def test_it_resumes_to_the_same_weights_and_statistics(eyes, trained, tmp_path):
    again = RECIPES[NETWORK](**QUICK)

    def stop(line):
        if "step 1/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.train(read_manifest(eyes), tmp_path, say=stop)
    resumed = again.train(read_manifest(eyes), tmp_path, resume=True, say=lambda _: None)
    first, second = (load_codec(folder).network.module for folder in (trained, resumed))
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, atol=1e-6, rtol=0)
    torch.testing.assert_close(second.centre, first.centre, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(second.scale, first.scale, atol=1e-3, rtol=1e-3)


def test_grey_images_have_one_channel(tmp_path):
    eyes = write_phantoms("oct", 20, tmp_path / "oct", size=64)
    once = RECIPES[NETWORK](**{**QUICK, "steps": 1, "batch": 2, "flip": False})
    out = once.train(read_manifest(eyes), tmp_path / "out", say=lambda _: None)
    assert load_card(out).shape == (1, 32, 32)


class Shown(DiffusionCodec):
    """A codec of images that are one grey value: told by the row, or, where it is ignored, by the noise."""

    def __init__(self, ignored):
        self.card = Card(name="x", kind="codec", shape=(1, 16, 16), classes=(), network=NETWORK)
        self.steps, self.ignored = 3, ignored

    def encode(self, images):
        return images[:, 0, 0, :2]

    def invert(self, images, rows):
        return images

    def decode(self, rows, noise=None):
        return noise if self.ignored else noise - noise[:, :, :1, :1] + rows[:, :1, None, None]


@pytest.mark.parametrize(("ignored", "wanted"), [(True, 0.0), (False, 1.0)])
def test_a_codec_that_ignores_its_rows_is_found_out(ignored, wanted):
    images = torch.rand(6, 1, 1, 1).expand(6, 1, 16, 16)
    assert followed(Shown(ignored), images) == pytest.approx(wanted, abs=1e-4)


def test_the_round_trip_is_counted_in_image_units():
    class Off(Shown):
        def decode(self, rows, noise=None):
            off = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1)
            return noise + off

    trip = round_trip(Off(True), torch.zeros(2, 1, 16, 16))
    assert trip["rmse"] == pytest.approx(0.15)
    assert trip["rmse_worst"] == pytest.approx(0.2)
    assert trip["psnr"] == pytest.approx((26.02 + 20) / 2, abs=0.01)
    assert trip["evaluations"] == 6
