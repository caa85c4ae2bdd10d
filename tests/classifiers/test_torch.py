import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier, candidate_layers, find_layer, forward_with_layers
from counterscan.classifiers.wrappers import BlackBox, Counting, Fitted
from counterscan.core import Card
from counterscan.errors import ClassifierError, NeedsGradients


def network(outputs: int = 2, channels: int = 1) -> nn.Sequential:
    """Three resolutions (32, 16, 8), batch norm, dropout and layers that work in place."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs)),
    )


def card(**changes) -> Card:
    facts = {"name": "toy", "shape": (1, 32, 32), "classes": ("a", "b"), "output": "multilabel"}
    return Card(**{**facts, **changes})


IMAGES = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(before, after, 3, stride, 1), nn.Conv2d(after, after, 3, 1, 1)
        self.short = nn.Conv2d(before, after, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.short(x) + self.conv2(self.relu(self.conv1(x))))


class SmallResNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.layer1 = nn.Sequential(Residual(4, 6, 2), Residual(6, 6, 1))
        self.layer2 = nn.Sequential(Residual(6, 8, 2), Residual(8, 8, 1))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.layer2(self.layer1(self.act(self.norm(self.stem(x))))).mean((2, 3)))


def test_it_answers_what_the_module_answers_in_evaluation_mode():
    module = network().train()
    answer = TorchClassifier(module, card())(IMAGES)
    torch.testing.assert_close(answer, module.eval()(IMAGES).detach())


def test_the_user_s_module_is_left_as_it_was():
    module = network().train()
    module[1].eval()  # frozen by its owner in the middle of training
    module[4].weight.requires_grad_(False)
    module(IMAGES).sum().backward()
    fired = []
    module[0].register_forward_hook(lambda *_: fired.append(1))
    modes = [part.training for part in module.modules()]
    learning = [parameter.requires_grad for parameter in module.parameters()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in module.parameters()]

    classifier = TorchClassifier(module, card())
    images = IMAGES.clone().requires_grad_()
    classifier(images).sum().backward()
    forward_with_layers(classifier, IMAGES, ["5"])[1].sum().backward()

    assert fired, "the user's own hook still runs"
    assert images.grad is not None
    assert [part.training for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == learning
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in state.items())
    for before, parameter in zip(gradients, module.parameters(), strict=True):
        assert (before is None and parameter.grad is None) or torch.equal(before, parameter.grad)
    assert sum(len(part._forward_hooks) for part in module.modules()) == 1


def test_a_module_that_fails_is_restored_and_reported_in_one_line():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()).train()
    with pytest.raises(ClassifierError, match=r"toy failed on images \(3, 1, 32, 32\): RuntimeError") as caught:
        TorchClassifier(module, card())(IMAGES)
    assert "\n" not in str(caught.value)
    assert module.training
    assert module[0].weight.requires_grad


def test_nan_is_an_error():
    module = network()
    nn.init.constant_(module[0].bias, torch.nan)
    with pytest.raises(ClassifierError, match="NaN or infinity for 3 of 3 images"):
        TorchClassifier(module, card())(IMAGES)


def test_half_precision_modules_and_their_own_normalisation():
    module = network().eval()
    plain = TorchClassifier(module, card(mean=(0.5,), std=(2.0,)))(IMAGES)
    torch.testing.assert_close(plain, module((IMAGES - 0.5) / 2).detach())
    half = TorchClassifier(network().eval().bfloat16(), card())(IMAGES)
    assert half.dtype == torch.float32


def test_gradients_in_the_image_survive_fitted_and_counting():
    classifier = Counting(Fitted(TorchClassifier(network(channels=3), card(shape=(3, 32, 32))), (1, 20, 20)))
    images = torch.rand(2, 1, 20, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(classifier(images).sum(), images)
    assert gradient.abs().sum() > 0
    assert classifier.queries == 2


def test_candidate_layers_are_the_ends_of_blocks_at_each_resolution():
    found = candidate_layers(Counting(TorchClassifier(network(), card())))
    assert [(one.name, one.channels, one.spatial) for one in found] == [
        ("2", 4, (32, 32)),
        ("5", 6, (16, 16)),
        ("9", 8, (8, 8)),
    ]
    assert [(one.name, one.resolution) for one in candidate_layers(TorchClassifier(SmallResNet(), card()))] == [
        ("act", "32x32"),
        ("layer1.0", "16x16"),
        ("layer1.1", "16x16"),
        ("layer2.0", "8x8"),
        ("layer2.1", "8x8"),
    ]


def test_a_norm_after_the_last_block_is_a_candidate_too():
    """Networks that norm before they activate have their features there, not at the end of the block."""
    layers = (nn.Conv2d(1, 4, 3, 2, 1), Residual(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 2))
    assert [one.name for one in candidate_layers(TorchClassifier(module, card()))] == ["0", "1", "3"]


def test_at_most_four_candidates_share_a_resolution():
    blocks = [nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()) for _ in range(9)]
    module = nn.Sequential(nn.Conv2d(1, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    names = [one.name for one in candidate_layers(TorchClassifier(module, card()))]
    assert names == ["6.1", "7.1", "8.1", "9.1"]


@pytest.mark.parametrize(
    ("layer", "found"),
    [("", "layer1.1"), ("16", "layer1.1"), ("8x8", "layer2.1"), ("layer2.0.conv1", "layer2.0.conv1")],
)
def test_a_layer_is_a_name_a_resolution_or_the_default(layer, found):
    assert find_layer(TorchClassifier(SmallResNet(), card()), layer) == found


def test_the_default_of_a_coarse_network_is_its_finest_layer():
    assert find_layer(TorchClassifier(network(), card(shape=(1, 12, 12)))) == "2"


def test_mistyped_layers_are_answered_with_the_nearest():
    with pytest.raises(ClassifierError, match=r"has no layer 'layer1.2'; did you mean 'layer1.[01]'"):
        find_layer(TorchClassifier(SmallResNet(), card()), "layer1.2")
    with pytest.raises(ClassifierError, match="has no map"):
        forward_with_layers(TorchClassifier(SmallResNet(), card()), IMAGES, ["head"])


def test_a_network_without_maps_says_so():
    flat = TorchClassifier(nn.Sequential(nn.Flatten(), nn.Linear(1024, 2)), card())
    with pytest.raises(ClassifierError, match="no layer with a spatial map; use one that needs none: rise"):
        forward_with_layers(flat, IMAGES, [""])


def test_layers_of_black_boxes_are_refused():
    hidden = Counting(BlackBox(TorchClassifier(network(), card())))
    for ask in (candidate_layers, find_layer, lambda it: forward_with_layers(it, IMAGES, [""])):
        with pytest.raises(NeedsGradients, match="toy is a black box"):
            ask(hidden)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_activation_and_the_answer_hang_together(mode, frozen):
    module = network().eval().requires_grad_(not frozen)
    classifier = Counting(TorchClassifier(module, card()))
    with mode():
        (activation,), log_odds = forward_with_layers(classifier, IMAGES.clone(), ["5"])
    torch.testing.assert_close(activation.detach(), module[:6](IMAGES).detach())
    torch.testing.assert_close(log_odds.detach(), module(IMAGES).detach())
    (gradient,) = torch.autograd.grad(log_odds[:, 1].sum(), activation)
    (truth,) = torch.autograd.grad(module[6:](a := activation.detach().requires_grad_())[:, 1].sum(), a)
    torch.testing.assert_close(gradient, truth)
    assert classifier.queries == 3


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_modules_answer_too():
    scripted = torch.jit.trace(network().eval(), IMAGES)
    classifier = TorchClassifier(scripted, card())
    torch.testing.assert_close(classifier(IMAGES), network().eval()(IMAGES).detach())
