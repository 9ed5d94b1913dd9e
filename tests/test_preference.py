"""Preference tuning on the tiny model: the tree is the plain computation, the loss is trl's, the reference is computed once."""

import json
import math
import os
import signal

import pytest
import torch
from test_llama import gradients, tuned

import ftlab.train.preference as preference
from ftlab.errors import DataError, UsageError
from ftlab.llama import FastDecoder
from ftlab.models import load_model
from ftlab.train import DpoConfig, train_dpo
from ftlab.train.loop import CHECKPOINT, Run
from ftlab.train.memory import Shape, step_mb
from ftlab.train.preference import (
    DpoLoss,
    Judged,
    Pair,
    Preference,
    common_prefix,
    encode_pairs,
    pair_logps,
    pair_tree,
    plain_pair_logps,
    read_pairs,
    reference_logps,
    weigh_tokens,
)

PAIRS = [
    Preference(
        f"p{i}", [{"role": "system", "content": "Be short."}, {"role": "user", "content": text}], good, bad, f"pairs.jsonl:{i}"
    )
    for i, (text, good, bad) in enumerate(
        [
            ("hello", "hi", "go away, you"),
            ("bye", "see you soon", "no"),
            ("what?", "this", "that"),
            ("1 + 1", "two", "twelve or so"),
        ],
        1,
    )
]


def encoded(loaded):
    return encode_pairs(PAIRS, loaded.tokenizer, 512)


def logps_alone(model, pairs):
    """Log-probabilities of (chosen, rejected) by transformers' own logits, each answer in a row of its own."""
    found = []
    for prompt, *answers in pairs:
        for answer in answers:
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            found.append(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())
    return torch.stack(found[::2]), torch.stack(found[1::2])


def settings(**changes):
    return DpoConfig(**({"epochs": 2, "batch_size": 2, "learning_rate": 1e-2, "rank": 4, "alpha": 8} | changes))


WAYS = ["tree with prefix", "tree with prefix, layers computed again", "tree without prefix", "padded rows"]


@pytest.mark.parametrize("way", WAYS)
def test_log_probabilities_and_gradients_are_those_of_each_answer_alone(tiny, way):
    """The last two pairs answer with tokens that both answers share at first, and with a prompt of a single token of its own."""
    pairs = encoded(tiny)
    pairs += [Pair(pairs[0].prompt, [9, 8, 2], [9, 8, 7, 2]), Pair([*common_prefix(pairs), 5], [6], [7])]
    tiny.model = model = tuned(tiny)
    weights = torch.arange(1.0, 13.0, dtype=torch.float64)
    expected = torch.cat(logps_alone(model, pairs))
    expected_gradients = gradients(model, expected @ weights)
    prefix = common_prefix(pairs) if "with prefix" in way else []
    assert "with prefix" not in way or len(prefix) > 10
    again = {"checkpoint": "again" in way}
    found = torch.cat(
        plain_pair_logps(model, pairs) if way == "padded rows" else pair_logps(FastDecoder(model), pairs, prefix, **again)
    )
    assert torch.allclose(found, expected, rtol=1e-6)
    for name, grad in gradients(model, found @ weights).items():
        assert (grad - expected_gradients[name]).norm() <= 1e-6 * expected_gradients[name].norm(), name


def test_a_tree_has_a_prompt_with_two_children_for_each_pair():
    pairs = [Pair([1, 2, 3, 4], [5], [6, 7]), Pair([1, 2, 9], [8, 8], [7])]
    tree = pair_tree(pairs, [1, 2])
    assert tree.segments == ((1, 2), (3, 4), (5,), (6, 7), (9,), (8, 8), (7,)) and tree.parents == (-1, 0, 1, 1, 0, 4, 4)


