"""`dataset.toml`: what is true of all images of a dataset and stands in no row of its manifest."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from counterscan.data.files import write_whole
from counterscan.data.window import Window
from counterscan.errors import ManifestError, ScanError, did_you_mean

Name = Annotated[str, Field(max_length=200)]


class DatasetFile(BaseModel):
    """The keys of `dataset.toml`.

    `window` is (low, high) or (low, high, unit), `mirror` if both sides are alike. `label` is the column of the
    one class that an image shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classes: tuple[Name, ...] = ()
    label: Name = "label"
    confounders: tuple[Name, ...] = ()
    modality: str = ""
    window: tuple[float, float] | tuple[float, float, str] | None = None
    slope: Annotated[float, Field(gt=0)] = 1.0
    intercept: float = 0.0
    mirror: bool = True
    licence: str = ""
    source: str = ""

    @property
    def shown(self) -> Window | None:
        """The declared window."""
        return None if self.window is None else Window(*self.window)


def read_dataset_file(path: Path, *, needed: bool = False) -> DatasetFile:
    """Read `path`, or answer the defaults where it does not exist and is not `needed`."""
    if not path.is_file():
        if needed:
            raise ManifestError(f"{path} does not exist; write one, or leave it out")
        return DatasetFile()
    try:
        told = DatasetFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        _ = told.shown  # a window from high to low is refused here, not when the first image is read
    except RecursionError as error:
        raise ManifestError(f"{path} is nested too deep to be read; see docs/data.md for its keys") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, ScanError) as error:
        raise ManifestError(f"{path} cannot be read ({error}); see docs/data.md for its keys") from error
    except ValidationError as error:
        raise ManifestError(_complaint(path, error)) from error
    return told


def _complaint(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"{path} has an unknown key {key!r}{did_you_mean(key, DatasetFile.model_fields)}"
    return f'{path}: {key} is not as it should be ({first["msg"]}); for example window = [-160, 240, "HU"]'


def write_dataset_file(path: Path, told: DatasetFile) -> Path:
    """Write what is not a default, for `read_dataset_file`."""
    lines = [f"{key} = {_toml(value)}" for key, value in told.model_dump(exclude_defaults=True).items()]
    return write_whole(path, ("\n".join(lines) + "\n").encode())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return repr(value)
