"""Do a mask and its scan lie on the same grid? Sizes are compared always, places where both formats say them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Self

import numpy as np

from counterscan.data.scans import Scan

OFF = 0.5  # voxels that a corner of the mask may lie off the scan's


@dataclass(frozen=True, eq=False)
class Placed:
    """The grid of a scan: `size` (slices, rows, columns), `spacing` and `affine` as `Scan` has them."""

    size: tuple[int, int, int]
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of(cls, scan: Scan) -> Self:
        """The grid of a scan, whose pixels are not looked at."""
        slices, _, height, width = scan.pixels.shape
        return cls((slices, height, width), scan.spacing, scan.affine)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        slices, height, width = values["size"]
        affine, spacing = values["affine"], values["spacing"]
        return cls(
            (slices, height, width),
            None if spacing is None else tuple(spacing),
            None if affine is None else np.array(affine),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "size": list(self.size),
            "spacing": None if self.spacing is None else list(self.spacing),
            "affine": None if self.affine is None else self.affine.tolist(),
        }

    def unlike(self, mask: Self) -> str:
        """In what the grid of a `mask` differs, in words; empty where it is the same, as far as both say."""
        if mask.size != self.size:
            return f"mask {_text(mask.size)} does not fit image {_text(self.size)}"
        if self.affine is not None and mask.affine is not None:
            return self._unlike_affine(mask.affine)
        return self._unlike_spacing(mask.spacing or ())

    def _unlike_affine(self, affine: np.ndarray) -> str:
        assert self.affine is not None, "asked of placed scans only"
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:  # flat: no voxel to count in
            return ""
        slices, height, width = self.size
        corners = np.array([(*corner, 1) for corner in product((0, width - 1), (0, height - 1), (0, slices - 1))])
        apart = np.linalg.inv(self.affine) @ affine @ corners.T - corners.T
        furthest = float(np.abs(apart[:3]).max())
        if furthest <= OFF:
            return ""
        turned = np.diag(np.linalg.inv(self.affine[:3, :3]) @ affine[:3, :3]) < 0
        axes = ", ".join(name for name, flipped in zip(("column", "row", "slice"), turned, strict=True) if flipped)
        why = f"flipped along the {axes} axis" if axes else "shifted, turned or of another spacing"
        return f"mask lies up to {furthest:.3g} voxels off its image ({why})"

    def _unlike_spacing(self, spacing: tuple[float, ...]) -> str:
        sides = (self.size[1], self.size[2], self.size[0])
        for one, other, count in zip(self.spacing or (), spacing, sides, strict=False):
            if one > 0 and abs(other - one) / one * (count - 1) > OFF:
                return f"mask has a spacing of {other:.4g} mm where its image has {one:.4g} mm"
        return ""


def inside(mask: Scan) -> np.ndarray:
    """A mask file's pixels as a boolean `(slices, h, w)`: above zero, or in a JPEG above one half, is in."""
    return np.any(mask.pixels > (127 if mask.format == "jpeg" else 0), axis=1)


def _text(size: tuple[int, int, int]) -> str:
    slices, height, width = size
    return f"{width} x {height}" + (f" x {slices}" if slices > 1 else "")
