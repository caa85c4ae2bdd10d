"""Heat maps for DICOM: a Parametric Map on its image or series."""

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset

from counterscan.data.derived import linked, referable
from counterscan.data.lazy import Planes
from counterscan.data.maker import Maker
from counterscan.data.segmentation import identity


def parametric_map(datasets: Sequence[Dataset], values: np.ndarray | Planes, maker: Maker) -> Dataset:
    """A map of float32 `values` `(slices, h, w)` on the source images, which are in the order of the slices.

    The values are real world values as they are, without unit: for a counterfactual the size of the change as a share
    of the window, for an attribution the method's own. They are looked at slice by slice, twice: now, and when the
    answer is written. Raises as `segmentation` does.
    """
    import highdicom

    extremes, digest = _looked(values)
    top = extremes[1] or 1.0
    function = highdicom.VOILUTFunctionValues.LINEAR_EXACT  # the only one with windows narrower than 1
    cut = highdicom.VOILUTTransformation(window_center=top / 2, window_width=top, voi_lut_function=function)
    # highdicom would need all values several times over: it is shown slices of one pixel, which holds their number
    result = highdicom.pm.ParametricMap(
        source_images=[_tiny(referable(datasets[0])), *(_tiny(linked(dataset)) for dataset in datasets[1:])],
        pixel_array=np.arange(len(values), dtype=np.float32)[:, None, None],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_meaning(extremes, maker)],
        voi_lut_transformations=[cut],
        image_flavor=highdicom.pm.ImageFlavorValues.VOLUME,
        content_label="HEATMAP",
        content_description=f"Heat map by {maker.name}"[:64],
        series_description="Heat map by counterscan",
        **identity(datasets, digest, "heatmap", maker),
    )
    if int(result.NumberOfFrames) != len(values):
        raise ValueError(f"the source has {len(values)} slices, of which highdicom sees {result.NumberOfFrames}")
    result.Rows, result.Columns = values.shape[1:]
    order = np.frombuffer(result.FloatPixelData, "<f4").astype(int).tolist()
    result["FloatPixelData"].value = io.BufferedReader(Frames(values, order), 2**20)
    result.Laterality = datasets[0].get("Laterality") or ""  # type 2C, which highdicom leaves out
    return result


class Frames(io.RawIOBase):
    """The bytes of `values` `(slices, h, w)` in the `order` of the frames, one frame in memory at a time."""

    def __init__(self, values: np.ndarray | Planes, order: Sequence[int]):
        self._values, self._order, self._place = values, order, 0
        self._length = 4 * values.shape[1] * values.shape[2]
        self._number, self._content = -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length * len(self._order)}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        """As many bytes as there are, up to the end of a frame."""
        number, start = divmod(self._place, self._length)
        if number >= len(self._order):
            return 0
        if number != self._number:
            self._number, self._content = number, self._values[self._order[number]].astype("<f4").tobytes()
        content = self._content[start : start + len(buffer)]
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def _looked(values: np.ndarray | Planes) -> tuple[tuple[float, float], np.ndarray]:
    """The least and the largest of the values, and what tells these from others."""
    low, high, told = np.inf, -np.inf, hashlib.sha256()
    for index in range(len(values)):
        plane = np.ascontiguousarray(values[index], np.float32)
        low, high = min(low, float(plane.min())), max(high, float(plane.max()))
        told.update(plane.data)
    return (low, high), np.frombuffer(told.digest(), np.uint8)


def _tiny(dataset: Dataset) -> Dataset:
    dataset.Rows = dataset.Columns = 1
    return dataset


def _meaning(extremes: tuple[float, float], maker: Maker) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.pm.RealWorldValueMapping(
        lut_label="CHANGE" if maker.changes else "EVIDENCE",
        lut_explanation="Size of the change, share of the window" if maker.changes else "Evidence against the target",
        unit=codes.UCUM.NoUnits,
        value_range=extremes,
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.SignalChange if maker.changes else codes.DCM.Saliency,
    )
