"""What the numbers in a DICOM frame mean: bits, modality rescale or table, palette, and the windows to show them in.

A `head` is anything with `.get(keyword)`: a data set, or one frame of an enhanced multi-frame file.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset

from counterscan.data.lazy import sample
from counterscan.data.window import Window, range_window
from counterscan.errors import ScanError

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"
SAMPLE = 2**24  # values that a window is estimated from: nearly all of any picture, part of a large volume


def channels_first(stored: np.ndarray) -> np.ndarray:
    """`(h, w)` or `(h, w, 3)` to `(c, h, w)`."""
    return stored[None] if stored.ndim == 2 else stored.transpose(2, 0, 1)


def limits(head: Any) -> tuple[int, int]:
    """The lowest and the highest value that the stored bits can hold."""
    bits = _bits(head)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if _signed(head) else (0, (1 << bits) - 1)


def _bits(head: Any) -> int:
    allocated = int(head.get("BitsAllocated"))
    bits = int(head.get("BitsStored") or allocated)
    return bits if 0 < bits <= allocated else allocated


def _signed(head: Any) -> bool:
    return bool(int(head.get("PixelRepresentation") or 0))


def cleaned(stored: np.ndarray, head: Any) -> np.ndarray:
    """Stored values without what else lies in their words: overlays above the stored bits, or nothing below them.

    HighBit is believed only where the values do not fit into the lowest bits; PS3.5 has long wanted BitsStored - 1.
    """
    unused = stored.dtype.itemsize * 8 - _bits(head)
    low, high = limits(head)
    if unused <= 0 or (stored.min() >= low and stored.max() <= high):
        return stored
    shift = int(head.get("HighBit") or 0) + 1 - _bits(head)
    if 0 < shift <= unused:
        stored = stored >> shift
    if stored.dtype.kind == "i":
        return (stored << unused) >> unused  # the sign comes from the highest stored bit
    return stored & ((1 << _bits(head)) - 1)


@dataclass(frozen=True, eq=False)
class Values:
    """How the stored values of a frame become physical ones, bright for high, and back."""

    slope: float
    intercept: float
    table: np.ndarray | None  # float64, an entry per stored value from the lowest
    low: int
    high: int
    inverted: bool
    palette: Dataset | None  # the data set that holds it

    @classmethod
    def of(cls, head: Any) -> "Values":
        """Read from a head; ScanError for a slope that cannot be undone."""
        slope, intercept = head.get("RescaleSlope"), head.get("RescaleIntercept")
        slope = 1.0 if slope is None else float(slope)
        if slope == 0 or not np.isfinite(slope):
            raise ScanError(
                f"{head.get('filename')} has a rescale slope of {slope}, which cannot be undone; correct the tag"
            )
        photometric = head.get("PhotometricInterpretation")
        return cls(
            slope,
            0.0 if intercept is None else float(intercept),
            _table(head),
            *limits(head),
            inverted=photometric == "MONOCHROME1",
            palette=head if photometric == PALETTE else None,
        )

    @property
    def mirror(self) -> float:
        """Low plus high of the physical range: what a MONOCHROME1 value is taken from."""
        if self.table is not None:
            return float(self.table.min() + self.table.max())
        return (self.low + self.high) * self.slope + 2 * self.intercept

    def physical(self, stored: np.ndarray) -> np.ndarray:
        """Stored `(h, w[, 3])` to float32 `(c, h, w)`."""
        if self.palette is not None:
            return channels_first(coloured(stored, self.palette)).astype(np.float32)
        stored = channels_first(stored)
        if self.table is not None:
            values = self.table[stored.astype(np.int64) - self.low]
        else:
            values = stored.astype(np.float64) * self.slope + self.intercept
        return (self.mirror - values if self.inverted else values).astype(np.float32)

    def stored(self, pixels: np.ndarray) -> np.ndarray:
        """The inverse of `physical` as int64 `(c, h, w)`, rounded and held within the stored bits."""
        values = pixels.astype(np.float64)
        if self.palette is not None:
            return np.clip(np.rint(values), 0, 255).astype(np.int64)
        values = self.mirror - values if self.inverted else values
        if self.table is not None:
            return _nearest(self.table, values) + self.low
        return np.clip(np.rint((values - self.intercept) / self.slope), self.low, self.high).astype(np.int64)

    def rewritten(self, stored: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """What to store for `pixels` `(c, h, w)` in the place of `stored`: the same number where nothing changed."""
        written = self.stored(pixels)
        if self.palette is not None:
            return written
        return np.where(pixels == self.physical(stored), channels_first(stored), written)


def _table(head: Any) -> np.ndarray | None:
    """The modality look-up table, spread over every stored value (PS3.3 C.11.1.1)."""
    sequence = head.get("ModalityLUTSequence")
    if not sequence or not sequence[0].get("LUTDescriptor"):
        return None
    entries, first = _entries(sequence[0], _signed(head))
    low, high = limits(head)
    if high - low >= 1 << 16:
        raise ScanError(f"{head.get('filename')} has a look-up table for more than 16 bits; convert it to a rescale")
    return entries[np.clip(np.arange(low, high + 1) - first, 0, len(entries) - 1)]


def _entries(item: Dataset, signed: bool) -> tuple[np.ndarray, int]:
    """A table's outputs as float64, and the input that the first of them is for."""
    count, first, _ = (int(one) for one in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) == (count or 1 << 16) else "<u2")
    first = first - (1 << 16) if signed and first >= 1 << 15 else first  # read as unsigned by some
    return np.asarray(data, np.float64).reshape(-1)[: count or 1 << 16], first


