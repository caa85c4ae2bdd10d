"""Train a segmentation network on masks: those that an explainer made (pseudo-labels), or true ones (the upper bound).

Masks of images whose labels say that the finding is absent are empty, whatever the explainer made of them; images that
show it and got no mask are left out. So the image-level labels clean what is learned from.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.data.batches import Images
from counterscan.data.manifest import Case, Manifest
from counterscan.errors import ManifestError
from counterscan.metrics.calibration import search
from counterscan.nets.blocks import channels_last
from counterscan.nets.precision import reduced
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.editor import BATCH
from counterscan.priors.segmenter import NetworkSegmenter
from counterscan.registry import RECIPES
from counterscan.train.augment import augment_both
from counterscan.train.descent import descend
from counterscan.train.editing import indices_of
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.train.sampler import pick
from counterscan.train.starting import first_card, first_network, opened
from counterscan.weights.store import save_weights

SHOWN = 8  # images in a preview
MOST = 300  # validation images looked at while training


@RECIPES.register("student")
@dataclass(frozen=True)
class StudentRecipe:
    """Trains MONAI's BasicUNet (extra [monai]) on masks of `findings` (comma-separated; every disease, if not given).

    `masks` is a folder that `counterscan segment` or `counterscan explain` wrote for the manifest's images; without it
    the manifest's own masks teach. Loss: Dice and cross-entropy (MONAI's DiceCELoss). The state with the best Dice on
    validation is kept; the masks there are the teacher's, too. `start` is a segmenter to go on from.
    """

    masks: str = ""
    findings: str = ""
    name: str = ""
    channels: int = 1
    size: int = 128
    steps: int = 2000
    batch: int = 12
    rate: float = 2e-3
    flip: bool = False
    fold: int = 0
    start: str = ""
    seed: int = 0

    def train(
        self,
        manifest: Manifest,
        out: Path,
        *,
        resume: bool = False,
        say: Callable[[str], None] = print,
        command: str = "",
    ) -> Path:
        """Train on the manifest's training part, select and calibrate on validation; write weights and card."""
        card = self._card(manifest, out, command)
        manifest = taught(manifest, self.masks, card.classes)
        split = parts(manifest, fold=self.fold, flip=self.flip)
        images = opened({name: split[name] for name in ("train", "validation")}, card.shape)
        network = first_network(card, self.seed, self.start)
        task = StudentTask(network, images, card, self.batch, self.rate, self.flip)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        return save_weights(out, network, task.calibrated(network))

    def _card(self, manifest: Manifest, out: Path, command: str) -> Card:
        every = first_card(
            self.name or out.name,
            manifest,
            command,
            kind="segmenter",
            shape=(self.channels, self.size, self.size),
            classes=manifest.classes,
            network="basic_unet",
            settings={"channels": self.channels, "outputs": 1},
            source=f"taught by {Path(self.masks).name}" if self.masks else "taught by true masks",
        )
        shown = tuple(manifest.classes[index] for index in indices_of(self.findings, manifest, every))
        return every.model_copy(update={"classes": shown})


def taught(manifest: Manifest, masks: str, findings: tuple[str, ...]) -> Manifest:
    """The manifest with the masks of the folder `masks`, if given, in place of its own, without images that have none.

    Images that are known to show none of the `findings` need no mask. Raises ManifestError where the folder holds no
    finished job, or where no image that may show a finding has a mask.
    """
    cases = manifest.cases
    if masks:
        rows = _rows(Path(masks))
        cases = tuple(_with_mask(case, rows.get(case.name), Path(masks)) for case in cases)
    kept = tuple(case for case in cases if case.mask_path or absent(case, findings))
    if all(absent(case, findings) for case in kept):
        where = masks or manifest.root
        raise ManifestError(f"{where} has no mask of any image of {manifest.root} that shows {', '.join(findings)}")
    return replace(manifest, cases=kept)


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    table = folder / "cases.csv"
    if not table.exists():
        raise ManifestError(f"{folder} holds no cases.csv; give masks=OUT of a finished `counterscan segment`")
    with table.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def absent(case: Case, findings: tuple[str, ...]) -> bool:
    """Is it known that `case` shows none of the `findings`?"""
    return all(case.labels.get(name) == 0 for name in findings)