def test_a_prompt_keeps_its_last_token_whatever_the_prefix():
    tree = pair_tree([Pair([1, 2], [5], [6]), Pair([1, 2, 3], [5], [6])], [1, 2])
    assert tree.segments[:2] == ((1,), (2,))
    assert pair_tree([Pair([1], [5], [6])], [1]).segments == ((1,), (5,), (6,))


def dpo_trainer(tiny, folder, **arguments):
    """trl's trainer on PAIRS with random LoRA matrices; its reference is the model with the adapter switched off."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    render = tiny.tokenizer.apply_chat_template
    rows = [
        {"prompt": render(p.messages, tokenize=False, add_generation_prompt=True), "chosen": p.chosen, "rejected": p.rejected}
        for p in PAIRS
    ]
    plain = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none"}
    trainer = DPOTrainer(
        tiny.model,
        args=DPOConfig(str(folder), loss_type=["sigmoid", "sft"], **plain, **arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny.tokenizer,
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, p in trainer.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.1)
    return trainer


def test_the_loss_and_its_gradient_are_those_of_trl(tiny, tmp_path):
    """Answers of different lengths tell a mean over pairs from one over tokens; weights other than 1, the terms from each other."""
    pairs, keep = encoded(tiny), tmp_path / "reference.json"
    items = weigh_tokens([Judged(*both) for both in zip(pairs, reference_logps(tiny, pairs, keep), strict=True)])
    trainer = dpo_trainer(tiny, tmp_path / "trl", beta=0.3, loss_weights=[1.0, 0.7])
    rows = list(trainer.train_dataset)
    assert [(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in rows] == pairs
    theirs = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    expected = gradients(trainer.model, theirs)
    tiny.model = trainer.model
    loss, count = DpoLoss(tiny, common_prefix(pairs), beta=0.3, sft_weight=0.7)(items)
    assert (loss / count).item() == pytest.approx(theirs.item(), rel=1e-5) and theirs.item() > 1
    for name, grad in gradients(tiny.model, loss / count).items():
        assert (grad - expected[name]).norm() <= 1e-3 * expected[name].norm(), name


def test_token_weights_make_the_supervised_term_a_mean_over_tokens():
    """Answers of 1 and 3 tokens: 2 pairs over 4 tokens is half a pair a token."""
    items = weigh_tokens([Judged(Pair([1], [2], [3]), (0.0, 0.0)), Judged(Pair([1], [2, 2, 2], [3]), (0.0, 0.0))])
    assert [item.token_weight for item in items] == [0.5, 0.5]


def test_micro_batches_of_a_step_add_up_to_its_loss(tmp_path):
    """The first step's loss starts at log 2 a pair plus the mean loss per chosen token, however the step is cut."""
    first = []
    for micro_tokens in (100, 10_000):
        out = tmp_path / str(micro_tokens)
        summary = train_dpo(
            load_model("tiny"), PAIRS, settings(batch_size=4, epochs=1, micro_tokens=micro_tokens), out, progress=False
        )
        first.append(summary["curve"][0]["train_loss"])
    tokens = sum(len(pair.chosen) for pair in encoded(load_model("tiny")))
    expected = math.log(2) - 4 * summary["before"]["chosen_logp"] / tokens
    assert first == pytest.approx([expected, expected], rel=1e-5)


def test_training_raises_the_margin_and_leaves_an_adapter(tiny, tmp_path):
    summary = train_dpo(tiny, PAIRS, settings(epochs=8, sft_weight=0.2), tmp_path, progress=False)
    before, after = summary["before"], summary["curve"][-1]
    margins = [point["chosen_logp"] - point["rejected_logp"] for point in (before, after)]
    assert margins[1] > margins[0] + 1 and after["chosen_logp"] > before["chosen_logp"]
    assert after["reward_accuracy"] == 1.0 and summary["steps"] == 16 and summary["pairs"] == 4
    assert (tmp_path / "adapter_model.safetensors").exists() and not (tmp_path / CHECKPOINT).exists()


