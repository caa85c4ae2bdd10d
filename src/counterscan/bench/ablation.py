"""The suite `ablation`: what each part of `inpainting` is worth, found by leaving it out.

Every variant is trained on the same images for the same steps from the same seed with one thing switched off, and is
measured as the methods of the suite `segmentation` are. Short trainings tell what helps to begin with, not what helps
in the end: give the steps that the question is about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from counterscan.bench.methods import Method, named
from counterscan.bench.parts import drawn_once
from counterscan.bench.rows import FIRST
from counterscan.bench.setting import Setting
from counterscan.bench.suite import Asked, Making
from counterscan.bench.table import Table
from counterscan.data.manifest import Manifest, read_manifest
from counterscan.registry import RECIPES

STEPS, TRAINED_ON = 800, 4000  # of each training, and phantoms to train on
QUICK_STEPS, QUICK_TRAINED_ON = 10, 120


@dataclass(frozen=True)
class Variant:
    """What is different: settings of the training, or of the explainer with the whole variant's weights."""

    trained: dict[str, Any] = field(default_factory=dict)
    explained: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    FIRST: Variant(),
    "without-adversarial": Variant({"adversarial": 0.0}),
    "without-flipping": Variant({"flipping": 0.0}),
    "without-closeness": Variant({"closeness": 0.0}),
    "without-variation": Variant({"variation": 0.0}),
    "without-restoration": Variant({"restoration": 0.0}),
    "without-spoilt": Variant({"spoilt": 0.0}),
    "without-guide": Variant({"guided": False}),
    "one-pass": Variant(explained={"passes": 1}),
    "not-confined": Variant(explained={"confined": False}),
}
METHODS = tuple(
    Method(name, "inpainting", FIRST if variant.explained else name, variant.explained, published=False)
    for name, variant in VARIANTS.items()
)


def run(
    asked: Asked,
    *,
    methods: Sequence[str] = (),
    steps: int | None = None,
    say: Callable[[str], None] = print,
) -> Table:
    """Train and measure every variant, or the `methods`, on one part of what is `asked` for; write the table.

    `steps` are those of each training. What was trained is not trained again; a training that was stopped goes on.
    """
    chosen = named(METHODS, methods)
    setting = asked.settings()[0]
    making = Making("ablation", asked, [setting])
    archive = _archive(asked, setting)
    for method in chosen:
        say(method.name)
        folder = asked.out / "models" / method.prior
        if not (folder / "card.json").exists():
            _train(method.prior, archive, folder, setting, steps or (QUICK_STEPS if asked.quick else STEPS), say)
        models = setting.models
        own = replace(models, named={**models.named, method.prior: str(folder)})
        table = making.add(method, [replace(setting, models=own)])
    return table


def _archive(asked: Asked, setting: Setting) -> Manifest:
    """What is trained on: phantoms that are not measured, or the manifest, whose fold the training leaves out."""
    if not asked.phantoms:
        return read_manifest(Path(asked.data), asked.dataset)
    n, size = QUICK_TRAINED_ON if asked.quick else TRAINED_ON, setting.classifier.card.shape[-1]
    return drawn_once(asked.phantoms, asked.out / "data" / "train", "training", n=n, size=size, seed=asked.seed + 2)


def _train(name: str, archive: Manifest, folder: Path, setting: Setting, steps: int, say: Callable) -> None:
    card = setting.classifier.card
    recipe = RECIPES["inpainting"](
        classifier=setting.models.place("classifier", setting.part.fold),
        findings=",".join(card.classes[index] for index, p in setting.target.wanted if p < 0.5),
        steps=steps,
        fold=setting.part.fold or 0,
        **VARIANTS[name].trained,
    )
    recipe.train(archive, folder, resume=True, say=say, command=setting.command)
