"""An agent learns what a black box says, and is told from one that does not."""

import pytest
import torch

from counterscan.errors import CounterscanError, WeightsError
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.distillation import (
    CLIP,
    FINDINGS,
    distil,
    fidelity,
    held_out,
    retaught,
    ridge,
    shrunk_covariance,
    taught,
)


def latents(n, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


WEIGHT = torch.tensor([[1.0, -0.5, 0.0, 0.0, 0.2], [0.0, 0.0, 0.8, 0.3, 0.0]])


def linear(u):
    return u @ WEIGHT.T + torch.tensor([0.3, -0.2])


def curved(u):
    return (u[:, :1].square() - 1 + 0.5 * u[:, 1:2]) * 2


def test_ridge_finds_a_linear_black_box():
    fit = ridge(latents(200), linear(latents(200)))
    assert torch.allclose(fit.weight.float(), WEIGHT, atol=1e-2)
    assert fit.bias.tolist() == pytest.approx([0.3, -0.2], abs=1e-2)
    assert fit.error < 1e-4


def test_the_error_is_that_of_leaving_each_image_out(monkeypatch):
    from sklearn.linear_model import RidgeCV

    u, noise = latents(60), torch.randn(60, 1, generator=torch.Generator().manual_seed(9))
    answers = linear(u)[:, :1] + 2 * noise
    monkeypatch.setattr("counterscan.explainers.latent_agent.distillation.PENALTIES", (1.0,))
    centred = (u - u.mean(0)).double()
    penalty = float(centred.square().sum() / u.shape[1])  # the mean eigenvalue
    other = RidgeCV(alphas=[penalty], store_cv_results=True).fit(
        u.double().numpy(), answers.double().clamp(-6, 6)[:, 0]
    )
    fit = ridge(u, answers)
    assert fit.weight[0].tolist() == pytest.approx(other.coef_.tolist(), rel=1e-4)
    assert fit.error == pytest.approx(float(other.cv_results_.mean()), rel=0.02)  # it has the mean left out, too


def test_log_odds_without_an_end_are_cut():
    u = latents(100)
    assert torch.equal(ridge(u, linear(u) * 100).weight, ridge(u, (linear(u) * 100).clamp(-CLIP, CLIP)).weight)


def test_a_network_finds_what_is_not_linear_and_auto_takes_the_better():
    u = latents(300)
    assert taught(u, curved(u), (5, 1)).error < 0.3 * ridge(u, curved(u)).error
    assert not distil(u, curved(u), ("a",)).linear
    assert distil(u, linear(u), ("a", "b")).linear
    fresh = latents(100, seed=1)
    agent = distil(u, curved(u), ("a",), "network")
    assert fidelity(agent.log_odds(fresh), curved(fresh), ("a",)).agreement > 0.9


def test_a_network_finds_a_spot_wherever_it_is():
    """A line has a weight for each place and needs to have seen a spot at each; the maximum over places does not."""
    generator = torch.Generator().manual_seed(0)

    def drawn(n):
        maps, there = 0.3 * torch.randn(n, 2, 8, 8, generator=generator), torch.rand(n, generator=generator) < 0.5
        rows, columns = torch.randint(8, (2, n), generator=generator)
        maps[torch.arange(n)[there], 0, rows[there], columns[there]] += 3
        return maps.flatten(1), there.float()[:, None] * 6 - 3

    (u, answers), (fresh, asked) = drawn(400), drawn(200)
    agreement = {
        kind: fidelity(distil(u, answers, ("spot",), kind, (2, 8)).log_odds(fresh), asked, ("spot",)).agreement
        for kind in ("linear", "network")
    }
    assert agreement["network"] > 0.95 > 0.9 > agreement["linear"]


def test_teaching_leaves_the_random_state_alone_and_is_the_same_again():
    u, before = latents(60), torch.random.get_rng_state()
    first, second = (taught(u, curved(u), (5, 1)).reader(u) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_slopes_are_those_of_the_log_odds():
    u = latents(80)
    for kind in ("linear", "network"):
        agent = distil(u, torch.cat([curved(u), linear(u)], 1), ("a", "b", "c"), kind)
        point = latents(4, seed=2).requires_grad_()
        expected = torch.stack([torch.autograd.grad(agent.log_odds(point)[:, k].sum(), point)[0] for k in range(3)], 1)
        assert torch.allclose(agent.slopes(point), expected, atol=1e-4)


def test_covariance_is_shrunk_as_a_library_does():
    from sklearn.covariance import ledoit_wolf

    u = latents(30, 20) @ torch.diag(torch.linspace(0.1, 2, 20))
    expected, share = ledoit_wolf(u.double().numpy())
    assert 0.05 < share < 0.95
    assert torch.allclose(shrunk_covariance(u).double(), torch.from_numpy(expected), atol=1e-4)


def test_few_patients_shrink_it_further_than_as_many_images_of_others():
    generator = torch.Generator().manual_seed(4)
    spread = torch.linspace(0.5, 2, 20)

    def drawn(patients, each):  # images of one patient are alike
        whose = torch.randn(patients, 20, generator=generator).repeat_interleave(each, 0)
        return (whose + 0.1 * torch.randn(patients * each, 20, generator=generator)) * spread

    few, names = drawn(12, 10), [f"p{index // 10}" for index in range(120)]
    others = drawn(200, 1)

    def surprise(covariance):  # Mahalanobis, of patients that it has not seen, against the sqrt(20) of a true one
        return float((others @ torch.linalg.inv(covariance) * others).sum(1).sqrt().mean()) / 20**0.5

    blind, aware = surprise(shrunk_covariance(few)), surprise(shrunk_covariance(few, names))
    assert aware < 0.7 * blind
    assert 0.5 < aware < 1.5
    assert torch.equal(shrunk_covariance(few), shrunk_covariance(few, [str(index) for index in range(120)]))


def test_fidelity_of_agents_that_are_known():
    answers = linear(latents(500))
    same = fidelity(answers, answers, ("a", "b"))
    assert (same.n, same.agreement) == (500, 1)
    assert [same.rank_correlation, same.slope] == pytest.approx([1, 1])
    assert 0.5 <= same.constant < 0.7
    reversed_ = fidelity(-answers, answers, ("a", "b"))
    assert [reversed_.agreement, reversed_.rank_correlation, reversed_.slope] == pytest.approx([0, -1, -1])
    flat = fidelity(answers / 2, answers, ("a", "b"))  # too unsure by half
    assert [flat.agreement, flat.rank_correlation, flat.slope] == pytest.approx([1, 1, 2])
    noise = fidelity(torch.randn(500, 2, generator=torch.Generator().manual_seed(3)), answers, ("a", "b"))
    assert abs(noise.rank_correlation) < 0.15
    assert abs(noise.agreement - 0.5) < 0.1
    one = fidelity(answers, torch.full_like(answers, 3.0), ("a", "b"))
    assert (one.constant, one.rank_correlation, one.slope) == (1, None, None)


def test_no_patient_is_on_both_sides():
    patients = [f"p{index // 3}" for index in range(90)]
    held = held_out(90, patients)
    inside, outside = ({p for p, out in zip(patients, held.tolist(), strict=True) if out == side} for side in (0, 1))
    assert not inside & outside
    assert held.sum() == 18
    assert torch.equal(held, held_out(90, patients))
    with pytest.raises(CounterscanError, match="name one for each"):
        held_out(90, ["a"])
    with pytest.raises(CounterscanError, match="5 patients or more"):
        held_out(90, ["a"] * 90)


def test_too_few_images_and_unknown_kinds_are_refused():
    with pytest.raises(CounterscanError, match="needs 40 images or more"):
        distil(latents(39), linear(latents(39)), ("a", "b"))
    with pytest.raises(CounterscanError, match="did you mean 'network'"):
        distil(latents(50), linear(latents(50)), ("a", "b"), "networks")


def test_an_agent_survives_being_saved_to_the_bit(tmp_path):
    u = latents(60)
    agent = distil(u, curved(u), ("a",), "network", codec=["toy", ""])
    again = Agent.load(agent.save(tmp_path / "agent"))
    assert torch.equal(again.log_odds(u), agent.log_odds(u))
    assert torch.equal(again.radius(u), agent.radius(u))
    assert again.facts == agent.facts
    assert again.classes == ("a",)
    assert {path.name for path in (tmp_path / "agent").iterdir()} == {"agent.json", "agent.safetensors"}


def test_a_folder_without_an_agent_or_with_another_s_tensors_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="holds no agent"):
        Agent.load(tmp_path)
    u = latents(60)
    distil(u, linear(u), ("a", "b")).save(tmp_path / "one")
    distil(u, -linear(u), ("a", "b")).save(tmp_path / "other")
    (tmp_path / "one" / "agent.safetensors").write_bytes((tmp_path / "other" / "agent.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="sha256"):
        Agent.load(tmp_path / "one")


def test_a_step_may_go_to_the_radius_and_no_further():
    u = latents(400)
    agent = distil(u, linear(u), ("a", "b"))
    start, step = latents(5, seed=4) * 0.3, latents(5, seed=5)
    room = agent.room(start, step, 0.9)
    assert torch.allclose(agent.radius(start + room[:, None] * step), torch.full((5,), agent.bound(0.9)), rtol=1e-3)
    far = torch.full((1, 5), 9.0)
    assert agent.room(far, far, 0.9).item() == pytest.approx(0, abs=1e-3)
    back = agent.room(far, -far, 0.9)
    assert agent.radius(far - back[:, None] * far).item() == pytest.approx(agent.radius(far).item(), rel=1e-3)
    assert agent.bound(0.9) == pytest.approx(float(agent.radius(u).quantile(0.9)), rel=1e-4)


def test_an_agent_learns_from_edits_what_images_did_not_show():
    """Among the images the second number follows the first, and only an edit tells that it is the first that counts."""
    u = latents(400)
    u[:, 1] = u[:, 0]
    answers = 3 * u[:, :1]
    agent = distil(u, answers, ("a",), "network")
    edits = latents(200, seed=3)
    fresh, truth = latents(200, seed=4), 3 * latents(200, seed=4)[:, :1]
    before = fidelity(agent.log_odds(fresh), truth, ("a",)).agreement
    after = fidelity(retaught(agent, u, answers, edits, 3 * edits[:, :1]).log_odds(fresh), truth, ("a",)).agreement
    assert before < 0.85 < 0.93 < after


def test_findings_are_kept_of_each_class_that_is_found():
    generator = torch.Generator().manual_seed(0)
    maps = 0.5 * torch.randn(300, 2, 8, 8, generator=generator)
    there = torch.rand(300, generator=generator) < 0.4
    maps[there, 0, 2, 5] += 6
    answers = torch.stack([there.float() * 8 - 4, torch.full((300,), -4.0)], 1)
    agent = distil(maps.flatten(1), answers, ("spot", "never"), "network", (2, 8))
    assert agent.shows.tolist() == [0.0] * FINDINGS
    assert (agent.findings.view(-1, 2, 8, 8)[:, 0, 2, 5] > 3).all()
    assert (agent.findings != 0).float().mean() < 0.5
