"""DICOM files of one or many frames: read into physical values, written back as derived copies without the patient."""

import importlib.util
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from counterscan.data.derived import derived, save, set_pixels
from counterscan.data.dicom_frames import Plane, Stack, frame_count, frames_of, heads_of
from counterscan.data.dicom_values import (
    COLOUR,
    GREY,
    PALETTE,
    Values,
    estimated_window,
    unit_of,
    windows_of,
)
from counterscan.data.limits import LARGEST, check_size
from counterscan.data.scans import Scan
from counterscan.data.window import Window
from counterscan.errors import ScanError

CHUNK = 1 << 16  # bytes read at once, of which zlib makes 64 times as many at most
LARGEST_FRAME = 89_478_485  # pixels: what Pillow, too, opens without a warning
EXTRA = "pip install 'counterscan[dicom]'"
NO_IMAGES = {  # modalities whose pixels are no picture of a patient
    "SEG": "a DICOM segmentation, not an image; name the image it belongs to",
    "RTDOSE": "a radiotherapy dose, not an image; name the image it was planned on",
}


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file; what it holds is read again when a result is written, so that memory holds one copy.

    `order` holds the number of the frame that each slice of the scan is; `windows` are those that the file names, of
    which the scan has the first.
    """

    path: Path
    order: tuple[int, ...] = (0,)
    windows: dict[str, Window] = field(default_factory=dict)
    has_unit: bool = True

    @property
    def suffix(self) -> str:
        return ".dcm"

    @property
    def mask_suffix(self) -> str:
        return ".dcm"

    def rescaled(self, scan: Scan, slope: float, intercept: float) -> Scan:
        return scan

    def datasets(self) -> list[Dataset]:
        """The file's data set without its pixels."""
        return [head_of(self.path)]

    def as_stored(self, slices: np.ndarray) -> np.ndarray:
        """What belongs to the scan's slices `(slices, ...)`, in the order of the file's frames."""
        return slices if self.order == tuple(range(len(self.order))) else slices[np.argsort(self.order)]

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        return save(counterfactual(opened(self.path), pixels, self.order), path)

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        from counterscan.data.results import save_mask

        return save_mask(self.datasets(), self.as_stored(mask), path)


def read(path: Path, kind: str = "dicom") -> Scan:
    """Read a file: modality rescale or table applied, MONOCHROME1 turned bright for high, the first VOI window kept.

    Frames that say where they lie are sorted along their normal; others, and those that share places (phases of a
    heart, for example), stay in the order of the file.
    """
    dataset = opened(path)
    heads = heads_of(dataset)
    stack = Stack.of([Plane.of(head) for head in heads])
    if stack is not None and len(heads) > 1 and stack.repeats:
        stack = None
    order = stack.order if stack else tuple(range(len(heads)))
    pixels, stored = _pixels(dataset, path, heads, order)
    middle = heads[order[len(order) // 2]]
    unit, window, windows = shown(middle, pixels)
    return Scan(
        pixels,
        window,
        path,
        kind,
        stored,
        DicomFile(path, order, windows),
        unit=unit,
        modality=str(dataset.get("Modality") or ""),
        spacing=stack.spacing if stack else spacing_of(heads[0]),
        affine=stack.affine(float(heads[0].get("SliceThickness") or 1)) if stack else None,
    )


def _pixels(dataset: Dataset, path: Path, heads: Sequence[Any], order: Sequence[int]) -> tuple[np.ndarray, str]:
    """All frames as float32 `(slices, c, h, w)` in `order`, and the type they are stored in."""
    pixels = np.empty((len(heads), channels(dataset), int(dataset.Rows), int(dataset.Columns)), np.float32)
    place, stored = np.argsort(order), ""
    for number, (frame, values) in enumerate(zip(decoded(dataset, path), each_values(heads), strict=True)):
        pixels[place[number]], stored = values.physical(frame), str(frame.dtype)
    return pixels, stored


def shown(head: Any, pixels: np.ndarray) -> tuple[str, Window, dict[str, Window]]:
    """The unit of a scan, its window, and all the windows that a head names."""
    unit, values = unit_of(head), Values.of(head)
    windows = windows_of(head, values, unit)
    first = next(iter(windows.values()), None)
    return unit, first or estimated_window(head, values, pixels, unit), windows


def each_values(heads: Sequence[Any]) -> Iterator[Values]:
    """What the values of each frame mean; worked out once where all frames share a head."""
    values, last = None, None
    for head in heads:
        values = values if head is last and values is not None else Values.of(head)
        last = head
        yield values


def spacing_of(head: Any) -> tuple[float, ...] | None:
    """(row, column) of an image that does not say where it lies."""
    told = head.get("PixelSpacing") or head.get("ImagerPixelSpacing")
    return tuple(float(one) for one in told) if told else None


def channels(dataset: Dataset) -> int:
    """1 for grey, 3 for colour."""
    return 1 if dataset.PhotometricInterpretation in GREY else 3


def counterfactual(dataset: Dataset, pixels: np.ndarray, order: Sequence[int] = (0,)) -> Dataset:
    """A derived copy of a file with `pixels` `(slices, c, h, w)`, each in the place of the frame `order` names."""
    result = derived(dataset, pixels, "counterfactual")
    heads, place, frames = heads_of(dataset), np.argsort(order), decoded(dataset, Path(dataset.filename))
    content: np.ndarray | None = None
    for number, (frame, values) in enumerate(zip(frames, each_values(heads), strict=True)):
        written = values.rewritten(frame, pixels[place[number]])
        if content is None:
            content = np.empty((len(heads), *written.shape), np.uint8 if values.palette else frame.dtype)
        content[number] = written
    assert content is not None, "a file that was opened has a frame"
    _describe(dataset, result)
    set_pixels(result, content if len(content) > 1 else content[0])
    return result


def _describe(dataset: Dataset, result: Dataset) -> None:
    """Bits as they are written: nothing above the stored ones, and colours in the place of a palette's indices."""
    if dataset.PhotometricInterpretation == PALETTE:
        for keyword in (*result.dir("PaletteColorLookupTable"), "PixelPaddingValue", "PixelPaddingRangeLimit"):
            if keyword in result:
                delattr(result, keyword)
        result.BitsAllocated = result.BitsStored = 8
        result.PixelRepresentation = 0
    result.HighBit = int(result.get("BitsStored") or result.BitsAllocated) - 1


def opened(path: Path) -> Dataset:
    """The data set of a file whose image can be decoded; ScanError says why another's cannot."""
    dataset = _dataset(path)
    _check(dataset, path)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _syntax(dataset)
    _check_decoder(dataset, path)
    return dataset


def head_of(path: Path) -> Dataset:
    """The data set of a file without its pixels."""
    return _dataset(path, stop_before_pixels=True)


def _dataset(path: Path, **settings: Any) -> Dataset:
    with path.open("rb") as file:
        start = file.read(4096)
    if start[:2] == b"\x1f\x8b":
        raise ScanError(f"{path} is a DICOM file inside a gzip archive; unpack it (gunzip)")
    if DeflatedExplicitVRLittleEndian.encode() in start:
        _check_deflated(path)
    try:
        return pydicom.dcmread(path, force=True, **settings)
    except MemoryError:
        raise ScanError(f"{path} is damaged: it promises more bytes than memory holds; copy it again") from None


def _check_deflated(path: Path) -> None:
    """Refuse a deflated file that unfolds to more than any image holds, before pydicom unfolds it in one piece."""
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=True)
        pydicom.filereader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group > 2)
        stream, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        rest = file.read(CHUNK)
        while rest and not stream.eof and size <= LARGEST:
            size += len(stream.decompress(rest, CHUNK << 6))
            rest = stream.unconsumed_tail or file.read(CHUNK)
    if size > LARGEST:
        raise ScanError(f"{path} unfolds to more than {LARGEST >> 20:,} MiB; save it without deflation")


