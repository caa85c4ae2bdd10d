"""Agents of a black box over a manifest: fit one, and draw which directions of the code drive the black box."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.remembered import Remembered, file_name
from counterscan.core import Classifier, Target
from counterscan.data.batches import Images, open_images
from counterscan.data.files import write_whole
from counterscan.data.manifest import Manifest, read_manifest
from counterscan.data.window import Window
from counterscan.errors import CounterscanError, WeightsError
from counterscan.explainers.build import build_explainer
from counterscan.explainers.diffusion_autoencoder import DiffusionAutoencoder
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.directions import Direction, directions
from counterscan.explainers.latent_agent.distillation import check_request
from counterscan.explainers.latent_agent.fitting import warn_if_faithless
from counterscan.jobs import check_fit, default_prior, named, parse_window, read_settings
from counterscan.pictures import contact_sheet, difference_limit, difference_picture, grey, stacked_sheets
from counterscan.progress import progress
from counterscan.train.parts import ALIASES

METHOD = "diffusion-autoencoder"
FACTS = "fit.json"
FREE = ("command", "version")  # of the facts: what may differ when a fit goes on


@dataclass(frozen=True)
class Request:
    """What an agent is fitted to, or looked at over: a black box, an explainer with its codec, and images."""

    classifier: Classifier
    explainer: DiffusionAutoencoder
    manifest: Manifest
    window: Window | None
    kind: str
    names: dict[str, Any]

    @classmethod
    def of(
        cls,
        manifest: Path,
        *,
        classifier: str,
        prior: str = "",
        settings: Sequence[str] = (),
        window: str = "",
        folds: Sequence[int] = (),
        split: str = "",
        where: str = "",
        dataset: Path | None = None,
        card: Path | None = None,
        n: int | None = None,
        command: str = "",
    ) -> "Request":
        """What these words ask for; CounterscanError names the first word that is wrong, and the cure."""
        asked = load_classifier(classifier, card)
        prior = prior or default_prior(METHOD, classifier)
        given = read_settings(DiffusionAutoencoder, settings)
        kind = str(given.pop("kind", "auto"))
        explainer = build_explainer(METHOD, prior=prior, **given)
        assert isinstance(explainer, DiffusionAutoencoder)
        check_together(explainer, asked)
        chosen = some_of(training_part(read_manifest(manifest, dataset), split, folds, where), n)
        names = {
            "command": command,
            "version": metadata.version("counterscan"),
            **named([manifest], classifier, prior, dataset, folds, split, where),
            "classifier_card": file_name(asked.card),
            "prior_sha256": explainer.codec.card.sha256,
            "window": window,
            "settings": sorted(settings),
            "images": len(chosen),
        }
        return cls(asked, explainer, chosen, parse_window(window) if window else None, kind, names)

    def images(self) -> Images:
        """The images at the codec's shape, decoded once into a mapped file: memory does not grow with their number."""
        card = self.classifier.card
        window = self.window or (Window(*card.window) if card.window else None)
        with progress("read", len(self.manifest)) as done:
            return open_images(self.manifest, self.explainer.codec.card.shape, window, progress=done)


def fit_folder(manifest: Path, out: Path, **words: Any) -> str:
    """What `counterscan fit` does: an agent in `out`, and what is to be said of it; see `Request.of` for the words.

    The black box is asked about each image once, whatever it is: answers that are not kept elsewhere are kept in
    `out/answers`. A fit that was killed, or whose service died, goes on there; a finished one is told again. Raises
    CounterscanError where `out` holds something else.
    """
    request = Request.of(manifest, **words)
    check_request(len(request.manifest), request.kind)
    if not _claimed(out, request.names):
        asked = remembering(request.classifier, out, words["classifier"])
        images = request.images()
        with progress("fit", 1, "agents") as done:
            fitted = request.explainer.fit(asked, images.images, kind=request.kind, patients=images.patients)
            done(1)
        fitted.agent.save(out)
        asks = asked.told() if isinstance(asked, Remembered) else ""
        return "\n".join([*_lines(fitted.agent), *filter(None, [asks]), f"agent: {out}"])
    agent = Agent.load(out)
    warn_if_faithless(agent)
    return "\n".join([*_lines(agent), f"agent: {out} (there already, nothing was asked)"])


def directions_folder(manifest: Path, out: Path, *, classes: Sequence[str] = (), count: int = 5, **words: Any) -> str:
    """What `counterscan directions` does: a film strip of each direction that drives the black box, and its share.

    For each of `classes` (all by default) it writes `<class>.png`, and `directions.json` with all figures.
    """
    request = Request.of(manifest, **words)
    _ = request.explainer.agent  # one that is missing is told before anything is read
    card, told, lines = request.classifier.card, dict[str, Any](), []
    wanted = [card.classes[card.index(name)] for name in classes or card.classes]
    images = request.images()
    asked = remembering(request.classifier, out, words["classifier"])
    for name in wanted:
        found = directions(request.explainer, asked, images.images, name, n=count)
        picture = out / (re.sub(r"[^\w.-]+", "-", name) + ".png")
        out.mkdir(parents=True, exist_ok=True)
        direction_sheet(found, name).save(picture)
        told[name] = [_row(one) for one in found]
        shares = ", ".join(f"{one.share:.0%}" for one in found)
        lines.append(f"{name}: {shares} of what the agent says over {len(images)} images: {picture}")
    facts = request.names | {"agent": request.explainer.agent.describe(), "directions": told}
    write_whole(out / "directions.json", (json.dumps(facts, indent=1) + "\n").encode())
    return "\n".join(lines)


