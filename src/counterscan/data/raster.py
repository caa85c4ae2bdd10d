"""PNG, JPEG and TIFF pictures, 8- and 16-bit grey (and 32-bit TIFF), 8-bit colour."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from counterscan.data.files import SUFFIXES, with_suffix, write_whole
from counterscan.data.scans import Scan
from counterscan.data.window import Window, range_window
from counterscan.errors import ScanError

GREY = {"1": "uint8", "L": "uint8", "LA": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32", "F": "float32"}
COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa", "RGBX")
SAVE: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 4},
    "jpeg": {"quality": 97, "subsampling": 0},
    "tiff": {"compression": "tiff_deflate"},
}
ORIENTATION = 0x0112  # the one EXIF tag that belongs to the geometry; the others may name the patient


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
        pixels = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
        low, high = ((value - self.intercept) / self.slope for value in (scan.window.low, scan.window.high))
        ends = sorted((low * slope + intercept, high * slope + intercept))
        return replace(
            scan,
            pixels=pixels,
            window=Window(ends[0], ends[1], scan.window.unit),
            source=replace(self, slope=slope, intercept=intercept),
        )

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        stored, exif = load(self.path)
        values = (pixels[0].transpose(1, 2, 0).astype(np.float64) - self.intercept) / self.slope
        values = values[..., 0] if stored.ndim == 2 else values
        return write_picture(encode(values, stored.dtype), self._named(path, self.suffix), self.kind, exif)

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        kind = "png" if self.kind == "jpeg" else self.kind
        return write_picture(mask[0].astype(np.uint8) * 255, self._named(path, self.mask_suffix), kind)

    def _named(self, path: Path, suffix: str) -> Path:
        return with_suffix(path, suffix, SUFFIXES[self.kind] if suffix in SUFFIXES[self.kind] else ())


def read(path: Path, kind: str) -> Scan:
    """Read a picture: grey stays grey, palettes become colour, transparency is left out."""
    stored, _ = load(path)
    pixels = stored.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise ScanError(f"{path} holds NaN or infinite values; replace them by numbers")
    pixels = pixels[None, None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[None]
    window = Window(0, 255) if stored.dtype == np.uint8 else range_window(pixels)
    return Scan(pixels, window, path, kind, str(stored.dtype), Picture(path, kind))


def load(path: Path) -> tuple[np.ndarray, Image.Exif]:
    """The stored values `(h, w)` or `(h, w, 3)`, and of the EXIF the orientation."""
    try:
        with Image.open(path) as picture:
            _check(picture, path)
            exif = Image.Exif()
            if ORIENTATION in picture.getexif():
                exif[ORIENTATION] = picture.getexif()[ORIENTATION]
            return _values(picture), exif
    except Image.DecompressionBombError as error:
        raise ScanError(f"{path} has too many pixels to be opened safely ({error}); scale it down") from error
    except UnidentifiedImageError as error:
        raise ScanError(f"{path} is damaged: its header cannot be read; copy it again from where it came") from error


def _check(picture: Image.Image, path: Path) -> None:
    width, height = picture.size
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise ScanError(f"{path} has too many pixels to be opened safely ({width} x {height}); scale it down")
    if getattr(picture, "n_frames", 1) > 1:
        raise ScanError(f"{path} has {picture.n_frames} pages; save each as a file of its own")  # type: ignore[attr-defined]
    if picture.mode not in GREY and picture.mode not in COLOUR:
        raise ScanError(f"{path} has pixels of kind {picture.mode!r}; convert it to 8- or 16-bit grey or 8-bit colour")
    if picture.mode in COLOUR and any("16" in str(tile[3]) for tile in getattr(picture, "tile", ())):
        raise ScanError(f"{path} is 16-bit colour, of which half would be lost; convert it to 8-bit colour")


def _values(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("1", "LA"):
        return np.asarray(picture.convert("L"))
    if picture.mode in GREY:
        return np.asarray(picture).astype(GREY[picture.mode])
    return np.asarray(picture.convert("RGBA").convert("RGB") if picture.mode in ("P", "PA") else picture.convert("RGB"))


def encode(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Stored values nearest to `values`, within what `dtype` can hold."""
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def write_picture(
    stored: np.ndarray, path: Path, kind: str = "png", exif: Image.Exif | None = None, **settings: Any
) -> Path:
    """Write `(h, w)` or `(h, w, 3)` as a picture; nothing of the source's texts goes with it."""
    buffer = io.BytesIO()
    extra = {"exif": exif} if exif else {}
    Image.fromarray(stored).save(buffer, format=kind.upper(), **{**SAVE[kind], **extra, **settings})
    return write_whole(path, buffer.getvalue())
