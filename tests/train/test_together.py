"""Two processes that torchrun starts learn one network: from batches of their own, written by the first alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from counterscan.train import together

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from counterscan.train.descent import descend
from counterscan.train.loop import fit
from counterscan.train.together import rank, together

out = Path(sys.argv[1])


class Line:
    averaged = "network"

    def __init__(self, name, stop_at=None):
        torch.manual_seed(rank())  # weights that differ until they are shared
        self.network = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.unused = nn.Linear(1, 1)
        self.modules = {"network": self.network, "unused": self.unused}
        self.optimisers = {"network": torch.optim.AdamW([*self.network.parameters(), *self.unused.parameters()], 0.01)}
        self.name, self.stop_at, self.seen = name, stop_at, []

    def step(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.network.train()
        x = torch.randn(16, 1)
        self.seen.append(float(x[0]))
        found = descend(self.network, self.optimisers["network"], {"loss": (self.network(x) - 2 * x).square().mean()})
        if step == 39:
            torch.save(self.network.state_dict(), out / f"{self.name}-{rank()}.pt")
            (out / f"{self.name}-{rank()}.json").write_text(json.dumps(self.seen))
        return found

    def validate(self, network):
        x = torch.linspace(-1, 1, 9)[:, None]
        with torch.no_grad():
            return {"score": -float((network(x) - 2 * x).square().mean())}

    def preview(self, network, path):
        path.write_text(str(rank()))


def run(name, stop_at=None, resume=False):
    try:
        fit(Line(name, stop_at), out / name, steps=40, every=10, resume=resume, say=lambda line: None)
    except KeyboardInterrupt:
        pass
    except SystemExit:
        (out / f"{name}-left-{rank()}").touch()


with together():
    run("whole")
    run("cut", stop_at=27)
    run("cut", resume=True)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What two processes left."""
    out = tmp_path_factory.mktemp("together")
    (out / "program.py").write_text(PROGRAM)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    answer = subprocess.run(
        [sys.executable, *launcher, str(out / "program.py"), str(out)], capture_output=True, text=True, timeout=600
    )
    assert answer.returncode == 0, answer.stderr
    return out


def weights(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_both_end_with_the_same_weights_from_batches_of_their_own(trained):
    first, second = (weights(trained / f"whole-{rank}.pt") for rank in range(2))
    learned = [name for name in first if "running" not in name]
    assert all(torch.equal(first[name], second[name]) for name in learned)
    seen = [json.loads((trained / f"whole-{rank}.json").read_text()) for rank in range(2)]
    assert not set(seen[0]) & set(seen[1])


def test_the_loss_falls_and_the_first_alone_writes(trained):
    log = [json.loads(line) for line in (trained / "whole" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [10, 20, 30, 40]
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert {path.read_text() for path in (trained / "whole" / "previews").iterdir()} == {"0"}
    assert (trained / "whole-left-1").exists()
    assert not (trained / "whole-left-0").exists()


def test_killed_and_resumed_is_not_killed(trained):
    whole, cut = (weights(trained / f"{name}-0.pt") for name in ("whole", "cut"))
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, atol=1e-6, rtol=0)
    assert (trained / "cut" / "log.jsonl").read_text() == (trained / "whole" / "log.jsonl").read_text()


def test_a_process_by_itself_changes_nothing():
    module = nn.Linear(2, 1)
    module.weight.grad = torch.ones(1, 2)
    together.share_gradients(module.parameters())
    together.share_weights({"module": module})
    together.leave_to_the_first()
    with together.together():
        assert together.rank() == 0
        assert together.shared("mine") == "mine"
        assert together.averaged({"b": 1.0, "a": 2.0}) == {"b": 1.0, "a": 2.0}
    assert torch.equal(module.weight.grad, torch.ones(1, 2))
    assert module.bias.grad is None
