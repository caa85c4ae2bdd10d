import pytest
import torch
from safetensors.torch import load_file

from counterscan.core import Explanation, Target
from counterscan.volumes.content import delivered
from counterscan.volumes.stream import joined, without_images
from counterscan.volumes.tensors import SliceTensors, some_slices


def slices(n, seed, counterfactual=True):
    generator = torch.Generator().manual_seed(seed)
    images, changed = torch.rand(2, n, 1, 6, 5, generator=generator)
    return Explanation(
        images=images,
        target=Target(((0, 0.0),)),
        heatmap=(changed - images).abs() / 2,
        before=torch.randn(n, 2, generator=generator),
        found=torch.rand(n, generator=generator) > 0.5,
        counterfactual=changed if counterfactual else None,
        after=torch.randn(n, 2, generator=generator) if counterfactual else None,
        path=changed[:, None].half() if counterfactual else None,
        meta={"seconds": 1.0, "queries": 2, "explainer": "X()", "cases": [{"place": f"{seed}/{k}"} for k in range(n)]},
    )


@pytest.mark.parametrize("counterfactual", [True, False])
def test_the_file_is_as_if_all_had_been_saved_at_once(tmp_path, counterfactual):
    parts = [slices(n, n, counterfactual) for n in (3, 3, 1)]
    tensors = SliceTensors(tmp_path, 7)
    for part in parts:
        tensors.take(part)
    whole = joined(parts)
    tensors.finish(joined([without_images(part) for part in parts]))
    found = Explanation.load(tmp_path)
    assert load_file(tmp_path / "explanation.safetensors").keys() == whole._tensors().keys()
    for name, value in whole._tensors().items():
        assert torch.equal(getattr(found, name), value), name
        assert getattr(found, name).dtype == value.dtype
    assert (found.target, found.meta) == (whole.target, whole.meta)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["explanation.json", "explanation.safetensors"]


def test_some_slices_come_back_as_they_were(tmp_path):
    parts = [slices(n, n) for n in (3, 4)]
    tensors = SliceTensors(tmp_path, 7)
    for part in parts:
        tensors.take(part)
    answers = joined([without_images(part) for part in parts])
    some, wanted = some_slices(tmp_path, answers, slice(2, 5)), joined(parts).select(slice(2, 5))
    assert torch.equal(some.difference, wanted.difference)
    assert torch.equal(some.before, wanted.before)
    assert [case["place"] for case in some.meta["cases"]] == ["3/2", "4/0", "4/1"]
    assert torch.equal(delivered(some).heatmap, delivered(wanted).heatmap)
    assert torch.equal(delivered(answers).after, delivered(joined(parts)).after), "answers need no images"
