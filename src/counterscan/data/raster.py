"""PNG, JPEG and TIFF pictures: grey of 1 to 32 bits, colour of 8 or 16, pages as slices, upright as they are shown."""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from counterscan.data.files import SUFFIXES, with_suffix, write_whole
from counterscan.data.limits import LARGEST, MOST_SCANS, check_finite, check_length, check_size, scans_of
from counterscan.data.scans import Scan
from counterscan.data.window import Window, range_window
from counterscan.errors import ScanError

GREY = {"1": "uint8", "L": "uint8", "LA": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32", "F": "float32"}
COLOUR = ("RGB", "RGBA", "P", "PA", "YCbCr", "RGBX")
CURE = "convert it to 8- or 16-bit grey or RGB"
PAGES = 10_000
CHUNK = 1 << 20
SAVE: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 4},
    "jpeg": {"quality": 97, "subsampling": 0},
    "tiff": {"compression": "tiff_deflate"},
}
ORIENTATION = 0x0112  # the one EXIF tag that belongs to the geometry; the others may name the patient
SAMPLE_FORMAT, SIGNED = 339, 2
UNDONE = {6: 8, 8: 6}  # quarter turns; the other orientations undo themselves


@dataclass(frozen=True, eq=False)
class Stored:
    """What a picture file holds: `values` `(pages, h, w)` or `(pages, h, w, 3)`, upright, and what else goes back."""

    values: np.ndarray
    alpha: np.ndarray | None = None  # (pages, h, w)
    orientation: int = 1
    dpi: tuple[float, float] | None = None

    @property
    def pixels(self) -> np.ndarray:
        """float32 `(pages, c, h, w)`."""
        values = self.values[..., None] if self.values.ndim == 3 else self.values
        return np.ascontiguousarray(np.moveaxis(values, -1, 1), np.float32)


@dataclass(frozen=True)
class Picture:
    """A picture file: pixels are `stored * slope + intercept`."""

    path: Path
    kind: str
    slope: float = 1.0
    intercept: float = 0.0
    has_unit: bool = False

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower() if self.path.suffix.lower() in SUFFIXES[self.kind] else SUFFIXES[self.kind][0]

    @property
    def mask_suffix(self) -> str:
        return ".png" if self.kind == "jpeg" else self.suffix

    def rescaled(self, scan: Scan, slope: float, intercept: float) -> Scan:
        if (slope, intercept) == (self.slope, self.intercept):
            return scan
        stored = (scan.pixels - self.intercept) / self.slope
        low, high = ((value - self.intercept) / self.slope for value in (scan.window.low, scan.window.high))
        ends = sorted((low * slope + intercept, high * slope + intercept))
        return replace(
            scan,
            pixels=_physical(stored, slope, intercept),
            window=Window(ends[0], ends[1], scan.window.unit),
            source=replace(self, slope=slope, intercept=intercept),
        )

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        source = load(self.path, self.kind)
        unchanged = pixels == _physical(source.pixels, self.slope, self.intercept)
        wanted = encode((pixels.astype(np.float64) - self.intercept) / self.slope, source.values.dtype)
        channels_last = source.values if source.values.ndim == 4 else source.values[..., None]
        values = np.where(np.moveaxis(unchanged, 1, -1), channels_last, np.moveaxis(wanted, 1, -1))
        if source.alpha is not None:
            values = np.concatenate([values, source.alpha[..., None]], axis=-1)
        return self._save(replace(source, values=values), path, self.suffix, self.kind)

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        source = load(self.path, self.kind)
        kind = "png" if self.kind == "jpeg" else self.kind
        return self._save(replace(source, values=mask.astype(np.uint8)[..., None] * 255), path, self.mask_suffix, kind)

    def _save(self, result: Stored, path: Path, suffix: str, kind: str) -> Path:
        path = with_suffix(path, suffix, SUFFIXES[self.kind] if suffix in SUFFIXES[self.kind] else ())
        pages = [_turned(page, UNDONE.get(result.orientation, result.orientation)) for page in result.values]
        pages = [page[..., 0] if page.shape[-1] == 1 else page for page in pages]
        if pages[0].ndim == 3 and pages[0].dtype == np.uint16:
            from counterscan.data.itk import write_colour

            return write_colour(pages[0], path)
        extra: dict[str, Any] = {"dpi": result.dpi} if result.dpi else {}
        if result.orientation != 1:
            extra["exif"] = Image.Exif()
            extra["exif"][ORIENTATION] = result.orientation
        if len(pages) > 1:
            extra |= {"save_all": True, "append_images": [Image.fromarray(page) for page in map(_plain, pages[1:])]}
        return write_picture(pages[0], path, kind, **extra)


