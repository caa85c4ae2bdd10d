"""Heat maps for DICOM: a Parametric Map on its image or series."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset

from counterscan.data.derived import referable
from counterscan.data.maker import Maker
from counterscan.data.segmentation import identity


def parametric_map(datasets: Sequence[Dataset], values: np.ndarray, maker: Maker) -> Dataset:
    """A map of float32 `values` `(slices, h, w)` on the source images, which are in the order of the slices.

    The values are real world values as they are, without unit: for a counterfactual the size of the change as a share
    of the window, for an attribution the method's own. Raises as `segmentation` does.
    """
    import highdicom

    values = np.ascontiguousarray(values, np.float32)
    top = float(values.max()) or 1.0
    function = highdicom.VOILUTFunctionValues.LINEAR_EXACT  # the only one with windows narrower than 1
    cut = highdicom.VOILUTTransformation(window_center=top / 2, window_width=top, voi_lut_function=function)
    result = highdicom.pm.ParametricMap(
        source_images=[referable(dataset) for dataset in datasets],
        pixel_array=values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_meaning(values, maker)],
        voi_lut_transformations=[cut],
        image_flavor=highdicom.pm.ImageFlavorValues.VOLUME,
        content_label="HEATMAP",
        content_description=f"Heat map by {maker.name}"[:64],
        series_description="Heat map by counterscan",
        **identity(datasets, values, "heatmap", maker),
    )
    if int(result.NumberOfFrames) != len(values):
        raise ValueError(f"the source has {len(values)} slices, of which highdicom sees {result.NumberOfFrames}")
    result.Laterality = datasets[0].get("Laterality") or ""  # type 2C, which highdicom leaves out
    return result


def _meaning(values: np.ndarray, maker: Maker) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.pm.RealWorldValueMapping(
        lut_label="CHANGE" if maker.changes else "EVIDENCE",
        lut_explanation="Size of the change, share of the window" if maker.changes else "Evidence against the target",
        unit=codes.UCUM.NoUnits,
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.SignalChange if maker.changes else codes.DCM.Saliency,
    )
