"""The recipe `verifier`, small and quick: whose pairs are drawn, that anatomy is learned, and what is written loads."""

from dataclasses import replace

import pytest
import torch

from counterscan.core import Card
from counterscan.data.archive import write_phantoms
from counterscan.data.batches import load_batch
from counterscan.data.manifest import Manifest, read_manifest
from counterscan.errors import ManifestError
from counterscan.metrics.identity import load_verifier
from counterscan.nets import build
from counterscan.registry import RECIPES
from counterscan.train.recipes.verifier import People, VerifierTask, chimeras, retaken


@pytest.fixture(scope="module")
def archive(eyes):
    return read_manifest(eyes)


@pytest.fixture(scope="module")
def trained(archive, tmp_path_factory):
    recipe = RECIPES["verifier"](size=32, steps=2, batch=4, name="fundus/tiny", outputs=16)
    return recipe.train(archive, tmp_path_factory.mktemp("verifier"), say=lambda _: None, command="as tested")


def test_what_it_writes_loads_and_says_what_true_pairs_reach(archive, trained):
    verifier = load_verifier(trained)
    card = verifier.card
    assert (card.name, card.kind, card.shape, card.command) == ("fundus/tiny", "verifier", (3, 32, 32), "as tested")
    assert -1 <= verifier.threshold <= 1
    assert card.metrics["pairs"] == "true twins"
    rates = {"accepted", "false_accepted", "retaken_accepted", "chimeras_accepted"}
    assert set(card.metrics) == {"pairs", "eer", "auc", "accepted_at_0.01", "accepted_at_0.001"} | rates
    test = archive.select("test")
    assert card.metrics["accepted"]["n"] == sum(archive.diseased(case) for case in test.cases), (
        "equal twins tell nothing"
    )
    assert verifier(load_batch(test.cases, card.shape)).shape == (len(test), 16)
    assert list(trained.glob("previews/*.png"))


def test_it_resumes_to_the_same_weights(archive, trained, tmp_path):
    recipe = RECIPES["verifier"](size=32, steps=2, batch=4, name="fundus/tiny", outputs=16)

    def stop(line):
        if "step 1/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe.train(archive, tmp_path, say=stop)
    resumed = recipe.train(archive, tmp_path, resume=True, say=lambda _: None)
    first, second = (load_verifier(folder).module.state_dict() for folder in (trained, resumed))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


def visits(folder, *rows):
    """People with one picture a row, told by patient and side."""
    case = read_manifest(write_phantoms("oct", 1, folder, size=64)).cases[0]
    cases = tuple(
        replace(case, name=f"{i}", patient=patient, facts={"laterality": side}, twin_path=None)
        for i, (patient, side) in enumerate(rows)
    )
    return Manifest(folder, (), cases)


def test_images_of_one_eye_are_partners_and_no_batch_holds_two_of_a_patient(tmp_path):
    rows = [("a", "left"), ("a", "right"), ("a", "left"), ("b", "left"), ("c", ""), ("c", "")]
    people = People.of(visits(tmp_path, *rows), (1, 32, 32))
    assert people.same.tolist() == [2, 1, 0, 3, 4, 5], "where no side is known, two images may be of two eyes"
    assert people.called == "other images of the same eye"
    drawn = [tuple(people.drawn(9).tolist()) for _ in range(50)]
    assert all(sorted(rows[i][0] for i in one) == ["a", "b", "c"] for one in drawn)
    assert len({i for one in drawn for i in one}) == 6, "each image has its turn"


def test_without_twins_or_second_images_the_pair_is_the_image_taken_anew(tmp_path):
    people = People.of(visits(tmp_path, ("a", ""), ("b", "")), (1, 32, 32))
    assert people.called == "images taken anew"
    with pytest.raises(ManifestError, match="one patient"):
        People.of(visits(tmp_path, ("a", "left"), ("a", "right")), (1, 32, 32))


def test_a_chimera_keeps_the_camera_and_has_other_anatomy_in_a_large_part():
    torch.manual_seed(0)
    images = torch.rand(32, 1, 64, 64) * 0.2 + torch.linspace(-0.6, 0.6, 32).view(-1, 1, 1, 1)
    made = chimeras(images, images)
    changed = ((made - images).abs() > 0.02).float().mean((1, 2, 3))
    assert (changed > 0.02).all()
    assert changed.mean() > 0.1
    assert (changed < 0.75).all(), "part of it is its own"
    torch.testing.assert_close(made.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.02, rtol=0)


def test_an_image_taken_anew_is_another_one_in_range():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    anew = retaken(images)
    assert anew.shape == images.shape
    assert anew.abs().max() <= 1
    assert ((anew - images).abs().mean((1, 2, 3)) > 0.05).all()


class Marks:
    """People whose images each have a mark at a place of their own; their twins lack the lesion in the middle."""

    def __init__(self, count=16):
        self.images = torch.full((count, 1, 32, 32), -0.5)
        for index in range(count):
            y, x = 4 + 6 * (index // 4), 4 + 6 * (index % 4)
            self.images[index, :, y : y + 4, x : x + 4] = 0.8
        self.twins = self.images.clone()
        self.images[::2, :, 15:18, 15:18] = 0.5
        self.patients = tuple(f"p{index}" for index in range(count))

    def pairs(self, chosen):
        return self.images[chosen], self.twins[chosen]

    def drawn(self, count):
        return torch.randperm(len(self.images))[:count]

    def __len__(self):
        return len(self.images)


def test_it_learns_whose_an_image_is():
    facts = {"channels": 1, "outputs": 16, "widths": [8, 16], "kept": 8}
    card = Card(name="marks", kind="verifier", shape=(1, 32, 32), classes=(), network="embedder", settings=facts)
    torch.manual_seed(0)
    learning = VerifierTask(build("embedder", facts), {"train": Marks()}, card, batch=16, rate=5e-3)
    losses = []
    for step in range(40):
        torch.manual_seed(step)
        losses.append(learning.step(step)["loss"])
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    learning.network.eval()
    images, twins = (retaken(x) for x in Marks().pairs(torch.arange(16)))
    alike = learning.network(images) @ learning.network(twins).T
    assert (alike.argmax(1) == torch.arange(16)).float().mean() > 0.7


def test_a_case_without_twin_is_its_own(tmp_path):
    people = People.of(visits(tmp_path, ("a", "left"), ("b", "left")), (1, 32, 32))
    first, second = people.pairs(torch.tensor([0, 1]))
    assert torch.equal(first, second)
