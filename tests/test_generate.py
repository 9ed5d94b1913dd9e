"""Batched generation against transformers' own `generate`, one row at a time."""

import pytest
import torch

import ftlab.generate
from ftlab.decode import greedy
from ftlab.errors import DataError, UsageError
from ftlab.generate import JsonEnd, encode_example, encode_prompt, generate, shared_prefix_length

SYSTEM = {"role": "system", "content": "Answer in one word."}
TEXTS = ["hi", "what is the time in Lima now?", "a", "please cancel my plan and tell nobody", "why?"]


def conversations(texts=TEXTS):
    return [[SYSTEM, {"role": "user", "content": text}] for text in texts]


def reference(tiny, conversation, n):
    """Greedy answer by transformers for one row, without batch or padding."""
    prompt = encode_prompt(tiny.tokenizer, conversation)
    out = tiny.model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=n, do_sample=False)
    return tiny.tokenizer.decode(out[0][len(prompt) :], skip_special_tokens=True)


@pytest.fixture(params=["fast decoder", "transformers"])
def path(request, monkeypatch):
    """Both ways to generate."""
    if request.param == "transformers":
        monkeypatch.setattr(ftlab.generate, "fast_decoder", lambda loaded: (None, "switched off in this test"))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_give_the_answers_of_single_rows(tiny, path, batch_size):
    answers = generate(tiny, conversations(), max_new_tokens=12, batch_size=batch_size)
    assert [a.text for a in answers] == [reference(tiny, c, 12) for c in conversations()]


def test_answers_come_in_the_order_asked(tiny, path):
    forward = generate(tiny, conversations(), max_new_tokens=6)
    backward = generate(tiny, conversations(TEXTS[::-1]), max_new_tokens=6)
    assert [a.text for a in forward] == [a.text for a in backward][::-1]


def test_rows_without_a_common_start_work(tiny, path):
    chats = [[{"role": "user", "content": "x"}], [{"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]]
    answers = generate(tiny, chats, max_new_tokens=5)
    assert [a.text for a in answers] == [reference(tiny, c, 5) for c in chats]


def test_a_row_that_ends_is_marked_and_loses_its_end_token(tiny, path):
    first = generate(tiny, conversations(), max_new_tokens=3)[0]
    token = tiny.tokenizer(first.text, add_special_tokens=False)["input_ids"][-1]
    tiny.tokenizer.eos_token = tiny.tokenizer.convert_ids_to_tokens(token)
    again = generate(tiny, conversations(), max_new_tokens=8)[0]
    assert again.ended and again.new_tokens <= 3 and not first.ended


def test_rows_that_end_early_do_not_disturb_the_others(tiny, path):
    """Each row is ended after a number of tokens of its own, so rows leave at different steps and the cache grows on the way; what
    they hold until then is what they hold with nobody leaving."""
    prompts = [encode_prompt(tiny.tokenizer, c) for c in conversations([f"{word} {i}" for i, word in enumerate(TEXTS * 4)])]
    with torch.inference_mode():
        whole = ftlab.generate._decoding(tiny, [], 90, "eos")(prompts)
        left = iter([3, 90, 1, 70, 20] * 4)
        limits = [next(left) for _ in prompts]
        counts = [0] * len(prompts)

        def ended(row, token):
            counts[row] += 1
            return counts[row] == limits[row]

        decoder, reason = ftlab.generate.fast_decoder(tiny)
        if reason:
            parts = ftlab.generate._decode(tiny, None, 0, prompts, 90, ended)
        else:
            parts = greedy(decoder, prompts, prefix=None, max_new_tokens=90, ended=ended)
    assert parts == [ids[:n] for ids, n in zip(whole, limits, strict=True)]


@pytest.mark.parametrize(
    ("pieces", "at"),
    [
        (['{"a": ', '"}"', "}"], 2),
        (["{", '"a": [{', "}]", "} {"], 3),
        (['{"a": "\\""', "}"], 1),
        (['"text"', "{}"], 1),
        (["no object", "at all"], None),
        (["}", "{", "}"], None),
    ],
)
def test_the_end_of_a_json_object_is_seen_in_any_pieces(pieces, at):
    end = JsonEnd()
    assert next((i for i, piece in enumerate(pieces) if end.feed(piece)), None) == at


def test_an_unknown_stop_is_refused(tiny):
    with pytest.raises(UsageError, match="--stop: expected eos or json, found 'dot'"):
        generate(tiny, conversations(), stop="dot")


def test_shared_prefix_leaves_each_row_a_token():
    assert shared_prefix_length([[1, 2, 3], [1, 2, 3, 4]]) == 2
    assert shared_prefix_length([[1, 2, 3], [1, 2, 3]]) == 2
    assert shared_prefix_length([[5], [6]]) == 0


def test_training_prompt_is_the_inference_prompt(tiny):
    ids, start = encode_example(tiny.tokenizer, conversations()[1], '{"a": "ñ"}')
    assert ids[:start] == encode_prompt(tiny.tokenizer, conversations()[1])


def test_the_end_token_is_part_of_the_answer(tiny):
    ids, start = encode_example(tiny.tokenizer, conversations()[0], "{}")
    assert ids[-1] == tiny.tokenizer.eos_token_id and len(ids) == start + 3


def test_a_prompt_beyond_the_context_is_refused(tiny):
    tiny.model.config.max_position_embeddings = 100
    with pytest.raises(DataError, match="prompt 2 of 2 has .* tokens; expected at most 80"):
        generate(tiny, conversations(["hi", "long " * 40]), max_new_tokens=20)


def test_no_rows_give_no_answers(tiny):
    assert generate(tiny, []) == []