def test_the_reference_is_the_untuned_model_and_computed_once(tiny, tmp_path, monkeypatch):
    pairs, keep = encoded(tiny), tmp_path / "new" / "reference.json"
    first = reference_logps(tiny, pairs, keep, micro_tokens=100)
    for found, expected in zip(zip(*first, strict=True), logps_alone(tiny.model, pairs), strict=True):
        assert found == pytest.approx(expected.tolist(), rel=1e-5)
    monkeypatch.setattr(preference, "pair_logps", None)  # computing would fail
    assert reference_logps(tiny, pairs, keep) == first


def halve_a_norm(loaded):
    with torch.no_grad():
        loaded.model.model.norm.weight.mul_(0.5)
    loaded.model = loaded.model  # as whoever changes weights does: their hash is unknown from here on


def test_a_reference_of_another_model_or_other_pairs_is_not_used(tiny, tmp_path):
    pairs, keep = encoded(tiny), tmp_path / "reference.json"
    first = reference_logps(tiny, pairs, keep)
    halve_a_norm(tiny)
    tiny.adapter_sha256 = "of another adapter"
    other = reference_logps(tiny, pairs, keep)
    assert other[0][0] != pytest.approx(first[0][0], rel=1e-2)
    turned = reference_logps(tiny, pairs[::-1], keep)
    assert [chosen for chosen, _ in turned[::-1]] == pytest.approx([chosen for chosen, _ in other], rel=1e-5)


def test_a_model_of_unknown_weights_has_its_reference_computed_and_not_kept(tiny, tmp_path):
    pairs, keep = encoded(tiny), tmp_path / "reference.json"
    first = reference_logps(tiny, pairs, keep)
    kept = keep.read_bytes()
    halve_a_norm(tiny)
    assert reference_logps(tiny, pairs, keep)[0][0] != pytest.approx(first[0][0], rel=1e-2) and keep.read_bytes() == kept


def test_a_pause_changes_nothing(tmp_path, monkeypatch):
    straight = train_dpo(load_model("tiny"), PAIRS, settings(), tmp_path / "straight", progress=False)
    step, count = Run.step, iter(range(1, 1000))

    def interrupted(self, batch):
        if next(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Run, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_dpo(load_model("tiny"), PAIRS, settings(), tmp_path / "paused", progress=False)
    resumed = train_dpo(load_model("tiny"), PAIRS, settings(), tmp_path / "paused", resume=True, progress=False)
    assert resumed["curve"] == straight["curve"] and next(count) == 5  # four steps in all, none of them twice
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("straight", "paused")]
    assert weights[0] == weights[1]


def other_architecture():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes)).eval()


def test_other_architectures_train_by_their_own_path_and_say_so_once(tiny, tmp_path, capsys):
    tiny.model = other_architecture()
    summary = train_dpo(tiny, PAIRS, settings(), tmp_path, progress=False)
    assert capsys.readouterr().out.count("The fast path does not apply: the architecture gpt_neox") == 1
    assert summary["curve"][-1]["chosen_logp"] > summary["before"]["chosen_logp"]


def test_pairs_that_cannot_teach_are_all_named(tiny):
    """The tiny tokenizer has a token a byte and one for each mark of the chat: 24 of prompt, 90 of answer, 1 end token."""
    bad = [
        Preference("a", "hello", "same", "same", "pairs.jsonl:1"),
        Preference("b", "hello", " ", "no", "pairs.jsonl:2"),
        Preference("c", "hello", "good", "bad", "pairs.jsonl:3"),
        Preference("d", "hello", "yes", "n" * 90),
    ]
    with pytest.raises(DataError, match="3 fault") as error:
        encode_pairs(bad, tiny.tokenizer, 100)
    assert error.value.problems == [
        "pairs.jsonl:1: the chosen and the rejected answer are the same",
        "pairs.jsonl:2: the chosen answer is empty",
        "d: 115 tokens with the rejected answer, expected at most 100",
    ]
    with pytest.raises(DataError, match="found none"):
        encode_pairs([], tiny.tokenizer, 100)


