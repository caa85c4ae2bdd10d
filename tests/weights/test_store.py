"""Weights travel with their card, and nothing else loads."""

import json

import pytest
import torch

from counterscan.core import Card
from counterscan.errors import WeightsError
from counterscan.nets import build
from counterscan.weights.store import load_weights, pack_weights, save_weights, share_part

CARD = Card(
    name="tiny",
    shape=(1, 32, 32),
    classes=("tumour",),
    network="resnet",
    settings={"channels": 1, "outputs": 1, "widths": [8, 8], "depth": 1},
)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    return save_weights(tmp_path / "tiny", build(CARD.network, CARD.settings), CARD)


def test_round_trip(folder):
    torch.manual_seed(0)
    original = build(CARD.network, CARD.settings).eval()
    module, card = load_weights(folder)
    images = torch.randn(2, 1, 32, 32)
    assert card.classes == ("tumour",)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    torch.testing.assert_close(module(images), original(images), atol=1e-2, rtol=0)


def test_weights_without_a_card_do_not_load(folder):
    (folder / "card.json").unlink()
    with pytest.raises(WeightsError, match=r"card\.json"):
        load_weights(folder)


def test_a_pickle_is_refused(folder):
    (folder / "weights.safetensors").unlink()
    torch.save({}, folder / "model.pt")
    with pytest.raises(WeightsError, match="pickle"):
        load_weights(folder)


def test_other_weights_than_the_cards_are_refused(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="sha256"):
        load_weights(folder)


def test_a_card_for_another_network_is_refused(folder):
    card = json.loads((folder / "card.json").read_text())
    card["settings"]["widths"] = [8, 16]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"widths-1": [8, 8]}, "does not take: .*widths-1"),
        ({**CARD.settings, "widths": "8"}, "does not take"),
        ({**CARD.settings, "widths": [8, 0]}, "does not"),
        ({**CARD.settings, "depth": 99999999999}, "setting 1e\\+11"),
    ],
)
def test_settings_that_make_no_network_are_refused(folder, settings, words):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "settings": settings}))
    with pytest.raises(WeightsError, match=words) as error:
        load_weights(folder)
    assert "\n" not in str(error.value)


BROKEN = [b"", b"{", b'{"name": "x"}', b'{"name": "x", "shape": [1], "classes": [], "colour": 1}', b'{"name": "\xc3x"}']


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_card_is_named(folder, content):
    (folder / "card.json").write_bytes(content)
    with pytest.raises(WeightsError, match="no card"):
        load_weights(folder)


def test_the_wrong_kind_is_refused(folder):
    with pytest.raises(WeightsError, match="editor is needed"):
        load_weights(folder, kind="editor")


def test_a_name_that_does_not_exist():
    with pytest.raises(WeightsError, match="no weights are called"):
        load_weights("chest/clasifier")


def test_an_unknown_network_is_answered_with_the_nearest():
    with pytest.raises(WeightsError, match="did you mean 'resnet'"):
        build("resnt", {})


def test_a_key_that_never_ends_does_not_make_the_line_long(tmp_path):
    """Found by bench/fuzz.py."""
    (tmp_path / "card.json").write_text(json.dumps({"name": "x", "netw" + "[" * 5000: 1}))
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="is no card") as refused:
        load_weights(tmp_path)
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


def test_a_part_that_other_weights_hold_is_kept_once(tmp_path):
    guide = {"channels": 1, "outputs": 1, "widths": (8, 16, 24, 32), "depth": 1}
    settings = {"channels": 1, "outputs": 1, "conditions": 2, "widths": (16, 16), "guide": guide}
    theirs = Card(name="g", shape=(1, 32, 32), classes=("a",), network="resnet", settings=guide)
    own = Card(name="e", kind="editor", shape=(1, 32, 32), classes=("a",), network="unet", settings=settings)
    network = build("unet", settings)
    known = save_weights(tmp_path / "guide", network.guide, theirs)
    folder = save_weights(tmp_path / "editor", network, own)
    before, size = load_weights(folder)[0].state_dict(), (folder / "weights.safetensors").stat().st_size
    share_part(folder, "guide", str(known))
    after, card = load_weights(folder)
    assert all(torch.equal(value, before[name]) for name, value in after.state_dict().items())
    assert (folder / "weights.safetensors").stat().st_size < size - (known / "weights.safetensors").stat().st_size // 2
    assert card.parts["guide"][0] == str(known)
    save_weights(tmp_path / "guide", build("resnet", guide), theirs)
    with pytest.raises(WeightsError, match="that it was trained with"):
        load_weights(folder)
    other = save_weights(tmp_path / "other", network, own)
    with pytest.raises(WeightsError, match="guide of e is not"):
        share_part(other, "guide", str(known))


def test_packed_weights_take_half_and_are_half_a_step_off(tmp_path):
    settings = {"channels": 1, "outputs": 1, "widths": [32, 48], "depth": 1}
    network, card = build("resnet", settings), CARD.model_copy(update={"settings": settings})
    folder = save_weights(tmp_path / "packed", network, card)
    before, size = load_weights(folder)[0].state_dict(), (folder / "weights.safetensors").stat().st_size
    pack_weights(folder)
    after, packed = load_weights(folder)
    assert (folder / "weights.safetensors").stat().st_size < 0.6 * size
    assert packed.model_dump(exclude={"sha256"}) == card.model_dump(exclude={"sha256"})
    off = 0.0
    for name, value in after.state_dict().items():
        step = (
            before[name].flatten(1).abs().amax(1).div(127)
            if value.ndim > 1
            else torch.zeros(len(value) if value.ndim else 1)
        )
        error = (value - before[name]).flatten(1).abs().amax(1) if value.ndim > 1 else (value - before[name]).abs()
        assert (error <= 0.51 * step + 1e-6).all(), name
        off = max(off, float(error.max()))
    assert off > 0
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(
        after(images), load_weights(save_weights(tmp_path / "plain", network, card))[0](images), atol=0.05, rtol=0.05
    )
    again = (folder / "weights.safetensors").read_bytes()
    pack_weights(folder)
    torch.testing.assert_close(load_weights(folder)[0].state_dict(), after.state_dict(), atol=1e-6, rtol=1e-3)
    assert len((folder / "weights.safetensors").read_bytes()) == len(again)
