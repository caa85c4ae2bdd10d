"""Two parts of a job that finish at once: who finds that it is last writes the tables, and nobody spoils them."""

import csv
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from PIL import Image

from counterscan.classifiers.function import FunctionClassifier
from counterscan.core import Card, Target
from counterscan.data.manifest import find_cases
from counterscan.engine import Job, run
from counterscan.engine.local import HERE
from counterscan.engine.sharding import Shard
from counterscan.explainers.build import build_explainer
from counterscan.metrics.masks import MaskRule

CARD = Card(name="mean", shape=(1, 16, 16), classes=("bright",))


@pytest.fixture
def job(tmp_path):
    """Builds a job of five pictures and a text that is none."""
    (tmp_path / "in").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 90, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "text.dcm").write_text("not an image")
    classifier = FunctionClassifier(lambda images: 20 * images.max((1, 2, 3))[:, None], CARD)
    target, explainer = Target(((0, 0.0),)), build_explainer("occlusion")
    return lambda name: Job(
        find_cases(tmp_path / "in"), classifier, explainer, target, tmp_path / name, rule=MaskRule(0.1), batch=1
    )


def tables(ready):
    """The tables of a job, without the times in them."""
    found = {path.name: list(csv.DictReader(path.open())) for path in ready.out.glob("*.csv")}
    return {name: [{**row, "seconds": ""} for row in rows] for name, rows in found.items()}


def test_two_parts_at_once_leave_the_tables_of_the_whole(job):
    run(job("whole"))
    for _ in range(3):  # which is last, and whether both find that they are, differs
        ready = job("parts")
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(partial(run, ready, HERE), Shard(1, 2).all))
        assert tables(ready) == tables(job("whole"))
        assert {len(one.rows) for one in outcomes if not one.partly} == {5}
        shutil.rmtree(ready.out)
