import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.process import Worker
from counterscan.core import Card
from counterscan.errors import ClassifierError

CARD = Card(name="apart", shape=(1, 4, 4), classes=("normal", "bright"), output="binary")
IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
SOURCE = """
import os, signal, subprocess, sys, time
import numpy as np

print("imported with some noise")

def rule(pixels):
    return pixels.mean((1, 2, 3)) * 3

def noisy(pixels):
    print("x" * 100_000)
    os.system("echo from a child")
    os.write(1, b"straight to the line")
    sys.stdin.read()
    return rule(pixels)

def pid(pixels):
    return np.full(len(pixels), float(os.getpid()))

def dies(pixels):
    print("the model broke", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def leaves(pixels):
    os._exit(7)

def dies_once(pixels):
    if not os.path.exists("died"):
        open("died", "w").close()
        os._exit(1)
    return rule(pixels)

def hangs_once(pixels):
    if not os.path.exists("hung"):
        child = subprocess.Popen(["sleep", "60"])
        open("hung", "w").write(f"{os.getpid()} {child.pid}")
        time.sleep(60)
    return rule(pixels)

def raises(pixels):
    raise ValueError("first line\\nsecond line")

def words(pixels):
    return ["high"] * len(pixels)

def much(pixels):
    return np.zeros((len(pixels), 1 << 21))

class Network:
    def __call__(self, pixels): return rule(pixels)
    def named_parameters(self): return []

network = Network()
number = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "apart_for_test.py").write_text(SOURCE)
    (tmp_path / "torch.py").write_text("1 / 0  # a library that must not be imported in the worker")
    (tmp_path / "with_card.py").write_text(
        f"class Card:\n    def model_dump_json(self): return '{CARD.model_dump_json()}'\n"
        "def rule(pixels): return pixels.mean((1, 2, 3)) * 3\nrule.card = Card()\n"
    )
    (tmp_path / "broken.py").write_text("import no_such_library")
    (tmp_path / "gone.py").write_text("import os; os._exit(5)")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(name, seconds=60.0, images=IMAGES):
    return FunctionClassifier(Worker(f"apart_for_test:{name}", timeout=seconds), CARD)(images)


def expected() -> torch.Tensor:
    return FunctionClassifier(lambda pixels: pixels.mean((1, 2, 3)) * 3, CARD)(IMAGES)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # one that has ended may wait there for a parent that never asks
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def ends(pid: int) -> bool:
    """Does it end within ten seconds?"""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.1)
    return False


def test_it_answers_as_the_function_does_also_a_noisy_one():
    classifier = load_classifier("process:apart_for_test:noisy", CARD)
    torch.testing.assert_close(classifier(IMAGES), expected())
    torch.testing.assert_close(classifier(IMAGES), expected())
    assert not classifier.differentiable
    assert "apart_for_test" not in sys.modules


def test_one_process_answers_all_and_is_ended_with_its_classifier():
    classifier = FunctionClassifier(Worker("apart_for_test:pid"), CARD)
    first, second = (int(classifier(IMAGES)[0, 1]) for _ in range(2))
    assert first == second != os.getpid()
    del classifier
    assert not alive(first)


def test_its_card_comes_with_it_or_is_asked_for():
    assert load_classifier("process:with_card:rule").card == CARD
    torch.testing.assert_close(load_classifier("process:with_card:rule")(IMAGES), expected())
    with pytest.raises(ClassifierError, match=r"has no card; set rule.card = Card\(...\), or give --card"):
        load_classifier("process:apart_for_test:rule")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dies", r"died twice on images \(3, 1, 4, 4\): signal SIGSEGV, after 'the model broke'"),
        ("leaves", "died twice .* exit code 7"),
        ("raises", "process:apart_for_test:raises failed: ValueError: first line$"),
        ("words", "answered NaN or infinity|an array of <U4, not of numbers"),
        ("much", "answered more than 16 MiB"),
        ("network", "cannot be imported: TypeError: network is a Network; name a function"),
        ("number", "number is a int; name a function"),
        ("nothing", "has no attribute 'nothing'"),
    ],
)
def test_what_goes_wrong_in_there_is_one_line_here(name, words):
    with pytest.raises(ClassifierError, match=words) as caught:
        ask(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "words"),
    [("broken", "ModuleNotFoundError: No module named 'no_such_library'"), ("gone", "did not start: exit code 5")],
)
def test_a_module_that_cannot_be_imported(module, words):
    with pytest.raises(ClassifierError, match=words):
        load_classifier(f"process:{module}:rule", CARD)(IMAGES)


def test_one_that_dies_is_started_again(here):
    torch.testing.assert_close(ask("dies_once"), expected())
    assert (here / "died").exists()


def test_one_that_hangs_is_ended_with_its_children_and_the_next_question_starts_another(here):
    classifier = FunctionClassifier(Worker("apart_for_test:hangs_once", timeout=3), CARD)
    start = time.monotonic()
    with pytest.raises(ClassifierError, match=r"did not answer within 3 s and was ended; .*\"timeout\""):
        classifier(IMAGES)
    assert time.monotonic() - start < 60
    assert all(ends(int(pid)) for pid in (here / "hung").read_text().split())
    classifier.function.timeout = 60
    torch.testing.assert_close(classifier(IMAGES), expected())


def test_one_that_is_killed_between_questions_is_started_again():
    classifier = FunctionClassifier(Worker("apart_for_test:pid"), CARD)
    first = int(classifier(IMAGES)[0, 1])
    os.kill(first, signal.SIGKILL)
    time.sleep(0.1)
    assert int(classifier(IMAGES)[0, 1]) != first


def test_no_answer_is_taken_for_the_next_one_s_after_an_interruption(monkeypatch):
    worker = Worker("apart_for_test:rule")
    worker(IMAGES.numpy())

    def interrupted(length):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker._run, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker(np.zeros((3, 1, 4, 4), np.float32))
    np.testing.assert_allclose(worker(IMAGES.numpy()), IMAGES.numpy().mean((1, 2, 3)) * 3, rtol=1e-5)


def test_a_worker_leaves_with_a_parent_that_is_killed(here):
    program = (
        "import os, numpy as np\nfrom counterscan.classifiers.process import Worker\n"
        "worker = Worker('apart_for_test:pid')\n"
        "print(int(worker(np.zeros((1, 1, 4, 4), np.float32))[0]), flush=True)\nos.kill(os.getpid(), 9)"
    )
    (here / "torch.py").unlink()
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ends(int(told.stdout)), "the worker is an orphan"


def test_another_python_can_be_named():
    with pytest.raises(ClassifierError, match=r"/no/python does not run: No such file or directory; name another"):
        Worker("apart_for_test:rule", python="/no/python")(IMAGES.numpy())
