import pytest
import torch

from counterscan.classifiers.sizes import fits, in_portions


@pytest.mark.parametrize(("count", "least", "most", "asked"), [
    (5, 1, 0, [5]),
    (5, 2, 2, [2, 2, 2]),
    (4, 2, 2, [2, 2]),
    (1, 3, 6, [3]),
    (8, 3, 6, [6, 3]),
    (1, 1, 4, [1]),
])  # fmt: skip
def test_portions_are_as_large_as_asked_and_answers_come_back_in_order(count, least, most, asked):
    seen = []

    def ask(images):
        seen.append(len(images))
        return images * 2

    images = torch.arange(float(count))[:, None]
    torch.testing.assert_close(in_portions(ask, images, least, most), images * 2)
    assert seen == asked


def test_gradients_of_the_filling_stay_with_the_image_that_was_repeated():
    images = torch.ones(3, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(in_portions(lambda part: part**2, images, 2, 2).sum(), images)
    torch.testing.assert_close(gradient, torch.full((3, 1), 2.0))  # what is answered for the filling is cut off


def test_an_answer_that_is_no_tensor_comes_back_as_it_is():
    assert in_portions(lambda images: {"scores": 1}, torch.zeros(3, 1), 2, 2) == {"scores": 1}


def test_free_sides_fit_anything():
    assert fits(["b", None, 8], (1, 3, 8))
    assert not fits([8, 8], (8, 8, 8))
    assert not fits([1, 9], (1, 8))