def _nearest(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each value the index of the table's entry that comes nearest."""
    order = np.argsort(table, kind="stable")
    ranked = table[order]
    after = np.clip(np.searchsorted(ranked, values), 1, len(ranked) - 1)
    before_is_nearer = values - ranked[after - 1] <= ranked[after] - values
    return order[np.where(before_is_nearer, after - 1, after)]


def coloured(stored: np.ndarray, head: Dataset) -> np.ndarray:
    """Palette indices `(h, w)` to uint8 RGB `(h, w, 3)`; of deeper palettes the high byte, as viewers show them."""
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(stored, head)
    return (colours >> 8).astype(np.uint8) if colours.max(initial=0) > 255 else colours.astype(np.uint8)


def unit_of(head: Any) -> str:
    """What the rescale or its table says, a PET file's Units, HU for CT that says nothing, else none."""
    table = head.get("ModalityLUTSequence")
    told = head.get("RescaleType") or (table and table[0].get("ModalityLUTType")) or head.get("Units")
    if told:
        return "" if told == "US" else str(told)  # US: unspecified
    return "HU" if head.get("Modality") == "CT" else ""


def windows_of(head: Any, values: Values, unit: str) -> dict[str, Window]:
    """The windows that a head names (PS3.3 C.11.2), by their explanations, the first first.

    SIGMOID is taken as its tangent, which is LINEAR_EXACT; a VOI table as the inputs between its ends.
    """
    if head.get("PhotometricInterpretation") not in GREY:
        return {}
    centres, widths, names = (
        _many(head.get(name)) for name in ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
    )
    exact = str(head.get("VOILUTFunction") or "LINEAR") != "LINEAR"
    ends = [
        (float(centre) - float(width) / 2, float(centre) + float(width) / 2 - (not exact))
        for centre, width in zip(centres, widths, strict=False)
        if np.isfinite([float(centre), float(width)]).all() and float(width) > (0 if exact else 1)
    ]
    named = [str(names[number]) if number < len(names) else "" for number in range(len(ends))]
    for item in head.get("VOILUTSequence") or ():
        ends.append(_inputs(item, _signed(head)))
        named.append(str(item.get("LUTExplanation") or "table"))
    found: dict[str, Window] = {}
    for number, ((low, high), name) in enumerate(zip(ends, named, strict=True), 1):
        low, high = (values.mirror - high, values.mirror - low) if values.inverted else (low, high)
        found.setdefault(name or f"window {number}", Window(low, high, unit))
    return found


def _inputs(item: Dataset, signed: bool) -> tuple[float, float]:
    """The inputs between which a VOI table rises from its lowest to its highest output."""
    entries, first = _entries(item, signed)
    low = int(np.flatnonzero(entries == entries.min())[-1])
    high = int(np.flatnonzero(entries == entries.max())[0])
    low, high = (low, high) if low < high else (0, max(len(entries) - 1, 1))
    return float(first + low), float(first + high)


def _many(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]


def estimated_window(head: Any, values: Values, pixels: np.ndarray, unit: str) -> Window:
    """The window of a scan `(slices, c, h, w)` that names none: all of 8 bits, else nearly all values but padding."""
    if values.palette is not None:
        return Window(0, 255, unit)
    if pixels.shape[1] == 3:
        return Window(0, float(values.high), unit)
    if (values.low, values.high) == (0, 255) and values.table is None:
        ends = sorted((values.intercept, 255 * values.slope + values.intercept))
        return Window(ends[0], ends[1], unit)
    some = sample(pixels)
    some = some[:: -(-some.size // SAMPLE)]
    padding = _padding(head, values)
    if padding is not None:
        inside = some[(some < padding[0]) | (some > padding[1])]
        some = inside if inside.size else some
    return range_window(some, unit)


def _padding(head: Any, values: Values) -> tuple[float, float] | None:
    """The physical values between which pixels are padding (PS3.3 C.7.5.1.1.2)."""
    told = head.get("PixelPaddingValue")
    if told is None:
        return None
    last = head.get("PixelPaddingRangeLimit")
    ends = np.array([int(told), int(told if last is None else last)])
    if values.low < 0:
        ends = np.where(ends > values.high, ends - 2 * (values.high + 1), ends)  # read as unsigned by some
    ends = np.sort(values.physical(np.clip(ends, values.low, values.high)[None]).ravel())
    return float(ends[0]), float(ends[1])
