"""Text encoders of transformers (CLIP, BERT, RadBERT, CXR-BERT, RoBERTa, T5): sentences become tokens for a U-Net."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from counterscan.errors import CounterscanError, MissingExtra, WeightsError
from counterscan.nets.blocks import freeze
from counterscan.priors.checkpoints import check_finite, one_line, pretrained, quiet, read_json
from counterscan.priors.text import warn_of
from counterscan.prompts import tokens as words_of

WEIGHTS, PROJECTION = "model.safetensors", "text_projection.safetensors"
BERT_OF_ITS_OWN = "cxr-bert"  # a BERT whose folder asks to run code of its own for a second head, which is not needed


class TextModel(nn.Module):
    """Turns sentences into tokens `(b, l, d)`, float32, with their mask `(b, l)` bool; see `priors/text.py`.

    With `masked` sentences are filled up to the longest and the mask is true for their own tokens. Without, it is done
    as pipelines of diffusers do it, which their U-Nets were trained with: every sentence is filled up to the window,
    the U-Net sees the filling too, and so does the text encoder unless its config says `use_attention_mask`.
    `projection` brings the tokens to the width that the U-Net takes.
    """

    def __init__(self, model: Any, tokenizer: Any, *, masked: bool):
        super().__init__()
        self.model, self.tokenizer, self.masked = model, tokenizer, masked
        self.projection: nn.Linear | None = None
        self.window = _window(model, tokenizer)

    @property
    def width(self) -> int:
        """Numbers of a token as the text encoder answers it, before the projection."""
        return int(self.model.config.hidden_size)

    def forward(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens and mask; CounterscanError where a sentence has more tokens than fit: none is ever cut."""
        numbers = self.tokenizer(list(sentences), verbose=False)["input_ids"]
        for sentence, row in zip(sentences, numbers, strict=True):
            self._check(sentence, len(row))
        self._warn(sentences)
        longest = max(map(len, numbers)) if self.masked else self.window
        rows = self.tokenizer(
            list(sentences), padding="max_length", max_length=longest, return_tensors="pt", verbose=False
        )
        own = rows["attention_mask"].bool()
        seen = own if self.masked or getattr(self.model.config, "use_attention_mask", False) else torch.ones_like(own)
        hidden = self.model(input_ids=rows["input_ids"], attention_mask=seen.long()).last_hidden_state
        tokens = hidden if self.projection is None else self.projection(hidden)
        return tokens, own if self.masked else torch.ones_like(own)

    def _warn(self, sentences: Sequence[str]) -> None:
        strange = self.tokenizer.unk_token
        words = {word for sentence in sentences for word in words_of(sentence)} if strange else ()
        known = {word for word in words if strange not in self.tokenizer.tokenize(word)}
        warn_of(dict.fromkeys(sorted(set(words) - known), ""))

    def _check(self, sentence: str, count: int) -> None:
        if count > self.window:
            raise CounterscanError(
                f"a prompt of {count} tokens is longer than the {self.window} that the text encoder takes, both with "
                f"begin and end; it is not cut: shorten {sentence[:80]!r}"
            )


def open_text(
    folder: Path,
    tokenizer: Path | None = None,
    *,
    masked: bool = True,
    pickles: bool | None = None,
) -> TextModel:
    """The text encoder that transformers saved in `folder`, frozen; its tokenizer is there too, or in its own folder.

    Any model that transformers has as a text encoder: no code of the folder's is run. See TextModel for `masked`, and
    `pretrained` for `pickles`. WeightsError where model or tokenizer do not load or do not belong together,
    MissingExtra without transformers.
    """
    try:
        from transformers import AutoModelForTextEncoding, AutoTokenizer, BertModel, BertTokenizerFast
    except ImportError:
        raise MissingExtra("transformers", "text") from None
    told = read_json(folder / "config.json")
    if not told:
        raise WeightsError(f"{folder} has no config.json; save a text encoder of transformers there")
    own = told.get("model_type") == BERT_OF_ITS_OWN
    kind = BertModel if own else AutoModelForTextEncoding
    model = pretrained(kind, folder, WEIGHTS, pickles=pickles, trust_remote_code=False)
    words = _tokenizer(BertTokenizerFast if own else AutoTokenizer, tokenizer or folder, model)
    return freeze(TextModel(model, words, masked=masked))


def _tokenizer(kind: Any, place: Path, model: Any) -> Any:
    """The tokenizer saved in `place`; WeightsError where it knows no words, or more than the model."""
    if not place.is_dir():
        raise WeightsError(f"{place} is missing; save the tokenizer of the text encoder there")
    options = {"config": model.config, "trust_remote_code": False} if kind.__name__ == "AutoTokenizer" else {}
    try:
        with quiet(kind):
            tokenizer = kind.from_pretrained(place, local_files_only=True, **options)
    except Exception as error:  # the library raises nearly anything, and over many lines
        raise WeightsError(f"{place} does not load as a tokenizer: {one_line(error)}") from None
    words, known = len(tokenizer), model.config.vocab_size
    if words <= len(tokenizer.all_special_ids) or tokenizer.pad_token is None:
        raise WeightsError(f"the tokenizer in {place} has no words, or none to fill up with; save it again")
    if words > known:
        raise WeightsError(
            f"the tokenizer in {place} has {words} words and its text encoder knows {known}; save the two that "
            "belong together"
        )
    return tokenizer


def _window(model: Any, tokenizer: Any) -> int:
    """The most tokens: what the tokenizer was saved with, at most what the model has places for."""
    places = [
        part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)  # RoBERTa's begin behind it
        for name, part in model.named_modules()
        if isinstance(part, nn.Embedding) and name.rpartition(".")[2] in ("position_embedding", "position_embeddings")
    ]
    window = min([*places, tokenizer.model_max_length])
    if window > 1e9:  # what the library says where nobody told it
        raise WeightsError("the tokenizer does not tell how many tokens fit; add model_max_length to its config")
    return int(window)


def open_projection(folder: Path, inner: int, outer: int, *, fresh: bool = False) -> nn.Linear | None:
    """The linear layer in `folder` that brings tokens of width `inner` to `outer`; None where none is needed.

    Where it is needed and missing, WeightsError says how to get it; with `fresh` an untrained one is the answer, to be
    trained: orthogonal, so that it keeps lengths, and always the same.
    """
    path = folder / PROJECTION
    if path.exists():
        return _read_projection(path, inner, outer)
    if inner == outer:
        return None
    if not fresh:
        raise WeightsError(
            f"text_encoder answers tokens {inner} wide, unet wants {outer}, and {folder} has no {PROJECTION} to bring "
            "one to the other; train one, as docs/how-to/text-pipelines.md shows"
        )
    layer = nn.Linear(inner, outer)
    nn.init.orthogonal_(layer.weight, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(layer.bias)
    return layer


def _read_projection(path: Path, inner: int, outer: int) -> nn.Linear:
    layer = nn.Linear(inner, outer)
    try:
        layer.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except Exception as error:  # damaged files and other shapes raise different kinds
        raise WeightsError(f"{path} is no linear layer from {inner} to {outer}: {one_line(error)}") from None
    check_finite(layer, path)
    return freeze(layer)


def save_projection(folder: Path, layer: nn.Linear) -> Path:
    """Write a trained projection where `open_pipeline` looks for it, as `weight` and `bias`."""
    path = folder / PROJECTION
    part = path.with_name(path.name + ".part")
    part.write_bytes(save({name: value.detach().cpu().contiguous() for name, value in layer.state_dict().items()}))
    return part.replace(path)
