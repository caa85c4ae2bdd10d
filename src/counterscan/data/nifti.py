"""NIfTI-1 and -2 slices and volumes: shown as on a light box, written back exactly as they lay."""

import gzip
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from nibabel.imageglobals import logger
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from counterscan.data.files import SUFFIXES, with_suffix
from counterscan.data.lazy import sample
from counterscan.data.limits import check_finite, check_length, check_size
from counterscan.data.raster import encode
from counterscan.data.scans import Scan
from counterscan.data.view import View, steps
from counterscan.data.window import Window, range_window
from counterscan.errors import ScanError

CHUNK = 1 << 24
FURTHEST = 1 << 26  # bytes of extensions before the values
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
SINGLE = (b"n+1", b"n+2")


@dataclass(frozen=True, eq=False)
class Volume:
    """What a file holds: the values as stored `(i, j, k, c)`, and what they mean; of four channels one is alpha."""

    header: Nifti1Header
    stored: np.ndarray
    slope: float
    inter: float

    @property
    def affine(self) -> np.ndarray:
        """The sform if it is set, else the qform, else a guess from the voxel size, as nibabel takes them."""
        return self.header.get_best_affine()

    def slice(self, index: int) -> np.ndarray:
        """float32 `stored * slope + inter` of one k, rounded once."""
        stored: np.ndarray = self.stored[:, :, index, :3]
        plain = (self.slope, self.inter) == (1.0, 0.0)
        return (stored if plain else stored.astype(np.float64) * self.slope + self.inter).astype(np.float32)

    def physical(self) -> np.ndarray:
        """float32 `(i, j, k, c)`; a slice at a time, so that the doubles in between take no room."""
        *space, channels = self.stored.shape
        values = np.empty((*space, min(channels, 3)), np.float32, order="F")
        for index in range(values.shape[2]):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by name
                values[:, :, index] = self.slice(index)
        return values

    def encoded(self, values: np.ndarray) -> np.ndarray:
        """Stored values `(i, j, k, c)` for physical ones; what is as it was stays so bit for bit."""
        result = self.stored.copy()
        for index in range(values.shape[2]):
            changed = values[:, :, index] != self.slice(index)
            wanted = (values[:, :, index][changed].astype(np.float64) - self.inter) / self.slope
            result[:, :, index, :3][changed] = encode(wanted, self.stored.dtype)
        return result


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI file; `has_unit` is False because NIfTI has no field for it. A pair is written back as one `.nii`."""

    path: Path
    suffix: str
    has_unit: bool = False

    @property
    def mask_suffix(self) -> str:
        return self.suffix

    def rescaled(self, scan: Scan, slope: float, intercept: float) -> Scan:
        return scan

    def write(self, pixels: Iterable[np.ndarray], path: Path) -> Path:
        from counterscan.data.nifti_slices import write_images

        return write_images(self.path, pixels, with_suffix(path, self.suffix, SUFFIXES["nifti"]))

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        from counterscan.data.nifti_slices import write_masks

        return write_masks(self.path, mask, with_suffix(path, self.suffix, SUFFIXES["nifti"]))

    def write_map(self, values: Iterable[np.ndarray], path: Path) -> Path:
        """Write float32 `values` `(h, w)`, one a slice, in the source's geometry."""
        from counterscan.data.nifti_slices import write_maps

        return write_maps(self.path, values, with_suffix(path, self.suffix, SUFFIXES["nifti"]))


def result_image(source: Nifti1Header, stored: np.ndarray, words: str, scaling: tuple[float, float]) -> Any:
    """The nibabel image of a result in the geometry of its source; `words` say what it is."""
    header = source.copy()  # without extensions, which were never read; these and texts may name the patient
    for name in {"db_name", "aux_file", "intent_name"} & set(header.keys()):
        header[name] = b""
    header["descrip"] = words.encode()
    header.set_data_dtype(stored.dtype)
    kind = nibabel.Nifti2Image if isinstance(header, Nifti2Header) else nibabel.Nifti1Image
    with _quiet():
        result = kind(stored, source.get_best_affine(), _single(header))
    result.header.set_slope_inter(*scaling)  # set, so that nibabel writes the stored values as they are
    return result


