"""`latent-text` on a prior whose answers are known: where it draws, how much, and what it refuses."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.latent_text import LADDER, LatentText, agreed, sized
from counterscan.explainers.text_guided.drawing import SCHEDULE, Rung, levels_of, region_of
from counterscan.explainers.text_guided.wording import asked, seen
from counterscan.prompts import Mention, normal_text

SIDE = 32
CARD = Card(name="corner", shape=(1, SIDE, SIDE), classes=("effusion", "nodule"))
ABSENT = Target(((0, 0.0),))


class Corner(nn.Module):
    """Sees an effusion where the lower right corner is bright, and never a nodule."""

    def forward(self, images):
        bright = images[:, 0, -8:, -8:].mean((1, 2)) * 10
        return torch.stack([bright, torch.full_like(bright, -3.0)], 1)


class Drawn:
    """Latents are the pixels; an effusion fills the lower right corner with 0.8, and its absence with -0.5."""

    card = Card(name="drawn", kind="denoiser", shape=(1, SIDE, SIDE), classes=("effusion", "nodule"))
    latents = (1, SIDE, SIDE)

    @property
    def codec(self):
        return self

    def encode(self, images):
        return functional.avg_pool2d(images, 3, 1, 1)  # a codec that blurs

    def decode(self, latents):
        return latents

    def text(self, sentences):
        there = [[[1.0 if "effusion" in text and "No" not in text else 0.0]] for text in sentences]
        return torch.tensor(there), torch.ones(len(sentences), 1, dtype=torch.bool)

    def denoiser(self, tokens, mask):
        def answer(noisy, sigma):
            level = sigma.view(-1, 1, 1, 1).square()
            mean = 0 * noisy
            mean[..., -8:, -8:] = (1.3 * tokens - 0.5).view(-1, 1, 1, 1)
            return (0.04 * noisy + mean * level) / (0.04 + level)

        return answer


@pytest.fixture
def classifier():
    return TorchClassifier(Corner().eval(), CARD)


@pytest.fixture
def images():
    images = 0.1 * torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    images[0, :, -8:, -8:] += 0.8
    images[1, :, -8:, -8:] -= 0.5
    return images.clamp(-1, 1)


def test_it_draws_anew_where_the_texts_differ_and_keeps_all_other_detail(classifier, images):
    explanation = LatentText(Drawn())(classifier, images, ABSENT)
    assert explanation.found.tolist() == [True, True]
    change = explanation.difference[0, 0]
    assert change[-8:, -8:].mean() < -0.7
    assert change[:16, :16].abs().max() < 1e-5  # the blur of the codec does not reach the image
    assert explanation.meta["cases"][0]["negative"] == "Pleural effusion."
    assert explanation.deviation.shape == explanation.heatmap.shape


def test_an_image_without_the_finding_stays_as_it_is(classifier, images):
    explanation = LatentText(Drawn())(classifier, images, ABSENT)
    assert torch.equal(explanation.counterfactual[1], images[1])
    assert explanation.meta["cases"][1]["rung"] == 0


class Scripted:
    """A classifier that gives its next answer whatever it is shown."""

    card = CARD

    def __init__(self, *answers: float):
        self.answers = iter(answers)

    def __call__(self, images):
        return torch.tensor([[next(self.answers), -5.0]]).repeat(len(images), 1)


def test_where_no_rung_passes_the_margin_the_nearest_one_counts(images):
    scores = [3.0, 1.0, 0.5, -0.5, 4.0, 2.0]  # of the image and of each rung; effusion is to go
    answers = Scripted(*scores)
    finding = LatentText(Drawn(), margin=1.0).run(answers, images[:1], ABSENT)
    assert finding.cases[0]["rung"] == 3
    assert next(answers.answers, None) is None  # all five were tried
    third = LatentText(Drawn(), margin=0.2).run(Scripted(*scores), images[:1], ABSENT)
    assert torch.equal(finding.images, third.images)


def test_it_adds_what_is_asked_for(classifier, images):
    explanation = LatentText(Drawn())(classifier, images, Target(((0, 1.0),)))
    assert explanation.found.tolist() == [True, True]
    assert explanation.difference[1, 0, -8:, -8:].mean() > 0.3
    assert torch.equal(explanation.counterfactual[0], images[0])


def test_prompts_take_the_place_of_what_the_classifier_says(classifier, images):
    same = LatentText(Drawn(), prompt="Pleural effusion.", negative="Pleural effusion.")
    assert torch.equal(same(classifier, images, ABSENT).counterfactual, images)
    turned = LatentText(Drawn(), prompt="Pleural effusion.", negative="No effusion.")(classifier, images, ABSENT)
    assert turned.difference[1, 0, -8:, -8:].mean() > 0.3


def test_masks_bound_the_change(classifier, images, tmp_path):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[-4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    inside = LatentText(Drawn(), edit=str(tmp_path / "mask.png"))(classifier, images, ABSENT).difference[0, 0]
    outside = LatentText(Drawn(), keep=str(tmp_path / "mask.png"))(classifier, images, ABSENT).difference[0, 0]
    assert inside[-4:, -8:].mean() < -0.5
    assert inside[:-4].abs().max() < 1e-6
    assert outside[-8:-4, -8:].mean() < -0.5
    assert outside[-4:].abs().max() < 1e-6


class Film(Drawn):
    """A chest film; an effusion fills all of it."""

    card = Drawn.card.model_copy(update={"modality": "chest X-ray"})

    def denoiser(self, tokens, mask):
        def answer(noisy, sigma):
            level = sigma.view(-1, 1, 1, 1).square()
            return (0.04 * noisy + (1.3 * tokens - 0.5).view(-1, 1, 1, 1) * level) / (0.04 + level)

        return answer


def test_a_side_in_the_prompt_bounds_what_is_drawn_on_a_film(classifier, images):
    def sides(prior, **settings):
        there = Target(((0, 1.0),))
        explainer = LatentText(prior, prompt="Left pleural effusion.", strength=0.9, **settings)
        change = explainer(classifier, images, there).difference[1, 0].abs()
        return float(change[:, : SIDE // 2 - 4].mean()), float(change[:, SIDE // 2 :].mean())

    other, asked_for = sides(Film())
    assert other < 1e-6  # the patient's right is on the left of the image
    assert asked_for > 0.05
    assert min(sides(Film(), placed=False)) > 0.05
    film = Film()
    film.card = Drawn.card
    assert min(sides(film)) > 0.05  # of other images the words have no place


@pytest.mark.parametrize(
    ("prompt", "wanted", "bounded"),
    [
        ("Left pleural effusion.", ((0, 1.0),), True),
        ("Left pleural effusion. No nodule.", ((0, 1.0), (1, 0.0)), True),  # there is no nodule to go
        ("No left pleural effusion.", ((0, 0.0),), True),
        ("No pleural effusion.", ((0, 0.0),), False),
        ("Nodule in the left lung.", ((0, 0.0), (1, 1.0)), False),  # the effusion may be anywhere
        ("", ((0, 0.0),), False),
    ],
)
def test_what_is_to_go_may_be_anywhere(classifier, images, prompt, wanted, bounded):
    answers = classifier(images)
    explainer = LatentText(Film(), prompt=prompt)
    area = explainer._meant(CARD, answers, Target(wanted), 8, 8).expand(2, 1, 8, 8)
    shown = area[0, 0]  # the first image has an effusion
    assert shown[:, 4:].all()
    assert bool(shown[:, :4].any()) is not bounded


def test_inverted_it_needs_no_noise(classifier, images):
    explainer = LatentText(Drawn(), inverted=True)
    first, second = (explainer(classifier, images, ABSENT, seed=seed) for seed in (0, 1))
    assert torch.equal(first.counterfactual, second.counterfactual)
    assert first.found[0]
    assert first.deviation.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "says"), [({"strength": 0.05}, "takes 0 of 10 steps"), ({"draws": 0}, "at least 1")]
)
def test_settings_that_would_do_nothing_are_refused(settings, says):
    with pytest.raises(CounterscanError, match=says):
        LatentText(Drawn(), **settings)


def test_strength_is_a_share_of_the_steps():
    assert torch.equal(levels_of(10, 1.0), SCHEDULE.levels(10))
    assert len(levels_of(10, 0.3)) == 4
    assert levels_of(10, 0.3)[-1] == 0


def test_a_region_is_a_share_of_the_places_and_none_where_nothing_differs():
    differ = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.1
    differ[..., :8, :8] += 1
    region = region_of(differ, 0.05)
    assert region[..., :8, :8].mean() > 0.7
    assert region[..., 12:, 12:].max() == 0
    assert region_of(differ * 0, 0.5).max() == 0


def test_what_draws_do_not_agree_on_is_not_shown():
    change, deviation = torch.tensor([1.0, 0.1, 0.5, 0.0]), torch.tensor([0.0, 1.0, 0.5, 0.0])
    torch.testing.assert_close(agreed(change, deviation), torch.tensor([1.0, 0.1 * 0.01 / 1.01, 0.25, 0.0]))


def test_what_a_classifier_says_becomes_a_sentence():
    multi = Card(name="m", shape=(1, 8, 8), classes=("effusion", "nodule"))
    answers = torch.tensor([[2.0, -1.0], [2.0, 1.0], [-1.0, -1.0]])
    assert seen(multi, answers)[0] == "Pleural effusion."
    assert "nodule" in seen(multi, answers)[1].lower()
    assert seen(multi, answers)[2] == asked(multi, answers, ABSENT)[0]  # nothing is left: the text of a normal image
    assert asked(multi, answers, ABSENT)[1] == "Nodule. No pleural effusion."
    one_of = Card(name="o", shape=(1, 8, 8), classes=("normal", "cnv", "dme"), output="softmax", normal="normal")
    answers = torch.tensor([[-2.0, 2.0, -3.0]])
    assert seen(one_of, answers) == ["Choroidal neovascularisation."]
    turned = asked(one_of, answers, Target(((2, 1.0),)))
    assert turned == ["Diabetic macular oedema. No choroidal neovascularisation."]
    assert asked(one_of, answers, Target.parse("normal", one_of)) == [normal_text(("cnv", "dme"))]


def test_rungs_take_what_is_given():
    explainer = LatentText(Drawn(), strength=0.5, guidance=2.0)
    assert {(rung.strength, rung.guidance) for rung in explainer.ladder} == {(0.5, 2.0)}
    assert isinstance(explainer.ladder[0], Rung)


def test_what_is_called_small_is_drawn_in_less_of_the_image_than_what_is_called_large_on_every_rung():
    shares = {}
    for word in ("small", "moderate", "large"):
        explainer = LatentText(Drawn(), prompt=f"{word} left pleural effusion", strength=0.5)
        shares[word] = [rung.share for rung in explainer.ladder]
        assert shares[word] == sorted(shares[word])
        assert {rung.strength for rung in explainer.ladder} == {0.5}
        assert LatentText(Drawn(), prompt=f"{word} left pleural effusion", placed=False).ladder == LADDER
    assert max(shares["small"]) < min(shares["moderate"])
    assert max(shares["moderate"]) < min(shares["large"])


@pytest.mark.parametrize(
    "said",
    [
        [],
        [Mention("effusion", True)],
        [Mention("effusion", False, "small")],
        [Mention("effusion", True, "small"), Mention("nodule", True, "large")],
        [Mention("effusion", True, "small"), Mention("nodule", True)],
    ],
)
def test_without_one_size_of_all_that_is_there_the_rungs_stay_as_they_are(said):
    assert sized(LADDER, said) == LADDER


def test_what_is_gone_has_no_size():
    said = [Mention("effusion", True, "small"), Mention("nodule", False, "large")]
    assert sized(LADDER, said) == sized(LADDER, said[:1]) != LADDER