def read(path: Path, kind: str) -> Scan:
    """Read a picture: grey stays grey, palettes become what they show, transparency is left out, pages are slices."""
    stored = load(path, kind)
    pixels = stored.pixels
    check_finite(path, pixels)
    window = Window(0, 255) if stored.values.dtype == np.uint8 else range_window(pixels)
    return Scan(pixels, window, path, kind, str(stored.values.dtype), Picture(path, kind))


def load(path: Path, kind: str) -> Stored:
    """What a picture file holds; ScanError for what is too large, unknown, or cannot be brought back as it was."""
    try:
        with Image.open(path, formats=[kind.upper()]) as picture:
            _check(picture, path)
            if kind == "png":
                check_length(path, _png_length(path)[0], path.stat().st_size, packed=True)
            if kind == "jpeg" and (scans := scans_of(path.read_bytes())) > MOST_SCANS:
                raise ScanError(f"{path} goes over its pixels {scans:,} times, which takes too long; save it again")
            if picture.mode in COLOUR and "16" in _packing(picture):
                return _deep_colour(path, picture)
            orientation = int(picture.getexif().get(ORIENTATION, 1))
            dpi = picture.info.get("dpi")
            pages = list(_pages(picture, path, kind))
            if kind == "png":
                _check_rows(path, pages[0])
    except Image.DecompressionBombError as error:
        raise ScanError(f"{path} has too many pixels to be opened safely ({error}); scale it down") from error
    except UnidentifiedImageError as error:
        raise ScanError(_unidentified(path, kind)) from error
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        raise ScanError(f"{path} has {len(pages)} pages of different sizes or kinds; save the one to explain as a file")
    stored = np.stack(pages) if orientation == 1 or kind == "tiff" else np.stack([_turned(pages[0], orientation)])
    orientation = orientation if 1 <= orientation <= 8 else 1
    return _split(stored, orientation, dpi)


def _split(stored: np.ndarray, orientation: int, dpi: tuple[float, float] | None) -> Stored:
    """The alpha channel of `(pages, h, w[, c])` apart from the values."""
    if stored.ndim == 4 and stored.shape[-1] in (2, 4):
        values = stored[..., 0] if stored.shape[-1] == 2 else stored[..., :3]
        return Stored(values, stored[..., -1], orientation, dpi)
    return Stored(stored, None, orientation, dpi)


def _check(picture: Image.Image, path: Path) -> None:
    width, height = picture.size
    check_size(path, (width, height))
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise ScanError(f"{path} has too many pixels to be opened safely ({width} x {height}); scale it down")
    parts = getattr(picture, "tile", ())  # none once it has been loaded
    told = sum((right - left) * (low - top) for _, (left, top, right, low), *_ in parts)
    if parts and told < width * height:  # Pillow leaves the rest black
        raise ScanError(f"{path} is damaged: it holds {told:,} of {width * height:,} pixels; copy it again")
    if picture.mode not in GREY and picture.mode not in COLOUR:
        what = "in CMYK, amounts of ink" if picture.mode == "CMYK" else f"of kind {picture.mode}"
        raise ScanError(f"{path} is {what}, which cannot be brought back faithfully; {CURE}")


