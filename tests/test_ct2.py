"""CTranslate2 against torch: the same tokens in float32, a conversion of its own for each set of weights, clear refusals."""

import json
import sys

import pytest
import torch

from ftlab.cli import main
from ftlab.ct2 import COMPUTE_TYPES, greedy_ct2, model_sha256, open_generator
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_prompt, generate
from ftlab.lora import add_lora
from ftlab.models import cache_dir

SYSTEM = {"role": "system", "content": "Answer in one word."}
TEXTS = ["hi", "what is the time in Lima now?", "a", "please cancel my plan and tell nobody", "wie geht's, Jürgen?"]


def conversations(texts=TEXTS):
    return [[SYSTEM, {"role": "user", "content": text}] for text in texts]


@pytest.fixture
def talkative(tiny):
    """The tiny model with weights so large that it says many tokens and ends some answers itself."""
    torch.manual_seed(1)
    for name, p in tiny.model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(p, std=0.6)
    return tiny


def letter(answer):
    """A sign that the answer holds and that is a token of its own: a printable ASCII one."""
    return next(sign for sign in answer.text[3:] if "!" <= sign <= "~")


def conversions():
    return sorted(path.name for path in (cache_dir() / "ctranslate2").iterdir())


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_float32_gives_the_answers_of_torch(talkative, batch_size):
    expected = generate(talkative, conversations(), max_new_tokens=40, engine="torch")
    assert all(len(set(answer.text)) > 5 for answer in expected) and {answer.ended for answer in expected} == {True, False}
    assert generate(talkative, conversations(), max_new_tokens=40, batch_size=batch_size, engine="ctranslate2") == expected


def test_rows_without_a_common_start_have_the_answers_of_torch(talkative):
    """transformers answers row by row, without batch or padding."""
    prompts = [encode_prompt(talkative.tokenizer, chat) for chat in (conversations()[1], conversations()[2][1:])]
    found = greedy_ct2(
        open_generator(talkative, "ctranslate2"), talkative.tokenizer, prompts, prefix=[], max_new_tokens=20, ended=lambda *_: False
    )
    with torch.inference_mode():
        for prompt, ids in zip(prompts, found, strict=True):
            out = talkative.model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=20, do_sample=False
            )
            assert ids == out[0][len(prompt) :].tolist()


def test_a_row_that_the_model_ends_is_marked_as_with_torch(talkative):
    """The end token is the tokenizer's of now, not the one of the conversion."""
    first = generate(talkative, conversations(), max_new_tokens=20, engine="ctranslate2")[0]
    talkative.tokenizer.eos_token = letter(first)
    expected = generate(talkative, conversations(), max_new_tokens=40)
    assert expected[0].ended and expected[0].new_tokens <= 20 and not first.ended
    assert generate(talkative, conversations(), max_new_tokens=40, engine="ctranslate2") == expected


def test_a_row_that_is_ended_keeps_its_last_token_and_leaves_the_others_alone(talkative):
    prompts = [encode_prompt(talkative.tokenizer, chat) for chat in conversations(TEXTS * 2)]
    generator = open_generator(talkative, "ctranslate2")
    limits = [3, 30, 1, 25, 20, 9, 2, 30, 11, 4]
    counts = [0] * len(prompts)

    def ended(row, _):
        counts[row] += 1
        return counts[row] == limits[row]

    asked = {"prefix": prompts[0][:20], "max_new_tokens": 30}
    suffixes = [prompt[20:] for prompt in prompts]
    whole = greedy_ct2(generator, talkative.tokenizer, suffixes, **asked, ended=lambda *_: False)
    assert greedy_ct2(generator, talkative.tokenizer, suffixes, **asked, ended=ended) == [
        ids[:n] for ids, n in zip(whole, limits, strict=True)
    ]


def test_stop_json_ends_where_torch_does(talkative, monkeypatch):
    """A random model says no object; a sign that it does say is read as the closing brace of one."""
    brace = letter(generate(talkative, conversations(), max_new_tokens=20)[0])
    monkeypatch.setattr("ftlab.generate.JsonEnd.feed", lambda self, piece: brace in piece)
    expected = generate(talkative, conversations(), max_new_tokens=30, stop="json")
    assert expected[0].ended and expected[0].text.endswith(brace)
    assert generate(talkative, conversations(), max_new_tokens=30, stop="json", engine="ctranslate2") == expected


def test_int8_answers_every_row(talkative):
    answers = generate(talkative, conversations(), max_new_tokens=7, engine="ctranslate2-int8")
    assert [answer.new_tokens for answer in answers] == [7] * len(TEXTS)
    assert conversions() == [f"{model_sha256(talkative)}-int8"]


