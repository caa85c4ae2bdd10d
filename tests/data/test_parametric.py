import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from counterscan.data.derived import save
from counterscan.data.maker import Maker
from counterscan.data.parametric import parametric_map
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
