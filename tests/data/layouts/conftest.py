"""Small trees in the layouts of public data sets, and what becomes of them."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from counterscan.data.check import check_manifest
from counterscan.data.importing import import_layout
from counterscan.data.manifest import read_manifest


@pytest.fixture
def tree(tmp_path):
    """The folder of a data set, with ways to put files into it; no two pictures are alike."""
    return Tree(tmp_path / "set")


class Tree:
    def __init__(self, folder):
        self.folder = folder
        self.random = np.random.default_rng(0)

    def pictures(self, *names, size=24, colour=False):
        for name in names:
            path = self._place(name)
            shape = (size, size, 3) if colour else (size, size)
            Image.fromarray(self.random.integers(0, 255, shape).astype(np.uint8)).save(path)

    def text(self, name, *lines):
        self._place(name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def volume(self, name, values=None):
        """A small CT as KiTS has them: slices along the first axis, head first."""
        drawn = self.random.integers(-1000, 1000, (5, 8, 8)) if values is None else values
        affine = np.array([[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
        nibabel.save(nibabel.Nifti1Image(np.asarray(drawn, np.int16), affine), self._place(name))

    def _place(self, name):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def taken(tree, tmp_path):
    """Imports the tree; answers what was said and the cases by name, after `data check` found nothing to mend."""

    def take(name, folder=None, **more):
        told = import_layout(name, folder or tree.folder, tmp_path / "out", **more)
        manifest = read_manifest(tmp_path / "out")
        summary = check_manifest(manifest)
        assert summary.ok, str(summary)
        assert not manifest.leaks("split")
        return told, manifest, {case.name: case for case in manifest.cases}

    return take
