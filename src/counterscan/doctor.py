"""What `counterscan doctor` says of an environment: what is there, what is broken, and the cure of each fault.

Whatever may crash is looked at in a process of its own, so that a library that ends or hangs its process is named and
does no harm. Here, only the standard library is imported.
"""

import contextlib
import importlib
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from counterscan.registry import SHIPPED

LIMIT = 120.0  # seconds that one look may take; a busy machine needs half a minute for torch alone
GB = 1e9
LOW_DISK, LOW_MEMORY = 2 * GB, 1 * GB  # less than this is to be mended
MARK = "counterscan-doctor: "  # before the answer of a child, as libraries print when they are imported
CHILD = f"""import json, sys; from counterscan import doctor
print("\\n{MARK}" + json.dumps(doctor.CHILDREN[sys.argv[1]](*sys.argv[2:])), file=sys.__stdout__, flush=True)"""
TEXT: dict[str, Any] = {"text": True, "errors": "replace"}
WHEELS = "https://download.pytorch.org/whl"
BESIDE = "beside"  # in place of an extra: nothing here needs it, but others fail where it is broken
MODULES = {  # what to import where it is not called as its distribution; after ":" a name that a lazy package defers
    "diffusers": "diffusers:UNet2DModel",
    "pillow": "PIL.Image",
    "pylibjpeg-openjpeg": "openjpeg",
    "python-gdcm": "gdcm",
    "ray": "ray.data",
    "transformers": "transformers:BertModel",
}
CODECS = {  # the ends of transfer syntaxes below 1.2.840.10008.1.2
    "JPEG baseline": "4.50",
    "JPEG extended": "4.51",
    "JPEG lossless": "4.57 4.70",
    "JPEG-LS": "4.80 4.81",
    "JPEG 2000": "4.90 4.91",
    "HTJ2K": "4.201 4.202 4.203",
    "RLE": "5",
}


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: what was found, and where it is to be mended, the `cure`."""

    name: str
    found: str
    cure: str = ""


@dataclass(frozen=True)
class Report:
    """What was found, by section, in the order in which it is printed."""

    sections: dict[str, list[Line]]

    @property
    def faults(self) -> tuple[Line, ...]:
        """What is to be mended."""
        return tuple(line for lines in self.sections.values() for line in lines if line.cure)

    def __str__(self) -> str:
        width = max((len(line.name) for lines in self.sections.values() for line in lines), default=0)
        parts = []
        for section, lines in self.sections.items():
            parts += [section, *(f"{' !'[bool(one.cure)]} {one.name:<{width}}  {one.found}" for one in lines), ""]
        if not self.faults:
            return "\n".join([*parts, "nothing to mend"])
        return "\n".join([*parts, "to mend (!):", *(f"  {one.name:<{width}}  {one.cure}" for one in self.faults)])


Found = dict[str, list[Line]]


def examine(progress: Callable[[int], None] | None = None) -> Report:
    """Look at everything; `progress` is told how many of `looks()` are done. Nothing that is broken raises."""
    report = Report({section: [] for section in ("versions", "libraries", "optional libraries")})
    with ThreadPoolExecutor(min(4, usable_cores())) as pool:
        for number, found in enumerate(pool.map(lambda look: look(), looks()), 1):
            for section, lines in found.items():
                report.sections.setdefault(section, []).extend(lines)
            if progress is not None:
                progress(number)
    return report


def looks() -> list[Callable[[], Found]]:
    """All that is looked at, one process or less each."""
    return [versions, *(partial(installed, need) for need in needs()), machine, codecs, weights, surroundings]


def ask(look: str, *words: str, limit: float = LIMIT) -> tuple[Any, str]:
    """What a look of `CHILDREN` answers in a process of its own, and "", or None and what went wrong."""
    command = [sys.executable, "-P", "-c", CHILD, look, *words]  # -P: as the command, no import from this folder
    try:
        run = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit, **TEXT)
    except subprocess.TimeoutExpired:
        return None, f"does not come back within {limit:g} s"
    except OSError as error:
        return None, f"no process can be started ({error})"
    answers = [line for line in run.stdout.splitlines() if line.startswith(MARK)]
    if answers:
        return json.loads(answers[-1].removeprefix(MARK)), ""
    crashed, said = run.returncode < 0, run.stderr.strip().splitlines()[-1:]
    ending = f"crashes with signal {-run.returncode}" if crashed else f"ends its process with code {run.returncode}"
    return None, _short(": ".join([ending, *said]))


def _short(text: object) -> str:
    return " ".join(str(text).split())[:160]


@dataclass(frozen=True)
class Need:
    """A library by its name on PyPI, the oldest version that will do, and its extra ("" for what is always needed)."""

    name: str
    minimum: str = ""
    extra: str = ""


def needs() -> list[Need]:
    """What counterscan's metadata ask for, but for the tests, and torchvision, which breaks others where it is bad."""
    found = {}
    for text in metadata.requires("counterscan") or ():
        wanted, _, condition = text.partition(";")
        named = re.match(r"([\w.-]+)(?:\[.*?\])?\s*(?:>=\s*([\w.]+))?", wanted.strip())
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        part = extra.group(1) if extra else ""
        if named and named.group(1) != "counterscan" and part not in ("all", "test"):
            found[named.group(1)] = Need(named.group(1), named.group(2) or "", part)
    return [*found.values(), Need("torchvision", extra=BESIDE)]