def test_a_model_is_converted_once_and_other_weights_apart(talkative):
    generate(talkative, conversations(), max_new_tokens=2, engine="ctranslate2")
    (first,) = conversions()
    stamp = (cache_dir() / "ctranslate2" / first / "model.bin").stat().st_mtime_ns
    generate(talkative, conversations(), max_new_tokens=2, engine="ctranslate2")
    assert (cache_dir() / "ctranslate2" / first / "model.bin").stat().st_mtime_ns == stamp and conversions() == [first]
    with torch.no_grad():
        next(talkative.model.parameters())[0, 0] += 1e-3
    generate(talkative, conversations(), max_new_tokens=2, engine="ctranslate2")
    assert len(conversions()) == 2 and first in conversions()


def test_a_merged_adapter_answers_for_itself(talkative):
    before = generate(talkative, conversations(), max_new_tokens=10, engine="ctranslate2")
    tuned = add_lora(talkative.model, rank=4, alpha=8, seed=0)
    for name, p in tuned.named_parameters():
        torch.nn.init.normal_(p, std=0.3) if "lora_" in name else None
    talkative.model = tuned.merge_and_unload().eval()
    after = generate(talkative, conversations(), max_new_tokens=10, engine="ctranslate2")
    assert after == generate(talkative, conversations(), max_new_tokens=10) and after != before


def test_the_model_itself_is_left_as_it_was(talkative):
    before = {name: p.clone() for name, p in talkative.model.named_parameters()}
    open_generator(talkative, "ctranslate2-int8")
    assert all(torch.equal(p, before[name]) for name, p in talkative.model.named_parameters())


@pytest.mark.parametrize("engine", COMPUTE_TYPES)
def test_an_adapter_that_is_not_merged_is_refused(tiny, engine):
    tiny.model = add_lora(tiny.model, rank=2, alpha=4, seed=0)
    with pytest.raises(UsageError, match=f"--engine {engine}: expected a model without adapter.*merge_and_unload"):
        generate(tiny, conversations(), engine=engine)
    tiny.model = tiny.model.get_base_model()  # the same layers without peft's wrapper
    with pytest.raises(UsageError, match="without adapter"):
        generate(tiny, conversations(), engine=engine)


def test_an_architecture_that_it_does_not_know_is_refused_by_name(tiny):
    from transformers import StableLmConfig, StableLmForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    tiny.model = StableLmForCausalLM(StableLmConfig(vocab_size=len(tiny.tokenizer), **sizes)).eval()
    with pytest.raises(UsageError, match="found stablelm .*; use --engine torch"):
        generate(tiny, conversations(), engine="ctranslate2")
    assert conversions() == []


def test_a_conversion_that_computes_something_else_is_refused(talkative):
    """The converter takes every Llama to gate with silu; this one gates with gelu."""
    from transformers import LlamaForCausalLM

    talkative.model.config.hidden_act = "gelu"
    other = LlamaForCausalLM(talkative.model.config).eval()
    other.load_state_dict(talkative.model.state_dict())
    talkative.model = other
    with pytest.raises(UsageError, match="found llama .its logits differ by 0.*expected at most 0.001"):
        generate(talkative, conversations(), engine="ctranslate2")
    assert conversions() == []


def test_a_missing_package_is_named_with_the_command_that_installs_it(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UsageError, match=r"run: pip install 'ftlab\[ctranslate2\]'"):
        generate(tiny, conversations(), engine="ctranslate2")


def test_a_cache_that_cannot_be_written_is_one_sentence(tiny, monkeypatch):
    monkeypatch.setenv("FTLAB_CACHE", "/dev/null/x")
    with pytest.raises(DataError, match="cannot be written .*FTLAB_CACHE"):
        generate(tiny, conversations(), engine="ctranslate2")


def test_an_unknown_engine_is_refused(tiny):
    with pytest.raises(UsageError, match="--engine: expected one of auto, torch, ctranslate2, ctranslate2-int8, found 'onnx'"):
        generate(tiny, conversations(), engine="onnx")


def test_predict_takes_the_engine(toy_folder, tmp_path):
    rows = tmp_path / "in.jsonl"
    rows.write_text("".join(json.dumps({"id": str(i), "input": text}) + "\n" for i, text in enumerate(TEXTS)))
    command = ["predict", "--task", str(toy_folder), str(rows), "--model", "tiny", "--base", "--max-new-tokens", "5"]
    for engine in ("torch", "ctranslate2"):
        assert main([*command, "--engine", engine, "--out", str(tmp_path / engine)]) == 0
    assert (tmp_path / "ctranslate2").read_text() == (tmp_path / "torch").read_text()
    assert len(conversions()) == 1
