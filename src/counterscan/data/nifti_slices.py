"""NIfTI volumes a slice at a time: values are stored slice after slice, packed or not, and masks are written so."""

import gzip
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header

from counterscan.data import nifti
from counterscan.data.lazy import Slices
from counterscan.data.limits import check_finite
from counterscan.data.scans import Scan
from counterscan.data.view import View
from counterscan.errors import ScanError


def opened(path: Path, header: Nifti1Header, colours: int) -> Scan:
    """The scan of a volume whose values stay in the file."""
    place, start, size = nifti.located(path, header)
    shape = header.get_data_shape()[:3]
    view, file = View.of(header.get_best_affine()), nifti.opened(place)
    length = size // shape[2]

    def read(index: int) -> np.ndarray:
        file.seek(start + index * length)
        content = file.read(length)
        if len(content) < length:
            raise EOFError(f"it ends within slice {index + 1} of {shape[2]}")
        if index == shape[2] - 1:
            file.read(1)  # at the end of what is packed, gzip compares its check sum
        values = nifti.volume_of(header, colours, content, (*shape[:2], 1)).physical()
        check_finite(path, values)
        return np.moveaxis(view.shown(values), -1, 1)[0]

    height, width = (shape[1], shape[0]) if view.swap else (shape[0], shape[1])
    pixels = Slices((shape[2], min(colours, 3), height, width), read)
    stored = np.dtype(np.uint8) if colours > 1 else header.get_data_dtype()
    return nifti.scan_of(path, "nifti", header, cast(np.ndarray, pixels), str(stored))


def write_masks(path: Path, masks: Iterable[np.ndarray], out: Path) -> Path:
    """Write boolean `masks` `(h, w)`, one a slice, in the geometry of the volume at `path`; `out` ends as it should.

    The file is whole or not there. Raises ScanError where there is no room, or no right to write.
    """
    header, view = _plain(path)
    head, _ = _head(header, np.dtype(np.uint8), "mask by counterscan", (1.0, 0.0))
    return _write(out, head, (view.stored(mask[None]).astype(np.uint8) for mask in masks))


def write_maps(path: Path, maps: Iterable[np.ndarray], out: Path) -> Path:
    """`write_masks` for maps of float32 `(h, w)`."""
    header, view = _plain(path)
    head, dtype = _head(header, np.dtype(np.float32), "heat map by counterscan", (1.0, 0.0))
    return _write(out, head, (view.stored(values[None]).astype(dtype) for values in maps))


def write_images(path: Path, images: Iterable[np.ndarray], out: Path) -> Path:
    """`write_masks` for physical values `(c, h, w)` of a counterfactual, in the type and scaling of the volume.

    What is as it was stays so bit for bit, for which the volume is read again along with them.
    """
    header, colours = nifti.described(path)
    view, (place, start, size) = View.of(header.get_best_affine()), nifti.located(path, header)
    shape = (*header.get_data_shape(), 1)[:3]

    def encoded(file: BinaryIO) -> Iterator[np.ndarray]:
        file.seek(start)
        for image in images:
            one = nifti.volume_of(header, colours, file.read(size // shape[2]), (*shape[:2], 1))
            yield nifti.packed(one.encoded(view.stored(np.moveaxis(image[None], 1, -1))), header)

    whole = nifti.volume_of(header, colours, b"", (0, 0, 0))
    words = "synthetic counterfactual by counterscan"
    head, _ = _head(header, header.get_data_dtype(), words, (whole.slope, whole.inter))
    with nifti.opened(place) as file:
        return _write(out, head, encoded(file))


def _plain(path: Path) -> tuple[Nifti1Header, View]:
    """The header of a volume without the window that its values were meant for, and how it is shown."""
    header, _ = nifti.described(path)
    header["cal_min"] = header["cal_max"] = 0
    return header, View.of(header.get_best_affine())


def _write(out: Path, head: bytes, slices: Iterable[np.ndarray]) -> Path:
    part = out.with_name(f"{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file, _packer(file, packed=out.suffix == ".gz") as target:
            target.write(head)
            for stored in slices:
                target.write(stored.tobytes(order="F"))
        os.replace(part, out)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        cause = error.strerror or type(error).__name__
        raise ScanError(f"{out} cannot be written ({cause}); make room there, or name another folder") from error
    return out


def _head(source: Nifti1Header, dtype: np.dtype, words: str, scaling: tuple[float, float]) -> tuple[bytes, np.dtype]:
    """All that stands before the values of a result, and the type that they are written in."""
    none = np.broadcast_to(np.zeros((), dtype), source.get_data_shape())  # takes one value, whatever its shape
    image = nifti.result_image(source, none, words, scaling)
    image.update_header()
    header = image.header
    header["vox_offset"] = header.single_vox_offset
    return header.binaryblock + bytes(header.single_vox_offset - header.sizeof_hdr), header.get_data_dtype()


def _packer(file: BinaryIO, *, packed: bool) -> AbstractContextManager:
    if not packed:
        return nullcontext(file)
    return gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0)