def _single(header: Nifti1Header) -> Nifti1Header:
    """The header as that of one file, which that of a pair becomes."""
    kind = Nifti2Header if isinstance(header, Nifti2Header) else Nifti1Header
    block = header.structarr.copy()
    block["magic"] = kind.single_magic if kind is Nifti1Header else b"n+2\0\r\n\x1a\n"
    block["vox_offset"] = 0
    return kind(block.tobytes(), header.endianness, check=False)


def read(path: Path, kind: str = "nifti") -> Scan:
    """Read a slice or a volume; values are `stored * scl_slope + scl_inter`."""
    volume = load(path)
    values = volume.physical()
    check_finite(path, values)
    pixels = np.ascontiguousarray(np.moveaxis(View.of(volume.affine).shown(values), -1, 1))
    return scan_of(path, kind, volume.header, pixels, str(volume.stored.dtype))


def scan_of(path: Path, kind: str, header: Nifti1Header, pixels: np.ndarray, stored: str) -> Scan:
    """The scan of `pixels` `(slices, c, h, w)` that a header describes."""
    shape, told = (*header.get_data_shape(), 1, 1)[:3], header.get_best_affine()
    affine = View.of(told).affine(_millimetres(header) @ told, shape)
    placed = _has_spacing(path, header, affine, shape[2])
    if placed:
        _compare_forms(path, header)
    return Scan(
        pixels,
        _window(header, pixels),
        path,
        kind,
        stored,
        NiftiFile(path, _suffix(path)),
        unit=None,
        spacing=steps(affine) if placed else None,
        affine=affine if placed else None,
    )


def _has_spacing(path: Path, header: Nifti1Header, affine: np.ndarray, slices: int) -> bool:
    """Is it known how large pixels are, and how far slices lie apart? Else warn."""
    count = 3 if slices > 1 else 2
    told = steps(affine)[:count]
    if not header["sform_code"] > 0:  # nibabel has set a zero to 1
        with opened(path) as file:
            stored = _header(file.read(Nifti2Header.sizeof_hdr), check=False)["pixdim"][1 : count + 1]
        told = tuple(0.0 if kept == 0 else step for kept, step in zip(stored, told, strict=True))
    if all(np.isfinite(step) and step > 0 for step in told):
        return True
    said = " x ".join(f"{step:g}" for step in told)
    warnings.warn(
        f"{path}: a spacing of zero or none ({said} mm), so its slices are images of their own, and nothing is "
        "measured in mm or ml; set pixdim, or the affine, where it is known",
        stacklevel=2,
    )
    return False


def load(path: Path) -> Volume:
    """The header and the stored values; ScanError for what is neither one slice nor one volume of plain numbers."""
    header, colours = described(path)
    return volume_of(header, colours, _values(path, header), header.get_data_shape())


def described(path: Path) -> tuple[Nifti1Header, int]:
    """The header, and the number of colours in a value; ScanError as `load`, before any value is read."""
    with opened(path) as file:
        header = _header(file.read(Nifti2Header.sizeof_hdr))
    dtype = header.get_data_dtype()
    colours = len(dtype.names or ()) if header["datatype"] in (128, 2304) else 1
    _check(path, header.get_data_shape(), dtype, colours)
    return header, colours


def volume_of(header: Nifti1Header, colours: int, content: bytes | bytearray, shape: tuple[int, ...]) -> Volume:
    """The stored values `content` of a `shape` (that of the header, or fewer slices), and what they mean."""
    stored = np.frombuffer(content, np.uint8 if colours > 1 else header.get_data_dtype())
    slope, inter = (1.0, 0.0) if colours > 1 else header.get_slope_inter()
    space = (*shape, 1, 1, 1)[:3]
    stored = np.moveaxis(stored.reshape((colours, *space), order="F"), 0, -1)
    return Volume(header, stored, 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter))


