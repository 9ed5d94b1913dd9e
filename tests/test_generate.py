"""Batched generation against transformers' own `generate`, one row at a time."""

import pytest
import torch

import ftlab.decode
import ftlab.generate
from ftlab.decode import greedy
from ftlab.errors import DataError, UsageError
from ftlab.generate import JsonEnd, encode_example, encode_prompt, generate, rows_that_fit, shared_prefix_length

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
        whole = ftlab.generate._decoding(tiny, [], 90, "eos", "auto", free=True)(prompts, None)
        left = iter([3, 90, 1, 70, 20] * 4)
        limits = [next(left) for _ in prompts]
        counts = [0] * len(prompts)

        def ended(row, token):
            counts[row] += 1
            return counts[row] == limits[row]

        decoder, reason = ftlab.generate.fast_decoder(tiny)
        if reason:
            parts = ftlab.generate._decode(tiny, None, 0, prompts, 90, ended, None)
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


def other(kind, tokenizer, **sizes):
    """A random model of another family with the tiny model's tokens."""
    import transformers

    torch.manual_seed(0)
    config = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3} | sizes
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**config)).eval()
    for settings in (model.config, model.generation_config):
        settings.eos_token_id, settings.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model


HEADS = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


@pytest.mark.parametrize(("kind", "sizes"), [("Mistral", {}), ("Gemma2", {"layer_types": ["sliding_attention", "full_attention"]})])
def test_sliding_windows_give_the_answers_of_single_rows(tiny, kind, sizes):
    tiny.model = other(kind, tiny.tokenizer, sliding_window=5, **HEADS, **sizes)
    answers = generate(tiny, conversations(), max_new_tokens=12, batch_size=5)
    assert [a.text for a in answers] == [reference(tiny, c, 12) for c in conversations()]


@pytest.mark.parametrize("kind", ["Mamba", "Lfm2"])
def test_a_model_with_a_running_state_is_refused_in_one_sentence(tiny, kind):
    sizes = {"Mamba": {"state_size": 4}, "Lfm2": HEADS | {"layer_types": ["conv", "full_attention"]}}[kind]
    tiny.model = other(kind, tiny.tokenizer, **sizes)
    with pytest.raises(UsageError, match=f"found {kind.lower()}, which keeps a running state; choose another model.$"):
        generate(tiny, conversations()[:1], max_new_tokens=3)


def test_the_slower_path_is_told_once_per_model(tiny, capsys):
    tiny.model = other("Mistral", tiny.tokenizer, sliding_window=5, **HEADS)
    for _ in range(2):
        generate(tiny, conversations()[:1], max_new_tokens=1)
    assert capsys.readouterr().err == (
        "tiny: the fast decoder does not apply: it attends through a sliding window. Answers come from the slower path.\n"
    )


def test_rows_together_are_what_half_of_the_free_memory_holds(tiny):
    row_mb = 2 * 2 * 2 * 16 * 4 * 100 / 1e6  # layers, keys and values, key heads, width, bytes, tokens
    assert [rows_that_fit(tiny.model, 100, 2 * row_mb * n + 1e-6) for n in (0.5, 1, 7, 32, 1000)] == [1, 1, 7, 32, 32]
    assert rows_that_fit(tiny.model, 100, float("inf")) == 32


def test_without_a_batch_size_short_rows_share_larger_batches(tiny, monkeypatch):
    """Memory for one of the long rows holds several of the short ones; every answer is reported as its batch ends."""
    texts = ["long " * 40, *TEXTS]
    longest = len(encode_prompt(tiny.tokenizer, conversations(texts)[0])) + 6
    monkeypatch.setattr(ftlab.generate, "free_memory_mb", lambda: 2 * 2 * 2 * 2 * 16 * 4 * longest / 1e6 + 1e-6)
    sizes, kept = [], {}
    answers = generate(tiny, conversations(texts), max_new_tokens=6, progress=sizes.append, keep=kept.update)
    assert sizes[0] == 1 and max(sizes) > 1 and sum(sizes) == 6
    assert [kept[i] for i in range(6)] == answers


def test_too_little_memory_is_one_sentence(tiny, monkeypatch):
    monkeypatch.setattr(ftlab.decode, "greedy", lambda *args, **settings: torch.empty(2**50))
    with pytest.raises(UsageError, match="^--batch-size: expected a batch that fits .* lower --batch-size or --max-new-tokens"):
        generate(tiny, conversations(), max_new_tokens=3)
    monkeypatch.setattr(ftlab.decode, "greedy", lambda *args, **settings: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):  # any other fault keeps its name
        generate(tiny, conversations(), max_new_tokens=3)
