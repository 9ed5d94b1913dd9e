"""Adapters on disk: what is written comes back, and a wrong or damaged one is refused by name."""

import json

import pytest
import torch

from ftlab.artifact import (
    CONFIG,
    LINEAGE,
    WEIGHTS,
    adapter_identity,
    apply_adapter,
    save_adapter_weights,
    write_json,
    write_lineage,
)
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_prompt, generate
from ftlab.lora import add_lora
from ftlab.models import load_model


@pytest.fixture
def saved(tmp_path):
    """An adapter with random matrices for the tiny model, and the peft model it came from."""
    tiny = load_model("tiny")
    model = add_lora(tiny.model, rank=2, alpha=4, seed=0)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    save_adapter_weights(model, tmp_path / "a")
    write_lineage(tmp_path / "a", {"base": {"model": "tiny", "sha256": tiny.sha256}})
    return tmp_path / "a", model


def test_an_adapter_comes_back_as_it_was(saved):
    folder, model = saved
    ids = torch.randint(3, 250, (1, 8))
    loaded = load_model("tiny")
    lineage = apply_adapter(loaded, folder)
    assert torch.allclose(loaded.model(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-2)  # stored as 16-bit floats
    assert lineage["base"]["model"] == "tiny"


def test_an_adapter_changes_the_model(saved):
    ids, base, tuned = torch.randint(3, 250, (1, 8)), load_model("tiny"), load_model("tiny")
    apply_adapter(tuned, saved[0])
    assert not torch.allclose(base.model(input_ids=ids).logits, tuned.model(input_ids=ids).logits, atol=1e-2)


def test_an_adapter_for_another_base_is_refused_naming_both(saved):
    loaded = load_model("tiny")
    loaded.name, loaded.sha256 = "other-model", "f" * 64
    with pytest.raises(UsageError, match="was made for tiny .* the model is other-model"):
        apply_adapter(loaded, saved[0])


def test_a_flipped_byte_is_noticed(saved):
    path = saved[0] / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="the adapter is damaged"):
        apply_adapter(load_model("tiny"), saved[0])


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_a_corrupt_file_without_lineage_is_one_sentence(saved, content):
    folder = saved[0]
    (folder / LINEAGE).unlink()
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        apply_adapter(load_model("tiny"), folder)


def _virtual():
    from peft import PromptTuningConfig

    return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)


def _prefixes():
    from peft import PrefixTuningConfig

    return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)


def _activated():
    from peft import LoraConfig

    mark = load_model("tiny").tokenizer("assistant", add_special_tokens=False)["input_ids"]  # in each prompt
    return LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", alora_invocation_tokens=mark)


def test_the_scale_of_an_adapter_is_part_of_its_identity(saved):
    """Stored answers are looked up by it, and the scale stands in the settings, not in the matrices."""
    folder, _ = saved
    before, config = adapter_identity(folder), json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"lora_alpha": 8}))
    assert adapter_identity(folder) != before


@pytest.mark.parametrize("config", [_virtual, _prefixes, _activated])
def test_an_adapter_that_cannot_be_merged_is_used_beside_the_weights(config, tmp_path, capsys):
    """Told once, stored under its hash, and its answers are those of the whole row computed anew for each token."""
    from peft import get_peft_model

    adapted = get_peft_model(load_model("tiny").model, config())
    for p in adapted.parameters():
        torch.nn.init.normal_(p, std=0.5) if p.requires_grad else None
    adapted.save_pretrained(tmp_path / "a")
    loaded = load_model("tiny")
    apply_adapter(loaded, tmp_path / "a")
    assert capsys.readouterr().err.count("cannot be merged into the weights") == 1
    assert loaded.adapter_sha256 == adapter_identity(tmp_path / "a") and not loaded.model.training
    chats = [[{"role": "user", "content": text}] for text in ("hi", "what now?", "ho")]
    answers = generate(loaded, chats, max_new_tokens=4)
    assert [a.text for a in answers] == [loaded.tokenizer.decode(step_by_step(adapted.eval(), loaded, chat, 4)) for chat in chats]
    assert [a.text for a in answers] != [a.text for a in generate(load_model("tiny"), chats, max_new_tokens=4)]


@torch.no_grad()
def step_by_step(model, loaded, chat, n):
    ids = encode_prompt(loaded.tokenizer, chat)
    for _ in range(n):
        ids.append(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item())
    return ids[-n:]


def test_a_folder_without_weights_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="expected a folder with adapter_model.safetensors"):
        apply_adapter(load_model("tiny"), tmp_path)


def test_a_full_disk_is_one_sentence(saved, tmp_path, monkeypatch):
    from collections import namedtuple

    monkeypatch.setattr("shutil.disk_usage", lambda path: namedtuple("usage", "total used free")(10, 10, 0))
    with pytest.raises(DataError, match="MB of free disk, found 0 MB"):
        save_adapter_weights(saved[1], tmp_path / "b")


def test_json_is_written_in_one_step(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