def _check(dataset: Dataset, path: Path) -> None:
    modality = _line(dataset.get("Modality"))
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ScanError(f"{path} holds floating-point pixels (a parametric map?); name the image it came from")
    if "PixelData" not in dataset or not dataset.get("Rows"):
        what = modality or "no modality"
        raise ScanError(f"{path} is a DICOM file without an image ({what}); name the images themselves")
    allocated = int(dataset.get("BitsAllocated") or 0)
    if modality in NO_IMAGES or allocated == 1:
        raise ScanError(f"{path} is {NO_IMAGES.get(modality, NO_IMAGES['SEG'])}")
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in (*GREY, *COLOUR, PALETTE):
        able = ", ".join((*GREY, "RGB", "YBR", PALETTE))
        raise ScanError(f"{path} is {_line(photometric) or 'of no kind'}; only {able} can be read, convert it")
    if allocated not in (8, 16, 32):
        raise ScanError(f"{path} has {allocated} bits a pixel; only 8, 16 and 32 can be read, convert it")
    shape = (frame_count(dataset), int(dataset.Rows), int(dataset.get("Columns") or 0), channels(dataset))
    check_size(path, shape)
    if shape[1] * shape[2] > LARGEST_FRAME:
        raise ScanError(f"{path} is {shape[2]} x {shape[1]} pixels, more than can be opened safely; scale it down")


def _line(value: Any) -> str:
    """Text from a file for a message: one line, and not long."""
    return " ".join(str(value or "").split())[:40]


def _syntax(dataset: Dataset) -> pydicom.uid.UID:
    """The transfer syntax of a file that does not name it, as pydicom found it out."""
    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_decoder(dataset: Dataset, path: Path) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        able = get_decoder(syntax).is_available
    except NotImplementedError:
        raise ScanError(f"{path} is stored as {syntax.name}, which cannot be read; save it uncompressed") from None
    if not able:
        raise ScanError(f"{path} is compressed ({syntax.name}) and its decoder is not installed; run: {EXTRA}")


def decoded(dataset: Dataset, path: Path) -> Iterator[np.ndarray]:
    """The stored values of each frame; ScanError for pixels that cannot be decoded."""
    try:
        yield from frames_of(dataset)
    except MemoryError:
        raise ScanError(f"{path} is damaged: its pixels unfold to more than memory holds; copy it again") from None
    except Exception as error:  # each decoder raises its own kind
        reason = " ".join(str(error).split())[:200]
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_compressed and importlib.util.find_spec("gdcm") is None:
            cure = f"if the file is whole, run: {EXTRA}"
            raise ScanError(f"{path} is compressed ({syntax.name}) and cannot be decoded; {cure} ({reason})") from error
        raise ScanError(f"{path} is damaged: its pixels cannot be read ({reason}); copy it again") from error
