"""A plain function on numpy arrays as a classifier."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.answers import check_card, prepare, to_log_odds
from counterscan.core import Card
from counterscan.errors import ClassifierError, CounterscanError


class FunctionClassifier:
    """Answers log-odds with `function`, which takes a float32 array `(b, c, *spatial)` and answers `(b, k)` or `(b,)`.

    The array holds `(image - mean) / std` of the card and is the function's own. A black box: no gradients.
    """

    differentiable = False

    def __init__(self, function: Callable[[np.ndarray], Any], card: Card):
        check_card(card)
        self.function = function
        self.card = card

    def __call__(self, images: Tensor) -> Tensor:
        pixels = prepare(images.detach(), self.card).float().cpu().numpy().copy()  # the function may write into it
        try:
            answers = torch.as_tensor(np.asarray(self.function(pixels)))
        except CounterscanError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise ClassifierError(f"{self.card.name} failed on images {pixels.shape}: {said}") from error
        return to_log_odds(answers, self.card, len(images)).to(images.device)