def direction_sheet(found: Sequence[Direction], name: str) -> Any:
    """One picture of several directions: the frames of each with what the black box says, and the change below."""
    sheets = {}
    for number, one in enumerate(found, 1):
        middle = one.strip[len(one.strip) // 2]
        changes = one.strip - middle
        limit = difference_limit(changes)
        said = [
            f"{round(place, 1) + 0.0:+.1f} sd: {p:.2f}"
            for place, p in zip(one.places.tolist(), one.answers.sigmoid().tolist(), strict=True)
        ]
        rows = [list(map(grey, one.strip)), [difference_picture(each, limit, dark=True) for each in changes]]
        sheets[f"{number}. {one.share:.0%} of what is said about {name}"] = contact_sheet(rows, said)
    return stacked_sheets(sheets)


def training_part(manifest: Manifest, split: str = "", folds: Sequence[int] = (), where: str = "") -> Manifest:
    """The images asked for by `split`, `folds` and `where`; without a split the training part, where there is one."""
    manifest = manifest.select(folds=folds or None, where=where or None)
    if not split:
        split = next((case.split for case in manifest.cases if ALIASES.get(case.split, case.split) == "train"), "")
    return manifest.select(split=split or None)


def some_of(manifest: Manifest, n: int | None) -> Manifest:
    """At most `n` of the images, taken evenly over the whole list, which may be sorted."""
    if n is None or n >= len(manifest):
        return manifest
    cases = manifest.cases
    return replace(manifest, cases=tuple(cases[index * len(cases) // n] for index in range(n)))


def remembering(classifier: Classifier, out: Path, name: str) -> Classifier:
    """The classifier with a memory in `out`, where it has none of its own, and its card does not forbid one."""
    if isinstance(classifier, Remembered) or classifier.card.settings.get("remember") is False:
        return classifier
    return Remembered(classifier, out / "answers", identity=name + _content(Path(name)))


def check_together(explainer: DiffusionAutoencoder, classifier: Classifier) -> None:
    """Refuse a codec that knows other classes, sees another window, or takes images of other dimensions."""
    codec, card = explainer.codec.card, classifier.card
    if len(codec.shape) != len(card.shape):
        raise WeightsError(
            f"{codec.name} takes images of shape {codec.shape}, {card.name} of {card.shape}; "
            "give a --prior that was trained on such images"
        )
    check_fit(explainer, card, Target(tuple((index, 1.0) for index in range(len(card.classes)))))


def _content(path: Path) -> str:
    """What tells a model's file from another in its place."""
    if not path.is_file():
        return ""
    stat = path.stat()
    return f" {stat.st_size} {stat.st_mtime_ns}"


def _claimed(out: Path, facts: dict[str, Any]) -> bool:
    """Note in `out` what is fitted there; whether it is finished already. Refuse a folder of something else.

    A fit that never finished holds nothing: the answers beside it are found by what was asked.
    """
    path = out / FACTS
    if path.exists():
        before = json.loads(path.read_text())
        other = [name for name in facts if name not in FREE and before.get(name) != facts[name]]
        finished = (out / "agent.json").exists()
        if finished and other:
            raise CounterscanError(
                f"{out} holds another agent ({other[0]} was {before.get(other[0])}, now {facts[other[0]]}); "
                "give another --out, or delete that folder"
            )
        if finished:
            return True
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CounterscanError(f"{out} holds other files and no agent; give an --out that is new or empty")
    write_whole(path, (json.dumps(facts, indent=1) + "\n").encode())
    return False


def _lines(agent: Agent) -> list[str]:
    """How faithful an agent is, as a table: all classes together, and each."""
    told = agent.facts
    kind = "linear" if agent.linear else "a small network"
    heads = ["agreement", "constant", "rank correlation", "slope"]
    lines = [
        f"agent of {told['classifier']} in the code of {told['codec'][0]}: {kind}, fitted to {told['n']} images",
        f"  {'':<28}{'n':>6}" + "".join(f"{head:>18}" for head in heads),
    ]
    for what in ("real", "edited"):
        one = told[what]
        rows = {f"{what} images": [one["agreement"], one["constant"], one["rank_correlation"], one["slope"]]}
        rows |= {f"  {name}": values for name, values in one["classes"].items() if len(one["classes"]) > 1}
        for name, values in rows.items():
            shown = "".join(f"{'-' if value is None else f'{value:.3f}':>18}" for value in values)
            lines.append(f"  {name[:28]:<28}{one['n']:>6}{shown}")
    return lines


def _row(one: Direction) -> dict[str, Any]:
    """A direction as JSON; probabilities are those of the class."""
    return {
        "share": round(one.share, 6),
        "deviation": round(one.deviation, 6),
        "places": [round(value, 4) for value in one.places.tolist()],
        "probabilities": [round(value, 4) for value in one.answers.sigmoid().tolist()],
        "vector": [round(value, 6) for value in one.vector.tolist()],
    }
