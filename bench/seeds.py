"""Small valid files of every format, made on the spot, for fuzz.py."""

import gzip
import io
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

GREY = (np.arange(32 * 32).reshape(32, 32) * 7 % 251).astype(np.uint8)
DEEP = (GREY.astype(np.uint16) << 4) + 3
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)
VOLUME = np.stack([DEEP, DEEP[::-1], DEEP // 2]).astype(np.int16)


@dataclass(frozen=True)
class Seed:
    """Files that belong together, which of them is named to the reader, and what kind of thing they are."""

    name: str
    kind: str
    main: str
    files: dict[str, bytes]


def seeds() -> list[Seed]:
    """All of them, the same each time; SimpleITK's formats only where it is installed."""
    from seeds_texts import texts

    made = [*_pictures(), *_nifti(), *_dicom(), *_itk(), *_tables()]
    return [*made, _zip(made), *_weights(), *texts()]


def _pictures() -> Iterator[Seed]:
    pages: dict[str, Any] = {"save_all": True, "append_images": [Image.fromarray(DEEP)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    forms: list[tuple[str, Any, dict[str, Any]]] = [
        ("grey.png", GREY, {}),
        ("deep.png", DEEP, {}),
        ("colour.png", COLOUR, {"exif": exif, "dpi": (72, 72)}),
        ("alpha.png", np.dstack([COLOUR, GREY]), {}),
        ("palette.png", Image.fromarray(COLOUR).convert("P"), {"transparency": 3}),
        ("bits.png", GREY > 99, {}),
        ("grey.jpg", GREY, {}),
        ("colour.jpg", COLOUR, {"exif": exif, "progressive": True}),
        ("grey.tif", GREY, {"compression": "tiff_lzw"}),
        ("pages.tif", DEEP, pages),
        ("colour.tif", COLOUR, {"compression": "tiff_deflate"}),
        ("jpeg.tif", COLOUR, {"compression": "jpeg"}),
        ("fax.tif", GREY > 99, {"compression": "group4"}),
        ("float.tif", GREY.astype(np.float32), {}),
    ]
    kinds = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}
    for name, picture, settings in forms:
        buffer = io.BytesIO()
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(buffer, kinds[name[-3:]], **settings)
        yield Seed(name, name[-3:], name, {name: buffer.getvalue()})


def _nifti() -> Iterator[Seed]:
    affine = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.2, 0.1, 0.3) @ np.diag([0.7, 0.8, 3]))
    one = nibabel.Nifti1Image(VOLUME.T, affine)
    one.header.set_slope_inter(0.5, -100)
    one.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    two = nibabel.Nifti2Image(VOLUME.T.astype(np.float64), affine)
    record = np.ascontiguousarray(COLOUR).view([("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour = nibabel.Nifti1Image(record, affine)
    for name, image in (("one.nii", one), ("two.nii", two), ("colour.nii", colour)):
        yield Seed(name, "nifti", name, {name: image.to_bytes()})
        yield Seed(name + ".gz", "nifti", name + ".gz", {name + ".gz": gzip.compress(image.to_bytes(), mtime=0)})
    head = bytearray(one.to_bytes()[:348])
    head[344:348] = b"ni1\0"
    yield Seed("pair.hdr", "nifti", "pair.hdr", {"pair.hdr": bytes(head), "pair.img": VOLUME.T.tobytes("F")})


def _dicom() -> Iterator[Seed]:
    plain = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    for syntax in (*plain, RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGBaseline8Bit):
        name = f"{''.join(letter for letter in syntax.name if letter.isalnum())[:24]}.dcm"
        yield Seed(name, "dicom", name, {name: dicom(GREY if syntax == JPEGBaseline8Bit else DEEP, syntax)})
    for name in ("SC_rgb_jpeg_gdcm.dcm", "JPEGLSNearLossless_08.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        content = Path(str(get_testdata_file(name, download=False))).read_bytes()
        yield Seed(name, "dicom", name, {name: content})
    frames = np.stack([DEEP, DEEP[::-1]])
    yield Seed("frames.dcm", "dicom", "frames.dcm", {"frames.dcm": dicom(frames, RLELossless)})
    study = generate_uid(entropy_srcs=["study"])
    slices = {f"{z}.dcm": dicom(DEEP, ExplicitVRLittleEndian, z=3.0 * z, series=study) for z in range(3)}
    yield Seed("series", "series", "0.dcm", slices)


def dicom(pixels: np.ndarray, syntax: Any, z: float = 0.0, series: str = "") -> bytes:
    """A CT slice, or frames, in a transfer syntax."""
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_compressed else syntax
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[syntax, str(z)])
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    data.StudyInstanceUID = data.SeriesInstanceUID = series or generate_uid(entropy_srcs=[syntax])
    data.Modality, data.PatientName, data.WindowCenter, data.WindowWidth = "CT", "Nobody", 40, 400
    data.Rows, data.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit, data.RescaleSlope, data.RescaleIntercept = data.BitsStored - 1, 1, -1024
    data.ImagePositionPatient, data.ImageOrientationPatient = [1, 2, z], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness, data.FrameOfReferenceUID = [0.7, 0.7], 3, "1.2.4"
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    data["PixelData"].VR = "OW"
    if syntax == JPEGBaseline8Bit:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate([buffer.getvalue()]), syntax
        data["PixelData"].is_undefined_length = True
    elif syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        data.compress(syntax, generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def _itk() -> Iterator[Seed]:
    try:
        import SimpleITK as sitk
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.mha", "b.mhd", "c.nrrd", "d.nhdr"):
            for packed in (False, True):
                place = Path(folder) / f"{name}{packed}"
                place.mkdir()
                sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(place / name), useCompression=packed)
                files = {file.name: file.read_bytes() for file in place.iterdir()}
                yield Seed(f"{'packed-' * packed}{name}", name.split(".")[1], name, files)
        for name in ("rgb16.png", "rgb16.tif"):
            image = sitk.GetImageFromArray(COLOUR.astype(np.uint16) * 200, isVector=True)
            sitk.WriteImage(image, str(Path(folder) / name))
            yield Seed(name, name[-3:], name, {name: (Path(folder) / name).read_bytes()})


def _tables() -> Iterator[Seed]:
    table = b"path,label,split,fold,patient_id,box,view\n"
    table += b'a.png,sick,train,1,p1,"x:1,2,3,4",PA\nb/c.png,normal,test,2,p2,,AP\n'
    classes = b"path;tumour;cyst\na.png;1;0\nb.png;;1\n"
    told = (
        b'classes = ["normal", "sick"]\nmodality = "CT"\nwindow = [-160, 240, "HU"]\nslope = 1.0\nintercept = -1024.0\n'
    )
    yield Seed("table", "manifest", "labels.csv", {"labels.csv": table, "dataset.toml": told})
    yield Seed("classes", "manifest", "labels.csv", {"labels.csv": classes})


def _zip(made: list[Seed]) -> Seed:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for seed in made:
            if seed.name in ("grey.png", "one.nii.gz", "frames.dcm"):
                archive.writestr(zipfile.ZipInfo(f"study/{seed.main}"), seed.files[seed.main], zipfile.ZIP_DEFLATED)
    return Seed("zip", "zip", "study.zip", {"study.zip": buffer.getvalue()})


def _weights() -> Iterator[Seed]:
    import torch

    from counterscan.core import Card
    from counterscan.nets import build
    from counterscan.weights.store import save_weights

    torch.manual_seed(0)
    settings: dict[str, Any] = {"widths": [8, 8], "depth": 1, "outputs": 2}
    told = Card(name="tiny", shape=(1, 16, 16), classes=("a", "b"), network="resnet", settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        save_weights(folder, build("resnet", settings), told)
        files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    yield Seed("weights", "weights", "card.json", files)
    yield Seed("card", "card", "card.json", {"card.json": files["card.json"]})
