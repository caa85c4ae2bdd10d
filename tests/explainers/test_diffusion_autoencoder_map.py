"""The map of a change is as coarse as the code that it is made in."""

import dataclasses

import torch

from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Target
from counterscan.explainers.diffusion_autoencoder import DiffusionAutoencoder

SCALE = 0.12  # of the code in image units: images keep clear of the clamp


class Tiles:
    """A codec of three by three tiles, whose decoder flickers in a corner's pixel more than any tile can change."""

    card = Card(name="tiles", shape=(1, 12, 12), classes=(), settings={"latents": 1, "places": 3})
    evaluations = 1

    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1) / SCALE

    def invert(self, images, latents):
        return images - self.tiles(latents)

    def decode(self, latents, noise):
        flickering = torch.zeros_like(noise)
        flickering[:, 0, 1, 1] = 1.5 * latents.view(-1, 3, 3)[:, 1, 1] * SCALE
        return noise + self.tiles(latents) - flickering

    def tiles(self, latents):
        return torch.nn.functional.interpolate(latents.view(-1, 1, 3, 3) * SCALE, scale_factor=4)


class Middle:
    """Class a is there where the middle tile is bright."""

    card = Card(name="middle", shape=(1, 12, 12), classes=("a",))
    differentiable = False

    def __call__(self, images):
        return images[:, :, 4:8, 4:8].mean((2, 3)) / SCALE * 2


def test_the_map_is_as_coarse_as_the_places_of_a_code_and_not_where_a_pixel_flickers():
    images = SCALE * torch.randn(80, 1, 3, 3, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 2)
    images = images.repeat_interleave(4, 3)
    explainer = DiffusionAutoencoder(Tiles()).fit(Middle(), images, kind="linear")
    shown = images[(images[:, 0, 5, 5] > SCALE)][:4]
    black_box = BlackBox(Middle())
    found = dataclasses.replace(explainer, sure=0.9)(black_box, shown, Target.parse("a=0", Middle.card))
    assert found.found.all()
    assert (found.difference.abs().flatten(1).argmax(1) == 12 + 1).all()
    rows, columns = found.heatmap.flatten(1).argmax(1) // 12, found.heatmap.flatten(1).argmax(1) % 12
    assert ((rows >= 4) & (rows < 8) & (columns >= 4) & (columns < 8)).all()