def _png_length(path: Path) -> tuple[int, bool]:
    """The bytes that a PNG's pixels unpack to, by its first chunk, and whether they come in passes."""
    with path.open("rb") as file:
        head = file.read(29)
    width, height = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    bits = head[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(head[25], 1)
    return height * (1 + (width * bits + 7) // 8), bool(head[28])


def _check_rows(path: Path, pixels: np.ndarray) -> None:
    """Refuse a PNG whose pixels end early, for which Pillow puts black; where the last row is none, all are there."""
    wanted, passes = _png_length(path)
    if passes or pixels[-1].any():
        return
    unpacker, there = zlib.decompressobj(), 0
    with path.open("rb") as file:
        file.seek(8)
        while there < wanted and len(head := file.read(8)) == 8:
            part = file.read(int.from_bytes(head[:4]) + 4)[:-4]
            while head[4:] == b"IDAT" and part and there < wanted:
                there += len(unpacker.decompress(part, CHUNK))
                part = unpacker.unconsumed_tail
    if there < wanted:
        raise ScanError(f"{path} is damaged: it holds {there:,} of {wanted:,} bytes of pixels; copy it again")


def _pages(picture: Image.Image, path: Path, kind: str) -> Iterator[np.ndarray]:
    """The pages, `(h, w)` or `(h, w, c)` with alpha last; of a JPEG only the first, beside which cameras put others."""
    room = LARGEST
    for number in range(PAGES + 1 if kind == "tiff" else 1):
        try:
            picture.seek(number)
        except EOFError:
            return
        if number == PAGES:
            raise ScanError(f"{path} has more than {PAGES} pages; save those to explain as a file of their own")
        _check(picture, path)
        room -= picture.width * picture.height * len(picture.getbands())
        if room < 0:
            raise ScanError(f"{path} holds more pages than can be opened safely; save a part of them")
        yield _values(picture)
    if kind == "png" and getattr(picture, "n_frames", 1) > 1:
        raise ScanError(f"{path} is an animation; save the frame to explain as a file of its own")


def _values(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("1", "LA"):
        return np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    if picture.mode in ("P", "PA"):
        return _painted(picture)
    if picture.mode not in GREY:
        return np.asarray(picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB"))
    values = np.asarray(picture).astype(GREY[picture.mode])
    depth, sign = _tiff_kind(picture)
    if depth == 16 and sign == SIGNED:
        return values.astype(np.int16)
    if depth == 32 and sign != SIGNED and picture.mode == "I" and values.min() < 0:
        raise ScanError(f"{picture.filename} holds 32-bit numbers beyond 2147483647; convert it to 32-bit float")  # type: ignore[attr-defined]
    return values


def _tiff_kind(picture: Image.Image) -> tuple[int, int]:
    """Bits a sample and the sample format of a TIFF; zeros for others."""
    tags = getattr(picture, "tag_v2", None)
    return (int(tags.get(258, (0,))[0]), int(tags.get(SAMPLE_FORMAT, (1,))[0])) if tags is not None else (0, 0)


def _painted(picture: Image.Image) -> np.ndarray:
    """A palette's picture as colour, or as grey where all of the palette is grey."""
    colours = np.array(picture.getpalette("RGB")).reshape(-1, 3)
    grey = (colours == colours[:, :1]).all()
    return np.asarray(picture.convert("RGBA").convert("L" if grey else "RGB"))


def _packing(picture: Image.Image) -> str:
    """How the file packs its pixels, in Pillow's words: `RGB;16B` for example."""
    return " ".join(str(tile[3]) for tile in getattr(picture, "tile", ()))


def _deep_colour(path: Path, picture: Image.Image) -> Stored:
    """Colour of 16 bits, of which Pillow would drop half."""
    if "LA" in _packing(picture) or getattr(picture, "n_frames", 1) > 1:
        raise ScanError(f"{path} is 16-bit grey with transparency, or several pages of 16-bit colour; {CURE}")
    from counterscan.data.itk import read_colour

    orientation = int(picture.getexif().get(ORIENTATION, 1))
    return _split(_turned(read_colour(path), orientation)[None], 1, None)


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """`(h, w[, c])` as EXIF says that it is to be shown."""
    if orientation in (5, 7):
        turned = values.swapaxes(0, 1)
        return turned[::-1, ::-1] if orientation == 7 else turned
    if orientation in (6, 8):
        return np.rot90(values, -1 if orientation == 6 else 1)
    return values[:: -1 if orientation in (3, 4) else 1, :: -1 if orientation in (2, 3) else 1]


def _unidentified(path: Path, kind: str) -> str:
    """Why Pillow knows nothing of a file that begins as one that it knows."""
    bits = _jpeg_bits(path) if kind == "jpeg" else 8
    if bits not in (0, 8):
        return f"{path} is a JPEG of {bits} bits, which few programs read; convert it to a 16-bit PNG or to DICOM"
    return f"{path} is damaged, or a {kind.upper()} of a rare kind: its header cannot be read; copy it again, or {CURE}"


def _jpeg_bits(path: Path) -> int:
    """Bits a sample, as the frame header after the other segments says (ITU T.81, B.2.2); 0 where there is none."""
    with path.open("rb") as file:
        file.seek(2)
        while len(head := file.read(4)) == 4 and head[0] == 0xFF:
            if 0xC0 <= head[1] <= 0xCF and head[1] not in (0xC4, 0xC8, 0xCC):
                return int.from_bytes(file.read(1))
            file.seek(max(int.from_bytes(head[2:]) - 2, 0), io.SEEK_CUR)
    return 0


def _physical(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    plain = (slope, intercept) == (1.0, 0.0)
    return stored if plain else (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def encode(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Stored values nearest to `values`, within what `dtype` can hold."""
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _plain(stored: np.ndarray) -> np.ndarray:
    """What Pillow can hold: signed 16 bits go as unsigned ones, and a tag says so."""
    return stored.view(np.uint16) if stored.dtype == np.int16 else stored


def write_picture(stored: np.ndarray, path: Path, kind: str = "png", **settings: Any) -> Path:
    """Write `(h, w)` or `(h, w, c)` as a picture; nothing of the source's texts goes with it."""
    buffer = io.BytesIO()
    stored = np.ascontiguousarray(stored)
    signed = {"tiffinfo": {SAMPLE_FORMAT: SIGNED}} if stored.dtype == np.int16 else {}
    Image.fromarray(_plain(stored)).save(buffer, format=kind.upper(), **{**SAVE[kind], **signed, **settings})
    return write_whole(path, buffer.getvalue())
