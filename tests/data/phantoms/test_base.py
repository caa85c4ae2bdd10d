"""Series of phantoms: they replay, resume, may be drawn in parallel, and refuse what does not exist."""

import numpy as np
import pytest

from counterscan.data.phantoms import draw, stream
from counterscan.errors import CounterscanError


def same(first, second):
    return np.array_equal(first.image, second.image) and first.labels == second.labels and first.facts == second.facts


def test_a_phantom_replays_from_its_number():
    assert same(draw("abdomen", 7, seed=3, size=64), draw("abdomen", 7, seed=3, size=64))
    assert not same(draw("abdomen", 7, seed=3, size=64), draw("abdomen", 8, seed=3, size=64))
    assert not same(draw("abdomen", 7, seed=3, size=64), draw("abdomen", 7, seed=4, size=64))


def test_two_workers_draw_what_one_draws():
    alone = stream("abdomen", 20, seed=1, size=64)
    shared = stream("abdomen", 20, seed=1, size=64, workers=2)
    assert all(same(one, other) for one, other in zip(alone, shared, strict=True))


def test_a_series_resumes_where_it_stopped():
    whole = list(stream("abdomen", 8, size=64))
    rest = list(stream("abdomen", 8, size=64, start=5))
    assert len(rest) == 3
    assert all(same(one, other) for one, other in zip(whole[5:], rest, strict=True))


def test_half_of_a_series_carries_disease_and_half_the_confounder():
    labels = [phantom.labels for phantom in stream("abdomen", 160, size=64)]
    for name in ("tumour", "cyst"):
        assert 0.38 < np.mean([label[name] for label in labels]) < 0.62


def test_a_kind_may_carry_disease_more_often():
    labels = [phantom.labels for phantom in stream("gaussian", 160, size=64)]
    assert 0.53 < np.mean([label["anomaly"] for label in labels]) < 0.75


def test_where_one_class_excludes_the_others_half_of_a_series_is_normal():
    labels = [phantom.labels for phantom in stream("oct", 160, size=64)]
    assert all(sum(label.values()) == 1 for label in labels)
    assert 0.38 < np.mean([label["normal"] for label in labels]) < 0.62
    assert all(np.mean([label[name] for label in labels]) > 0.08 for name in ("cnv", "drusen", "dme"))


def test_findings_limit_the_disease():
    phantoms = list(stream("abdomen", 40, size=64, findings=("tumour",)))
    assert {phantom.labels["tumour"] for phantom in phantoms} == {0, 1}
    assert {phantom.labels["tumour"] for phantom in stream("abdomen", 20, size=64, findings=("cyst",))} == {0}


def test_the_mask_is_the_union_of_what_the_twin_lacks():
    for phantom in stream("abdomen", 12, size=64):
        assert phantom.mask.any() == bool(phantom.labels["tumour"])
        assert phantom.mask.any() == (not np.array_equal(phantom.image, phantom.twin))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("abdomn", {}, "abdomen"),
        ("abdomen", {"size": 32}, "64 to 512"),
        ("abdomen", {"size": 1024}, "64 to 512"),
        ("abdomen", {"findings": ("tumor",)}, "tumour"),
    ],
)
def test_errors_name_the_cure(kind, options, said):
    with pytest.raises(CounterscanError, match=said):
        draw(kind, 0, **options)
