"""What every registered attribution promises to the network that it looks into, in two dimensions and in three."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.errors import ClassifierError
from counterscan.explainers.base import AttributionExplainer
from counterscan.explainers.build import build_explainer, needs_prior
from counterscan.progress import progress
from counterscan.registry import EXPLAINERS

ATTRIBUTIONS = [
    name for name in EXPLAINERS if issubclass(EXPLAINERS[name], AttributionExplainer) and not needs_prior(name)
]
QUICK = {
    "rise": {"masks": 20, "s": 3},
    "occlusion": {"window": 6, "stride": 6},
    "smooth-grad": {"samples": 3},
    "integrated-gradients": {"steps": 4},
}
SIZES = {2: (14, 16), 3: (14, 15, 16)}
CLASSES = {"binary": ("lesion",), "softmax": ("normal", "lesion", "other"), "multilabel": ("lesion", "other")}
TARGETS = {"binary": "lesion=0", "softmax": "normal=1", "multilabel": "lesion=0,other=1"}
each_attribution = pytest.mark.parametrize("name", ATTRIBUTIONS)
each_dims = pytest.mark.parametrize("dims", SIZES)
each_output = pytest.mark.parametrize("output", CLASSES)


class Network(nn.Module):
    """Residual, with norms and in-place activations: the first works on the input itself, another on a sum."""

    def __init__(self, dims: int, outputs: int, channels: int = 2):
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        torch.manual_seed(0)
        self.clip = nn.Hardtanh(-0.8, 0.8, inplace=True)
        self.stem, self.norm1 = conv(channels, 4, 3, padding=1), norm(4)
        self.block, self.norm2 = conv(4, 4, 3, padding=1), norm(4)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.stem(self.clip(images))))
        x = self.relu(x + self.norm2(self.block(x))).flatten(2)
        return self.head(torch.cat([x.mean(2), x.amax(2)], 1))


def classifier_of(dims: int, output: str) -> TorchClassifier:
    classes = CLASSES[output]
    card = Card(name="toy", shape=(2, *SIZES[dims]), classes=classes, output=output)
    return TorchClassifier(Network(dims, len(classes)), card)


def images_of(dims: int, count: int = 2) -> Tensor:
    return torch.rand(count, 2, *SIZES[dims], generator=torch.Generator().manual_seed(1)) * 2 - 1


def explained(name: str, classifier: TorchClassifier, images: Tensor):
    target = Target.parse(TARGETS[classifier.card.output], classifier.card)
    return build_explainer(name, **QUICK.get(name, {}))(classifier, images, target, seed=4)


@each_attribution
@each_dims
@each_output
def test_flat_images_and_volumes_of_any_kind_of_classifier(name, dims, output):
    classifier, images = classifier_of(dims, output), images_of(dims)
    before, first = images.clone(), explained(name, classifier, images)
    assert first.heatmap.shape == (2, 1, *SIZES[dims])
    assert first.heatmap.isfinite().all()
    assert first.heatmap.min() >= 0
    assert torch.equal(images, before), "a network that works in place on its input does not change the user's image"
    torch.testing.assert_close(first.before, classifier(before.clone()))
    alone = explained(name, classifier, images[1:]).heatmap
    torch.testing.assert_close(first.heatmap[1:], alone, rtol=1e-3, atol=1e-5 * float(alone.max()) + 1e-9)


def state_of(module: nn.Module) -> list:
    """All that a user would miss: gradients, flags, modes, statistics, hooks."""
    parameters = [
        (p.requires_grad, p._version, None if p.grad is None else p.grad.clone()) for p in module.parameters()
    ]
    parts = [(part.training, list(part._forward_hooks), list(part._forward_pre_hooks)) for part in module.modules()]
    backward = [(list(part._backward_hooks), getattr(part, "inplace", None)) for part in module.modules()]
    return [parameters, parts, backward, [buffer.clone() for buffer in module.buffers()]]


def same(one, other) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@each_attribution
@given(data=st.data(), dims=st.sampled_from(list(SIZES)), output=st.sampled_from(list(CLASSES)))
@settings(max_examples=6, deadline=None)
def test_the_module_is_left_as_it_was_whatever_it_was(name, data, dims, output):
    classifier, images = classifier_of(dims, output), images_of(dims, 1)
    module = classifier.module
    plain = explained(name, classifier, images).heatmap
    for part in module.modules():
        part.training = data.draw(st.booleans())
    for parameter in module.parameters():
        parameter.requires_grad = data.draw(st.booleans())
        parameter.grad = torch.ones_like(parameter) if data.draw(st.booleans()) else None
    seen: list[int] = []
    module.stem.register_forward_hook(lambda *_: seen.append(1))
    before = copy.deepcopy(state_of(module))
    with torch.set_grad_enabled(data.draw(st.booleans())):
        again = explained(name, classifier, images).heatmap
    assert same(state_of(module), before)
    assert seen, "the user's own hook still runs"
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-6 * float(plain.max()))
    assert not again.requires_grad


@each_attribution
def test_a_failure_in_the_network_leaves_it_as_it_was(name):
    classifier = classifier_of(2, "binary")
    module = classifier.module.train()
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("out of memory")

    module.head.register_forward_hook(fail)
    before = copy.deepcopy(state_of(module))
    with pytest.raises(ClassifierError, match="out of memory"):
        # some ask once, some often: the third answer fails in any case
        [explained(name, classifier, images_of(2, 1)) for _ in range(3)]
    assert same(state_of(module), before)


@pytest.mark.parametrize("name", sorted({"rise", "score-cam", "occlusion"} & set(ATTRIBUTIONS)))
def test_long_work_tells_the_progress_around_it_and_nobody_else(name, capsys, monkeypatch):
    monkeypatch.setattr("counterscan.progress.EVERY", 0.0)
    explained(name, classifier_of(2, "binary"), images_of(2, 1))
    assert capsys.readouterr().err == ""
    with progress("explain", 1, "cases") as done:
        explained(name, classifier_of(2, "binary"), images_of(2, 1))
        done(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("explain: 0 of 1 cases (")
    assert lines[-1].startswith("explain: 1 of 1 cases, ")
