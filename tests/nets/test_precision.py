"""bfloat16 where it is quick, float32 where the processor would work it out by hand."""

import pytest
import torch

from counterscan.nets import precision
from counterscan.nets.precision import bfloat16_instructions, fast_bfloat16, reduced


@pytest.fixture
def processor(monkeypatch):
    """Says which instructions the processor has."""

    def told(*instructions):
        monkeypatch.setattr(precision, "bfloat16_instructions", lambda: list(instructions))
        fast_bfloat16.cache_clear()

    yield told
    fast_bfloat16.cache_clear()


@pytest.mark.parametrize(("instructions", "dtype"), [(["amx_bf16"], torch.bfloat16), ([], torch.float32)])
def test_networks_compute_in_what_the_processor_is_quick_at(processor, instructions, dtype):
    processor(*instructions)
    layer = torch.nn.Linear(4, 4)
    with reduced(torch.device("cpu")):
        assert layer(torch.ones(2, 4)).dtype == dtype
    assert layer(torch.ones(2, 4)).dtype == torch.float32


def test_an_older_card_is_not_made_to_imitate_bfloat16(processor, monkeypatch):
    processor()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not fast_bfloat16("cuda")


def test_where_the_system_does_not_tell_nothing_is_assumed(monkeypatch, tmp_path):
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "Path", lambda _: told)
    assert bfloat16_instructions() == []
    told.write_text("flags : fpu avx2\nflags : fpu avx512_bf16 amx_bf16\n")
    assert bfloat16_instructions() == ["amx_bf16", "avx512_bf16"]
