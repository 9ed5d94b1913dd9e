"""The store of outputs: nothing is generated twice, nothing of other weights or settings is taken."""

import pytest

import ftlab.outputs
from ftlab.artifact import apply_adapter, write_lineage
from ftlab.lora import add_lora
from ftlab.models import load_model
from ftlab.outputs import cached_generate

CHATS = [[{"role": "user", "content": text}] for text in ("hi", "what now?", "hi")]
LIMIT = {"max_new_tokens": 5}


@pytest.fixture
def generated(monkeypatch):
    """How many chats were really generated, call by call."""
    counts = []
    real = ftlab.outputs.generate

    def counting(loaded, conversations, **settings):
        counts.append(len(conversations))
        return real(loaded, conversations, **settings)

    monkeypatch.setattr(ftlab.outputs, "generate", counting)
    return counts


def test_an_equal_chat_is_generated_once_and_never_again(tiny, generated):
    first, reused = cached_generate(tiny, CHATS, **LIMIT)
    assert generated == [2] and reused == 0 and first[0] == first[2]
    again, reused = cached_generate(load_model("tiny"), CHATS, **LIMIT)
    assert generated == [2] and reused == 3 and again == first


def test_other_settings_and_no_cache_generate_anew(tiny, generated):
    cached_generate(tiny, CHATS, **LIMIT)
    cached_generate(tiny, CHATS, max_new_tokens=6)
    cached_generate(tiny, CHATS, **LIMIT, stop="json")
    _, reused = cached_generate(tiny, CHATS, **LIMIT, cache=False)
    assert generated == [2, 2, 2, 2] and reused == 0


def test_a_model_in_training_is_never_stored(tiny, generated):
    cached_generate(tiny, CHATS, **LIMIT)
    tiny.model = add_lora(tiny.model, rank=2, alpha=4, seed=0)
    for _ in range(2):
        assert cached_generate(tiny, CHATS, **LIMIT)[1] == 0
    assert generated == [2, 2, 2]


def test_an_adapter_has_outputs_of_its_own(tiny, generated, tmp_path):
    from ftlab.artifact import save_adapter_weights

    cached_generate(tiny, CHATS, **LIMIT)
    tuned = load_model("tiny")
    tuned.model = add_lora(tuned.model, rank=2, alpha=4, seed=0)
    save_adapter_weights(tuned.model, tmp_path / "a")
    write_lineage(tmp_path / "a", {})
    apply_adapter(tiny, tmp_path / "a")
    assert [cached_generate(tiny, CHATS, **LIMIT)[1] for _ in range(2)] == [0, 3]
    assert generated == [2, 2]


def test_a_line_cut_by_an_interrupt_is_generated_again(tiny, generated, tmp_path):
    whole, _ = cached_generate(tiny, CHATS, **LIMIT)
    (store,) = (tmp_path / "cache" / "outputs").iterdir()
    store.write_text(store.read_text()[:-20])
    again, reused = cached_generate(tiny, CHATS, **LIMIT)
    assert again == whole and 0 < reused < 3 and generated == [2, 1]


def test_an_interrupted_call_keeps_the_chunks_before(tiny, monkeypatch, generated):
    monkeypatch.setattr(ftlab.outputs, "CHUNK", 1)
    real = ftlab.outputs.generate

    def stops(loaded, conversations, **settings):
        if len(generated) == 1:
            raise KeyboardInterrupt
        return real(loaded, conversations, **settings)

    monkeypatch.setattr(ftlab.outputs, "generate", stops)
    with pytest.raises(KeyboardInterrupt):
        cached_generate(tiny, CHATS, **LIMIT)
    monkeypatch.setattr(ftlab.outputs, "generate", real)
    assert cached_generate(tiny, CHATS, **LIMIT)[1] == 2  # "hi" stands twice
