"""How an editor in training is judged on validation images, and how its mask rule is calibrated there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card, Classifier, Target
from counterscan.data.batches import Images
from counterscan.metrics.calibration import HEALTHY_LIMIT, search
from counterscan.metrics.masks import MaskRule, smooth
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.editor import BATCH, ConditionedEditor

SHOWN = 8  # abnormal images in a preview
MOST = 600  # validation images looked at while training

Edit = Callable[[Tensor, Target], Tensor]


class Selection:
    """Scores an editor of `card` by image-level labels alone: it flips the abnormal, leaves the healthy as they are.

    Masks, where validation images have them, choose the mask rule after training, and nothing else.
    """

    def __init__(self, classifier: Classifier, images: Images, findings: Sequence[int], card: Card):
        self.classifier, self.images, self.card = classifier, images, card
        self.target = Target(tuple((index, 0.0) for index in findings))
        labels = images.labels[:, list(findings)]
        self.abnormal = torch.nonzero((labels == 1).any(1))[:, 0]
        self.healthy = torch.nonzero((labels == 0).all(1))[:, 0]

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """`flip_rate`, mean change of abnormal and healthy images, `score` = flip rate x the abnormal share of it."""
        flipped, attempted, change = 0, 0, {"abnormal": 0.0, "healthy": 0.0}
        for kind, chosen in (("abnormal", self.abnormal[: MOST // 2]), ("healthy", self.healthy[: MOST // 2])):
            for images, edited in self._edited(self._editor(network), chosen):
                change[kind] += float((edited - images).abs().mean((1, 2, 3)).sum()) / 2 / len(chosen)
                before, after = (self.target.reached(self.classifier(x)) for x in (images, edited))
                attempted += int((~before).sum()) if kind == "abnormal" else 0
                flipped += int((after & ~before).sum()) if kind == "abnormal" else 0
        flip_rate = flipped / max(attempted, 1)
        where = change["abnormal"] / max(sum(change.values()), 1e-9)
        return {"flip_rate": flip_rate, **{f"change_{k}": v for k, v in change.items()}, "score": flip_rate * where}

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet: images, counterfactuals, and the size of the change."""
        images, edited = next(self._edited(self._editor(network), self.abnormal[:SHOWN]))
        rows = (images, edited, (edited - images).abs() - 1)
        contact_sheet([[grey(image) for image in row] for row in rows]).save(path)

    def calibrated(self, network: nn.Module, card: Card, edit: Edit | None = None) -> Card:
        """The card with a mask rule: by the masks of validation images, or where there are none by silence.

        `edit` is what the explainer answers, where that is not one pass of the editor.
        """
        edit = edit or self._editor(network)
        if any(case.mask_path for case in self.images.manifest.cases):
            chosen = torch.cat([self.abnormal, self.healthy]).sort().values
            heat = torch.cat([self._heat(*pair) for pair in self._edited(edit, chosen)])
            found = search(heat, self.images.masks(chosen))
            figures = {"validation_iou": found.iou, "validation_healthy_mask_share": found.healthy_mask_share}
            return card.model_copy(update={"mask_rule": found.rule.to_dict(), "metrics": figures})
        heat = torch.cat([self._heat(*pair) for pair in self._edited(edit, self.healthy)])
        peaks = torch.tensor([float(smooth(one[0].numpy(), 1.0).max()) for one in heat])
        rule = MaskRule(float(peaks.quantile(1 - HEALTHY_LIMIT)), blur=1.0, smallest=8.0, fill=True)
        return card.model_copy(update={"mask_rule": rule.to_dict()})

    @torch.no_grad()
    def _edited(self, edit: Edit, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for part in chosen.split(BATCH):
            images = self.images.batch(part)
            yield images, edit(images, self.target)

    def _editor(self, network: nn.Module) -> ConditionedEditor:
        return ConditionedEditor(network, self.card)

    def _heat(self, images: Tensor, edited: Tensor) -> Tensor:
        """The size of the change as a share of the window; none where the classifier sees nothing to be removed."""
        asked = ~self.target.reached(self.classifier(images))
        return (edited - images).abs().mean(1, keepdim=True) / 2 * asked.view(-1, 1, 1, 1)