def versions() -> Found:
    """Python, the system and counterscan itself."""
    system = f"{platform.python_version()}, {platform.system()} {platform.machine()} ({sys.executable})"
    return {"versions": [Line("Python", system), Line("counterscan", metadata.version("counterscan"))]}


def installed(need: Need) -> Found:
    """Is it there, is it new enough, and can it be imported?"""
    module, _, attribute = MODULES.get(need.name, need.name.replace("-", "_")).partition(":")
    found, problem = ask("import", module, attribute, need.name)
    version = "" if found is None else found.get("version")
    problem = problem or found.get("broken", "")
    if problem:
        line = Line(need.name, f"BROKEN: {problem}", _mend(need, problem))
    elif version is None:
        get = "not needed" if need.extra == BESIDE else f"pip install 'counterscan[{need.extra}]'"
        line = Line(need.name, f"absent; {get}") if need.extra else Line(need.name, "absent", _pip(need))
    else:
        old = _older(version, need.minimum)
        line = Line(need.name, version + " is too old" * old or "version unknown", _pip(need, "--upgrade ") * old)
    return {"optional libraries" if need.extra else "libraries": [line]}


def _pip(need: Need, how: str = "") -> str:
    return f"run: pip install {how}'{need.name}>={need.minimum}'"


def _mend(need: Need, problem: str) -> str:
    if need.name == "torchvision":
        torch = next((one.version for one in metadata.distributions(name="torch")), "")
        build = torch.partition("+")[2]  # a build for another torch does not import
        index = f" --index-url {WHEELS}/{build}" if build else ""
        return f"run: pip uninstall torchvision (not needed), or: pip install --force-reinstall torchvision{index}"
    if "torchvision" in problem:
        return "mend torchvision first"
    return _pip(need, "--force-reinstall ")


def _older(version: str, minimum: str) -> bool:
    numbers = [tuple(map(int, re.findall(r"\d+", text.partition("+")[0])[:3])) for text in (version, minimum)]
    return bool(version and minimum) and numbers[0] < numbers[1]


def _imported(module: str, attribute: str, distribution: str) -> dict[str, str]:
    """In the child: the version of a library that can be imported, `broken` with the reason, or neither if absent."""
    version = next((one.version for one in metadata.distributions(name=distribution)), "")
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return {"broken": "installed, but its files are missing"} if version else {}
    try:
        thing = importlib.import_module(module)
        if attribute:
            getattr(thing, attribute)
    except BaseException as error:  # sys.exit at import, too
        return {"broken": _short(f"{type(error).__name__}: {error}")}
    return {"version": version or str(getattr(thing, "__version__", ""))}


def machine() -> Found:
    """Devices, threads and the cache folder, as torch and counterscan see them."""
    seen, problem = ask("torch")
    if seen is None:
        cure = "mend torch and the other libraries above, then run this again"
        return {"devices": [Line("torch", f"cannot be asked: {problem}", cure)]}
    cache = folder("cache folder", seen["cache"], "COUNTERSCAN_CACHE")
    return {"devices": devices(seen), "threads": threads(seen["threads"]), "disk and memory": [cache]}