def test_pairs_are_read_with_chats_and_json_answers(tmp_path):
    chat = [{"role": "user", "content": "ho"}]
    rows = [
        {"id": 1, "input": "hey", "chosen": {"a": "é"}, "rejected": "none"},
        {"id": "b", "input": chat, "chosen": "x", "rejected": {}},
    ]
    (tmp_path / "p.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    first, second = read_pairs(tmp_path / "p.jsonl")
    assert first == Preference("1", "hey", '{"a": "é"}', "none") and first.where == "p.jsonl:1"
    assert second.messages == chat and second.rejected == "{}" and second.where == "p.jsonl:3"


def test_every_broken_line_of_a_pairs_file_is_named(tmp_path):
    good = {"id": "g", "input": "hey", "chosen": "a", "rejected": "b"}
    rows = [good, {**good, "id": 2, "chosen": 5}, {**good, "id": 3, "input": ""}, {"id": 4, "input": "x", "chosen": "a"}, good]
    rows.append({**good, "id": 5, "rejected": {"a": "\ud800"}})
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    with pytest.raises(DataError, match="6 broken") as error:
        read_pairs(tmp_path / "p.jsonl")
    assert {int(problem.split(":")[1]) for problem in error.value.problems} == {2, 3, 4, 5, 6, 7}
    assert "p.jsonl:2: expected chosen to be a text or a JSON object, found 5" in error.value.problems


@pytest.mark.parametrize(
    "changes",
    [{"beta": 0}, {"sft_weight": -0.1}, {"warmup": 1}, {"epochs": 0}, {"learning_rate": float("nan")}, {"memory_limit": -1}],
)
def test_settings_that_cannot_work_are_refused_by_their_names_in_python(changes):
    (name,) = changes
    with pytest.raises(UsageError, match=f"^{name}: expected"):
        DpoConfig(**changes)


def test_a_damaged_reference_is_computed_again(tiny, tmp_path):
    pairs, keep = encoded(tiny), tmp_path / "reference.json"
    first = reference_logps(tiny, pairs, keep)
    whole = keep.read_bytes()
    for damage in (whole[:40], b"\xff", b"[]"):
        keep.write_bytes(damage)
        assert reference_logps(tiny, pairs, keep) == first and keep.read_bytes() == whole


def test_memory_is_planned_for_pairs_and_the_plan_reaches_the_run(tiny, tmp_path, monkeypatch):
    """A limit that only a smaller micro-batch keeps, then one that nothing keeps; the process is taken to hold 300 MB."""
    monkeypatch.setattr("ftlab.train.memory.resident_mb", lambda: 300.0)
    longest = max(pair.tokens for pair in encoded(tiny))
    sizes = {"row_tokens": longest, "rank": 4, "micro_tokens": longest}
    most, least = (300 + step_mb(Shape.of(tiny.model), **sizes | {"micro_tokens": n}, checkpoint=False) for n in (9000, 900))
    run = preference.dpo_run(tiny, PAIRS, settings(micro_tokens=9000, memory_limit=int((most + least) / 2)), tmp_path)
    assert run.config.micro_tokens == run.plan.micro_tokens < 9000 and not run.loss.checkpoint
    with pytest.raises(
        UsageError, match=rf"^memory_limit: expected at least \d+ MB for rows of up to {longest} .* lower max_length"
    ):
        preference.dpo_run(load_model("tiny"), PAIRS, settings(memory_limit=20), tmp_path)


def test_a_memory_limit_on_the_slow_path_is_said_to_have_no_effect(tiny, tmp_path, capsys):
    tiny.model = other_architecture()
    preference.dpo_run(tiny, PAIRS, settings(memory_limit=20), tmp_path)
    assert capsys.readouterr().out.count("memory_limit has no effect: memory is planned for the fast path") == 1
