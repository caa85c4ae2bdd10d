"""Folders that diffusers and MONAI wrote become denoisers; what cannot be one is refused in a line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from counterscan.errors import WeightsError
from counterscan.priors.checkpoints import open_checkpoint
from counterscan.priors.denoiser import load_denoiser

NOISY, TIMESTEPS = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), [3, 700]


def expected(answer, schedule, predicts):
    """The clean estimate by the textbook, of NOISY as DDPM has it."""
    bar = schedule[TIMESTEPS].view(-1, 1, 1, 1).float()
    if predicts == "v_prediction":
        return bar.sqrt() * NOISY - (1 - bar).sqrt() * answer
    return answer if predicts == "sample" else (NOISY - (1 - bar).sqrt() * answer) / bar.sqrt()


def asked(denoiser, schedule):
    """What `denoiser` answers to the same, brought into its convention."""
    bar = schedule[TIMESTEPS].float()
    return denoiser(NOISY / bar.sqrt().view(-1, 1, 1, 1), (1 / bar - 1).sqrt())


@pytest.fixture
def diffusers():
    return pytest.importorskip("diffusers")


def small(diffusers, **more):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    settings = {"in_channels": 1, "out_channels": 1, "block_out_channels": (32, 32), "layers_per_block": 1}
    return diffusers.UNet2DModel(sample_size=16, **blocks, **settings | more)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("shape", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_what_diffusers_saved(diffusers, tmp_path, predicts, shape):
    network = small(diffusers, out_channels=2)
    scheduler = diffusers.DDPMScheduler(beta_schedule=shape, prediction_type=predicts)
    network.save_pretrained(tmp_path)
    scheduler.save_pretrained(tmp_path)
    denoiser = load_denoiser(tmp_path)
    assert (denoiser.card.kind, denoiser.card.shape) == ("denoiser", (1, 16, 16))
    with torch.no_grad():
        answer = network.eval()(NOISY, torch.tensor(TIMESTEPS)).sample[:, :1]
        given = asked(denoiser, scheduler.alphas_cumprod)
    torch.testing.assert_close(given, expected(answer, scheduler.alphas_cumprod, predicts), atol=1e-4, rtol=1e-3)


def test_a_pipeline_of_diffusers_and_a_card_of_ours_beside_it(diffusers, tmp_path):
    diffusers.DDPMPipeline(small(diffusers), diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    assert load_denoiser(tmp_path, interpolated=True).interpolated
    facts = {"name": "ct", "kind": "denoiser", "shape": [1, 16, 16], "classes": [], "window": [-160, 240, "HU"]}
    (tmp_path / "card.json").write_text(json.dumps(facts))
    assert load_denoiser(tmp_path).card.window == (-160, 240, "HU")
    (tmp_path / "card.json").write_text(json.dumps({**facts, "shape": [3, 16, 16]}))
    with pytest.raises(WeightsError, match="a denoiser"):
        load_denoiser(tmp_path)


def test_what_of_diffusers_is_refused(diffusers, tmp_path):
    network = small(diffusers)
    network.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="no scheduler_config"):
        load_denoiser(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="is a pickle"):
        load_denoiser(tmp_path)
    diffusers.DDPMPipeline(small(diffusers, num_class_embeds=3), diffusers.DDPMScheduler()).save_pretrained(
        tmp_path / "asking"
    )
    with pytest.raises(WeightsError, match="wants a class"):
        load_denoiser(tmp_path / "asking")


SETTINGS = {"spatial_dims": 2, "in_channels": "@channels", "out_channels": "@channels", "num_res_blocks": 1}
SETTINGS |= {"channels": [8, 8], "attention_levels": [False, False], "norm_num_groups": 4}
CONFIG = {
    "channels": 1,
    "network_def": {"_target_": "DiffusionModelUNet", **SETTINGS},
    "scheduler": {"_target_": "monai.networks.schedulers.DDIMScheduler", "schedule": "cosine", "clip_sample": False},
}
METADATA = {"network_data_format": {"inputs": {"image": {"num_channels": 1, "spatial_shape": [16, 16]}}}}


@pytest.fixture
def bundle(tmp_path):
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    network = nets.DiffusionModelUNet(**{**SETTINGS, "in_channels": 1, "out_channels": 1}).eval()
    torch.nn.init.normal_(network.out[2].conv.weight, std=0.1)
    (tmp_path / "models").mkdir()
    save_file(network.state_dict(), tmp_path / "models" / "model.safetensors")
    return tmp_path, network


def write(folder, metadata=METADATA, **changes):
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(CONFIG | changes))
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
def test_a_bundle_of_monai(bundle, predicts):
    schedulers = pytest.importorskip("monai.networks.schedulers")
    folder, network = bundle
    write(folder, scheduler=CONFIG["scheduler"] | {"prediction_type": predicts})
    denoiser, schedule = load_denoiser(folder), schedulers.DDPMScheduler(schedule="cosine").alphas_cumprod
    assert denoiser.card.shape == (1, 16, 16)
    with torch.no_grad():
        answer = network(NOISY, torch.tensor(TIMESTEPS))
        given = asked(denoiser, schedule)
    assert answer.abs().max() > 0
    torch.testing.assert_close(given, expected(answer, schedule, predicts), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": "$1 + 0"}, "asks to run"),
        ({"network_def": CONFIG["network_def"] | {"in_channels": "@nothing"}}, "does not hold"),
        ({"network_def": CONFIG["network_def"] | {"channels": [8, 16]}}, "does not fit"),
        ({"network_def": CONFIG["network_def"] | {"num_class_embeds": 2}}, "wants a class"),
        ({"scheduler": {"_target_": "RFlowScheduler"}}, "no DDPMScheduler"),
        ({"scheduler": CONFIG["scheduler"] | {"prediction_type": "flow"}}, "predicts 'flow'"),
        ({"metadata": {}}, "size of its images"),
    ],
)
def test_what_of_monai_is_refused(bundle, changes, says):
    write(bundle[0], **changes)
    with pytest.raises(WeightsError, match=says):
        load_denoiser(bundle[0])


def test_a_bundle_with_a_pickle_is_refused(bundle):
    write(bundle[0])
    (bundle[0] / "models" / "model.safetensors").rename(bundle[0] / "models" / "model.pt")
    with pytest.raises(WeightsError, match=r"model\.pt is a pickle"):
        load_denoiser(bundle[0])


def test_other_folders_are_none_of_theirs(tmp_path):
    assert open_checkpoint(tmp_path) is None
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    assert open_checkpoint(tmp_path) is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="no JSON"):
        open_checkpoint(tmp_path)
