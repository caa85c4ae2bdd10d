"""Scans for work that goes slice by slice: volumes stay in their files (`data/lazy.py`), other scans are read."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from counterscan.core import Card
from counterscan.data import nifti, nifti_slices
from counterscan.data.files import recognised
from counterscan.data.lazy import Slices
from counterscan.data.manifest import Case
from counterscan.data.scans import Scan, one_line, read_scan
from counterscan.errors import ScanError

MODALITIES = {  # as DICOM names them, and the words by which a card does
    "CT": {"ct", "computed"},
    "MR": {"mr", "mri", "magnetic"},
    "PT": {"pt", "pet", "positron"},
    "US": {"us", "ultrasound"},
    "CR": {"radiograph", "x-ray", "xray", "cr", "dx"},
    "DX": {"radiograph", "x-ray", "xray", "cr", "dx"},
    "MG": {"mammogram", "mammography", "mg"},
    "OP": {"fundus"},
    "OPT": {"oct"},
}


def open_scan(path: Path | Sequence[Path]) -> Scan:
    """The scan that `read_scan` reads; of a DICOM series or a NIfTI volume the pixels are `Slices`.

    What is wrong with a slice is said when that slice is read. A window that the file does not name is estimated from
    some of the slices. Raises ScanError.
    """
    from counterscan.data import dicom_series

    if not isinstance(path, Path) or path.is_dir():
        where = path if isinstance(path, Path) else path[0]
        with one_line(where, "series"):
            return dicom_series.opened(path)
    if recognised(path) != "nifti":
        return read_scan(path)
    with one_line(path, "nifti"):
        header, colours = nifti.described(path)
        if len(header.get_data_shape()) < 3 or header.get_data_shape()[2] == 1:
            return nifti.read(path)
        return nifti_slices.opened(path, header, colours)


def open_case(case: Case) -> Scan:
    """The scan of a case, with what its manifest says of it (see `Case.read`)."""
    return open_scan(case.files or case.path).declared(case.window, case.slope, case.intercept)


def part_of(scan: Scan, wanted: slice) -> Scan:
    """Some of a scan's slices, in memory."""
    with one_line(scan.path, scan.format):
        return replace(scan, pixels=np.asarray(scan.pixels[wanted]))


def whole(scan: Scan) -> Scan:
    """The scan with all of its slices in memory."""
    return part_of(scan, slice(None)) if isinstance(scan.pixels, Slices) else scan


def check_kind(scan: Scan, card: Card) -> None:
    """ScanError for a scan of another modality than the classifier's card names, and for a localiser."""
    from counterscan.data.dicom_sorting import is_localiser
    from counterscan.data.results import DicomSource

    known = [name for name, words in MODALITIES.items() if words & set(card.modality.lower().split())]
    if known and scan.modality in MODALITIES and scan.modality not in known:
        raise ScanError(
            f"{scan.path} is {scan.modality}, but {card.name} was trained on {card.modality}; "
            "leave it out, or name a classifier for it"
        )
    if len(scan) > 1 or scan.modality not in ("CT", "MR") or not isinstance(scan.source, DicomSource):
        return
    if is_localiser(scan.source.datasets()[0]):
        raise ScanError(f"{scan.path} is a localiser, from which slices are planned, and no slice; leave it out")
