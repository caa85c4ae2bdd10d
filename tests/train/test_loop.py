"""The loop: a run that is killed and resumed ends where an undisturbed one ends."""

import errno
import json
import os

import pytest
import torch
from torch import nn

from counterscan.errors import CounterscanError
from counterscan.train.loop import fit, schedule, warm_then_falling


class Line:
    """Learns y = 2x with noise and dropout, so that every source of randomness is in play."""

    averaged = "network"

    def __init__(self, stop_at=None, breaks_at=None):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.modules = {"network": self.network}
        self.optimisers = {"network": torch.optim.AdamW(self.network.parameters(), 0.01)}
        self.stop_at, self.breaks_at = stop_at, breaks_at

    def step(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.network.train()
        x = torch.randn(16, 1)
        loss = (self.network(x) - 2 * x).square().mean()
        self.optimisers["network"].zero_grad()
        loss.backward()
        self.optimisers["network"].step()
        return {"loss": float("nan") if step == self.breaks_at else float(loss)}

    def validate(self, network):
        with torch.no_grad():
            x = torch.linspace(-1, 1, 9)[:, None]
            return {"score": -float((network(x) - 2 * x).square().mean())}

    def preview(self, network, path):
        path.write_text("seen")


def run(folder, task=None, **settings):
    settings = {"steps": 60, "every": 10, "say": lambda _: None} | settings
    return fit(task or Line(), folder, **settings)


def test_it_learns_and_leaves_a_log_and_previews(tmp_path):
    run(tmp_path, steps=300, every=50)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [50, 100, 150, 200, 250, 300]
    assert log[-1]["score"] > log[0]["score"]
    assert len(list((tmp_path / "previews").iterdir())) == 6


def test_killed_and_resumed_is_not_killed(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Line(stop_at=37))
    resumed = run(tmp_path / "cut", resume=True)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=1e-6, rtol=0)
    assert (tmp_path / "cut/log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()


def test_the_best_network_on_validation_is_returned(tmp_path):
    scores = iter([0.5, 0.9, 0.1])
    seen = []

    class Picky(Line):
        def validate(self, network):
            seen.append({name: value.clone() for name, value in network.state_dict().items()})
            return {"score": next(scores)}

    best = run(tmp_path, Picky(), steps=30)
    assert all(torch.equal(value, seen[1][name]) for name, value in best.state_dict().items())


def test_global_randomness_is_left_as_it_was(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    task = Line()
    torch.manual_seed(5)
    run(tmp_path, task)
    assert torch.equal(torch.rand(3), expected)


def test_a_folder_with_a_training_is_not_overwritten(tmp_path):
    run(tmp_path)
    with pytest.raises(CounterscanError, match="--resume"):
        run(tmp_path)


def test_another_number_of_steps_is_refused_on_resume(tmp_path):
    run(tmp_path)
    with pytest.raises(CounterscanError, match="60 steps"):
        run(tmp_path, steps=90, resume=True)


def test_another_network_is_refused_on_resume(tmp_path):
    run(tmp_path)
    wider = Line()
    wider.network[0] = nn.Linear(2, 8)
    with pytest.raises(CounterscanError, match="another network; ask for the settings that it began with"):
        run(tmp_path, wider, resume=True)


def a_bit(content):
    """One bit of a weight is another."""
    at = content.index(torch.linspace(0, 1, 7).numpy().tobytes()) + 9
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("change", [lambda _: b"", lambda content: content[:5000], a_bit])
def test_a_damaged_checkpoint_is_named(tmp_path, change):
    task = Line()
    task.network.register_buffer("known", torch.linspace(0, 1, 7))
    run(tmp_path, task)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CounterscanError, match=r"checkpoint.pt is damaged \(\w+\); restore it from a copy, or delete"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize("left", ["", '{"step": 10, "lo', None])
def test_a_log_that_was_damaged_or_cut_off_is_written_again(tmp_path, left):
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Line(stop_at=37))
    log = tmp_path / "cut" / "log.jsonl"
    log.unlink() if left is None else log.write_text(left)
    run(tmp_path / "cut", resume=True)
    assert log.read_text() == (tmp_path / "whole" / "log.jsonl").read_text()


@pytest.mark.parametrize("moment", [1, 2, 3])  # the first log, the next one, its checkpoint
def test_killed_before_a_file_takes_its_name_nothing_is_lost(tmp_path, monkeypatch, moment):
    run(tmp_path / "whole")
    replace, count = os.replace, [0]

    def dies(*paths):
        count[0] += 1
        if count[0] == 3 + moment:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.setattr(os, "replace", replace)
    run(tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()
    assert not list((tmp_path / "cut").rglob("*.part"))


def test_a_checkpoint_without_a_log_takes_the_file(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Line(stop_at=37))
    path = tmp_path / "cut" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["log"]
    torch.save(state, path)
    resumed = run(tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()
    assert all(torch.equal(p, q) for p, q in zip(resumed.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("what", ["checkpoint.pt", "previews", "log.jsonl"])
def test_a_disk_that_is_full_is_one_line(tmp_path, monkeypatch, what):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    task = Line()

    def save(state, path):
        raise RuntimeError("[enforce fail at inline_container.cc:1] . PytorchStreamWriter failed writing file: failed")

    def write(path, content):
        raise full

    def preview(network, path):
        raise full

    if what == "checkpoint.pt":
        monkeypatch.setattr(torch, "save", save)
    elif what == "previews":
        task.preview = preview
    else:
        monkeypatch.setattr(type(tmp_path), "write_bytes", write)
    with pytest.raises(CounterscanError, match=rf"{what} cannot be written \(.*\); make room there"):
        run(tmp_path, task)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(CounterscanError, match="not finite at step 25"):
        run(tmp_path, Line(breaks_at=25))


def test_the_schedule_warms_up_and_comes_down():
    factors = [schedule(step, 1000) for step in range(1000)]
    assert factors[0] < 0.05
    assert max(factors) == pytest.approx(1, abs=0.02)
    assert factors[-1] == pytest.approx(0.02, abs=0.01)


def test_a_rate_can_stay_and_fall_at_the_end():
    factors = [warm_then_falling(step, 1000, 0.3) for step in range(1001)]
    assert factors[0] < 0.05
    assert set(factors[50:700]) == {1.0}
    assert factors[850] == pytest.approx(0.51, abs=0.01)
    assert factors[1000] == pytest.approx(0.02)
    assert warm_then_falling(1000, 1000, 0.0) == 1


def test_the_average_and_the_pace_can_be_asked_for(tmp_path):
    still = run(tmp_path / "still", pace=lambda step, steps: 0.0)
    assert all(torch.equal(p, q) for p, q in zip(still.parameters(), Line().network.parameters(), strict=True))
    live = Line()
    average = run(tmp_path / "live", live, average=0.0, steps=10)
    assert all(torch.equal(p, q) for p, q in zip(average.parameters(), live.network.parameters(), strict=True))
