"""When a training grows: what each step is like, and how many images the published one shows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.nets.growing_gan import enlarged, halved
from counterscan.train.growing import PRESETS, Growth, Resolution, blended, preset, shrunk, side_of

SHORT = Growth((Resolution(0, 20, 10, 8), Resolution(30, 10, 10, 8), Resolution(12, 12, 4, 4)))


def test_each_resolution_is_faded_in_and_then_kept():
    moments = [SHORT.at(step) for step in range(SHORT.steps)]
    assert [moment.grown for moment in moments] == [0, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2, 2]
    assert [moment.side for moment in moments] == [4, 4, *[8] * 4, *[16] * 6]
    assert [moment.batch for moment in moments] == [*[10] * 6, *[4] * 6]
    assert [step for step, moment in enumerate(moments) if moment.begins] == [0, 2, 5, 6, 9]
    assert SHORT.images == 20 + 30 + 10 + 12 + 12


@given(st.floats(0.01, 3), st.sampled_from(sorted(PRESETS)))
def test_growing_never_goes_back(length, name):
    growth = Growth(PRESETS[name].resolutions, length)
    steps = [k * (growth.steps - 1) // 50 for k in range(51)]
    grown = [growth.at(step).grown for step in steps]
    assert grown == sorted(grown)
    assert grown[-1] == len(growth.resolutions) - 1


def test_the_published_training_shows_fourteen_million_images():
    known, resolutions = preset("published", 0)
    assert side_of(len(resolutions) - 1) == 1024
    assert Growth(resolutions).images == pytest.approx(14.0e6, rel=1e-4)
    assert (known.loss, known.rate, known.latents, known.average) == ("wgan-gp", 1e-3, 512, 0.999)


def test_batches_are_whole_groups():
    assert all(one.batch % 4 == 0 for known in PRESETS.values() for one in known.resolutions)


def test_a_size_that_it_does_not_grow_to_is_refused():
    assert len(preset("small", 32)[1]) == 4
    with pytest.raises(
        CounterscanError, match="size=100 is no side that small grows to; set one of 8, 16, 32, 64, 128"
    ):
        preset("small", 100)
    with pytest.raises(CounterscanError, match="did you mean 'published'"):
        preset("publish", 0)


def test_real_images_are_blended_as_made_ones_are():
    images = torch.randn(2, 1, 32, 32)
    small = shrunk(images, 8)
    torch.testing.assert_close(small, halved(halved(images)))
    assert torch.equal(blended(small, 1.0), small)
    torch.testing.assert_close(blended(small, 0.25), 0.75 * enlarged(halved(small)) + 0.25 * small)