def devices(seen: dict[str, Any]) -> list[Line]:
    """GPUs with what is wrong with them, MPS, and what the CPU does with bfloat16."""
    lines = []
    for number, (name, problem) in enumerate(seen["gpus"]):
        cure = f"free its memory, or install the torch for this GPU and driver: {WHEELS}" if problem else ""
        lines.append(Line(f"cuda:{number}", f"{name}, {problem or 'works'}", cure))
    lines = lines or [_no_gpu(seen["cuda"], system_gpus())]
    cpu = Line("CPU", f"{seen['cpu']}, bfloat16 {seen['bfloat16']}")
    return [*lines, Line("MPS", "yes" if seen["mps"] else "no"), cpu]


def _no_gpu(built: str, present: Sequence[str]) -> Line:
    """torch sees none; `built` is the CUDA that it was made for, `present` what the system knows of."""
    if not present:
        return Line("CUDA", "no GPU")
    found = f"{', '.join(present)}: torch cannot use it"
    if not built:
        return Line("CUDA", f"{found} (built without CUDA)", f"run: pip install --force-reinstall torch; see {WHEELS}")
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Line("CUDA", f"{found} (hidden)", "unset CUDA_VISIBLE_DEVICES, which hides it")
    return Line("CUDA", found, f"install an NVIDIA driver for CUDA {built} or newer, or a torch for the driver's CUDA")


def system_gpus() -> list[str]:
    """NVIDIA GPUs that the driver knows of, without torch."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    if names := re.findall(r"Model:\s*(.+)", "\n".join(map(_read, files))):
        return names
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30, **TEXT)
        return re.findall(r"GPU \d+: (.+?) \(", run.stdout)
    return []


def threads(torch_threads: int) -> list[Line]:
    """Cores against OMP_NUM_THREADS and torch's threads: too many wait for one another, which is a fault."""
    cores, told = usable_cores(), os.environ.get("OMP_NUM_THREADS", "")
    lines = [Line("cores", f"{cores} usable of {os.cpu_count()}")]
    cure = f"set OMP_NUM_THREADS={cores}"
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in told.split(",")]
    wrong = bool(told) and (min(numbers) < 1 or numbers[0] > cores)
    lines.append(Line("OMP_NUM_THREADS", told or "not set", cure if wrong else ""))
    many = torch_threads > cores and not wrong  # one fault is named once
    return [*lines, Line("torch threads", str(torch_threads), cure if many else "")]


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to, or what its container is given of them."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    given = math.ceil(int(quota) / int(period)) if quota.isdecimal() and period.isdecimal() else bound
    return max(1, min(bound, given))


def _read(path: str | Path) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace").strip()
    return ""


