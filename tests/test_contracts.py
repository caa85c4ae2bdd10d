"""What everything that is registered promises: tested by being registered."""

import dataclasses
import inspect
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Target
from counterscan.data.phantoms.base import draw, module
from counterscan.errors import NeedsGradients, UnknownName
from counterscan.explainers.base import CounterfactualExplainer, Explainer
from counterscan.explainers.build import build_explainer, needs_prior
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.distillation import distil
from counterscan.priors.generator import on_sphere
from counterscan.registry import EXPLAINERS, METRICS, RECIPES, Registry

ROOT = Path(__file__).parents[1]
SIDE = 64
QUICK = {
    "rise": {"masks": 32, "s": 4},
    "sparse": {"steps": 8, "ladder": [1]},
    "latent-optimisation": {"draws": 32, "inversion": 20, "steps": 20},
}  # settings that make an explainer quick; a new one may need an entry here
DRAWN = 1e-4  # how exactly a replay agrees


class Darker:
    """A trivial editor: dims what is bright, as much as the target asks for."""

    card = Card(name="darker", kind="editor", shape=(1, SIDE, SIDE), classes=("bright",))

    def __call__(self, images: Tensor, target: Target) -> Tensor:
        return torch.where(images > 0, images * 0.5, images)


class Bright(nn.Module):
    """A tiny network that answers how bright the brightest part of an image is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 5, stride=2, padding=2)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        nn.init.constant_(self.first.weight, 1 / 25)
        nn.init.constant_(self.second.weight, 1 / 36)
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.second.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.second(torch.relu(self.first(images))).relu()
        return features.flatten(1).max(1, keepdim=True).values * 20 - 1


@pytest.fixture(scope="module")
def classifier():
    card = Card(name="bright", shape=(1, SIDE, SIDE), classes=("bright",))
    return TorchClassifier(Bright().eval(), card)


@pytest.fixture(scope="module")
def images():
    low, high, _ = module("abdomen").WINDOW
    pixels = np.stack([draw("abdomen", index, seed=3, size=SIDE).image for index in range(3)])
    return torch.from_numpy(pixels).sub(low).div((high - low) / 2).sub(1).clamp(-1, 1)[:, None].float()


class Lit:
    """A trivial segmenter: what is bright."""

    card = Card(name="lit", kind="segmenter", shape=(1, SIDE, SIDE), classes=("bright",))

    def __call__(self, images: Tensor) -> Tensor:
        return (images > 0).float()


class Dim:
    """A trivial denoiser: the best of images that are -0.5 +- 0.5 in each pixel."""

    card = Card(name="dim", kind="denoiser", shape=(1, SIDE, SIDE), classes=())

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.view(-1, 1, 1, 1).square()
        return (0.25 * noisy - 0.5 * level) / (0.25 + level)


class Coarse:
    """A trivial codec: the code is how bright each of 16 tiles is, the noise is the rest."""

    card = Card(name="coarse", kind="codec", shape=(1, SIDE, SIDE), classes=())
    evaluations = 1

    def encode(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, SIDE // 4).flatten(1) * 4

    def invert(self, images: Tensor, latents: Tensor) -> Tensor:
        return images - functional.interpolate(latents.view(-1, 1, 4, 4) / 4, size=SIDE)

    def decode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return (noise + functional.interpolate(latents.view(-1, 1, 4, 4) / 4, size=SIDE)).clamp(-1, 1)


class Spots:
    """A trivial generator: 16 tiles, each as bright as its latent says. Its critic finds all images alike."""

    card = Card(name="spots", kind="generator", shape=(1, SIDE, SIDE), classes=())
    latents = 16

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return on_sphere(torch.randn(n, 16, generator=generator))

    def __call__(self, latents: Tensor) -> Tensor:
        return functional.interpolate(torch.tanh(latents.view(-1, 1, 4, 4) / 2), size=SIDE)

    def critic(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1).mean(1)

    def critic_quantile(self, q: float) -> float:
        return 0.0


class Spoken:
    """A trivial text prior: latents are 4 x 4 tiles, dark where the text denies something, and bright where not."""

    card = Card(name="spoken", kind="denoiser", shape=(1, SIDE, SIDE), classes=())
    latents = (1, SIDE // 4, SIDE // 4)

    @property
    def codec(self) -> "Spoken":
        return self

    def encode(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 4)

    def decode(self, latents: Tensor) -> Tensor:
        return functional.interpolate(latents, scale_factor=4).clamp(-1, 1)

    def text(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        denied = torch.tensor([[[float(text.startswith("No"))]] for text in sentences])
        return denied, torch.ones(len(sentences), 1, dtype=torch.bool)

    def denoiser(self, tokens: Tensor, mask: Tensor):
        def answer(noisy: Tensor, sigma: Tensor) -> Tensor:
            level = sigma.view(-1, 1, 1, 1).square()
            return (0.25 * noisy + (0.2 - 1.1 * tokens[..., None]) * level) / (0.25 + level)

        return answer


PRIORS = {  # where it is no editor
    "student": Lit(),
    "diffusion-guidance": Dim(),
    "diffusion-autoencoder": Coarse(),
    "latent-optimisation": Spots(),
    "latent-text": Spoken(),
}


@cache
def agent() -> Agent:
    """What has learned from some noise that brightness counts."""
    latents = 3 * torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
    return distil(latents, latents.sum(1, keepdim=True), ("bright",))


def built(name: str) -> Explainer:
    prior = PRIORS.get(name, Darker()) if needs_prior(name) else None
    fitted = {"fitted": agent()} if hasattr(EXPLAINERS[name], "fit") else {}
    return build_explainer(name, prior=prior, **QUICK.get(name, {}), **fitted)


TARGET = Target(((0, 0.0),))
each_explainer = pytest.mark.parametrize("name", list(EXPLAINERS))


@each_explainer
def test_it_answers_with_the_right_shapes_and_ranges(name, classifier, images):
    explanation = built(name)(classifier, images, TARGET)
    assert explanation.heatmap.shape == (3, 1, SIDE, SIDE)
    assert explanation.heatmap.isfinite().all()
    assert explanation.heatmap.min() >= 0
    assert explanation.heatmap.max() > 0, "these images are bright: a map must show where"
    assert explanation.before.shape == (3, 1)
    assert explanation.found.shape == (3,)
    assert explanation.found.dtype == torch.bool
    if isinstance(built(name), CounterfactualExplainer):
        assert explanation.counterfactual.shape == images.shape
        assert explanation.counterfactual.abs().max() <= 1
        assert torch.equal(explanation.found, TARGET.reached(explanation.after))
    assert explanation.meta["queries"] > 0
    assert explanation.meta["explainer"] == repr(built(name))


@each_explainer
def test_it_leaves_its_input_and_the_global_random_state_alone(name, classifier, images):
    before, state = images.clone(), torch.get_rng_state()
    built(name)(classifier, images, TARGET, seed=5)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@each_explainer
def test_it_replays_from_its_seed_whatever_was_drawn_in_between(name, classifier, images):
    first = built(name)(classifier, images, TARGET, seed=5)
    torch.rand(7)
    again = built(name)(classifier, images, TARGET, seed=5)
    assert torch.allclose(first.heatmap, again.heatmap, atol=DRAWN)


@each_explainer
def test_an_image_is_explained_the_same_alone_and_among_others(name, classifier, images):
    together = built(name)(classifier, images, TARGET).heatmap[1:2]
    alone = built(name)(classifier, images[1:2], TARGET).heatmap
    assert torch.allclose(together, alone, atol=1e-3 * float(together.max()))


@each_explainer
def test_it_is_honest_about_gradients(name, classifier, images):
    explainer = built(name)
    if explainer.needs_gradients:
        with pytest.raises(NeedsGradients, match="black box"):
            explainer(BlackBox(classifier), images, TARGET)
        return
    seen = explainer(classifier, images, TARGET)
    boxed = explainer(BlackBox(classifier), images, TARGET)
    assert torch.allclose(seen.heatmap, boxed.heatmap, atol=DRAWN)


@each_explainer
def test_it_is_a_frozen_dataclass_that_says_what_it_is(name):
    explainer = built(name)
    assert type(explainer).__dataclass_params__.frozen
    assert type(explainer).__name__ in repr(explainer)
    assert dataclasses.replace(explainer) == explainer


@each_explainer
def test_it_has_a_page_and_a_test_of_its_own(name):
    assert (ROOT / "docs" / "methods" / f"{name}.md").is_file()
    file = inspect.getfile(EXPLAINERS[name])
    tests = ROOT / "tests" / Path(file).relative_to(ROOT / "src" / "counterscan").parent
    assert (tests / f"test_{Path(file).name}").is_file()
    assert Path(file).stem == name.replace("-", "_"), "the file's name is the registry's name"


@pytest.mark.parametrize("name", list(METRICS))
def test_a_metric_answers_per_image(name, classifier, images):
    explanation = built("inpainting")(classifier, images, TARGET)
    values = METRICS[name](explanation, classifier=classifier, judge=classifier, truth=None)
    assert values.shape == (3,)
    assert values.is_floating_point()
    assert inspect.getdoc(METRICS[name])


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_needs_no_settings_to_be_set_up(name):
    assert dataclasses.replace(RECIPES[name]()) == RECIPES[name]()
    assert inspect.getdoc(RECIPES[name])


@pytest.mark.parametrize("registry", [EXPLAINERS, METRICS, RECIPES], ids=lambda registry: registry.kind)
def test_a_mistyped_name_is_answered_with_the_nearest(registry: Registry):
    name = next(iter(registry))
    with pytest.raises(UnknownName, match=re.escape(f"did you mean {name!r}")):
        registry[name + "x"]
