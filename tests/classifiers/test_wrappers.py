import torch

from counterscan.classifiers.wrappers import BlackBox, Counting, Fitted
from counterscan.core import Card


class Mean:
    card = Card(name="mean", shape=(3, 8, 8), classes=("bright",))
    differentiable = True

    def __call__(self, images):
        assert tuple(images.shape[1:]) == self.card.shape
        return images.mean((1, 2, 3))[:, None]


def test_counting_counts_images_not_calls():
    counted = Counting(Mean())
    counted(torch.zeros(3, 3, 8, 8))
    counted(torch.zeros(2, 3, 8, 8))
    assert counted.queries == 5
    assert counted.differentiable
    assert not Counting(BlackBox(Mean())).differentiable


def test_black_boxes_give_answers_and_no_gradients():
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    answer = BlackBox(Mean())(images)
    assert not answer.requires_grad
    torch.testing.assert_close(answer, Mean()(images).detach())


def test_fitted_takes_another_size_and_keeps_gradients():
    fitted = Fitted(Mean(), (1, 16, 12))
    assert fitted.card.shape == (1, 16, 12)
    images = torch.rand(2, 1, 16, 12, requires_grad=True)
    answer = fitted(images)
    torch.testing.assert_close(answer, images.mean((1, 2, 3))[:, None], rtol=0.05, atol=0.02)
    (gradient,) = torch.autograd.grad(answer.sum(), images)
    assert (gradient != 0).float().mean() > 0.9  # antialiased: every pixel has a say
