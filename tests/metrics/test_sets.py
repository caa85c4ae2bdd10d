import pytest
import torch

from counterscan.errors import CounterscanError
from counterscan.metrics.kernel import kernel_distance
from counterscan.metrics.neighbours import density_coverage, precision_recall
from counterscan.metrics.realism import frechet_distance
from counterscan.metrics.sets import Sample, blocks, compare


def drawn(n, d, seed, mean=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + mean


def samples(features, size=7, patients=()):
    for start in range(0, len(features), size):
        yield Sample(features[start : start + size], tuple(patients[start : start + size]))


def test_all_figures_are_those_of_their_own_functions_however_features_arrive():
    fake, real, floor = drawn(60, 4, 0, 0.5), drawn(80, 4, 1), drawn(60, 4, 2)
    found = compare(samples(fake, 7), samples(real, 11), samples(floor, 60), "toy")
    for figures, other in ((found.figures, fake), (found.floor, floor)):
        assert figures["frechet_distance"].value == pytest.approx(frechet_distance(real, other))
        assert figures["kernel_distance"].value == pytest.approx(kernel_distance(real, other).value)
        for name, one in {**precision_recall(real, other), **density_coverage(real, other)}.items():
            assert figures[name].value == one.value
    assert (found.n, found.n_real, found.n_floor, found.features, found.n_near) == (60, 80, 60, 4, 80)
    assert found.figures["kernel_distance"].low > found.floor["kernel_distance"].value
    assert found.figures["frechet_distance"].value > found.floor["frechet_distance"].value


def test_each_figure_is_printed_beside_its_floor_with_the_name_of_the_features():
    found = compare(*(samples(drawn(30, 40, seed)) for seed in range(3)), "the judge's head")
    text = str(found)
    assert "the judge's head" in text
    assert "mostly bias" in text
    for name, figure in found.to_dict()["metrics"].items():
        assert {"value", "low", "high", "n", "floor"} == figure.keys()
        line = next(line for line in text.splitlines() if line.strip().startswith(name))
        assert f"{found.figures[name].value:.4g}" in line
        assert f"{found.floor[name].value:.4g}" in line


def test_neighbours_are_looked_for_among_an_even_draw():
    fake, real, floor = drawn(90, 2, 0), drawn(90, 2, 1), drawn(90, 2, 2)
    found = compare(samples(fake), samples(real), samples(floor), "toy", most=20)
    assert found.n_near == found.figures["precision"].n == 20
    assert found.n == found.figures["kernel_distance"].n == 90
    again = compare(samples(fake), samples(real), samples(floor), "toy", most=20)
    assert again.to_dict() == found.to_dict()
    late = torch.cat([fake[:45] + 50, fake[45:]])  # the first half alone would have no precision
    assert 0.1 < compare(samples(late), samples(real), samples(floor), "toy", most=40).figures["precision"].value < 0.9


def test_blocks_hold_the_same_features_and_patients():
    features = drawn(23, 3, 0)
    found = list(blocks(samples(features, 5, [f"p{index}" for index in range(23)]), 8))
    assert [len(one) for one in found] == [8, 8, 7]
    assert torch.equal(torch.cat([one.features for one in found]), features)
    assert sum((one.patients for one in found), ()) == tuple(f"p{index}" for index in range(23))


def test_few_images_leave_figures_out_and_none_are_refused():
    few = compare(*(samples(drawn(4, 2, seed)) for seed in range(3)), "toy")
    assert few.figures.keys() == {"kernel_distance", "frechet_distance", "precision", "recall"}
    with pytest.raises(CounterscanError, match="no image on one side"):
        compare(samples(drawn(0, 2, 0)), samples(drawn(9, 2, 1)), samples(drawn(9, 2, 2)), "toy")
