"""Names of cases: what folders and files of results are called."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath


def safe_names(paths: Sequence[str]) -> list[str]:
    """Names fit for files, one a path and no two alike even where case does not count: the stem, else with folders."""
    stems = [_safe(stem_of(path)) for path in paths]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem.lower()] = counts.get(stem.lower(), 0) + 1
    names, used = [], set()
    for path, stem in zip(paths, stems, strict=True):
        name = base = stem if counts[stem.lower()] == 1 else _safe(str(PurePosixPath(path.replace("\\", "/"))))
        number = 2
        while name.lower() in used:
            name, number = f"{base}-{number}", number + 1
        used.add(name.lower())
        names.append(name)
    return names


def stem_of(path: str) -> str:
    """The name of a file without its ending, of which `.nii.gz` is one, and what a zip made of another format."""
    name = PurePosixPath(path.replace("\\", "/")).name
    return re.sub(r"(?<!^)(\.(nii|hdr|img)\.gz|\.[^.]*)$", "", name, flags=re.IGNORECASE) or name


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[-100:] or "image"
