"""Text priors: words become tokens, texts guide, and what is wrong with a folder is said in one line."""

import pytest
import torch
from torch import nn

from counterscan.core import Card
from counterscan.errors import CounterscanError, WeightsError
from counterscan.nets import build
from counterscan.nets.word_encoder import WordEncoder
from counterscan.priors.autoencoder import AutoencoderCodec, load_autoencoder
from counterscan.priors.text import Against, NetworkTextPrior, Words, guided, load_text_prior, told
from counterscan.weights.store import save_weights

SMALL = {"channels": 1, "latents": 3, "widths": [16], "depth": 1, "centre": [0.0] * 3, "scale": [1.0] * 3}
SETTINGS = {"autoencoder": SMALL, "vocabulary": ["effusion", "left", "right"], "widths": [32, 32], "tokens": 32}
CARD = Card(
    name="tiny", kind="denoiser", shape=(1, 32, 32), classes=("effusion",), network="text-denoiser", settings=SETTINGS
)


@pytest.fixture(scope="module")
def module():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(CARD.network, SETTINGS)
        for parameter in network.parameters():
            nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def prior(module):
    return NetworkTextPrior.of(module, CARD)


def test_words_become_tokens_and_strange_ones_are_named():
    words = Words(WordEncoder(4, 32, 8, 1).eval(), SETTINGS["vocabulary"])
    tokens, mask = words(["Left effusion.", ""])
    assert tokens.shape == (2, 3, 32)
    assert mask.tolist() == [[True, True, True], [True, False, False]]  # each sentence has a beginning
    assert words.unknown("left effusoin") == {"effusoin": "effusion"}
    assert words.unknown("xyz") == {"xyz": ""}
    with pytest.warns(UserWarning, match="'xyz' is not known and says nothing$"):
        strange = words(["left, xyz effusion"])[0]
    torch.testing.assert_close(strange, words(["left effusion"])[0])
    with pytest.warns(UserWarning, match="'effusoin' is not known and says nothing; did you mean 'effusion'?"):
        words(["left effusoin"])


def test_a_prompt_is_never_cut():
    words = Words(WordEncoder(4, 32, 8, 1).eval(), SETTINGS["vocabulary"])
    assert words(["left " * 7])[1].sum() == 8
    with pytest.raises(CounterscanError, match="8 words is longer than the 7 that fit"):
        words(["left " * 8])


def test_guidance_of_one_is_the_text_and_of_zero_the_other(prior):
    noisy, sigma = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 2.0])
    asked, other = ["left effusion"] * 2, ["right effusion"] * 2
    here, there = told(prior, asked)(noisy, sigma), told(prior, other)(noisy, sigma)
    assert (here - there).abs().max() > 1e-3
    for weight in (0.0, 1.0, 3.0):
        answer = guided(prior, asked, other, weight)(noisy, sigma)
        torch.testing.assert_close(answer, there + weight * (here - there), atol=1e-2, rtol=1e-2)
    assert isinstance(guided(prior, asked, other, 3.0), Against)


def test_an_image_does_not_depend_on_the_batch(prior):
    noisy, sigma = torch.randn(5, 3, 8, 8), torch.full((5,), 1.5)
    said = ["left effusion", "", "right", "effusion left", ""]
    together = told(prior, said)(noisy, sigma)
    alone = torch.cat([told(prior, said[i : i + 1])(noisy[i : i + 1], sigma[:1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=2e-2, rtol=2e-2)  # bfloat16


def test_folders_load_and_strange_ones_are_refused(module, prior, tmp_path):
    folder = save_weights(tmp_path / "tiny", module, CARD)
    loaded = load_text_prior(folder)
    noisy, sigma = torch.randn(1, 3, 8, 8), torch.tensor([1.0])
    torch.testing.assert_close(
        told(loaded, ["left"])(noisy, sigma), told(prior, ["left"])(noisy, sigma), atol=2e-2, rtol=2e-2
    )
    card = Card(
        name="dim", kind="denoiser", shape=(1, 32, 32), classes=(), network="denoiser", settings={"channels": 1}
    )
    with pytest.raises(WeightsError, match="'text-denoiser' is needed"):
        load_text_prior(save_weights(tmp_path / "other", build("denoiser", {"channels": 1}), card))
    with pytest.raises(WeightsError, match="no weights are called"):
        load_text_prior(tmp_path / "nothing")


def test_an_autoencoder_is_a_codec(tmp_path):
    network = build("autoencoder", SMALL)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    card = Card(name="ae", kind="codec", shape=(1, 32, 32), classes=(), network="autoencoder", settings=SMALL)
    codec = load_autoencoder(save_weights(tmp_path / "ae", network.eval(), card))
    assert isinstance(codec, AutoencoderCodec)
    images = torch.rand(3, 1, 32, 32) * 2 - 1
    latents = codec.encode(images)
    assert latents.shape == (3, *codec.latents) == (3, 3, 8, 8)
    assert torch.equal(latents, codec.encode(images))  # the mean: the same image has one code
    decoded = codec.decode(latents)
    assert decoded.shape == images.shape
    assert decoded.abs().max() <= 1
    with pytest.raises(CounterscanError, match="fit them to it first"):
        codec.encode(images[..., :16])
    bare = card.model_copy(update={"settings": {k: v for k, v in SMALL.items() if k != "scale"}})
    with pytest.raises(WeightsError, match="lacks the setting 'scale'"):
        load_autoencoder(save_weights(tmp_path / "bare", network, bare))
    with pytest.raises(WeightsError, match="of kind codec"):
        load_text_prior(tmp_path / "ae")
