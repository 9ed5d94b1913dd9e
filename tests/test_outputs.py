"""The store of outputs: nothing is generated twice, nothing of other weights or settings is taken."""

import pytest
from tokenizers.normalizers import Lowercase

import ftlab.decode
import ftlab.outputs
from ftlab.artifact import apply_adapter, write_lineage
from ftlab.errors import DataError
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


def test_a_line_cut_by_an_interrupt_is_generated_again_once(tiny, generated, tmp_path):
    whole, _ = cached_generate(tiny, CHATS, **LIMIT)
    (store,) = (tmp_path / "cache" / "outputs").iterdir()
    store.write_text(store.read_text()[:-20])
    again, reused = cached_generate(tiny, CHATS, **LIMIT)
    assert again == whole and 0 < reused < 3 and generated == [2, 1]
    assert cached_generate(tiny, CHATS, **LIMIT) == (whole, 3)  # what was added behind the cut line can be read


def test_an_interrupt_loses_one_batch_only(tiny, monkeypatch):
    batches = []
    real = ftlab.decode.greedy

    def stops(decoder, prompts, **settings):
        batches.append(prompts)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return real(decoder, prompts, **settings)

    monkeypatch.setattr(ftlab.decode, "greedy", stops)
    with pytest.raises(KeyboardInterrupt):
        cached_generate(tiny, CHATS, **LIMIT, batch_size=1)
    assert cached_generate(tiny, CHATS, **LIMIT)[1] == 1  # the longest row is the first


def test_a_store_that_cannot_be_written_is_told_once_and_loses_no_answer(tiny, tmp_path, capsys):
    expected = [a.text for a in cached_generate(tiny, CHATS, **LIMIT, cache=False)[0]]
    (tmp_path / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        answers, reused = cached_generate(tiny, CHATS, **LIMIT, batch_size=1)
        assert [a.text for a in answers] == expected and reused == 0
    assert capsys.readouterr().err.count("they are not kept for the next run") == 1


def test_another_tokenizer_or_version_has_outputs_of_its_own(tiny, monkeypatch):
    cached_generate(tiny, CHATS, **LIMIT)
    monkeypatch.setattr(ftlab.outputs, "__version__", "another")
    assert cached_generate(tiny, CHATS, **LIMIT)[1] == 0
    tiny.tokenizer.backend_tokenizer.normalizer = Lowercase()
    assert cached_generate(tiny, CHATS, **LIMIT)[1] == 0
    assert cached_generate(tiny, CHATS, **LIMIT)[1] == 3


def test_a_model_of_unknown_commit_is_never_stored(tiny):
    tiny.sha256 = ""
    assert [cached_generate(tiny, CHATS, **LIMIT)[1] for _ in range(2)] == [0, 0]


def test_a_prompt_without_room_is_named_by_its_place_among_all(tiny):
    tiny.model.config.max_position_embeddings = 100
    cached_generate(tiny, CHATS, **LIMIT)
    with pytest.raises(DataError, match="^prompt 4 of 4 has"):
        cached_generate(tiny, [*CHATS, [{"role": "user", "content": "long " * 40}]], **LIMIT)


def test_a_folder_is_known_by_its_weights_not_by_a_note_in_it(tiny, tmp_path):
    hashes = []
    for folder, change in ((tmp_path / "a", 0.0), (tmp_path / "b", 1.0)):
        tiny.model.lm_head.weight.data += change
        tiny.model.save_pretrained(folder)
        tiny.tokenizer.save_pretrained(folder)
        (folder / "weights.sha256").write_text("0" * 64)
        hashes.append(load_model(str(folder)).sha256)
    assert hashes[0] != hashes[1]
