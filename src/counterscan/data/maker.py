"""Who made a result: the words that a file can hold about the algorithm behind it."""

from dataclasses import dataclass
from importlib import metadata

NAME = "counterscan"


@dataclass(frozen=True)
class Maker:
    """The explainer, the classifier that it explained, and the answer that was asked for, each as a person calls it.

    `changes` is true of a counterfactual, whose map is the size of a change, as a share of the window.
    """

    explainer: str = ""
    classifier: str = ""
    target: str = ""
    changes: bool = False

    @property
    def name(self) -> str:
        """What a list of algorithms shows, at most 64 characters (DICOM's limit)."""
        return f"{NAME} {self.explainer}".strip()[:64]

    @property
    def version(self) -> str:
        """The installed version of counterscan."""
        return metadata.version(NAME)

    @property
    def parameters(self) -> dict[str, str]:
        """Of the classifier and the target, what is known."""
        told = {"classifier": self.classifier, "target": self.target}
        return {name: value for name, value in told.items() if value}

    @property
    def words(self) -> str:
        """One line: `counterscan Inpainting 0.1, classifier chest/classifier, target effusion=0`."""
        return ", ".join(
            [f"{self.name} {self.version}", *(f"{name} {value}" for name, value in self.parameters.items())]
        )
