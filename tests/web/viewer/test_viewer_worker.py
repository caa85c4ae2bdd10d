import json
import zlib

import numpy as np
import pytest
from PIL import Image

from counterscan.errors import ScanError
from counterscan.web import viewer_worker


def test_values_are_counted_by_the_header_alone(tmp_path):
    import nibabel

    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert viewer_worker.values_of(tmp_path / "a.png", "png") == 30 * 20 * 3
    pages = [Image.new("L", (8, 8)) for _ in range(3)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    assert viewer_worker.values_of(tmp_path / "a.tiff", "tiff") == 8 * 8 * 3
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    assert viewer_worker.values_of(tmp_path / "a.nii.gz", "nifti") == 120


def test_of_dicom_the_frames_count(tmp_path):
    from pydicom.dataset import Dataset

    head = Dataset()
    head.Rows, head.Columns, head.NumberOfFrames = 512, 256, 1000
    head.save_as(tmp_path / "a.dcm", implicit_vr=True, little_endian=True)
    assert viewer_worker.values_of(tmp_path / "a.dcm", "dicom") == 512 * 256 * 1000


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    def chunk(kind, body):
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    head = (9000).to_bytes(4) + (9000).to_bytes(4) + bytes([8, 0, 0, 0, 0])
    body = zlib.compress(bytes(9001 * 100))
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    (tmp_path / "upload.png").write_bytes(whole)
    asked = {"file": "upload.png", "kind": "png", "most": 1 << 26, "classifier": "chest/classifier", "prior": ""}
    with pytest.raises(ScanError, match="81,000,000 values where 67,108,864 are allowed"):
        viewer_worker.explain(tmp_path, asked)


def test_what_goes_wrong_is_left_for_the_viewer_without_the_folder_s_name(tmp_path, monkeypatch):
    monkeypatch.setattr(viewer_worker, "restrain", lambda: None)  # the limit would stay with the tests
    (tmp_path / "upload.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (tmp_path / "job.json").write_text(json.dumps({"file": "upload.png", "kind": "png", "most": 10}))
    assert viewer_worker.main(tmp_path) == 1
    said = (tmp_path / "error.txt").read_text()
    assert said.startswith("upload.png is a damaged PNG")
    assert str(tmp_path) not in said
