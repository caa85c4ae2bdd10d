"""Train a denoiser, a diffusion prior of one modality, from images alone (EDM: Karras et al., 2022, arXiv 2206.00364).

The network is `nets/denoiser.py`; levels, loss and what changed of the paper are in `train/denoising.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterscan.core import Card
from counterscan.data.manifest import Manifest
from counterscan.registry import RECIPES
from counterscan.train.denoising import DiffusionTask, spread
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.train.starting import channels_of, first_card, first_network, opened
from counterscan.weights.store import save_weights


@RECIPES.register("diffusion")
@dataclass(frozen=True)
class DiffusionRecipe:
    """Trains a denoiser on all training images, whatever they show; labels take no part.

    `channels` is 1 for grey, 3 for colour, and 0 for what the first image has. `flip` also trains on mirrored images;
    leave it off where left and right differ. `size` must be divisible by 4 * 2 ** (levels - 1), where `widths` are the
    network's channels at each of its levels. `start` is a denoiser to go on from, of other images as it may be.
    """

    name: str = ""
    channels: int = 0
    size: int = 128
    widths: Sequence[int] = (64, 128, 160, 160)
    steps: int = 20000
    batch: int = 16
    rate: float = 1e-3
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
        """Train on the manifest's training part, select on validation, measure on test; write weights and card."""
        shape = (self.channels or channels_of(manifest), self.size, self.size)
        images = opened(parts(manifest, fold=self.fold, flip=self.flip), shape)
        card = self._card(manifest, out, command, shape, spread(images["train"]))
        network = first_network(card, self.seed, self.start)
        task = DiffusionTask(network, images, card, self.batch, self.rate, self.flip)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        metrics = {f"test_{name}": value for name, value in task.errors(network, "test").items()}
        return save_weights(out, network, card.model_copy(update={"metrics": metrics}))

    def _card(self, manifest: Manifest, out: Path, command: str, shape: tuple[int, ...], spread: float) -> Card:
        return first_card(
            self.name or out.name,
            manifest,
            command,
            kind="denoiser",
            shape=shape,
            classes=(),
            network="denoiser",
            settings={"channels": shape[0], "spread": spread, "widths": list(self.widths)},
        )
