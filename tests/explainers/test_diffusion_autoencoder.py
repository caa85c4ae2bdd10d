"""The smallest step of a code that the agent calls for is confirmed on the black box, in few queries and honestly."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Explanation, Target
from counterscan.errors import CounterscanError, TargetError, UnknownName, WeightsError
from counterscan.explainers.build import build_explainer
from counterscan.explainers.diffusion_autoencoder import DiffusionAutoencoder
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.directions import directions, ranked, reasons, used
from counterscan.explainers.latent_agent.distillation import held_out
from counterscan.metrics.validity import flip_rate, reconstruction_flip_rate

SIDE, D = 6, 5
BASIS = torch.linalg.qr(torch.randn(SIDE * SIDE, D, generator=torch.Generator().manual_seed(0)))[0]
SCALE = 0.12  # of the code in image units: images keep clear of the clamp


class Linear:
    """A codec in closed form: a plane through grey, coded by its coordinates; what stands off it is noise."""

    card = Card(name="plane", shape=(1, SIDE, SIDE), classes=())
    evaluations = 10

    def __init__(self, fog: float = 0.0):
        self.fog = fog  # what is lost of the first coordinate on the way back

    def encode(self, images):
        return images.flatten(1) @ BASIS / SCALE

    def invert(self, images, latents):
        return images - (latents @ BASIS.T * SCALE).view_as(images)

    def decode(self, latents, noise):
        kept = latents - self.fog * torch.nn.functional.one_hot(torch.tensor(0), D)
        return (noise + (kept @ BASIS.T * SCALE).view_as(noise)).clamp(-1, 1)


class Plane:
    """A black box of three classes that are linear in the code, of which it keeps count."""

    card = Card(name="plane-reader", shape=(1, SIDE, SIDE), classes=("a", "b", "c"))
    differentiable = False
    weight = torch.tensor([[2.0, 0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 1.5, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0, -1.0]])

    def __init__(self, steep: float = 1.0):
        self.steep, self.seen = steep, 0

    def __call__(self, images):
        self.seen += len(images)
        return self.steep * (images.flatten(1) @ BASIS / SCALE @ self.weight.T + torch.tensor([0.2, -0.1, 0.0]))


class Bowl(Plane):
    """Class a is there where the code is short of its first coordinate in either direction."""

    card = Card(name="bowl", shape=(1, SIDE, SIDE), classes=("a",))

    def __call__(self, images):
        code = images.flatten(1) @ BASIS / SCALE
        return (code[:, :1].square() + 0.5 * code[:, 1:2] - 1) * 2


def drawn(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(n, D, generator=generator)
    rest = 0.02 * torch.randn(n, SIDE * SIDE, generator=generator)
    return (codes @ BASIS.T * SCALE + rest - rest @ BASIS @ BASIS.T).view(n, 1, SIDE, SIDE).clamp(-1, 1)


FITTED = DiffusionAutoencoder(Linear()).fit(Plane(), drawn(600))
IMAGES = drawn(12, seed=1)


def explain(text, images=IMAGES, explainer=FITTED, black_box=None, **changed):
    """To the border of the answer, where no more is asked for."""
    black_box = black_box or Plane()
    explainer = dataclasses.replace(explainer, **{"sure": 0.5, **changed})
    return explainer(BlackBox(black_box), images, Target.parse(text, black_box.card))


def attempted(explanation):
    return ~explanation.target.reached(explanation.before)


def test_a_linear_black_box_is_learned_and_its_answers_are_flipped_at_the_border():
    assert FITTED.agent.linear
    facts = FITTED.agent.facts
    assert facts["real"]["agreement"] > 0.98
    assert facts["edited"]["agreement"] > 0.98
    assert facts["queries"] == 600 + 64  # of those held out edits are asked about, too
    answer = explain("a=0")
    asked = attempted(answer)
    assert asked.any()
    assert answer.found.all()
    assert (answer.after[asked, 0].sigmoid() > 0.4).all()


@given(st.integers(0, 1000), st.sampled_from(["a=0", "a=1", "b=1", "a=0,b=1", "a=0,b=0,c=0"]))
@settings(max_examples=20, deadline=None)
def test_no_smaller_feasible_step_is_found_at_random(seed, text):
    images = drawn(4, seed=seed)
    answer = explain(text, images, step="euclidean")
    assert answer.found.all()
    codec, target = Linear(), answer.target
    start, end = codec.encode(answer.reconstruction), codec.encode(answer.counterfactual)
    length = (end - start).norm(dim=1)
    tried = torch.randn(4, 300, D, generator=torch.Generator().manual_seed(seed))
    shorter = 0.9 * (length - 0.1).clamp_min(0)  # it ends a tenth of log-odds behind the border, or nearer
    tried *= shorter[:, None, None] / tried.norm(dim=2, keepdim=True)
    for row in torch.nonzero(attempted(answer))[:, 0].tolist():
        others = codec.decode(
            start[row] + tried[row], codec.invert(images, codec.encode(images))[row].expand(300, 1, SIDE, SIDE)
        )
        assert not target.reached(Plane()(others)).any()


def test_the_mahalanobis_step_goes_where_codes_vary():
    stretch = torch.tensor([0.3, 2.0, 1.0, 1.0, 1.0])
    codes = torch.randn(300, D, generator=torch.Generator().manual_seed(5)) * stretch
    images = (codes @ BASIS.T * SCALE).view(300, 1, SIDE, SIDE).clamp(-1, 1)
    fitted = DiffusionAutoencoder(Linear()).fit(Plane(), images)
    moved = {}
    for step in ("euclidean", "mahalanobis"):
        answer = explain("a=1", images[:20], fitted, step=step)
        moved[step] = (Linear().encode(answer.difference)[attempted(answer)]).abs().mean(0)
    assert moved["euclidean"][0] / moved["euclidean"][1] == pytest.approx(4, rel=0.05)  # the weights are 2 and 0.5
    assert moved["mahalanobis"][0] < 0.25 * moved["mahalanobis"][1]


@pytest.mark.parametrize("entries", [1, 2, 3])
def test_a_sparse_step_moves_so_many_coordinates(entries):
    answer = explain("b=1", step="sparse", entries=entries)
    asked = attempted(answer)
    moved = Linear().encode(answer.difference).abs() > 1e-4
    assert (moved.sum(1)[asked] <= entries).all()
    assert moved[asked][:, 2].all(), "the largest weight is that of the third"
    case = answer.meta["cases"][int(torch.nonzero(asked)[0])]
    assert len(case["coordinates"]) == entries


@pytest.mark.parametrize(
    ("text", "steep"), [("a=0.2", 1.0), ("a=0.5", 1.0), ("a=0.3,b=0.7", 1.0), ("a=0.2", 4.0), ("b=0.8", 4.0)]
)
def test_a_middling_answer_is_met_within_a_tenth_though_the_agent_is_wrong_about_the_slope(text, steep):
    answer = explain(text, black_box=Plane(steep))
    assert answer.found.all()
    for index, p in answer.target.wanted:
        assert answer.after[:, index].sigmoid().tolist() == pytest.approx([p] * 12, abs=0.1)


def test_the_bound_is_that_of_images_which_the_agent_was_not_fitted_to():
    held = Linear().encode(drawn(600)[held_out(600)])
    assert torch.equal(FITTED.agent.radii, FITTED.agent.radius(held).sort().values)


def test_the_budget_of_queries_is_kept_and_counted():
    class Jump(Plane):  # to whose border one never comes near
        def __call__(self, images):
            return super().__call__(images).sign() * 5

    for queries in (8, 9, 12):
        black_box = Jump()
        answer = explain("a=0", black_box=black_box, queries=queries)
        assert black_box.seen == answer.meta["queries"] == sum(case["queries"] for case in answer.meta["cases"])
        assert answer.found.all()
        alone = [explain("a=0", image, black_box=Jump(), queries=queries).meta["queries"] for image in IMAGES.split(1)]
        assert sum(alone) == answer.meta["queries"]
        assert max(alone) == queries, "where the bound cuts the bracket short, fewer"


def test_more_queries_come_nearer_to_the_border():
    class Cubed(Plane):
        def __call__(self, images):
            return (super().__call__(images) + 0.5).pow(3) * 3

    answers = [explain("a=0", black_box=Cubed(), queries=queries) for queries in (8, 12)]
    past = [float(one.after[attempted(one), 0].neg().max()) for one in answers]
    assert past[0] > 1
    assert past[1] < 0.4, "a probability within a tenth of one half"


def test_a_black_box_is_made_as_sure_as_asked_for():
    faint, sure = (explain("a=0,b=0", sure=sure) for sure in (0.5, 0.9))
    asked = attempted(sure)
    assert sure.found.all()
    worst = sure.after[asked][:, :2].sigmoid().amax(1)
    assert ((worst > 0.02) & (worst <= 0.11)).all()
    assert (faint.after[asked][:, :2].sigmoid().amax(1) > 0.4).all()
    with pytest.raises(CounterscanError, match=r"0\.5 <= sure < 1"):
        dataclasses.replace(FITTED, sure=1.0)


def test_what_is_asked_to_go_is_gone_unless_less_is_asked_for():
    answer = FITTED(BlackBox(Plane()), IMAGES, Target.parse("a=0", Plane.card))
    assert answer.found.all()
    assert (answer.after[attempted(answer), 0].sigmoid() < 0.1).all(), "within a tenth of the 0 that was asked for"


def test_a_curved_border_is_found_by_an_agent_with_bumps():
    fitted = DiffusionAutoencoder(Linear()).fit(Bowl(), drawn(600))
    assert not fitted.agent.linear
    with pytest.warns(UserWarning, match="agrees with bowl on"):
        straight = DiffusionAutoencoder(Linear()).fit(Bowl(), drawn(600), kind="linear")
    found = [explain("a=0", explainer=one, black_box=Bowl()) for one in (fitted, straight)]
    shares = [float(flip_rate(one).nanmean()) for one in found]
    assert shares[0] > 0.9
    assert shares[0] > shares[1] + 0.1


def test_a_black_box_that_nothing_moves_is_not_found():
    class Stubborn(Plane):
        def __call__(self, images):
            return super().__call__(images) * 0 + 3

    answer = explain("a=0", black_box=Stubborn())
    assert not answer.found.any()
    assert (answer.difference == 0).all(), "what changes nothing is not shown"


def test_codes_that_are_not_plausible_are_not_gone_to():
    far = explain("a=0.97", plausible=1.0)
    near = explain("a=0.97", plausible=0.05)
    bound = FITTED.agent.bound(0.05)
    for case in near.meta["cases"]:
        assert case["bound"] == pytest.approx(bound, abs=1e-3)
    start = FITTED.agent.radius(Linear().encode(near.reconstruction))
    end = FITTED.agent.radius(Linear().encode(near.counterfactual))
    assert (end <= start.clamp_min(bound) + 1e-3).all()
    assert near.found.sum() < far.found.sum()


def test_a_reconstruction_that_flips_the_answer_by_itself_is_flagged_and_not_found():
    lossy = dataclasses.replace(FITTED, codec=Linear(fog=0.6))
    answer = explain("a=0", explainer=lossy)
    lucky = attempted(answer) & answer.target.reached(Plane()(answer.reconstruction))
    assert lucky.any()
    assert (attempted(answer) & ~lucky).any()
    flagged = torch.tensor([case["reconstruction_flips"] for case in answer.meta["cases"]])
    assert torch.equal(flagged, lucky)
    assert not answer.found[lucky].any()
    assert answer.found[attempted(answer) & ~lucky].all()
    assert torch.equal(reconstruction_flip_rate(answer, classifier=Plane()) == 1, lucky)
    assert (flip_rate(answer)[lucky] == 0).all()


def test_what_is_answered_as_asked_already_is_its_reconstruction_and_costs_no_search():
    there = IMAGES[Target.parse("a=0", Plane.card).reached(Plane()(IMAGES))]
    answer = explain("a=0", there)
    assert answer.meta["queries"] == 4 * len(there)
    assert torch.equal(answer.counterfactual, answer.reconstruction)


def test_the_path_is_kept_with_what_the_black_box_says_of_each_frame(tmp_path):
    answer = explain("a=0", path=True, frames=5)
    assert answer.path.shape == (12, 5, 1, SIDE, SIDE)
    assert torch.equal(answer.path[:, 0], answer.reconstruction)
    assert torch.equal(answer.path[:, -1], answer.counterfactual)
    said = torch.tensor([case["answers"] for case in answer.meta["cases"]])
    expected = torch.stack([Plane()(frame) for frame in answer.path.unbind(1)], 1)
    assert torch.allclose(said, expected, atol=1e-3)
    assert explain("a=0").path is None
    again = Explanation.load(answer.save(tmp_path))
    assert torch.equal(again.path, answer.path)
    assert again.meta["cases"] == answer.meta["cases"]


def test_it_replays_and_does_not_depend_on_the_batch():
    first, again = explain("a=0,b=1"), explain("a=0,b=1")
    assert torch.equal(first.counterfactual, again.counterfactual)
    alone = explain("a=0,b=1", IMAGES[3:4])
    assert torch.allclose(alone.counterfactual, first.counterfactual[3:4], atol=1e-5)
    assert alone.meta["cases"][0]["length"] == pytest.approx(first.meta["cases"][3]["length"], abs=1e-3)


def test_an_agent_is_used_from_the_folder_it_was_saved_in(tmp_path):
    FITTED.agent.save(tmp_path / "agent")
    built = build_explainer("diffusion-autoencoder", prior=Linear(), fitted=str(tmp_path / "agent"))
    assert torch.equal(explain("a=0", explainer=built).counterfactual, explain("a=0").counterfactual)
    assert "agent of plane-reader, n=480" in repr(built)
    assert "1.000 real" in repr(built)


def test_what_does_not_fit_together_is_refused(tmp_path):
    target = Target.parse("a=0", Plane.card)
    with pytest.raises(CounterscanError, match="no agent of this classifier yet"):
        DiffusionAutoencoder(Linear())(Plane(), IMAGES, target)
    with pytest.raises(WeightsError, match="holds no agent"):
        DiffusionAutoencoder(Linear(), fitted=tmp_path)
    other = Linear()
    other.card = other.card.model_copy(update={"name": "other"})
    with pytest.raises(WeightsError, match="codes of plane, not other"):
        dataclasses.replace(FITTED, codec=other)
    stranger = Bowl()
    stranger.card = Bowl.card.model_copy(update={"classes": ("z",)})
    with pytest.raises(TargetError, match="which has no 'z'"):
        FITTED(stranger, IMAGES, Target(((0, 0.0),)))
    with pytest.raises(CounterscanError, match="did you mean 'sparse'"):
        dataclasses.replace(FITTED, step="spare")
    with pytest.raises(CounterscanError, match="queries >= 8"):
        dataclasses.replace(FITTED, queries=7)
    with pytest.raises(UnknownName, match="no setting"):
        build_explainer("diffusion-autoencoder", prior=Linear(), agnet="x")


def test_too_few_images_are_refused_before_anything_is_asked():
    black_box = Plane()
    with pytest.raises(CounterscanError, match="40 images or more"):
        DiffusionAutoencoder(Linear()).fit(black_box, drawn(39))
    assert black_box.seen == 0


def test_a_fit_warns_of_a_black_box_that_the_code_does_not_show():
    class Blind(Plane):  # goes by what the codec leaves to the noise
        def __call__(self, images):
            off = images.flatten(1)
            return 50 * (off - off @ BASIS @ BASIS.T)[:, :3]

    with pytest.warns(UserWarning, match="less than 90%"):
        fitted = DiffusionAutoencoder(Linear()).fit(Blind(), drawn(200))
    assert fitted.agent.facts["real"]["agreement"] < 0.7

    class Sure(Plane):
        def __call__(self, images):
            return super().__call__(images) + torch.tensor([0.0, 0.0, 50.0])

    with pytest.warns(UserWarning, match="same answer about c"):
        DiffusionAutoencoder(Linear()).fit(Sure(), drawn(200))


def test_a_fit_takes_half_precision_and_patients_and_any_size_of_the_classifier():
    patients = [str(index // 4) for index in range(200)]
    black_box = Plane()
    fitted = DiffusionAutoencoder(Linear()).fit(black_box, drawn(200).half(), patients=patients, kind="linear")
    assert fitted.agent.facts["n"] == 160
    assert torch.allclose(fitted.agent.weight, Plane.weight, atol=0.05)


def test_the_directions_of_a_linear_black_box_share_its_decision_among_them():
    black_box = Plane()
    found = directions(FITTED, black_box, drawn(150, seed=3), "a", n=D, frames=5)
    shares = [one.share for one in found]
    assert shares == sorted(shares, reverse=True)
    assert math.fsum(shares) == pytest.approx(1, abs=1e-3)
    for one in found[:2]:
        assert one.strip.shape == (5, 1, SIDE, SIDE)
        assert (one.answers.diff() > 0).all(), "they point to where the answer rises"
        assert one.vector.norm().item() == pytest.approx(1, abs=1e-4)
        moved = Linear().encode(one.strip[-1:] - one.strip[:1])[0]
        assert torch.allclose(moved, 4 * one.deviation * one.vector, atol=1e-3)
    with pytest.raises(CounterscanError, match="over many images"):
        directions(FITTED, black_box, drawn(2), "a")


def test_an_axis_that_explains_all_is_the_first():
    codes = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0, 1.0, 0.5])
    vectors, shares, deviations = ranked(codes, -codes[:, 2])
    assert shares[0] > 0.95
    assert vectors[0, 2] < -0.95
    assert deviations[0].item() == pytest.approx(1, rel=0.1)


def test_several_reasons_move_no_coordinate_twice():
    images = IMAGES[attempted(explain("c=1"))]
    target = Target.parse("c=1", Plane.card)
    found = reasons(dataclasses.replace(FITTED, entries=1), Plane(), images, target, n=4)
    assert len(found) >= 2, "two coordinates speak for c"
    moved = [used(one, D) for one in found]
    assert not (moved[0] & moved[1]).any()
    assert all(one.found.any() for one in found)
    assert "Barred" in found[0].meta["explainer"]


def test_an_agent_can_be_given_as_an_object():
    assert isinstance(FITTED.fitted, Agent)
    assert dataclasses.replace(FITTED) == FITTED


def test_the_map_of_a_code_without_places_is_the_change_itself():
    found = explain("a=0")
    torch.testing.assert_close(found.heatmap, found.difference.abs().mean(1, keepdim=True) / 2)
