"""Thumbnails of explanations: the image, and what was changed or where the evidence lies; made without torch."""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from counterscan.errors import ScanError
from counterscan.pictures import DARK, HEAT, LIMITS, colours
from counterscan.web.viewer_index import inside, read_json

SIDE = 176  # pixels of the longer side of one of the two pictures
GAP = 2
ROOM = 64 << 20  # bytes of thumbnails that are kept
SAMPLE = 24  # cases that say what a full colour of a run's heat maps means
TENSORS = "explanation.safetensors"
FAULTS = (
    *(OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, AttributeError),
    Image.DecompressionBombError,
)


class Kept:
    """Made when first asked for, kept while there is room, the longest unused going first; safe among threads."""

    def __init__(self, room: int = ROOM):
        self.room, self.used = room, 0
        self._known: OrderedDict[Any, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], bytes]) -> bytes:
        """What is kept under `key`, else what `make` answers."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        content = make()
        with self._lock:
            if key not in self._known and len(content) <= self.room:
                self._known[key] = content
                self.used += len(content)
            while self.used > self.room:
                self.used -= len(self._known.popitem(last=False)[1])
        return content


def thumbnail(folder: Path, name: str, heat_limit: float) -> bytes:
    """Image and change, or image and evidence, of one case side by side as WebP. Raises ScanError."""
    case = whole_case(folder, name)
    facts = read_json(case, "explanation.json")
    with readable(name), opened(case) as tensors:
        index = telling(np.asarray(tensors.get_tensor("before")), facts.get("target"))
        image = plane(tensors, "images", index)
        base = _grey(image)
        pair = base, _second(tensors, facts, index, image, base, heat_limit)
    sized = [picture.convert("RGB").resize(_size(picture.size), Image.Resampling.BICUBIC) for picture in pair]
    width, height = sized[0].size
    both = Image.new("RGB", (2 * width + GAP, height))
    both.paste(sized[0], (0, 0))
    both.paste(sized[1], (width + GAP, 0))
    content = io.BytesIO()
    both.save(content, "WEBP", quality=80, method=2)
    return content.getvalue()


def whole_case(folder: Path, name: str) -> Path:
    """The folder of a finished case, neither it nor its files a link; ScanError where there is no such."""
    path = inside(folder, "cases", name)
    files = [path and inside(path, file) for file in ("explanation.json", TENSORS)]
    if path is None or not all(file and file.is_file() for file in files):
        raise ScanError(f"{name} holds no finished explanation; run counterscan explain again, it goes on there")
    return path


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Within, what files of another make or cut off in the middle raise becomes one line for a person."""
    from safetensors import SafetensorError

    try:
        yield
    except ScanError:
        raise
    except (*FAULTS, SafetensorError) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ScanError(f"{name} is damaged ({why}); delete its folder and run counterscan explain again") from error


def opened(case: Path) -> Any:
    """The tensors of a case as arrays, read from disk as they are asked for; to be used within `readable`."""
    from safetensors import safe_open

    return safe_open(case / TENSORS, framework="numpy")


def telling(before: np.ndarray, target: Any) -> int:
    """Which slice is furthest from what was asked for, by the log-odds `before` `(slices, k)`."""
    p = 1 / (1 + np.exp(-before.astype(np.float64).clip(-500, 500)))
    try:
        return int(np.max([np.abs(p[:, int(index)] - float(wanted)) for index, wanted in target], 0).argmax())
    except (TypeError, ValueError, IndexError):
        return 0


def plane(tensors: Any, name: str, index: int) -> np.ndarray:
    """One slice `(c, h, w)` of a tensor; of an image with depth the middle of it."""
    value = np.asarray(tensors.get_slice(name)[index : index + 1])[0].astype(np.float32)
    return value[..., value.shape[-1] // 2] if value.ndim == 4 else value


def heat_limit(folder: Path, names: list[str]) -> float:
    """What a full colour means in all heat maps of a run, from some of its cases."""
    peaks = []
    for name in names[:: max(1, len(names) // SAMPLE)][:SAMPLE]:
        with suppress(ScanError), readable(name), opened(whole_case(folder, name)) as tensors:
            peaks.append(float(np.max(tensors.get_slice("heatmap")[0:1])))
    return float(np.quantile(peaks, 0.9)) if peaks and max(peaks) > 0 else 1.0


def change_limit(share: np.ndarray) -> float:
    """The end of the colour bar for a change in shares of the window."""
    largest = float(np.quantile(np.abs(share), 0.999))
    return next((limit for limit in LIMITS if limit >= largest - 1e-6), LIMITS[-1])


def _second(tensors: Any, facts: dict, index: int, image: np.ndarray, base: Image.Image, limit: float) -> Image.Image:
    already = facts.get("meta", {}).get("already") or []
    kept = index < len(already) and bool(already[index])
    if "counterfactual" in tensors.keys():  # noqa: SIM118 (no mapping)
        reference = plane(tensors, "reconstruction", index) if "reconstruction" in tensors.keys() else image  # noqa: SIM118
        share = (plane(tensors, "counterfactual", index) - reference).mean(0) / 2 * (not kept)
        return Image.fromarray(colours(share / change_limit(share) / 2 + 0.5, DARK))
    level = np.clip(plane(tensors, "heatmap", index)[0] / limit, 0, 1)
    opacity = np.clip(level * 1.6, 0, 0.85)[..., None]  # as in pictures.heat_picture
    blended = np.asarray(base.convert("RGB")) * (1 - opacity) + colours(level, HEAT) * opacity
    return Image.fromarray(blended.round().astype(np.uint8))


def _grey(image: np.ndarray) -> Image.Image:
    pixels = ((image.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) != 3 else np.moveaxis(pixels, 0, -1))


def _size(size: tuple[int, int]) -> tuple[int, int]:
    factor = SIDE / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
