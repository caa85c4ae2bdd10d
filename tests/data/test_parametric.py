import io

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from counterscan.data.derived import save
from counterscan.data.lazy import Planes
from counterscan.data.maker import Maker
from counterscan.data.parametric import Frames, parametric_map
from counterscan.data.segmentation import REFUSALS

highdicom = pytest.importorskip("highdicom")
HEAT = np.random.default_rng(0).random((3, 8, 12)).astype(np.float32) / 7


@pytest.fixture
def heads(dicom, place):
    """The heads of three slices, 4 mm apart."""
    common = {**place, "SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    paths = [
        dicom(
            np.zeros((8, 12), np.int16),
            f"{number}.dcm",
            **{**common, "ImagePositionPatient": [-30, 12.5 + number * 2.4, 100 + number * 3.2]},
        )
        for number in range(3)
    ]
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]


def test_the_values_come_back_as_they_are_in_the_place_of_the_source(heads, tmp_path):
    written = save(parametric_map(heads, HEAT, Maker("Grad-CAM")), tmp_path / "map")
    volume = highdicom.pm.ParametricMap.from_dataset(pydicom.dcmread(written)).get_volume()
    shown = volume.array if np.allclose(volume.affine[:3, 3], [-30, 12.5, 100]) else volume.array[::-1]
    assert np.array_equal(shown, HEAT)
    assert volume.spacing == pytest.approx((4, 0.7, 0.9))
    assert volume.frame_of_reference_uid == heads[0].FrameOfReferenceUID


@pytest.mark.parametrize(
    ("changes", "quantity", "words"), [(True, "Signal change", "share of the window"), (False, "Saliency", "Evidence")]
)
def test_the_file_says_what_the_values_mean(heads, changes, quantity, words):
    meaning = parametric_map(heads, HEAT, Maker(changes=changes)).SharedFunctionalGroupsSequence[0]
    mapping = meaning.RealWorldValueMappingSequence[0]
    assert mapping.RealWorldValueSlope == 1
    assert words in mapping.LUTExplanation
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == quantity
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    window = meaning.FrameVOILUTSequence[0]
    assert float(window.WindowWidth) == pytest.approx(float(HEAT.max()), rel=1e-6)


def test_an_empty_map_can_be_written(heads, tmp_path):
    written = save(parametric_map(heads, HEAT * 0, Maker()), tmp_path / "map")
    assert not highdicom.pm.ParametricMap.from_dataset(pydicom.dcmread(written)).get_volume().array.any()


def test_a_source_without_a_place_is_refused(dicom):
    head = pydicom.dcmread(dicom(np.zeros((8, 12), np.int16), Modality="CR"))
    with pytest.raises(REFUSALS):
        parametric_map([head], HEAT[:1], Maker())


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_every_value_stays_with_its_slice_in_whatever_order_slices_come(heads, tmp_path, order):
    looked = []
    values = Planes(HEAT.shape, lambda index: looked.append(index) or HEAT[order[index]])
    written = save(parametric_map([heads[index] for index in order], values, Maker()), tmp_path / "map")
    assert looked[:3] == [0, 1, 2]
    assert sorted(looked[3:]) == [0, 1, 2], "once to know the largest, once to write"
    stored = pydicom.dcmread(written)
    frames = np.frombuffer(stored.FloatPixelData, "<f4").reshape(HEAT.shape)
    for frame, group in zip(frames, stored.PerFrameFunctionalGroupsSequence, strict=True):
        height = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        assert np.array_equal(frame, HEAT[round((height - 100) / 3.2)])
    assert (stored.Rows, stored.Columns) == (8, 12)


def test_frames_are_read_like_a_file_of_their_bytes():
    frames = io.BufferedReader(Frames(HEAT, [2, 0, 1]), 64)
    content = HEAT[[2, 0, 1]].tobytes()
    assert frames.read() == content
    assert frames.read() == b""
    assert frames.seek(0, io.SEEK_END) == len(content)
    frames.seek(8 * 12 * 4 - 3)
    assert frames.read(10) == content[8 * 12 * 4 - 3 :][:10]
    assert frames.tell() == 8 * 12 * 4 + 7
