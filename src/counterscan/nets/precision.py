"""bfloat16 where the device has instructions for it, which makes networks several times faster, else float32.

Without them a processor answers too, but works every number out by hand: convolutions take ten times longer than in
float32 there, and transposed ones fifty times (an AMD EPYC with AVX2, torch 2.13).
"""

from functools import cache
from pathlib import Path

import torch

INSTRUCTIONS = {"amx_bf16", "avx512_bf16", "bf16", "svebf16"}  # as Linux names them, of x86 and of Arm


def reduced(device: torch.device) -> torch.autocast:
    """A context in which networks on `device` compute in bfloat16 if that is fast there, and in float32 otherwise."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device.type))


@cache
def fast_bfloat16(kind: str) -> bool:
    """Whether devices of a kind (`cpu`, `cuda`, ...) have instructions for bfloat16; processors only as Linux tells."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind != "cpu" or bool(bfloat16_instructions())


def bfloat16_instructions() -> list[str]:
    """The processor's instructions for bfloat16, by Linux's names; none where the system does not tell."""
    try:
        told = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return []
    return sorted(INSTRUCTIONS & set(told.split()))
