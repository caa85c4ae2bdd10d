"""Every file of a folder through counterscan's reader and through an independent one, as rows of a Markdown table.

python bench/readers.py FOLDER [FOLDER ...] [--out TABLE.md]; `pydicom` as a folder means the test files that come with
pydicom. SimpleITK, which is no dependency of counterscan, is used where it is installed.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from counterscan.data.files import format_of_content
from counterscan.data.scans import Scan, read_scan
from counterscan.errors import CounterscanError

Read = tuple[np.ndarray, np.ndarray | None]  # values (slices, h, w[, c]), and the affine of (column, row, slice) to RAS


def by_simpleitk(path: Path) -> Read:
    """What SimpleITK (GDCM for DICOM, teem for NRRD) reads: physical values, in the order of the file."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayFromImage(image)
    if image.GetDimension() != 3:
        return values[None] if image.GetDimension() == 2 else values, None
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def by_pydicom(path: Path) -> Read:
    """What pydicom reads, with its modality look-up table or rescale."""
    import pydicom
    from pydicom.pixels import apply_modality_lut

    dataset = pydicom.dcmread(path, force=True)
    values = apply_modality_lut(dataset.pixel_array, dataset)
    return values if int(dataset.get("NumberOfFrames") or 1) > 1 else values[None], None


def by_nibabel(path: Path) -> Read:
    """What nibabel reads, its axes (i, j, k) turned to (k, j, i)."""
    import nibabel

    image = nibabel.load(path)
    return np.atleast_3d(image.get_fdata()).swapaxes(0, 2), image.affine


def by_imageio(path: Path) -> Read:
    """What imageio reads."""
    import imageio.v3

    return imageio.v3.imread(path)[None], None


READERS: dict[str, tuple[Callable[[Path], Read], ...]] = {  # a later one is asked where the ones before differ or fail
    "dicom": (by_simpleitk, by_pydicom),
    "nifti": (by_nibabel,),
    "mha": (by_simpleitk,),
    "nrrd": (by_simpleitk,),
    "png": (by_imageio,),
    "jpeg": (by_imageio,),
    "tiff": (by_imageio,),
}


def ours(scan: Scan) -> np.ndarray:
    """The scan's values `(slices, h, w[, 3])`, frames in the order of the file."""
    pixels = scan.source.as_stored(scan.pixels) if hasattr(scan.source, "as_stored") else scan.pixels
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def in_place(theirs: Read, scan: Scan) -> np.ndarray:
    """The other reader's values in the order of ours, by where both say that their voxels lie."""
    values, affine = theirs
    if affine is None or scan.affine is None or scan.format == "dicom":
        return values
    step = (np.linalg.inv(affine) @ scan.affine)[:3, :3]  # from (column, row, slice) of ours to those of theirs
    axes = np.abs(step).argmax(axis=0)
    turned = values.transpose(*(2 - axes[::-1]), *range(3, values.ndim))
    return np.flip(turned, [2 - place for place in range(3) if step[axes[place], place] < 0])


def verdict(mine: np.ndarray, theirs: np.ndarray) -> str:
    """Equal, or how they differ."""
    if mine.shape != theirs.shape:
        return f"differs: shape {mine.shape}, {theirs.shape}"
    off = np.abs(mine - theirs.astype(np.float32))
    return f"differs by at most {off.max():g}, {off.mean():.2g} on average" if off.max() else "equal"


def row(path: Path, name: str) -> tuple[str, ...]:
    """A file's name, what is in it, and what came of it."""
    kind = format_of_content(path) or "none"
    try:
        scan = read_scan(path)
    except CounterscanError as error:
        line = str(error).removeprefix(f"{path} ").replace(str(path.parent), "...")
        return name, kind, f"refused: {line}"
    slices, channels, height, width = scan.pixels.shape
    held = f"{kind}, {width} x {height} x {slices}{' colour' if channels == 3 else ''}, {scan.stored}"
    found = []
    for reader in READERS[kind]:
        try:
            said = verdict(ours(scan), in_place(reader(path), scan))
        except Exception as error:  # each reader raises its own kind
            said = f"no answer ({type(error).__name__})"
        found.append(f"{reader.__name__.removeprefix('by_')}: {said}")
        if said.startswith("equal"):
            break
    return name, held, "; ".join(found)


def files_of(folder: str) -> Iterator[tuple[Path, str]]:
    """The files of a folder, each with the name that the table gives it."""
    root = Path(folder)
    if folder == "pydicom":
        import pydicom.data

        root = Path(pydicom.data.__file__).parent / "test_files"
    return ((path, path.relative_to(root).as_posix()) for path in sorted(root.rglob("*")) if path.is_file())


def table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; neighbours in one folder that hold the same and end the same share a line."""
    lines = ["| file | holds | outcome |", "|---|---|---|"]
    for (_, *same), group in groupby(rows, lambda cells: (Path(cells[0]).parent, *cells[1:])):
        names = [cells[0] for cells in group]
        name = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in (name, *same)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--out", type=Path, help="where the table goes")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row(path, name) for folder in asked.folders for path, name in files_of(folder)]
    (asked.out.write_text if asked.out else print)(table(rows))
    counts = Counter(outcome.rpartition("; ")[2] if "refused" not in outcome else "refused" for *_, outcome in rows)
    print(*(f"{count:4} {outcome}" for outcome, count in counts.most_common()), sep="\n")