def _with_mask(case: Case, row: Mapping[str, str] | None, folder: Path) -> Case:
    if row is None or not float(row["mask_share"]):
        return replace(case, mask_path=None)
    if row.get("mask"):
        return replace(case, mask_path=folder / row["mask"])
    return replace(case, mask_path=next((folder / "cases" / case.name).glob("mask.*"), None))


@dataclass
class StudentTask:
    """One step sees a batch of training images, half of them with a finding."""

    network: nn.Module
    images: Mapping[str, Images]
    card: Card
    batch: int = 12
    rate: float = 2e-3
    flip: bool = False
    averaged: str = "network"

    def __post_init__(self) -> None:
        from monai.losses import DiceCELoss

        self.loss = DiceCELoss(sigmoid=True, batch=True)
        self.modules = {"network": self.network}
        self.optimisers = {"network": torch.optim.AdamW(self.network.parameters(), self.rate, weight_decay=0.01)}
        self.clear = {
            name: torch.tensor([absent(case, self.card.classes) for case in store.manifest.cases])
            for name, store in self.images.items()
        }
        for name, clear in self.clear.items():
            if clear.all():
                findings = ", ".join(self.card.classes)
                raise ManifestError(f"no image of the {name} part has a mask of {findings}; make masks of more images")

    def step(self, step: int) -> Mapping[str, float]:
        self.network.train()
        clear = self.clear["train"]
        with_it, without = torch.nonzero(~clear)[:, 0], torch.nonzero(clear)[:, 0]
        half = self.batch // 2
        chosen = torch.cat([pick(with_it, half), pick(without if len(without) else with_it, self.batch - half)])
        images, masks = augment_both(self.images["train"].batch(chosen), self._masks("train", chosen), flip=self.flip)
        with reduced(images.device):
            logits = self.network(channels_last(images))
        loss = self.loss(logits.float(), masks.float())
        return descend(self.network, self.optimisers["network"], {"loss": loss}, clip=5.0)

    def _masks(self, part: str, chosen: Tensor) -> Tensor:
        masks = torch.zeros(len(chosen), 1, *self.card.shape[1:], dtype=torch.bool)
        showing = ~self.clear[part][chosen]
        if showing.any():
            masks[showing] = self.images[part].masks(chosen[showing])
        return masks

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """Mean Dice of the images with a finding at one half, and the share of the others that get a mask."""
        heat, masks = self._answers(network, torch.arange(min(len(self.images["validation"]), MOST)))
        predicted, showing = (heat > 0.5).flatten(1), masks.flatten(1).any(1)
        hits = (predicted & masks.flatten(1)).sum(1)
        dice = 2 * hits / (predicted.sum(1) + masks.flatten(1).sum(1)).clamp_min(1)
        score = float(dice[showing].mean()) if showing.any() else 0.0
        silent = predicted[~showing].any(1).float()
        return {"score": score, "dice": score, "healthy_mask_share": float(silent.mean()) if len(silent) else 0.0}

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet: validation images with a finding, what the network answers, and the masks that teach."""
        chosen = torch.nonzero(~self.clear["validation"])[:SHOWN, 0]
        heat, masks = self._answers(network, chosen)
        rows = (self.images["validation"].batch(chosen), heat * 2 - 1, masks * 2.0 - 1)
        contact_sheet([[grey(one) for one in row] for row in rows]).save(path)

    def calibrated(self, network: nn.Module) -> Card:
        """The card with the mask rule that fits the validation masks best."""
        found = search(*self._answers(network, torch.arange(len(self.images["validation"]))))
        figures = {"validation_iou": found.iou, "validation_healthy_mask_share": found.healthy_mask_share}
        return self.card.model_copy(update={"mask_rule": found.rule.to_dict(), "metrics": figures})

    def _answers(self, network: nn.Module, chosen: Tensor) -> tuple[Tensor, Tensor]:
        segmenter, store = NetworkSegmenter(network, self.card), self.images["validation"]
        heat = torch.cat([segmenter(store.batch(part)) for part in chosen.split(BATCH)])
        return heat, self._masks("validation", chosen)
