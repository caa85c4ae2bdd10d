"""The process that explains one upload: it reads job.json in its folder, and leaves a run beside it or error.txt.

    python -m counterscan.web.viewer_worker FOLDER

It is a process of its own so that a damaged file, a runaway method or a cancelled job never takes the viewer with it.
"""

import contextlib
import json
import math
import sys
from dataclasses import fields
from pathlib import Path

from counterscan.errors import CounterscanError, ScanError

ROOM = 12 << 30  # bytes of memory that may be written to
OFTEN = 0.5  # seconds between two lines of progress


def main(folder: Path) -> int:
    """Explain; the exit code is 0, or 1 where error.txt says why not."""
    restrain()
    try:
        explain(folder, json.loads((folder / "job.json").read_text()))
    except CounterscanError as error:
        (folder / "error.txt").write_text(" ".join(str(error).replace(f"{folder}/", "").split()))
        return 1
    except MemoryError:
        (folder / "error.txt").write_text("this scan takes more memory than a job may have; crop it or scale it down")
        return 1
    return 0


def restrain() -> None:
    """Take no more than `ROOM`, where the system can see to that."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (ROOM, ROOM))


def values_of(path: Path, kind: str) -> int:
    """How many values a file says that it holds, by its header alone. Raises ScanError."""
    from counterscan.data.scans import one_line

    with one_line(path, kind):
        if kind == "nifti":
            from counterscan.data.nifti import described

            return math.prod(described(path)[0].get_data_shape())
        if kind == "dicom":
            return _dicom_values(path)
        from PIL import Image

        with Image.open(path, formats=[kind.upper()]) as picture:
            return picture.width * picture.height * len(picture.getbands()) * getattr(picture, "n_frames", 1)


def _dicom_values(path: Path) -> int:
    import pydicom

    names = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"]
    head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=names, force=True)
    return math.prod(int(head.get(name) or 1) for name in names)


def explain(folder: Path, asked: dict) -> None:
    """Explain the scan that `asked` (job.json) names, into `folder`/run. Raises CounterscanError."""
    path = folder / asked["file"]
    values = values_of(path, asked["kind"])
    if values > asked["most"]:
        raise ScanError(
            f"the scan holds {values:,} values where {asked['most']:,} are allowed; crop it or scale it down"
        )
    from counterscan import progress
    from counterscan.engine import run
    from counterscan.jobs import prepare
    from counterscan.registry import EXPLAINERS

    progress.EVERY = OFTEN
    path_kept = any(item.name == "path" for item in fields(EXPLAINERS[asked["method"]]))
    run(
        prepare(
            [path],
            classifier=asked["classifier"],
            target=asked["target"],
            method=asked["method"],
            prior=asked["prior"],
            card=Path(asked["card"]) if asked["card"] else None,
            settings=["path=true"] if path_kept else [],
            out=folder / "run",
        )
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
