"""Seconds and memory of `counterscan segment` on a DICOM series made here, at several numbers of slices.

    python bench/volume.py [--slices 100 300] [--side 256] [--format dicom|nifti|nifti.gz] [--with inpainting]

A phantom of the abdomen is written as a series (or a NIfTI volume) into a temporary folder, and each command runs in a
process of its own: wall seconds, CPU seconds and the largest resident memory are that process's, start and loading
included. On a busy machine read the CPU seconds; wall time is at best those over the number of cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from counterscan.data.phantoms.volume import VolumePhantom, draw_volume

MEASURED = """
import resource, sys
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="counterscan")
sys.argv = ["counterscan", *sys.argv[1:]]
try:
    command.load()()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("MEASURED", int(peak) / 1024, used.ru_utime + used.ru_stime)
"""


def write_series(phantom: VolumePhantom, folder: Path) -> Path:
    """The phantom as a CT series, a file a slice, for a patient who does not exist."""
    folder.mkdir(parents=True)
    study, series, frame = (generate_uid() for _ in range(3))
    for number, plane in enumerate(phantom.image):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        slice_ = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.PatientName, slice_.PatientID, slice_.Modality = "Phantom^Abdomen", "PHANTOM", "CT"
        slice_.PatientBirthDate = slice_.PatientSex = slice_.AccessionNumber = slice_.StudyID = ""
        slice_.StudyDate, slice_.StudyTime, slice_.ReferringPhysicianName = "20240101", "120000", ""
        slice_.ImageType, slice_.SeriesNumber, slice_.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], 3, number + 1
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.ImagePositionPatient = [-180, -180, round(-300 + number * phantom.spacing[2], 4)]
        slice_.PixelSpacing = [f"{length:.6f}" for length in phantom.spacing[:2]]
        slice_.SliceThickness = phantom.spacing[2]
        slice_.Rows, slice_.Columns = plane.shape
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.RescaleSlope, slice_.RescaleIntercept, slice_.RescaleType = 1, 0, "HU"
        slice_.WindowCenter, slice_.WindowWidth = 40, 400
        slice_.PixelData = np.rint(plane).astype("<i2").tobytes()
        pydicom.dcmwrite(folder / f"{number + 1:04}.dcm", slice_, enforce_file_format=True)
    return folder


def write_nifti(phantom: VolumePhantom, path: Path) -> Path:
    """The phantom as a NIfTI volume of 16-bit integers."""
    row, column, step = phantom.spacing
    affine = np.diag([-column, -row, step, 1.0])
    values = np.rint(phantom.image).astype(np.int16).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def measured(words: list[str]) -> dict[str, float]:
    """Wall and CPU seconds, and the largest resident memory in MiB, of a counterscan command."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], capture_output=True, text=True)
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    memory, cpu = (float(word) for word in done.stdout.split("MEASURED")[1].split())
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_mib": round(memory)}


def rows(arguments: argparse.Namespace) -> Iterator[dict]:
    for slices in arguments.slices:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            thickness = 300 / slices
            phantom = draw_volume(1, slices=slices, thickness=thickness, size=arguments.side, tumour=True)
            if arguments.format == "dicom":
                source = write_series(phantom, place / "series")
            else:
                source = write_nifti(phantom, place / f"volume.{arguments.format.replace('nifti', 'nii')}")
            del phantom
            out = place / "out"
            words = [arguments.command, str(source), "--classifier", "abdomen/classifier", "--target", "tumour=0"]
            figures = measured([*words, "--with", arguments.explainer, "--out", str(out)])
            lesions = [row for path in out.glob("**/*lesions.json") for row in json.loads(path.read_text())["lesions"]]
            yield {"slices": slices, "side": arguments.side, **figures, "lesions": len(lesions)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--format", choices=["dicom", "nifti", "nifti.gz"], default="dicom")
    parser.add_argument("--with", dest="explainer", default="inpainting")
    parser.add_argument("--command", choices=["segment", "explain"], default="segment")
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    for row in rows(arguments):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
