"""The smallest region of a code that has to be drawn anew, as what stands around it says, for an agent to answer so.

A code of maps says what is seen where (`nets/semantic_encoder.py`). Codes of real images are taken for normal, with
mean m, covariance S and precision P = S^-1. What is expected in a region R, given all other places, is then

    u_R - P_RR^-1 (P (u - m))_R,

the most probable code among those that differ from u in R alone. A lesion is what its surroundings do not call for:
drawn anew it is gone, and the step is as long as that takes. One along the slopes of an agent is as short as its blind
spots allow, and changes nothing that a black box would see. Squares are tried, and the smallest that does it is taken;
where none does, the best one, and more until they do together. What was taken out of one code, the finding, can be put
into another at the same place: what is expected there, and as far off it. Nobody published this; it is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

SIDES = (3, 5, 7, 9)  # places of the squares
ROUNDS = 6  # squares that a region is made of, at most
MARGIN = 3.0  # log-odds beyond the border: the black box's lies elsewhere, and is looked for on the way there
DEAR = 0.005  # log-odds that a place must be worth, where no square is enough
Lack = Callable[[Tensor], Tensor]  # codes (n, d) to what they lack (n,), in log-odds, 0 where they are there


@dataclass(frozen=True)
class Square:
    """A square of places `(p, p)`, its numbers in a row of a code `(r,)`, and the inverse of their precision."""

    places: Tensor
    numbers: Tensor
    inverse: Tensor


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What places of a code `(d,)` of `maps` of `places` x `places` show, given all others.

    `mean` `(d,)` and `precision` `(d, d)` are those of the codes of real images.
    """

    mean: Tensor
    precision: Tensor
    maps: int
    places: int

    @cached_property
    def squares(self) -> tuple[Square, ...]:
        """Squares of `SIDES`, a third of their side apart."""
        found = []
        for side in (side for side in SIDES if side <= self.places):
            starts = range(0, self.places + 1 - side, max(1, side // 3))
            found += [self._square(slice(a, a + side), slice(b, b + side)) for a in starts for b in starts]
        return tuple(found)

    def expected(self, code: Tensor, places: Tensor) -> Tensor:
        """The step `(d,)` that draws `places` `(p, p)` of `code` `(d,)` anew."""
        numbers = self._numbers(places)
        lying = (self.precision @ (code - self.mean))[numbers]
        step = torch.zeros_like(code)
        step[numbers] = -torch.linalg.solve(self.precision[numbers][:, numbers], lying)
        return step

    def planted(self, code: Tensor, finding: Tensor) -> Tensor:
        """The step `(d,)` after which what stood out of another code, `finding` `(d,)`, stands out of `code` there."""
        places = (finding.view(self.maps, self.places, self.places) != 0).any(0)
        return self.expected(code, places) + finding

    def smallest(self, code: Tensor, lack: Lack) -> Tensor:
        """The step `(d,)` that draws the smallest region anew after which `code` `(d,)` lacks nothing, or least."""
        step, region = torch.zeros_like(code), torch.zeros(self.places, self.places, dtype=torch.bool)
        left = float(lack(code[None])[0])
        for _ in range(ROUNDS):
            if left <= 0:
                break
            wider = region | self._best(code + step, lack).places
            tried = self.expected(code, wider)
            if (after := float(lack((code + tried)[None])[0])) >= left - 1e-3:
                break
            step, region, left = tried, wider, after
        return step

    def _best(self, code: Tensor, lack: Lack) -> Square:
        lying = self.precision @ (code - self.mean)
        drawn = code.repeat(len(self.squares), 1)
        for row, square in zip(drawn, self.squares, strict=True):
            row[square.numbers] -= square.inverse @ lying[square.numbers]
        left, sizes = lack(drawn), torch.tensor([float(len(square.numbers)) for square in self.squares]) / self.maps
        enough = torch.nonzero(left <= 0)[:, 0]
        best = enough[sizes[enough].argmin()] if len(enough) else (left + DEAR * sizes).argmin()
        return self.squares[int(best)]

    def _square(self, rows: slice, columns: slice) -> Square:
        places = torch.zeros(self.places, self.places, dtype=torch.bool)
        places[rows, columns] = True
        numbers = self._numbers(places)
        return Square(places, numbers, torch.linalg.inv(self.precision[numbers][:, numbers]))

    def _numbers(self, places: Tensor) -> Tensor:
        return torch.nonzero(places.flatten().repeat(self.maps))[:, 0]
