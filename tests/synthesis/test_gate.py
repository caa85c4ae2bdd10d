"""The gate: whoever objects is named, a copy is caught, a repeat is caught, and what is fine passes."""

import pytest
import torch

from counterscan.classifiers.features import Extractor
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Target
from counterscan.errors import CounterscanError
from counterscan.synthesis.gate import Gate, Limits, extractor_of, limits_of, own_limits

PRESENT = Target(((0, 1.0),))
NONE = torch.zeros(0, 0)


def bright_first(tiles, n=4, seed=0):
    """Images whose first tile is bright, in the usual mean."""
    latents = tiles.draw(400, torch.Generator().manual_seed(seed))
    images = tiles(latents)
    usual = tiles.critic(images) > tiles.critic_quantile(0.2)
    return images[(latents[:, 0] > 1) & usual][:n]


@pytest.fixture
def gate(tiles, bright):
    def build(**parts):
        judge = parts.pop("judge", bright(bias=-0.3))
        extractor = Extractor.of(judge)
        known = {"limits": own_limits(tiles, extractor)}
        return Gate(tiles, bright(), judge, extractor, **known | parts)

    return build


def refused(gate, images, taken=NONE):
    return [one.refused for one in gate(images, [PRESENT] * len(images), taken)]


def test_what_both_see_and_is_usual_passes_with_what_was_seen(tiles, bright, gate):
    images = bright_first(tiles)
    for verdict, image in zip(gate()(images, [PRESENT] * 4, NONE), images, strict=True):
        assert verdict.refused == ""
        assert verdict.answers[0] > 0
        assert verdict.score == pytest.approx(float(bright()(image[None])[0, 0]), abs=1e-4)
        assert verdict.critic == pytest.approx(float(tiles.critic(image[None])), abs=1e-5)
        assert verdict.nearest != verdict.nearest, "nothing real is known"


def test_the_classifier_objects_first_then_the_judge(tiles, bright, gate):
    images = bright_first(tiles)
    assert set(refused(gate(), -images)) == {"classifier"}
    assert set(refused(gate(judge=bright(bias=-40)), images)) == {"judge"}


def test_what_the_critic_finds_unusual_is_refused(tiles, gate):
    images = (bright_first(tiles) + 1.5).clamp(-1, 1)
    assert set(refused(gate(), images)) == {"critic"}


def test_a_copy_of_a_real_image_is_refused_and_another_is_not(tiles, bright, gate):
    extractor = Extractor.of(bright(bias=-0.3))
    real = tiles(tiles.draw(200, torch.Generator().manual_seed(5)))
    mine, copied = bright_first(tiles, seed=1), bright_first(tiles, seed=2)
    features = extractor(torch.cat([real, copied]))
    limits = limits_of(features, list(map(str, range(len(features)))))
    checked = gate(limits=limits)
    assert refused(checked, copied) == ["copy"] * 4
    assert refused(checked, copied + 1e-4) == ["copy"] * 4, "nor one that differs by noise"
    passed = checked(mine, [PRESENT] * 4, NONE)
    assert [one.refused for one in passed] == [""] * 4
    assert min(one.nearest for one in passed) > limits.copy


def test_two_alike_are_taken_once_and_one_that_is_in_the_archive_not_again(tiles, gate):
    images, checked = bright_first(tiles, 2), gate()
    twice = torch.cat([images, images[:1]])
    assert refused(checked, twice) == ["", "", "duplicate"]
    taken = torch.stack([one.features for one in checked(images, [PRESENT] * 2, NONE)])
    assert refused(checked, twice, taken) == ["duplicate"] * 3


def test_the_limits_are_between_patients_not_between_images_of_one():
    features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    doubled = torch.cat([features, features + 1e-3])
    patients = list(map(str, range(60))) * 2
    assert limits_of(doubled, patients).copy > 0.1
    assert len(limits_of(doubled, patients).references) == 120, "but all are looked at for copies"
    with pytest.raises(CounterscanError, match="at least 20"):
        limits_of(features[:19], patients[:19])


def test_features_come_from_the_classifier_where_the_judge_is_a_black_box(bright):
    judge = bright(bias=-1)
    assert extractor_of(judge, bright()).name == Extractor.of(judge).name

    class Service:
        card, differentiable = judge.card, False

        def __call__(self, images):
            return BlackBox(judge)(images)

    classifier = bright(name="mine")
    assert extractor_of(Service(), classifier).name.startswith("mine")


def test_limits_without_real_images_let_nothing_count_as_a_copy(tiles, bright):
    limits = own_limits(tiles, Extractor.of(bright()))
    assert limits == Limits(limits.references, 0.0, limits.repeat)
    assert len(limits.references) == 0
    assert limits.repeat > 0
