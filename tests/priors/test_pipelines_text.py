"""Text encoders of transformers: the libraries' own numbers, windows that are kept, and pairs that belong together."""

import json

import pytest
import torch

from counterscan.errors import CounterscanError, WeightsError
from counterscan.priors.pipelines_text import open_text

transformers = pytest.importorskip("transformers")
SENTENCES = ["Small left effusion.", "No effusion."]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "small", "left", "right", "effusion", "no", "."]
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def bert(folder, head="BertModel", **settings):
    torch.manual_seed(0)
    config = transformers.BertConfig(**{"vocab_size": len(WORDS), "max_position_embeddings": 9, **SIZES, **settings})
    model = getattr(transformers, head)(config).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return model


def numbers(*words):
    return torch.tensor([[WORDS.index(word) for word in words]])


FIRST = ("[CLS]", "small", "left", "effusion", ".", "[SEP]")


@pytest.mark.parametrize("told", [False, True])
def test_a_pipelines_bert_sees_what_fills_up_unless_it_is_told(tmp_path, told):
    model, text = bert(tmp_path, use_attention_mask=told), open_text(tmp_path, masked=False)
    tokens, mask = text(SENTENCES)
    row = numbers(*FIRST, *["[PAD]"] * 3)
    with torch.no_grad():
        expected = model(row, attention_mask=(row > 0).long() if told else torch.ones_like(row)).last_hidden_state
    torch.testing.assert_close(tokens[:1], expected)
    assert (tokens.shape, text.width, text.window) == ((2, 9, 16), 16, 9)
    assert mask.dtype == torch.bool
    assert mask.all()
    assert not tokens.requires_grad


def test_a_masked_one_answers_for_each_sentence_as_for_it_alone(tmp_path):
    model, text = bert(tmp_path), open_text(tmp_path)
    tokens, mask = text(SENTENCES)
    assert mask.sum(1).tolist() == [6, 5]
    assert tokens.shape == (2, 6, 16)
    with torch.no_grad():
        torch.testing.assert_close(tokens[:1], model(numbers(*FIRST)).last_hidden_state)
    torch.testing.assert_close(tokens[1:, :5], text(SENTENCES[1:])[0], atol=1e-5, rtol=1e-5)


def test_a_word_that_the_tokenizer_does_not_know_is_named(tmp_path, recwarn):
    bert(tmp_path)
    text = open_text(tmp_path)
    text(SENTENCES)
    assert not recwarn
    with pytest.warns(UserWarning, match="'effusoin' is not known and says nothing"):
        text(["Small left effusoin."])


def test_a_long_prompt_is_never_cut(tmp_path):
    bert(tmp_path)
    for masked in (False, True):
        text = open_text(tmp_path, masked=masked)
        assert text(["small left effusion no effusion ."])[0].shape[1] <= 9  # with begin and end 8 tokens
        with pytest.raises(CounterscanError, match=r"a prompt of 10 tokens is longer than the 9 .* shorten 'small"):
            text(["No effusion.", "small " * 8])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 6}))
    assert open_text(tmp_path).window == 6


def test_the_places_of_a_roberta_begin_behind_its_padding(tmp_path):
    config = transformers.RobertaConfig(vocab_size=len(WORDS), max_position_embeddings=11, pad_token_id=1, **SIZES)
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    words = tmp_path / "words"
    words.mkdir()
    (words / "vocab.txt").write_text("\n".join(WORDS))
    (words / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    text = open_text(tmp_path, words, masked=False)
    assert text.window == 9
    assert text(["small " * 7])[0].shape == (1, 9, 16)


def test_a_clip(tmp_path):
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(vocab_size=9, max_position_embeddings=7, eos_token_id=1, **SIZES)
    model = transformers.CLIPTextModel(config).eval()
    model.save_pretrained(tmp_path / "text_encoder")
    words = tmp_path / "tokenizer"
    words.mkdir()
    vocabulary = ["<|startoftext|>", "<|endoftext|>", "l", "e", "f", "t</w>", "le", "ft</w>", "left</w>"]
    (words / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (words / "merges.txt").write_text("#version: 0.2\nl e\nf t</w>\nle ft</w>\n")
    facts = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 7, "pad_token": "<|endoftext|>"}
    (words / "tokenizer_config.json").write_text(json.dumps(facts))
    text = open_text(tmp_path / "text_encoder", words, masked=False)
    with torch.no_grad():
        expected = model(torch.tensor([[0, 8, 8, 1, 1, 1, 1]])).last_hidden_state
    torch.testing.assert_close(text(["Left left"])[0], expected)


def test_a_cxr_bert_without_the_code_that_its_folder_names(tmp_path):
    model = bert(tmp_path, "BertForMaskedLM")
    facts = json.loads((tmp_path / "config.json").read_text())
    facts |= {"model_type": "cxr-bert", "auto_map": {"AutoModel": "modeling_cxrbert.CXRBertModel"}}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    words = {"tokenizer_class": "CXRBertTokenizer", "auto_map": {"AutoTokenizer": ["code.CXRBertTokenizer", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(words))
    (tmp_path / "modeling_cxrbert.py").write_text("raise SystemExit('code was run')")
    tokens, _ = open_text(tmp_path)(SENTENCES[:1])
    with torch.no_grad():
        torch.testing.assert_close(tokens, model.bert(numbers(*FIRST)).last_hidden_state)


def test_what_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        open_text(tmp_path)
    bert(tmp_path, vocab_size=len(WORDS) - 1)
    with pytest.raises(WeightsError, match="has 11 words and its text encoder knows 10; save the two that belong"):
        open_text(tmp_path)
    bert(tmp_path)
    with pytest.raises(WeightsError, match="elsewhere is missing"):
        open_text(tmp_path, tmp_path / "elsewhere")
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer in .* has no words"):
        open_text(tmp_path)
    facts = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine", "AutoModelForTextEncoding": "code.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    (tmp_path / "code.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(WeightsError, match="does not load as AutoModelForTextEncoding"):
        open_text(tmp_path)
