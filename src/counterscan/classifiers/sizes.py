"""The sizes that a model file insists on: of its images, and of its batches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from counterscan.core import Card
from counterscan.errors import ClassifierError


def fits(shape: Sequence[Any], wanted: Sequence[int]) -> bool:
    """Whether a model's input shape, whose free sides are no plain numbers (names, None), takes `wanted`."""
    return len(shape) == len(wanted) and all(
        not isinstance(side, int) or side == asked for side, asked in zip(shape, wanted, strict=True)
    )


def wrong_size(name: str, shape: Sequence[Any], card: Card) -> ClassifierError:
    """The error for a file whose images are not those of its card."""
    takes = ", ".join(str(side) if isinstance(side, int) else "any" for side in shape)
    return ClassifierError(
        f"{name} takes images ({takes}), its card says {tuple(card.shape)}; correct the shape in the card "
        "(scans of any size are brought to it)"
    )


def in_portions(ask: Callable[[Tensor], Any], images: Tensor, least: int = 1, most: int = 0) -> Any:
    """What `ask` answers for `images` `(b, ...)`, asked in portions of `least` to `most` images (0: any number).

    A portion that is too small is filled up with its last image; what is answered for the filling is cut off. An
    answer that is no tensor comes back as it is, for the adapter to refuse.
    """
    answers = []
    for portion in images.split(most or max(len(images), 1)):
        filling = portion[-1:].expand(max(least - len(portion), 0), *portion.shape[1:])
        answer = ask(torch.cat([portion, filling]) if len(filling) else portion)
        if not isinstance(answer, Tensor):
            return answer
        answers.append(answer[: len(portion)] if len(filling) else answer)
    return torch.cat(answers) if len(answers) > 1 else answers[0]
