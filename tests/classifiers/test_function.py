import numpy as np
import pytest
import torch

from counterscan.classifiers.function import FunctionClassifier
from counterscan.core import Card
from counterscan.errors import ClassifierError

CARD = Card(name="rule", shape=(1, 4, 4), classes=("normal", "bright"), output="binary", mean=(0.5,))
IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_a_function_sees_normalised_arrays_and_answers_log_odds():
    seen = []

    def brightness(pixels: np.ndarray) -> np.ndarray:
        seen.append((type(pixels), pixels.dtype, pixels.shape))
        return pixels.mean((1, 2, 3))

    answer = FunctionClassifier(brightness, CARD)(IMAGES)
    assert seen == [(np.ndarray, np.float32, (3, 1, 4, 4))]
    torch.testing.assert_close(answer[:, 1], IMAGES.mean((1, 2, 3)) - 0.5)
    torch.testing.assert_close(answer[:, 0], -answer[:, 1])


def test_a_function_that_writes_into_its_array_does_not_touch_the_images():
    def careless(pixels: np.ndarray) -> list[float]:
        pixels[:] = 7
        return [0.0] * len(pixels)

    card = CARD.model_copy(update={"mean": (0.0,)})
    images = IMAGES.clone()
    FunctionClassifier(careless, card)(images)
    assert torch.equal(images, IMAGES)


def test_it_is_a_black_box_even_for_images_that_need_gradients():
    classifier = FunctionClassifier(lambda x: x.mean((1, 2, 3)), CARD)
    assert not classifier.differentiable
    assert not classifier(IMAGES.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: 1 / 0, "rule failed on images .* ZeroDivisionError: division by zero"),
        (lambda x: x.mean((1, 2, 3)) * np.nan, "NaN or infinity"),
        (lambda x: x[:1, 0, 0, 0], r"answered \(1, 1\) for 3 images"),
        (lambda x: None, "rule (failed|answered)"),
        (lambda x: "yes", "rule failed"),
    ],
)
def test_bad_answers_are_one_line(function, words):
    with pytest.raises(ClassifierError, match=words) as caught:
        FunctionClassifier(function, CARD)(IMAGES)
    assert "\n" not in str(caught.value)
