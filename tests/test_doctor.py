"""What `counterscan doctor` says of faults that are made here: each is named, has its cure, and harms nothing else."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from counterscan import cli, doctor
from counterscan.doctor import Line, Need, Report
from counterscan.registry import SHIPPED

CAPTUM = Need("captum", "0.7", "captum")
WORDS = ["doctor"]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Write a package that the processes of the doctor find before any other."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name: str, code: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)

    return write


def only(found: doctor.Found) -> Line:
    (lines,) = found.values()
    (line,) = lines
    return line


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('operator nms does not exist')", "RuntimeError: operator nms does not exist"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "ends its process with code 0"),
        ("import os; os._exit(7)", "ends its process with code 7"),
        ("import os; os.kill(os.getpid(), 11)", "crashes with signal 11"),
        ("import time; time.sleep(60)", "does not come back within 3 s"),
        ("def f(", "SyntaxError"),
    ],
)
def test_a_library_that_breaks_at_import_is_named_and_does_no_harm(fake, monkeypatch, code, said):
    fake("captum", code)
    if "sleep" in code:
        monkeypatch.setattr(doctor.ask, "__kwdefaults__", {"limit": 3})
    line = only(doctor.installed(CAPTUM))
    assert line.found.startswith("BROKEN: ")
    assert said in line.found
    assert line.cure == "run: pip install --force-reinstall 'captum>=0.7'"


def test_a_library_that_prints_is_no_fault(fake):
    fake("captum", "print('hello'); __version__ = '0.9.0'; import sys; sys.stdout = None")
    assert only(doctor.installed(CAPTUM)) == Line("captum", "0.9.0")


def test_a_library_that_is_too_old_is_to_be_upgraded(fake):
    fake("captum", "__version__ = '0.6.9'")
    line = only(doctor.installed(CAPTUM))
    assert (line.found, line.cure) == ("0.6.9 is too old", "run: pip install --upgrade 'captum>=0.7'")


@pytest.mark.parametrize(
    ("need", "found", "cure"),
    [
        (Need("no-such-library", "1.0", "text"), "absent; pip install 'counterscan[text]'", ""),
        (Need("no-such-library", "1.0"), "absent", "run: pip install 'no-such-library>=1.0'"),
        (Need("no-such-library", extra=doctor.BESIDE), "absent; not needed", ""),
    ],
)
def test_only_a_library_that_is_needed_may_not_be_absent(need, found, cure):
    assert only(doctor.installed(need)) == Line("no-such-library", found, cure)


def test_a_broken_torchvision_is_the_first_to_be_mended(fake):
    fake("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    fake("captum", "import torchvision")
    assert "pip uninstall torchvision" in only(doctor.installed(Need("torchvision", extra=doctor.BESIDE))).cure
    assert only(doctor.installed(CAPTUM)).cure == "mend torchvision first"


def test_every_library_of_the_extras_is_looked_at():
    known = {need.name: need for need in doctor.needs()}
    assert {"torch", "pydicom", "highdicom", "python-gdcm", "onnxruntime", "ray", "fastapi", "torchvision"} <= set(
        known
    )
    assert not {"pytest", "counterscan", "hypothesis"} & set(known)
    assert (known["torch"].extra, known["ray"].extra) == ("", "ray")
    assert known["ray"].minimum.startswith("2.")


def test_codecs_are_named_with_what_decodes_them():
    lines = {line.name: line for line in doctor.codecs()["DICOM codecs"]}
    assert lines["RLE"].found.startswith("pydicom")
    assert set(lines) == set(doctor.CODECS)
    assert not any(line.cure for line in lines.values())


def test_a_codec_that_is_missing_has_its_pip_line(fake):
    for name in ("gdcm", "pylibjpeg", "openjpeg", "jpeg_ls"):
        fake(name, "raise ImportError('not here')")
    lines = {line.name: line for line in doctor.codecs()["DICOM codecs"]}
    assert lines["JPEG lossless"] == Line("JPEG lossless", "no; pip install 'counterscan[dicom]'")
    assert "pydicom" in lines["RLE"].found


def test_a_codec_that_breaks_pydicom_is_said(fake):
    fake("gdcm", "raise AttributeError('RTLD_LAZY')")
    line = only(doctor.codecs())
    assert "AttributeError" in line.found
    assert line.cure


def test_damaged_weights_are_named(tmp_path):
    for name in ("whole", "changed", "cut", "no-card", "bad-card"):
        shutil.copytree(SHIPPED / "chest" / "judge", tmp_path / "chest" / name)
    with (tmp_path / "chest" / "changed" / "weights.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.truncate(tmp_path / "chest" / "cut" / "weights.safetensors", 1000)
    (tmp_path / "chest" / "no-card" / "card.json").unlink()
    (tmp_path / "chest" / "bad-card" / "card.json").write_bytes(b"\xff\xfe")
    lines = {line.name.removeprefix("chest/"): line for line in doctor.weights(tmp_path)["weights"]}
    assert {name for name, line in lines.items() if line.cure} == {"changed", "cut", "no-card", "bad-card"}
    assert "sha256 differs" in lines["changed"].found
    assert "has no card.json" in lines["no-card"].found
    assert "--force-reinstall" in lines["cut"].cure


def test_no_weights_at_all_are_a_fault(tmp_path):
    assert only(doctor.weights(tmp_path)).cure


def test_a_cache_folder_is_not_made_by_looking(tmp_path):
    line = doctor.folder("cache folder", tmp_path / "a" / "b", "COUNTERSCAN_CACHE")
    assert not line.cure
    assert not list(tmp_path.iterdir())


def test_a_cache_folder_that_is_no_folder_or_cannot_be_written_is_a_fault(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        line = doctor.folder("cache folder", path, "COUNTERSCAN_CACHE")
        assert "is no folder" in line.found
        assert "COUNTERSCAN_CACHE" in line.cure

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert "cannot be written" in doctor.folder("cache folder", tmp_path, "COUNTERSCAN_CACHE").found


def test_a_full_disk_and_little_memory_are_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LOW_DISK", 1e18)
    monkeypatch.setattr(doctor, "LOW_MEMORY", 1e18)
    assert "free some" in doctor.folder("this folder", tmp_path, "").cure
    assert "--batch 1" in doctor.memory().cure or doctor.memory().found.startswith("not known")


@pytest.mark.parametrize(
    ("told", "torch_threads", "faults"),
    [
        ("", 4, []),
        ("4", 4, []),
        ("1", 1, []),
        ("4,2", 4, []),
        ("8", 8, ["OMP_NUM_THREADS"]),
        ("0", 4, ["OMP_NUM_THREADS"]),
        ("many", 4, ["OMP_NUM_THREADS"]),
        ("", 8, ["torch threads"]),
    ],
)
def test_more_threads_than_cores_are_a_fault(monkeypatch, told, torch_threads, faults):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    lines = doctor.threads(torch_threads)
    assert [line.name for line in lines if line.cure] == faults
    assert {line.cure for line in lines} <= {"", "set OMP_NUM_THREADS=4"}


SEEN = {"gpus": [], "cuda": "", "mps": False, "cpu": "AVX2", "bfloat16": "slow"}


@pytest.mark.parametrize(
    ("seen", "hidden", "cure"),
    [
        ({}, None, "pip install --force-reinstall torch"),
        ({"cuda": "12.6"}, None, "NVIDIA driver for CUDA 12.6"),
        ({"cuda": "12.6"}, "", "unset CUDA_VISIBLE_DEVICES"),
        ({"gpus": [("Old GPU", "cannot be used (no kernel)")]}, None, "for this GPU"),
        ({"gpus": [("GPU", "")]}, None, ""),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_a_fault(monkeypatch, seen, hidden, cure):
    monkeypatch.setattr(doctor, "system_gpus", lambda: ["NVIDIA H200"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    lines = doctor.devices(SEEN | seen)
    assert cure in lines[0].cure
    assert bool(cure) == bool(lines[0].cure)
    assert not any(line.cure for line in lines[1:])


def test_no_gpu_is_no_fault(monkeypatch):
    monkeypatch.setattr(doctor, "system_gpus", list)
    assert not any(line.cure for line in doctor.devices(SEEN))


def test_a_report_is_one_aligned_table_with_one_line_a_cure():
    lines = [Line("a", "fine"), Line("longer", "bad", "mend it")]
    assert str(Report({"things": lines})).splitlines() == (
        ["things", "  a       fine", "! longer  bad", "", "to mend (!):", "  longer  mend it"]
    )
    assert str(Report({"things": lines[:1]})).endswith("nothing to mend")


def test_the_command_leaves_with_3_and_says_every_fault(fake, tmp_path, monkeypatch):
    fake("torchvision", "import os; os._exit(1)")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COUNTERSCAN_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("COUNTERSCAN_REAL_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(doctor, "needs", lambda: [Need("numpy", "2.0"), Need("torchvision", extra=doctor.BESIDE)])
    answer = CliRunner().invoke(cli.app, WORDS)
    assert answer.exit_code == 3, answer.output
    cures = answer.stdout.partition("to mend (!):")[2]
    for name in ("torchvision", "cache folder", "COUNTERSCAN_REAL_DATA"):
        assert f"  {name}" in cures


def test_the_command_leaves_with_0_where_nothing_is_to_be_mended(monkeypatch):
    monkeypatch.setattr(doctor, "looks", lambda: [lambda: {"optional libraries": [Line("captum", "absent")]}])
    answer = CliRunner().invoke(cli.app, WORDS)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.endswith("nothing to mend\n")


def test_a_machine_whose_torch_is_broken_is_still_looked_at(fake):
    fake("torch", "raise OSError('libtorch.so: cannot open shared object file')")
    assert "libtorch" in only(doctor.machine()).found
    assert "libtorch" in only(doctor.weights(Path(SHIPPED))).found
