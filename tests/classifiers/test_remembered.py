import os
import signal
import sqlite3
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.remembered import Remembered, answers_folder, file_name
from counterscan.classifiers.wrappers import Counting
from counterscan.core import Card
from counterscan.errors import ClassifierError

CARD = Card(name="ward/box", shape=(1, 4, 4), classes=("normal", "bright"), output="softmax")
IMAGES = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Box:
    """A black box that notes how many images each question held, and may die after so many images."""

    differentiable = True

    def __init__(self, life=10**9, shift=0.0, card=CARD):
        self.card, self.life, self.shift, self.portions = card, life, shift, []

    def __call__(self, images):
        self.portions.append(len(images))
        if sum(self.portions) > self.life:
            raise ClassifierError("the box is dead")
        bright = images.mean((1, 2, 3)) * 3 + self.shift
        return torch.stack([-bright, bright], 1)


def test_a_second_run_asks_nothing_again_and_answers_to_the_bit(tmp_path):
    first, second, box = Remembered(Box(), tmp_path, batch=4), None, Box()
    answers = first(IMAGES)
    torch.testing.assert_close(answers, Box()(IMAGES), rtol=0, atol=0)
    assert first.classifier.portions == [4, 4, 2]
    assert (first.asked, first.recalled) == (10, 0)
    second = Remembered(box, tmp_path)
    torch.testing.assert_close(second(IMAGES.flip(0)), answers.flip(0), rtol=0, atol=0)
    assert box.portions == []
    assert (second.asked, second.recalled) == (0, 10)
    assert second.told() == "ward/box was asked 0 images; 10 answers were there already"


def test_an_image_that_comes_twice_is_asked_once_and_another_one_is_asked(tmp_path):
    box = Remembered(Box(), tmp_path)
    answers = box(IMAGES[[0, 1, 0, 0]])
    assert box.classifier.portions == [2]
    torch.testing.assert_close(answers, Box()(IMAGES[[0, 1, 0, 0]]))
    changed = IMAGES[:1].clone()
    changed[0, 0, 3, 3] += 1e-6
    box(changed)
    box(IMAGES[:1].reshape(1, 1, 2, 8))  # the same bytes, another shape
    assert box.classifier.portions == [2, 1, 1]


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=5))
@settings(max_examples=20, deadline=None)
def test_it_answers_as_the_box_does_whatever_was_asked_before(tmp_path_factory, batches):
    box = Remembered(Box(), tmp_path_factory.mktemp("answers"), batch=3)
    for batch in batches:
        torch.testing.assert_close(box(IMAGES[batch]), Box()(IMAGES[batch]), rtol=0, atol=0)
    assert sum(box.classifier.portions) == box.asked == len({place for batch in batches for place in batch})
    assert box.asked + box.recalled == sum(map(len, batches))