def _torch() -> dict[str, Any]:
    """In the child: what torch says of the machine, and counterscan of its cache."""
    import torch

    from counterscan.data.batches import default_cache
    from counterscan.nets.precision import bfloat16_instructions

    flags = bfloat16_instructions()
    return {
        "gpus": [_gpu(number) for number in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda or torch.version.hip or "",
        "mps": torch.backends.mps.is_available(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": f"in hardware ({', '.join(flags)})" if flags else "not used: no instructions for it",
        "threads": torch.get_num_threads(),
        "cache": str(default_cache()),
    }


def _gpu(number: int) -> tuple[str, str]:
    """In the child: a GPU's name with its memory, and what is wrong when it is given a little work."""
    import torch

    name = "GPU"
    try:
        name, (free, total) = torch.cuda.get_device_name(number), torch.cuda.mem_get_info(number)
        torch.ones(4, 4, device=f"cuda:{number}").matmul(torch.ones(4, device=f"cuda:{number}")).tolist()
    except Exception as error:  # no kernel for this GPU, a driver that is too old, no memory left
        return name, f"cannot be used ({_short(str(error).partition(chr(10))[0])})"
    return f"{name} ({free / GB:.0f} of {total / GB:.0f} GB free)", ""


def codecs() -> Found:
    """The compressed transfer syntaxes that can be decoded here; one that cannot lacks an optional library."""
    found, problem = ask("codecs")
    if found is None:
        return {"DICOM codecs": [Line("pydicom", f"cannot be asked: {problem}", "mend pydicom and the codecs above")]}
    lines = [Line(name, ", ".join(by) or "no; pip install 'counterscan[dicom]'") for name, by in found.items()]
    return {"DICOM codecs": lines}


def _codecs() -> dict[str, list[str]]:
    """In the child: the plugins that decode every transfer syntax of a family."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    def plugins(end: str) -> set[str]:
        return set(get_decoder(UID(f"1.2.840.10008.1.2.{end}")).available_plugins)

    return {name: sorted(set.intersection(*map(plugins, ends.split()))) for name, ends in CODECS.items()}


def weights(shipped: Path = SHIPPED) -> Found:
    """Can the weights that came with counterscan be loaded, and are they those that their cards were written for?"""
    cure = "run: pip install --force-reinstall --no-deps counterscan (from a checkout: git checkout src/counterscan)"
    found, problem = ask("weights", str(shipped), limit=3 * LIMIT)
    if found is None:
        return {"weights": [Line("all", f"cannot be looked at: {problem}", "mend the libraries above")]}
    if not found:
        return {"weights": [Line("all", "none came with counterscan", cure)]}
    lines = [Line(name, f"BROKEN: {wrong}", cure) if wrong else Line(name, "whole") for name, wrong in found.items()]
    return {"weights": lines}


def _weights(shipped: str) -> dict[str, str]:
    """In the child: what is wrong with each folder of weights, "" where nothing is."""
    from counterscan.weights.store import load_weights

    found = {}
    files = [file for name in ("card.json", "*.safetensors") for file in Path(shipped).glob(f"*/*/{name}")]
    for place in sorted({file.parent for file in files}):
        name = place.relative_to(shipped).as_posix()
        try:
            load_weights(place)
            found[name] = ""
        except Exception as error:  # whatever a damaged file provokes
            found[name] = _short(str(error).replace(f"{shipped}{os.sep}", "") or type(error).__name__)
    return found


def surroundings() -> Found:
    """Free disk, memory, and the variables that name folders."""
    temporary = os.environ.get("TMPDIR") or os.environ.get("TEMP") or "/tmp"
    lines = [folder("temporary", temporary, "TMPDIR"), folder("this folder", ".", "", written=False), memory()]
    return {"disk and memory": lines, "environment": [real_data()]}


def folder(name: str, path: str | Path, variable: str, written: bool = True) -> Line:
    """A folder that is or can be made, can be written, and has room; `variable` names another in its place."""
    there = next(one for one in (Path(path), *Path(path).absolute().parents) if one.exists())
    other = f"set {variable} to another folder" if variable else "work on another disk"
    try:
        if not there.is_dir():
            return Line(name, f"{path}: {there} is no folder", f"remove that file, or {other}")
        if written:
            tempfile.TemporaryFile(dir=there).close()
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Line(name, f"{path} cannot be written ({error.strerror})", f"make it writable, or {other}")
    cure = f"free some of that disk, or {other}" if free < LOW_DISK else ""
    return Line(name, f"{path}, {free / GB:.1f} GB free", cure)


def memory() -> Line:
    """What programs can still have, of all there is (or that the container is given)."""
    sizes = {name: int(kb) * 1024 for name, kb in re.findall(r"(\w+):\s+(\d+) kB", _read("/proc/meminfo"))}
    if "MemAvailable" not in sizes:
        return Line("memory", "not known on this system")
    total, free = sizes["MemTotal"], sizes["MemAvailable"]
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdecimal() and used.isdecimal() and int(limit) < total:
        total, free = int(limit), min(free, int(limit) - int(used))
    cure = "close other programs, or use --batch 1 and --workers 1" if free < LOW_MEMORY else ""
    return Line("memory", f"{free / GB:.1f} of {total / GB:.1f} GB free", cure)


def real_data() -> Line:
    """The folder of real images that the tests and the benchmark use."""
    name, value = "COUNTERSCAN_REAL_DATA", os.environ.get("COUNTERSCAN_REAL_DATA", "")
    cure = f"unset {name}, or set it to a folder of real images" if value and not Path(value).is_dir() else ""
    return Line(name, f"{value} is no folder" if cure else value or "not set", cure)


CHILDREN: dict[str, Any] = {"import": _imported, "torch": _torch, "codecs": _codecs, "weights": _weights}
