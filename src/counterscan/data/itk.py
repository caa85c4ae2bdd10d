"""MetaImage (MHA, MHD) and NRRD volumes, and pictures of 16-bit colour, through SimpleITK."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.data.files import SUFFIXES, with_suffix, write_whole
from counterscan.data.headers import VALUES, Claim, claim
from counterscan.data.limits import check_finite
from counterscan.data.raster import encode
from counterscan.data.scans import Scan
from counterscan.data.view import View, steps
from counterscan.data.window import Window, range_window
from counterscan.errors import MissingExtra, ScanError

READER = {"mha": ("MetaImageIO", "header.mhd"), "nrrd": ("NrrdImageIO", "header.nhdr")}


@dataclass(frozen=True)
class ItkFile:
    """A MetaImage or NRRD file; neither can say its unit. A header with its values beside it is written as one file."""

    path: Path
    kind: str
    packed: bool
    has_unit: bool = False

    @property
    def suffix(self) -> str:
        return SUFFIXES[self.kind][0]

    @property
    def mask_suffix(self) -> str:
        return self.suffix

    def rescaled(self, scan: Scan, slope: float, intercept: float) -> Scan:
        return scan

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        image, stored = load(self.path, self.kind)
        values = View.of(affine_of(image)).stored(np.moveaxis(pixels, 1, -1))
        unchanged = values == stored[..., :3].astype(np.float32)
        stored[..., :3] = np.where(unchanged, stored[..., :3], encode(values, stored.dtype))
        return self._save(image, stored, path)

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        image, _ = load(self.path, self.kind)
        return self._save(image, View.of(affine_of(image)).stored(mask).astype(np.uint8)[..., None], path)

    def write_map(self, values: np.ndarray, path: Path) -> Path:
        """Write float32 `values` `(slices, h, w)` in the source's geometry."""
        image, _ = load(self.path, self.kind)
        return self._save(image, View.of(affine_of(image)).stored(values).astype(np.float32)[..., None], path)

    def _save(self, image: Any, stored: np.ndarray, path: Path) -> Path:
        """Write `(i, j, k, c)` where `image` lies; its texts, which may name the patient, stay behind."""
        sitk = simple_itk()
        array = stored.transpose(2, 1, 0, 3)
        array = array if image.GetDimension() == 3 else array[0]
        colour = stored.shape[-1] > 1
        result = sitk.GetImageFromArray(np.ascontiguousarray(array if colour else array[..., 0]), isVector=colour)
        result.CopyInformation(image)
        return _written(result, with_suffix(path, self.suffix), self.suffix, packed=self.packed)


def read(path: Path, kind: str) -> Scan:
    """Read a slice or a volume, grey or colour."""
    image, stored = load(path, kind)
    with np.errstate(over="ignore"):  # what is beyond float32 is refused by name
        values = stored[..., :3].astype(np.float32)  # a fourth channel is transparency
    check_finite(path, values)
    affine = affine_of(image)
    view = View.of(affine)
    pixels = np.ascontiguousarray(np.moveaxis(view.shown(values), -1, 1))
    affine = view.affine(affine, stored.shape[:3])
    window = Window(0, 255) if len(pixels[0]) > 1 and stored.dtype == np.uint8 else range_window(pixels)
    source = ItkFile(path, kind, claim(path, kind).packed)
    return Scan(pixels, window, path, kind, str(stored.dtype), source, None, "", steps(affine), affine)


def load(path: Path, kind: str) -> tuple[Any, np.ndarray]:
    """SimpleITK's image, and its values `(i, j, k, c)`; ScanError for what is no slice, volume or colour."""
    told = claim(path, kind)
    if len(told.shape) not in (2, 3):
        raise ScanError(
            f"{path} has shape {told.shape}; save the one volume (or slice) to explain as a file of its own"
        )
    if told.channels not in (1, 3, 4):
        raise ScanError(f"{path} holds {told.channels} numbers a voxel, not grey values or colour; save one channel")
    image = _read_anew(path, told, kind)
    array = simple_itk().GetArrayFromImage(image)
    if image.GetSize() != told.shape or image.GetNumberOfComponentsPerPixel() != told.channels:
        raise ScanError(f"{path} has a header that can be read in two ways; save it again as a plain volume")
    if array.dtype.kind not in "iuf":
        raise ScanError(f"{path} holds {array.dtype} values, not plain numbers; convert it to grey values")
    array = array if told.channels > 1 else array[..., None]
    array = array if len(told.shape) == 3 else array[None]
    return image, array.transpose(2, 1, 0, 3)


def affine_of(image: Any) -> np.ndarray:
    """(i, j, k) to RAS+ millimetres; ITK counts to the left and to the back. A slice lies in the plane of the table."""
    size = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(size, size)
    affine[:size, :size] = direction @ np.diag(image.GetSpacing())
    affine[:size, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def read_colour(path: Path) -> np.ndarray:
    """A PNG or TIFF of 16-bit colour: uint16 `(h, w, 3)`, or with transparency `(h, w, 4)`."""
    kind = "PNGImageIO" if path.open("rb").read(1) == b"\x89" else "TIFFImageIO"
    values = simple_itk().GetArrayFromImage(_read(path, path, kind))
    if values.ndim != 3 or values.dtype != np.uint16:
        raise ScanError(f"{path} is 16-bit colour of a rare kind; convert it to 8-bit colour")
    return values


def write_colour(stored: np.ndarray, path: Path) -> Path:
    """Write uint16 `(h, w, 3)` or `(h, w, 4)` as the PNG or TIFF that `path` is called."""
    image = simple_itk().GetImageFromArray(np.ascontiguousarray(stored), isVector=True)
    return _written(image, path, path.suffix.lower(), packed=True)


def simple_itk() -> Any:
    """The library, which does not come with counterscan. Raises MissingExtra."""
    try:
        import SimpleITK
    except ImportError:
        raise MissingExtra("SimpleITK", "itk") from None
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    return SimpleITK


def _read_anew(path: Path, told: Claim, kind: str) -> Any:
    """The image by a header that was written anew, for the library to read no text that others wrote."""
    reader, name = READER[kind]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / name
        place.write_text(told.text)
        (Path(folder) / VALUES).symlink_to(told.data.resolve())
        return _read(path, place, reader)


def _read(path: Path, place: Path, reader: str) -> Any:
    sitk = simple_itk()
    try:
        return sitk.ReadImage(str(place), imageIO=reader)
    except RuntimeError as error:
        raise ScanError(f"{path} is damaged ({_reason(error)}); copy it again from where it came") from error


def _reason(error: RuntimeError) -> str:
    """The last thing that ITK said, without the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("): ")[2][:200] if lines else "no reason given"


def _written(image: Any, path: Path, suffix: str, *, packed: bool) -> Path:
    """Write by way of a temporary file, which is read again: ITK does not notice a full disk."""
    sitk = simple_itk()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"result{suffix}"
        try:
            sitk.WriteImage(image, str(place), useCompression=packed)
            again = sitk.ReadImage(str(place))
        except RuntimeError as error:
            raise ScanError(f"{path} cannot be written ({_reason(error)}); make room on the disk") from error
        if not np.array_equal(*map(sitk.GetArrayViewFromImage, (again, image))):
            raise ScanError(f"{path} cannot be written whole; make room on the disk")
        return write_whole(path, place.read_bytes())
