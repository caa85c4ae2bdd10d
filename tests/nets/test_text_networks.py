"""The networks of latent diffusion with text: what they start as, what they may see, and what they may not."""

import pytest
import torch

from counterscan.nets import build
from counterscan.nets.attention import TokenAttention, places
from counterscan.nets.autoencoder import Autoencoder
from counterscan.nets.denoiser import DenoisingUNet
from counterscan.nets.text_denoiser import TextDenoiser
from counterscan.nets.word_encoder import WordEncoder

SMALL = {"latents": 3, "widths": [16], "depth": 1}


def noisy_weights(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return module.eval()


@pytest.mark.parametrize(
    ("channels", "patch", "widths", "reduction"), [(1, 4, [16], 4), (3, 2, [16, 24], 4), (1, 4, [16, 16], 8)]
)
def test_an_autoencoder_keeps_the_size_and_reduces_as_it_says(channels, patch, widths, reduction):
    network = Autoencoder(channels, 3, widths, patch, 1)
    images = torch.rand(2, channels, 32, 48) * 2 - 1
    latents = network.encode(images)
    assert network.reduction == reduction
    assert latents.shape == (2, 3, 32 // reduction, 48 // reduction)
    assert network(images).shape == images.shape


def test_latents_are_counted_in_deviations():
    plain = noisy_weights(Autoencoder(**SMALL))
    counted = Autoencoder(**SMALL, centre=[1.0, 0.0, -2.0], scale=[2.0, 1.0, 0.5]).eval()
    counted.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 16, 16)
    raw, latents = plain.encode(images), counted.encode(images)
    torch.testing.assert_close(latents[:, 0], (raw[:, 0] - 1) / 2)
    torch.testing.assert_close(latents[:, 2], (raw[:, 2] + 2) * 2)
    torch.testing.assert_close(counted.decode(latents), plain.decode(raw), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("told", [{"scale": [1.0, 0.0, 1.0]}, {"centre": [1.0]}, {"scale": [1.0, float("nan"), 1.0]}])
def test_statistics_that_cannot_be_are_refused(told):
    with pytest.raises(ValueError, match=r"scale|centre"):
        Autoencoder(**SMALL, **told)


def test_attention_starts_as_the_identity_and_ignores_what_is_masked():
    attention, x = TokenAttention(64, 10), torch.randn(2, 64, 4, 4)
    tokens, mask = torch.randn(2, 5, 10), torch.tensor([[True] * 5, [True, True, False, False, False]])
    assert torch.equal(attention(x, tokens, mask), x)
    attention = noisy_weights(attention)
    changed = tokens.clone()
    changed[1, 2:] += 100
    torch.testing.assert_close(attention(x, tokens, mask)[1], attention(x, changed, mask)[1])
    changed[1, 1] += 1
    assert not torch.allclose(attention(x, tokens, mask)[1], attention(x, changed, mask)[1])


def test_a_place_knows_where_it_is():
    known = places(8, 8).flatten(2)[0].T
    assert known.unique(dim=0).shape[0] == 64
    attention = noisy_weights(TokenAttention(32, 4))
    same, word = torch.ones(1, 32, 4, 4) + torch.arange(32).view(1, -1, 1, 1), torch.ones(1, 1, 4)
    answer = attention(same, word, torch.ones(1, 1, dtype=torch.bool))
    assert answer.flatten(2).std(2).max() > 1e-3  # left and right differ though nothing else does


def test_a_word_means_the_same_whatever_comes_after_the_end():
    encoder = WordEncoder(9, 32, 8, 1).eval()
    short, long = torch.tensor([[0, 3, 4]]), torch.tensor([[0, 3, 4, 0, 0]])
    there = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(encoder(long, there)[:, :3], encoder(short, there[:, :3]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(encoder(torch.tensor([[0, 4, 3]]), there[:, :3]), encoder(short, there[:, :3]))


def test_what_is_predicted_makes_no_difference_to_the_convention():
    noisy, sigma = torch.randn(2, 3, 8, 8), torch.tensor([0.5, 4.0])
    level = sigma.view(-1, 1, 1, 1)
    velocity = DenoisingUNet(3, 1.0, (16, 24), 1)
    noise = DenoisingUNet(3, 1.0, (16, 24), 1, predicts="noise")
    # fresh networks answer zeros: no velocity is the best linear estimate, no noise is the image itself
    torch.testing.assert_close(velocity(noisy, sigma), noisy / (1 + level**2))
    torch.testing.assert_close(noise(noisy, sigma), noisy)
    with pytest.raises(ValueError, match="velocity or noise"):
        DenoisingUNet(3, predicts="sample")


def test_a_text_denoiser_hears_the_text_and_leaves_its_autoencoder_alone():
    network = build(
        "text-denoiser", {"autoencoder": SMALL, "vocabulary": ["left", "right"], "widths": [32, 32], "tokens": 32}
    )
    assert isinstance(network, TextDenoiser)
    network = noisy_weights(network).train()
    assert not network.autoencoder.training
    assert not any(parameter.requires_grad for parameter in network.autoencoder.parameters())
    noisy, sigma = torch.randn(1, 3, 8, 8), torch.tensor([1.0])
    numbers, mask = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    left = network(noisy, sigma, network.words(numbers, mask), mask)
    right = network(noisy, sigma, network.words(numbers + torch.tensor([0, 1]), mask), mask)
    assert left.shape == noisy.shape
    assert (left - right).abs().max() > 1e-3


def test_without_words_the_tokens_come_from_elsewhere():
    network = TextDenoiser(SMALL, (), (32, 32), tokens=768)
    assert network.words is None
    tokens, mask = torch.randn(2, 7, 768), torch.ones(2, 7, dtype=torch.bool)
    assert network(torch.randn(2, 3, 8, 8), torch.ones(2), tokens, mask).shape == (2, 3, 8, 8)
