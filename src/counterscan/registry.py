"""What can be had by name: explainers, metrics and recipes register themselves, shipped weights are found on disk."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from counterscan.errors import UnknownName, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind; the modules of `package` are imported when a name is first asked for."""

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self.package = package
        self._known: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate a class or a function to make it known under `name`."""

        def remember(thing: T) -> T:
            assert name not in self._known, f"two {self.kind}s are called {name!r}"
            self._known[name] = thing
            return thing

        return remember

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._known:
            raise UnknownName(f"no {self.kind} is called {name!r}{did_you_mean(name, self._known)}")
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._known))

    def __len__(self) -> int:
        self._load()
        return len(self._known)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, self.package + "."):
            importlib.import_module(module.name)


EXPLAINERS: Registry = Registry("explainer", "counterscan.explainers")
METRICS: Registry = Registry("metric", "counterscan.metrics")
RECIPES: Registry = Registry("recipe", "counterscan.train.recipes")

SHIPPED = Path(__file__).parent / "weights"


def shipped_weights() -> tuple[str, ...]:
    """Names of the weights in the wheel, `<phantom>/<kind>`."""
    return tuple(sorted(card.parent.relative_to(SHIPPED).as_posix() for card in SHIPPED.glob("*/*/card.json")))