def test_what_was_paid_for_is_kept_when_the_box_dies_half_way(tmp_path):
    box = Remembered(Box(life=7), tmp_path, batch=3)
    with pytest.raises(ClassifierError, match="the box is dead"):
        box(IMAGES)
    assert box.asked == 6
    again = Remembered(Box(), tmp_path, batch=3)
    torch.testing.assert_close(again(IMAGES), Box()(IMAGES))
    assert (again.asked, again.recalled) == (4, 6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_program_that_is_killed_leaves_what_was_answered(tmp_path):
    class Killer(Box):
        def __call__(self, images):
            if sum(self.portions) >= 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(images)

    child = os.fork()
    if child == 0:
        try:
            Remembered(Killer(), tmp_path, batch=3)(IMAGES)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = Remembered(Box(), tmp_path)
    again(IMAGES)
    assert (again.asked, again.recalled) == (4, 6)


def test_the_file_belongs_to_the_card_and_the_identity(tmp_path):
    Remembered(Box(), tmp_path)(IMAGES)
    for card, identity in ((CARD, "http://b/"), (CARD.model_copy(update={"temperature": (2.0,)}), "")):
        other = Remembered(Box(card=card), tmp_path, identity=identity)
        other(IMAGES)
        assert other.asked == 10
    ask = {"timeout": 3, "batch": 4, "parallel": 2, "patience": 9, "repeat": 0.5, "remember": True}
    same = CARD.model_copy(update={"settings": ask, "metrics": {"auc": 1}, "command": "train"})
    assert file_name(same) == file_name(CARD)
    assert file_name(CARD.model_copy(update={"settings": {"output": "b"}})) != file_name(CARD)
    assert file_name(CARD).startswith("ward-box-")
    wild = CARD.model_copy(update={"name": "../../" + "x" * 300})
    assert (tmp_path / file_name(wild)).resolve().parent == tmp_path.resolve()


def test_nothing_of_an_image_is_in_the_file_and_an_answer_takes_few_bytes(tmp_path):
    images = torch.rand(500, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    box = Remembered(Box(), tmp_path)
    box(images)
    data = box.file.read_bytes()
    assert images[0].numpy().tobytes()[:16] not in data
    assert len(data) < 500 * 120 + 8192


def test_a_share_is_asked_twice_and_a_change_of_mind_is_told_once(tmp_path):
    steady = Remembered(Box(), tmp_path, repeat=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steady(IMAGES)
        steady(IMAGES)
    assert (steady.asked, steady.repeated, steady.changed) == (20, 10, 0)
    fickle = Remembered(Box(shift=0.5), tmp_path, repeat=1.0)  # another model answers there now
    with pytest.warns(UserWarning, match=r"answered 5 of 5 images otherwise .* 0.5 log-odds.* delete .*sqlite"):
        answers = fickle(IMAGES[:5])
    torch.testing.assert_close(answers, Box()(IMAGES[:5]))  # what was answered first stays
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        fickle(IMAGES)
    assert fickle.told().startswith("ward/box was asked 10 images (10 of them once more, 10 answered otherwise)")


def test_the_share_that_is_asked_twice_is_the_one_asked_for(tmp_path):
    images = torch.rand(1000, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    box = Remembered(Box(), tmp_path, repeat=0.1)
    box(images)
    assert 60 < box.repeated < 140
    assert box.asked == 1000 + box.repeated
    never = Remembered(Box(), tmp_path)
    never(images)
    assert (never.asked, never.repeated) == (0, 0)


@pytest.mark.parametrize("answer", [torch.full((10, 2), torch.nan), torch.zeros(10, 3), torch.zeros(1, 2)])
def test_a_wrong_answer_is_not_kept(tmp_path, answer):
    box = Box()
    bad = type("Bad", (), {"card": CARD, "differentiable": False, "__call__": lambda self, images: answer})()
    with pytest.raises(ClassifierError, match=r"which is not kept; it must answer \(10, 2\) log-odds"):
        Remembered(bad, tmp_path)(IMAGES)
    good = Remembered(box, tmp_path)
    good(IMAGES)
    assert good.asked == 10


def test_an_answer_of_another_length_in_the_file_is_asked_again(tmp_path):
    box = Remembered(Box(), tmp_path)
    box(IMAGES)
    with sqlite3.connect(box.file) as base:
        base.execute("UPDATE answers SET log_odds = x'00'")
    torch.testing.assert_close(Remembered(box := Box(), tmp_path)(IMAGES), Box()(IMAGES))
    assert box.portions == [10]


def test_a_file_that_is_no_memory_and_a_folder_that_is_none_are_one_line(tmp_path):
    box = Remembered(Box(), tmp_path)
    box.file.write_bytes(b"no database" * 100)
    with pytest.raises(
        ClassifierError, match=r"cannot be kept in .*sqlite .*; delete that file, or set COUNTERSCAN_CACHE"
    ):
        box(IMAGES)
    with pytest.raises(ClassifierError, match=r"cannot be kept in "):
        Remembered(Box(), box.file / "below")(IMAGES)


def test_it_is_a_black_box_whose_every_answer_counts_as_a_query(tmp_path):
    box = Remembered(Box(), tmp_path)
    assert not box.differentiable
    counted = Counting(box)
    assert not counted(IMAGES.clone().requires_grad_()).requires_grad
    counted(IMAGES)
    assert (counted.queries, box.asked, box.recalled) == (20, 10, 10)


def test_several_at_once_are_asked_and_kept_in_order(tmp_path):
    card = CARD.model_copy(update={"scale": "logits"})
    function = FunctionClassifier(lambda pixels: pixels.reshape(len(pixels), -1)[:, :2], card)
    box = Remembered(function, tmp_path, batch=1, parallel=4)
    torch.testing.assert_close(box(IMAGES), function(IMAGES))
    assert box.asked == 10


def test_a_service_is_remembered_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERSCAN_CACHE", str(tmp_path / "cache"))
    assert answers_folder() == tmp_path / "cache" / "answers"
    one, two = (load_classifier(f"http://127.0.0.1:{port}/", CARD) for port in (1, 2))
    assert one.file.parent == answers_folder()
    assert one.file != two.file  # another address may be another model
    assert not answers_folder().exists()  # nothing is written before something is answered
    monkeypatch.delenv("COUNTERSCAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert answers_folder() == tmp_path / "home" / "counterscan" / "answers"
