"""A classifier beside the explained one: one that steers by its gradients, or that is measured for comparison."""

from pathlib import Path

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Card, Classifier
from counterscan.errors import ClassifierError, NeedsGradients


def steering(named: str | Path | Classifier) -> tuple[Classifier, ...]:
    """The classifier `named` as for `--classifier`, or an object; none for an empty name.

    A tuple, because what has a card in a field of an explainer is taken for its prior. Raises NeedsGradients where it
    gives none.
    """
    if named == "":
        return ()
    found = load_classifier(named) if isinstance(named, str | Path) else named
    if not found.differentiable:
        raise NeedsGradients(f"{found.card.name} gives no gradients to steer by; name a torch classifier")
    return (found,)


def companion(other: Classifier, card: Card) -> Classifier:
    """The other classifier, for images of the shape of `card`.

    Raises ClassifierError where it answers other classes than `card`, in another order or as another kind of answer, or
    sees another window.
    """
    if (other.card.classes, other.card.output) != (card.classes, card.output):
        raise ClassifierError(
            f"{other.card.name} answers {other.card.output} over {', '.join(other.card.classes)}, but {card.name} "
            f"{card.output} over {', '.join(card.classes)}; name one that was trained with the same labels"
        )
    if other.card.window and card.window and other.card.window != card.window:
        raise ClassifierError(
            f"{other.card.name} sees the window {other.card.window}, but {card.name} {card.window}; "
            "name one that was trained in the same window"
        )
    return other if tuple(other.card.shape) == tuple(card.shape) else Fitted(other, card.shape)
