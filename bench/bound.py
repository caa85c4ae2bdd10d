"""How near can the editor's network come to the twins? It is taught by them, as no user could, and measured.

    counterscan phantoms abdomen --n 16000 --seed 7 --out runs/abdomen-7
    python bench/bound.py abdomen runs/abdomen-7 --steps 1500

The start is the shipped editor; each step sees 8 abnormal images with their twins, and 4 healthy ones. Prints the IoU
of the thresholded change (the rule chosen on the same images: a bound), and `twin_ratio`, on fresh phantoms.
"""

import argparse
import time

import numpy as np
import torch
from torch import Tensor, nn

from counterscan.core import Target
from counterscan.data.batches import Images, open_images
from counterscan.data.manifest import read_manifest
from counterscan.data.phantoms.base import module, stream
from counterscan.data.window import Window
from counterscan.metrics.calibration import search
from counterscan.metrics.twin import twin_distance
from counterscan.nets.precision import reduced
from counterscan.priors.editor import ConditionedEditor, condition_of, inpaint, load_editor
from counterscan.train.loop import AVERAGE, schedule

FRESH, SEED = 200, 777
INFLUENCE = 0.02  # image units: where image and twin differ by more, an error counts again, as in the recipe


def fresh(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Images, twins and masks of fresh phantoms."""
    window = Window(*module(kind).WINDOW)
    drawn = list(stream(kind, FRESH, seed=SEED))
    images, twins = (torch.from_numpy(window.to_unit(np.stack(x))).float()[:, None] for x in _pairs(drawn))
    return images, twins, torch.from_numpy(np.stack([one.mask for one in drawn]))[:, None]


def _pairs(drawn) -> tuple[list, list]:
    return [one.image for one in drawn], [one.twin for one in drawn]


def measure(editor: ConditionedEditor, target: Target, data: tuple[Tensor, Tensor, Tensor]) -> str:
    """IoU and twin_ratio of what the editor makes of fresh phantoms."""
    images, twins, masks = data
    edited = editor(images, target)
    found = search((edited - images).abs().mean(1, keepdim=True) / 2, masks)
    ratio = twin_distance(edited, images, twins)[masks.flatten(1).any(1)].nanmean()
    return f"IoU {found.iou:.3f}  twin_ratio {float(ratio):.3f}"


def step(network: nn.Module, images: Images, sick: Tensor, well: Tensor, condition: Tensor) -> Tensor:
    """The loss of one batch: the error everywhere, and once more where the disease changed the image."""
    i, j = sick[torch.randint(len(sick), (8,))], well[torch.randint(len(well), (4,))]
    x, y = torch.cat([images.batch(i), images.batch(j)]), torch.cat([images.twin(i), images.batch(j)])
    with reduced(x.device):
        error = (inpaint(network, x, condition.expand(len(x), -1)) - y).abs()
    where = (x - y).abs() > INFLUENCE
    return 10 * error.mean() + 3 * (error * where).sum() / where.sum().clamp_min(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["abdomen", "chest"])
    parser.add_argument("archive")
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.archive).select(split="train")
    editor, data = load_editor(f"{arguments.kind}/inpainting"), fresh(arguments.kind)
    disease = [name for name in manifest.classes if name not in manifest.confounders]
    target = Target.parse(",".join(f"{name}=0" for name in disease), editor.card)
    images = open_images(manifest, editor.card.shape, Window(*editor.card.window))
    ill = (images.labels[:, [editor.card.index(name) for name in disease]] == 1).any(1)
    sick, well = torch.nonzero(ill)[:, 0], torch.nonzero(~ill)[:, 0]
    print(f"shipped: {measure(editor, target, data)}", flush=True)
    network = editor.module
    learnt = [p.requires_grad_(True) for name, p in network.named_parameters() if not name.startswith("guide.")]
    optimiser = torch.optim.AdamW(learnt, 6e-4, (0.5, 0.99), weight_decay=0.01)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
    )
    start = time.perf_counter()
    for k in range(arguments.steps):
        torch.manual_seed(k)
        optimiser.param_groups[0]["lr"] = 6e-4 * schedule(k, arguments.steps)
        loss = step(network, images, sick, well, condition_of(target, editor.card, editor.bins))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learnt, 1.0)
        optimiser.step()
        average.update_parameters(network)
    taught = ConditionedEditor(average.module.eval(), editor.card)
    minutes = (time.perf_counter() - start) / 60
    print(f"taught by twins, {arguments.steps} steps, {minutes:.0f} min: {measure(taught, target, data)}")


if __name__ == "__main__":
    main()
