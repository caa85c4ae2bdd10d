"""Pictures as they leave the server: pixels, and nothing else that differs from one picture to the next."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from counterscan.errors import ScanError
from counterscan.study.records import Study


class Plain:
    """The pictures of a study as PNGs without compression, so that the length is that of the form alone.

    A compressed picture is shorter the smoother it is, and what a generator makes is often smoother. All have one size
    and one mode ("L", or "RGB" where any has colour); what a file says beside its pixels stays behind. Raises ScanError
    where a picture is missing or of another size.
    """

    def __init__(self, study: Study, folder: Path):
        self._paths = {picture.id: folder / picture.file for picture in study.pictures}
        shapes = {path: _shape(path) for path in self._paths.values()}
        sizes = {size for size, _ in shapes.values()}
        if len(sizes) > 1:
            raise ScanError(f"{folder}: pictures of {len(sizes)} sizes would tell them apart; make the study again")
        odd = next((path for path, (_, mode) in shapes.items() if mode not in ("L", "RGB")), None)
        if odd:
            raise ScanError(f"{odd} is neither 8-bit grey nor RGB (mode {shapes[odd][1]}); make the study again")
        self._mode = "L" if all(mode == "L" for _, mode in shapes.values()) else "RGB"

    def __call__(self, picture: str) -> bytes:
        """The PNG of the picture with the id `picture`."""
        with Image.open(self._paths[picture]) as image:
            pixels = np.asarray(image.convert(self._mode))
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG", compress_level=0)
        return out.getvalue()


def _shape(path: Path) -> tuple[tuple[int, int], str]:
    try:
        with Image.open(path) as image:
            return image.size, image.mode
    except OSError as error:
        raise ScanError(f"{path} cannot be read as a picture; make the study again, or restore the file") from error
