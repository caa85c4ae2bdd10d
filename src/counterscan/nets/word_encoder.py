"""A small text encoder for the sentences that `prompts.py` knows: words, their places, a few transformer layers."""

import torch
from torch import Tensor, nn


class WordEncoder(nn.Module):
    """Maps word numbers `(b, l)` and `mask` `(b, l)` bool (true where there is a word) to tokens `(b, l, width)`.

    `words` is how many numbers there are, `window` the most words of a sentence.
    """

    def __init__(self, words: int, width: int = 96, window: int = 96, depth: int = 2):
        super().__init__()
        self.window = window
        self.meaning = nn.Embedding(words, width)
        self.place = nn.Parameter(torch.randn(window, width) * 0.1)
        layer = nn.TransformerEncoderLayer(
            width, width // 32, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, numbers: Tensor, mask: Tensor) -> Tensor:
        return self.layers(self.meaning(numbers) + self.place[: numbers.shape[1]], src_key_padding_mask=~mask)
