"""Explain a torch classifier of your own: a card says what it takes and answers, LayerCAM shows where it looks.

Run: python examples/my_torch_classifier.py
"""

import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier, candidate_layers
from counterscan.core import Card, Target
from counterscan.explainers.attribution.layer_cam import LayerCAM


def scans(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise `(count, 1, 64, 64)` in [-1, 1], half of it with a bright blob; labels `(count,)`; the blobs' masks."""
    random = torch.Generator().manual_seed(seed)
    images = (torch.randn(count, 1, 64, 64, generator=random) * 0.1 - 0.4).clamp(-1, 1)
    centre = torch.randint(12, 52, (count, 2, 1, 1), generator=random)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    masks = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 < 49
    sick = torch.arange(count) % 2
    masks = (masks & sick.bool()[:, None, None])[:, None]
    return (images + 0.6 * masks).clamp(-1, 1), sick.float(), masks


def train(module: nn.Module, steps: int = 60) -> None:
    """Your own training goes here; this one takes seconds."""
    optimiser = torch.optim.AdamW(module.parameters(), 1e-2)
    for step in range(steps):
        images, sick, _ = scans(16, seed=step)
        loss = nn.functional.binary_cross_entropy_with_logits(module(images)[:, 0], sick)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 1))
    train(module)

    # one output for two classes is `binary`: the second class is the one whose logit the module answers
    card = Card(name="mine", shape=(1, 64, 64), classes=("normal", "blob"), output="binary", normal="normal")
    classifier = TorchClassifier(module, card)
    for layer in candidate_layers(classifier):
        print(f"layer {layer.name}: {layer.channels} channels, {layer.resolution}")

    images, sick, masks = scans(8, seed=1000)
    explanation = LayerCAM(layer="32")(classifier, images, Target.parse("blob=0", card))
    places = explanation.heatmap.flatten(1).argmax(1)
    for case in sick.nonzero()[:, 0]:
        inside = bool(masks[case].flatten()[places[case]])
        probability = float(explanation.before[case, 1].sigmoid())
        print(f"case {case}: blob with probability {probability:.2f}, brightest place of the map inside it: {inside}")