def _header(head: bytes, check: bool = True) -> Nifti1Header:
    kind: Any = Nifti2Header if head[4:7] in (b"n+2", b"ni2") else Nifti1Header
    with _quiet():
        return kind(head[: kind.sizeof_hdr], check=check)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, nibabel does not log what it mends in a header; here that is said where it matters."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype, colours: int) -> None:
    if dtype.kind not in "iuf" and colours == 1:
        raise ScanError(f"{path} holds {dtype} values, not plain numbers; convert it to grey values")
    check_size(path, (*shape, colours) if colours > 1 else shape)
    if len(shape) < 2:
        raise ScanError(f"{path} has shape {shape}, a line; save one slice (h, w) or one volume (h, w, slices) a file")
    if any(length > 1 for length in shape[3:]):
        raise ScanError(
            f"{path} has shape {shape}: {np.prod(shape[3:])} volumes; save the one to explain as a file of its own "
            "(nibabel.four_to_three, or fslsplit)"
        )


def _values(path: Path, header: Nifti1Header) -> bytearray:
    """The bytes of the values, and no more than these, however much follows or unpacks."""
    place, offset, wanted = located(path, header)
    content = bytearray(wanted)
    view, filled = memoryview(content), 0
    with opened(place) as file:
        file.seek(offset)
        while filled < wanted and (read := file.read(min(CHUNK, wanted - filled))):
            view[filled : filled + len(read)] = read
            filled += len(read)
        if filled < wanted:
            raise EOFError(f"it ends after {filled:,} of {wanted:,} bytes of values")
        file.read(1)  # at the end of what is packed, gzip compares its check sum
    return content


def located(path: Path, header: Nifti1Header) -> tuple[Path, int, int]:
    """The file that holds the values, where they start in it (unpacked), and how many bytes they are."""
    single = header["magic"].item()[:3] in SINGLE
    place, offset = (path, header.get_data_offset()) if single else (_beside(path), int(header["vox_offset"]))
    wanted = int(np.prod(header.get_data_shape(), dtype=np.int64)) * header.get_data_dtype().itemsize
    if offset > FURTHEST:
        raise ScanError(f"{path} is damaged: its values begin {offset:,} bytes after its start; copy it again")
    packed, size = _packed_file(place), place.stat().st_size
    check_length(path, max(offset, 0), size, packed=packed)
    check_length(path, wanted, size if packed else size - max(offset, 0), packed=packed)
    return place, max(offset, 0), wanted


def _packed_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def opened(path: Path) -> BinaryIO:
    """A file for reading, unpacked."""
    return cast(BinaryIO, gzip.open(path) if _packed_file(path) else path.open("rb"))


def _beside(path: Path) -> Path:
    """The values of a pair: the `.img` beside the `.hdr`, and nothing else."""
    stem = path.name.lower().removesuffix(".gz").removesuffix(".hdr")
    stem = path.name[: len(stem)]
    found = [path.with_name(stem + end) for end in (".img", ".img.gz", ".IMG") if path.with_name(stem + end).is_file()]
    if not found:
        raise ScanError(f"{path} is the header of a pair without its {stem}.img; put that beside it")
    return found[0]


def _suffix(path: Path) -> str:
    return ".nii.gz" if _packed_file(path) and not path.name.lower().endswith(".hdr.gz") else ".nii"


def packed(values: np.ndarray, header: Nifti1Header) -> np.ndarray:
    """`(i, j, k, c)` as the header's type holds it, which for colour is a record."""
    if values.shape[-1] == 1:
        return values[..., 0]
    return np.ascontiguousarray(values).view(header.get_data_dtype())[..., 0]


def _millimetres(header: Nifti1Header) -> np.ndarray:
    factor = MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    return np.diag([factor, factor, factor, 1.0])


def _compare_forms(path: Path, header: Nifti1Header) -> None:
    """Warn where the two places that say how the patient lay contradict each other by more than a voxel."""
    shape = (*header.get_data_shape(), 1, 1)[:3]
    if not (header["sform_code"] > 0 and header["qform_code"] > 0):
        return
    corners = np.array([[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])
    apart = np.abs((header.get_sform() - header.get_qform()) @ corners.T).max()
    if apart > min(header.get_zooms()[:3]):
        warnings.warn(f"{path}: sform and qform are up to {apart:.3g} apart; the sform is used", stacklevel=2)


def _window(header: Nifti1Header, pixels: np.ndarray) -> Window:
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if np.isfinite([low, high]).all() and low < high:
        return Window(low, high)
    return Window(0, 255) if pixels.shape[1] > 1 else range_window(sample(pixels))
