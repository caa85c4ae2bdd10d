"""Pipelines that diffusers saved become priors: the same numbers as the libraries', and refusals in a line."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from counterscan.errors import CounterscanError, WeightsError
from counterscan.priors.pipelines import PARTS, open_pipeline
from counterscan.priors.pipelines_text import PROJECTION, save_projection
from counterscan.priors.sampling import ddim
from counterscan.priors.text import Against, guided, load_text_prior, told

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
SENTENCES = ["Small left effusion.", "No effusion."]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "small", "left", "right", "effusion", "no", "."]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def bert(folder, width=16):
    """A BERT and its tokenizer in the places of a pipeline."""
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=9, **sizes)
    transformers.BertModel(config).save_pretrained(folder / "text_encoder")
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / "vocab.txt").write_text("\n".join(WORDS))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    torch.manual_seed(0)
    sizes = {"block_out_channels": (32, 64), "layers_per_block": 1}
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    diffusers.UNet2DConditionModel(
        sample_size=8, cross_attention_dim=16, attention_head_dim=8, **sizes, **blocks
    ).save_pretrained(folder / "unet")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.AutoencoderKL(block_out_channels=(32, 32), sample_size=16, scaling_factor=0.5, **blocks)
    vae.save_pretrained(folder / "vae")
    diffusers.DDIMScheduler().save_pretrained(folder / "scheduler")
    bert(folder)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "tiny")


@pytest.fixture(scope="module")
def prior(saved):
    return open_pipeline(saved)


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def library(folder, part, kind):
    return getattr(diffusers, kind).from_pretrained(folder / part).eval()


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def images(channels=3, count=2):
    return noise(count, channels, 16, 16).clamp(-1, 1)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
def test_a_step_is_the_one_of_the_librarys_scheduler(folder, predicts, betas):
    scheduler = diffusers.DDIMScheduler(prediction_type=predicts, beta_schedule=betas, clip_sample=False)
    scheduler.save_pretrained(folder / "scheduler")
    scheduler.set_timesteps(10)
    now, then = scheduler.timesteps[3:5]
    bars, noisy, unet = scheduler.alphas_cumprod, noise(2, 4, 8, 8), library(folder, "unet", "UNet2DConditionModel")
    prior = open_pipeline(folder)
    tokens, mask = prior.text(SENTENCES)
    with torch.no_grad():
        answer = unet(noisy, now, tokens).sample
    expected = scheduler.step(answer, now, noisy).prev_sample
    levels = (1 / bars[torch.stack([now, then])] - 1).sqrt()

    def stepped(denoiser):
        return ddim(denoiser, noisy / bars[now].sqrt(), levels) * bars[then].sqrt()

    assert (expected - noisy).abs().max() > 0.1
    exact = stepped(lambda noisy, sigma: prior.unet(noisy, sigma, tokens, mask))  # in float32
    torch.testing.assert_close(exact, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stepped(prior.denoiser(tokens, mask)), expected, atol=0.02, rtol=0.02)


def test_what_is_drawn_is_what_the_librarys_pipeline_draws(folder):
    facts = {"tokenizer_class": "BertTokenizer", "model_max_length": 9}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(facts))
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    scheduler.save_pretrained(folder / "scheduler")
    text = transformers.BertModel.from_pretrained(folder / "text_encoder").eval()
    words = transformers.BertTokenizerFast.from_pretrained(folder / "tokenizer")
    vae, unet = library(folder, "vae", "AutoencoderKL"), library(folder, "unet", "UNet2DConditionModel")
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = diffusers.StableDiffusionPipeline(vae, text, words, unet, scheduler, **none)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "pt"}
    start, against = noise(2, 4, 8, 8), ["right effusion"] * 2
    expected = pipeline(SENTENCES, negative_prompt=against, latents=start.clone(), **settings).images * 2 - 1
    prior = open_pipeline(folder)
    tokens, mask = prior.text([*against, *SENTENCES])
    guiding = Against(lambda noisy, sigma: prior.unet(noisy, sigma, tokens, mask), 3.0)  # in float32
    bars = scheduler.alphas_cumprod[scheduler.timesteps]
    levels = torch.cat([(1 / bars - 1).sqrt(), torch.zeros(1)])
    drawn = prior.codec.decode(ddim(guiding, start / bars[0].sqrt(), levels))
    assert expected.std() > 0.1
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=1e-4)


def test_the_codec_is_the_librarys_autoencoder(folder, prior):
    assert (prior.card.name, prior.card.kind, prior.card.shape) == ("tiny", "denoiser", (3, 16, 16))
    vae, given = library(folder, "vae", "AutoencoderKL"), images()
    with torch.no_grad():
        mean = vae.encode(given).latent_dist.mean
        decoded = vae.decode(mean).sample
    latents = prior.codec.encode(given)
    assert tuple(latents.shape[1:]) == prior.codec.latents == (4, 8, 8)
    torch.testing.assert_close(latents, 0.5 * mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prior.codec.decode(latents), decoded.clamp(-1, 1), atol=1e-5, rtol=1e-4)
    assert prior.codec.decode(100 * latents).abs().max() <= 1
    change(folder / "vae" / "config.json", shift_factor=0.25)
    shifted = open_pipeline(folder).codec
    torch.testing.assert_close(shifted.encode(given), 0.5 * (mean - 0.25), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shifted.decode(shifted.encode(given)), decoded.clamp(-1, 1), atol=1e-5, rtol=1e-4)
    with pytest.raises(CounterscanError, match=r"takes images of shape \(3, 16, 16\)"):
        prior.codec.encode(images(1))


def test_grey_images_and_intensities_by_a_card_of_ours(folder, prior):
    facts = {"name": "grey", "kind": "denoiser", "shape": [1, 16, 24], "classes": [], "window": [-160, 240, "HU"]}
    (folder / "card.json").write_text(json.dumps(facts | {"mean": [-1.0], "std": [2.0]}))
    grey = open_pipeline(folder)
    assert (grey.card.name, grey.card.window, grey.codec.latents) == ("grey", (-160, 240, "HU"), (4, 8, 12))
    vae, given = library(folder, "vae", "AutoencoderKL"), images(1).repeat(1, 1, 1, 2)[..., :24]
    with torch.no_grad():
        mean = vae.encode(((given + 1) / 2).repeat(1, 3, 1, 1)).latent_dist.mean
        decoded = vae.decode(mean).sample.mean(1, keepdim=True) * 2 - 1
    latents = grey.codec.encode(given)
    torch.testing.assert_close(latents, 0.5 * mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grey.codec.decode(latents), decoded.clamp(-1, 1), atol=1e-5, rtol=1e-4)
    noisy, level = noise(2, 4, 8, 8), torch.tensor([1.0, 3.0])
    with torch.no_grad():  # the images' intensities are none of the latents'
        assert torch.equal(told(grey, SENTENCES)(noisy, level), told(prior, SENTENCES)(noisy, level))
    for wrong in ({"shape": [2, 16, 16]}, {"shape": [1, 15, 16]}, {"kind": "codec"}):
        (folder / "card.json").write_text(json.dumps(facts | wrong))
        with pytest.raises(WeightsError, match="3 channels"):
            open_pipeline(folder)


def test_it_takes_part_as_every_prior_does(saved):
    prior = load_text_prior(saved)
    given, levels = images(count=17), torch.tensor([1.0, 0.3, 0.0])
    asked = [SENTENCES[0]] * 17
    latents = prior.codec.encode(given)
    far = ddim(guided(prior, asked, [""] * 17, 3.0), latents + noise(17, 4, 8, 8), levels)
    assert prior.codec.decode(far).isfinite().all()
    one = ddim(guided(prior, asked[:1], [""], 3.0), (latents + noise(17, 4, 8, 8))[16:], levels)
    torch.testing.assert_close(one, far[16:], atol=1e-4, rtol=1e-4)
    assert not any(part.requires_grad for module in (prior.unet, prior.text) for part in module.parameters())
    assert not torch.equal(one, ddim(told(prior, [SENTENCES[1]]), latents[16:] + noise(17, 4, 8, 8)[16:], levels))


def test_the_unet_does_not_attend_to_what_a_mask_leaves_out(prior):
    tokens, mask = prior.text(SENTENCES)
    mask[:, 5:] = False
    changed = torch.where(mask[..., None], tokens, 9.0)
    noisy, level = noise(2, 4, 8, 8), torch.ones(2)
    with torch.no_grad():
        given, other = (prior.denoiser(told, mask)(noisy, level) for told in (tokens, changed))
        seen = prior.denoiser(changed, torch.ones_like(mask))(noisy, level)
    torch.testing.assert_close(given, other)
    assert (given - seen).abs().max() > 0.01


def test_another_text_encoder_by_a_projection(folder):
    bert(folder, width=24)
    with pytest.raises(WeightsError, match=f"24 wide, unet wants 16, and .* no {PROJECTION} .* train one"):
        open_pipeline(folder)
    layer = open_pipeline(folder, fresh=True).text.projection
    assert torch.equal(layer.weight, open_pipeline(folder, fresh=True).text.projection.weight)
    assert layer.weight.requires_grad
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(16))
    with torch.no_grad():
        layer.bias += 0.5
    save_projection(folder, layer)
    prior = open_pipeline(folder)
    tokens, mask = prior.text(SENTENCES)
    with torch.no_grad():
        assert prior.denoiser(tokens, mask)(noise(2, 4, 8, 8), torch.ones(2)).isfinite().all()
    prior.text.projection = None
    torch.testing.assert_close(tokens, prior.text(SENTENCES)[0] @ layer.weight.T + 0.5)
    for wrong in ({"weight": torch.zeros(16, 3), "bias": torch.zeros(16)}, {"weight": torch.zeros(16, 24)}):
        save_file(wrong, folder / PROJECTION)
        with pytest.raises(WeightsError, match="no linear layer from 24 to 16"):
            open_pipeline(folder)


def test_a_projection_that_the_unet_has_itself(folder):
    bert(folder, width=24)
    unet = library(folder, "unet", "UNet2DConditionModel")
    config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
    type(unet)(**config | {"encoder_hid_dim": 24, "encoder_hid_dim_type": "text_proj"}).save_pretrained(folder / "unet")
    assert open_pipeline(folder).text(SENTENCES)[0].shape == (2, 9, 24)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(folder, part):
    shutil.rmtree(folder / part)
    with pytest.raises(WeightsError, match=rf"{part}\S* is missing; save {PARTS[part]} in {part}/$"):
        open_pipeline(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickles_only_where_the_user_insists(folder, prior, part):
    weights = "model.safetensors" if part == "text_encoder" else WEIGHTS
    pickle = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save(load_file(folder / part / weights), folder / part / pickle)
    open_pipeline(folder)  # beside safetensors it is not looked at
    (folder / part / weights).unlink()
    with pytest.raises(WeightsError, match=rf"{pickle} is a pickle, which runs code.*or insist with --prior unsafe:"):
        open_pipeline(folder)
    insisted = open_pipeline(f"unsafe:{folder}")
    assert torch.equal(insisted.codec.encode(images()), prior.codec.encode(images()))
    assert torch.equal(insisted.text(SENTENCES)[0], prior.text(SENTENCES)[0])


def test_weights_in_half_precision_and_in_parts(folder, prior):
    unet, vae = library(folder, "unet", "UNet2DConditionModel"), library(folder, "vae", "AutoencoderKL")
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "vae" / WEIGHTS).unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="1MB")
    vae.half().save_pretrained(folder / "vae", variant="fp16")
    other, noisy, level = open_pipeline(folder), noise(2, 4, 8, 8), torch.ones(2)
    with torch.no_grad():
        assert torch.equal(told(other, SENTENCES)(noisy, level), told(prior, SENTENCES)(noisy, level))
    torch.testing.assert_close(other.codec.encode(images()), prior.codec.encode(images()), atol=0.01, rtol=0.01)
    change(folder / "unet" / f"{WEIGHTS}.index.json", weight_map={"conv_in.bias": "hidden.bin"})
    with pytest.raises(WeightsError, match="lists parts that are no safetensors"):
        open_pipeline(folder)


@pytest.mark.parametrize(
    ("file", "settings", "says"),
    [
        ("unet/config.json", {"_class_name": "UNet2DModel"}, "save a UNet2DConditionModel there"),
        ("vae/config.json", {"_class_name": "VQModel"}, "holds a VQModel; save a AutoencoderKL"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, r"more than a text \(addition_embed_type\)"),
        ("unet/config.json", {"encoder_hid_dim_type": "image_proj"}, r"more than a text \(encoder_hid_dim_type\)"),
        ("unet/config.json", {"in_channels": 9}, "unet takes 9 channels and vae makes 4"),
        ("unet/config.json", {"cross_attention_dim": [16, 32]}, r"widths \[16, 32\]"),
        ("unet/config.json", {"block_out_channels": [32, 96]}, "does not load as UNet2DConditionModel"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "predicts 'flow'"),
        ("text_encoder/config.json", {"model_type": "vit"}, "text_encoder does not load"),
    ],
)
def test_what_is_refused(folder, file, settings, says):
    change(folder / file, **settings)
    with pytest.raises(WeightsError, match=says) as caught:
        open_pipeline(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "name"), [("vae", WEIGHTS), ("unet", WEIGHTS), ("text_encoder", "model.safetensors")])
def test_weights_that_are_no_numbers_or_not_all_there_are_refused(folder, part, name):
    weights = load_file(folder / part / name)
    first = next(key for key in sorted(weights) if "bias" in key and "pooler" not in key)
    save_file(weights | {first: weights[first] * torch.nan}, folder / part / name, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=f"{part} holds weights that are not finite"):
        open_pipeline(folder)
    del weights[first]
    save_file(weights, folder / part / name, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=rf"{part} lack {first} \(1 in all\)"):
        open_pipeline(folder)


def test_a_scheduler_without_betas_is_refused(folder):
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(WeightsError, match="a FlowMatchEulerDiscreteScheduler has no beta_schedule"):
        open_pipeline(folder)


def test_the_size_is_the_unets_else_the_autoencoders(folder):
    change(folder / "unet" / "config.json", sample_size=[8, 16])
    assert open_pipeline(folder).card.shape == (3, 16, 32)
    change(folder / "unet" / "config.json", sample_size=None)
    change(folder / "vae" / "config.json", sample_size=64)
    assert open_pipeline(folder).card.shape == (3, 64, 64)


def test_only_the_hub_that_the_user_names_is_asked(saved, folder, monkeypatch):
    hub, asked = pytest.importorskip("huggingface_hub"), []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(saved)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert open_pipeline(folder).card.name == "tiny"
    assert asked == []
    assert open_pipeline("hub:owner/name").card.name == "owner/name"
    ((name, patterns),) = asked
    assert name == "owner/name"
    assert "unet/*.safetensors" in patterns
    assert all(pattern.endswith((".safetensors", ".json", ".txt")) for pattern in patterns)
    (folder / "model_index.json").unlink()
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(WeightsError, match=r"hub:owner/name holds no model_index\.json"):
        open_pipeline("hub:owner/name")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: 1 / 0)
    with pytest.raises(WeightsError, match="hub:owner/name could not be fetched: division"):
        open_pipeline("hub:owner/name")


def test_other_folders_are_none(tmp_path):
    assert open_pipeline(tmp_path) is None
    assert open_pipeline("chest/text-diffusion") is None
