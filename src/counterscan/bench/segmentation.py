"""The suite `segmentation`: how well each method's masks find a lesion that only image-level labels told of.

Inpainting, progressive exaggeration, a student of the masks, the same network taught by true masks (the upper bound),
and the attributions, on the same images with the same classifier and judge.
"""

from collections.abc import Callable, Sequence

from counterscan.bench.methods import named, segmenting
from counterscan.bench.suite import Asked, Making
from counterscan.bench.table import Table

MASKS, QUICK_MASKS = 1000, 48  # of RISE


def run(
    asked: Asked,
    *,
    methods: Sequence[str] = (),
    masks: int | None = None,
    say: Callable[[str], None] = print,
) -> Table:
    """Measure every method, or the `methods`, on what is `asked` for and write the table into its folder.

    The models are called classifier, judge, inpainting, progressive, student and supervised. The table is written anew
    after every method; a run that was stopped goes on where it was.
    """
    every = segmenting(masks or (QUICK_MASKS if asked.quick else MASKS), quick=asked.quick)
    chosen = named(every, methods)
    making = Making("segmentation", asked, asked.settings())
    for method in chosen:
        say(method.name)
        table = making.add(method)
    return table
