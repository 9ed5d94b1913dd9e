"""Any causal LM: tiny random models of several families, with the oddities of each, through training, generation and merging."""

import json

import pytest
import torch
import transformers

from ftlab.artifact import apply_adapter, read_lineage
from ftlab.chat import prompt_text
from ftlab.cli import main
from ftlab.errors import UsageError
from ftlab.generate import encode_prompt, generate
from ftlab.lora import add_lora
from ftlab.models import load_model
from ftlab.stock import hf_generate
from ftlab.train.loss import plain_loss

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "max_position_embeddings": 2048, "initializer_range": 0.1,
}  # fmt: skip
FAMILIES = {
    "llama": ("Llama", {"tie_word_embeddings": False}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "gemma": ("Gemma", {}),  # the head is the embedding, which is scaled on its way in
    "gemma2": ("Gemma2", {"sliding_window": 16, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8}),
    "gpt_neox": ("GPTNeoX", {}),  # one matrix for queries, keys and values; a head of its own name
    "phi3": ("Phi3", {"pad_token_id": 0}),  # gate and up in one matrix
    "granite": ("Granite", {"logits_scaling": 4.0}),
    "cohere": ("Cohere", {}),
}
SYSTEM = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello?"}]
# as Gemma's: a system message is refused, and an answer ends with another token than a text
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>model: {% endif %}"
)


def family(name, tokenizer):
    kind, own = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")
    return getattr(transformers, f"{kind}ForCausalLM")(config(vocab_size=len(tokenizer), **SIZES | own)).eval()


@pytest.fixture
def folder(tmp_path, tiny):
    """Makes a model folder of a family; keywords change the tokenizer."""

    def make(name, **changes):
        for key, value in changes.items():
            setattr(tiny.tokenizer, key, value)
        family(name, tiny.tokenizer).save_pretrained(tmp_path / name)
        tiny.tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


ODD = {  # what a family's tokenizer brings along
    "gemma": {"chat_template": NO_SYSTEM, "eos_token": "<|endoftext|>", "pad_token": None},
    "gemma2": {"chat_template": NO_SYSTEM, "eos_token": "<|endoftext|>"},
    "qwen2": {"pad_token": None, "bos_token": None},
    "gpt_neox": {"chat_template": None, "pad_token": None, "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_trained_generated_from_and_merged(name, folder, toy_folder, tmp_path, capsys):
    place, adapter, answers = folder(name, **ODD.get(name, {})), tmp_path / "adapter", tmp_path / "answers.jsonl"
    model = ["--model", str(place), *(["--chat-template", "plain"] if name == "gpt_neox" else [])]
    short = ["--profile", "smoke", "--train-rows", "6", "--general-rows", "2", "--rank", "2", "--text-weight", "1"]
    task = ["--task", str(toy_folder)]
    assert main(["train", *task, *model, *short, "--out", str(adapter)]) == 0, capsys.readouterr().err
    (tmp_path / "in.jsonl").write_text('{"id": "a", "input": "money back for order 7"}\n')
    predict = ["predict", *task, str(tmp_path / "in.jsonl"), "--adapter", str(adapter), "--max-new-tokens", "8"]
    assert main([*predict, *model, "--out", str(answers)]) == 0, capsys.readouterr().err
    assert json.loads(answers.read_text())["id"] == "a" and read_lineage(adapter)["training"]["curve"]


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_answers_and_merged_weights_are_those_of_transformers_and_peft(name, folder, tmp_path):
    loaded = load_model(str(folder(name)))
    chats = [[{"role": "user", "content": text}] for text in ("hello", "what is it about, then?", "x")]
    expected = hf_generate(loaded, chats, max_new_tokens=5, batch_size=1)
    assert [answer.text for answer in generate(loaded, chats, max_new_tokens=5)] == expected
    adapted = add_lora(loaded.model, rank=2, alpha=4, seed=0)
    for key, p in adapted.named_parameters():
        torch.nn.init.normal_(p, std=0.1) if "lora_B" in key else None
    rows = [(encode_prompt(loaded.tokenizer, chat), 4, None) for chat in chats]
    rows = [(ids, start, [1.0] * (len(ids) - start)) for ids, start, _ in rows]
    whole = sum(
        torch.nn.functional.cross_entropy(
            adapted(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float(), torch.tensor(ids[start:]), reduction="sum"
        )
        for ids, start, _ in rows
    )
    assert plain_loss(adapted, rows)[0].item() == pytest.approx(whole.item(), rel=1e-5)
    ids = torch.tensor([rows[0][0]])
    apart = adapted(input_ids=ids).logits
    adapted.save_pretrained(tmp_path / "a")
    fresh = load_model(loaded.name)
    apply_adapter(fresh, tmp_path / "a")
    assert torch.allclose(fresh.model(input_ids=ids).logits, apart, atol=1e-4) and not hasattr(fresh.model, "peft_config")
    tied = fresh.model.config.tie_word_embeddings
    assert (fresh.model.get_output_embeddings().weight is fresh.model.get_input_embeddings().weight) == tied


def test_pairs_are_weighed_by_the_capped_logits_too(folder):
    from ftlab.train.preference import Pair, plain_pair_logps

    model = load_model(str(folder("gemma2"))).model
    pair = Pair([3, 4, 5], [6, 7], [8])
    chosen, rejected = plain_pair_logps(model, [pair])
    for found, answer in ((chosen, pair.chosen), (rejected, pair.rejected)):
        logits = model(input_ids=torch.tensor([[*pair.prompt, *answer]])).logits[0, 2:-1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_an_answer_ends_where_the_template_ends_it(folder, capsys):
    loaded = load_model(str(folder("gemma", **ODD["gemma"])))
    assert loaded.tokenizer.eos_token == "<|im_end|>" and loaded.tokenizer.pad_token == "<|endoftext|>"
    assert loaded.model.generation_config.eos_token_id == loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert "answers end with <|im_end|>, as its chat template has it" in capsys.readouterr().err


def test_a_template_without_a_place_for_system_gets_its_text_in_the_users_message(tiny):
    tiny.tokenizer.chat_template = NO_SYSTEM
    assert prompt_text(tiny.tokenizer, SYSTEM) == "<|im_start|>user: Be short.\n\nHello?<|im_end|><|im_start|>model: "
    dropped = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }};{% endfor %}"
    tiny.tokenizer.chat_template = dropped
    assert prompt_text(tiny.tokenizer, SYSTEM) == "Be short.\n\nHello?;"
    assert prompt_text(load_model("tiny").tokenizer, SYSTEM).startswith("<|im_start|>system\nBe short.")


def test_the_plain_template_says_who_speaks_and_ends_answers(folder):
    loaded = load_model(str(folder("gpt_neox", **ODD["gpt_neox"])), chat_template="plain")
    assert prompt_text(loaded.tokenizer, SYSTEM) == "<|endoftext|>System:\nBe short.\nUser:\nHello?\nAssistant:\n"
    chat = [*SYSTEM, {"role": "assistant", "content": "Hi."}]
    assert loaded.tokenizer.apply_chat_template(chat, tokenize=False).endswith("Assistant:\nHi.<|endoftext|>\n")


def test_a_model_without_template_names_the_ways_to_give_one(folder):
    with pytest.raises(
        UsageError, match="found none; give one with --chat-template FILE.*--chat-template plain.*chat_template.jinja"
    ):
        load_model(str(folder("gpt_neox", chat_template=None)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found the empty file"),
        ("{% for m in messages %}", "found a fault"),
        ("{{ bos_token }}", "leaves it out"),
        (None, "expected plain or a file"),
    ],
)
def test_a_chat_template_that_does_not_work_is_refused(tmp_path, text, says):
    if text is not None:
        (tmp_path / "t.jinja").write_text(text)
    with pytest.raises(UsageError, match=f"--chat-template.*{says}"):
        load_model("tiny", chat_template=str(tmp_path / "t.jinja"))


def test_an_adapter_made_with_another_template_is_refused(tmp_path, toy_folder, capsys):
    short = ["--profile", "smoke", "--train-rows", "6", "--general-rows", "0", "--rank", "2"]
    train = ["train", "--task", str(toy_folder), *short, "--chat-template", "plain", "--out", str(tmp_path / "a")]
    assert main(train) == 0
    with pytest.raises(UsageError, match="was made with a given chat template .*, found the model's own; give --chat-template"):
        apply_adapter(load_model("tiny"), tmp_path / "a")
    apply_adapter(load_model("tiny", chat_template="plain"), tmp_path / "a")
    assert main([*train, "--resume"]) == 0 and "not trained again" in capsys.readouterr().out


def test_no_end_token_at_all_is_refused_and_one_in_the_template_is_enough(folder):
    without = {"eos_token": None, "chat_template": "{% for m in messages %}{{ m['content'] }};{% endfor %}"}
    with pytest.raises(UsageError, match="expected a tokenizer with an end-of-text token, found none"):
        load_model(str(folder("llama", **without)))


def test_the_end_in_the_template_is_enough(folder, tiny):
    loaded = load_model(str(folder("llama", eos_token=None, pad_token=None)))
    assert loaded.tokenizer.eos_token == loaded.tokenizer.pad_token == "<|im_end|>"


def test_a_tokenizer_of_another_model_is_refused(tmp_path, tiny):
    tiny.model.resize_token_embeddings(100)
    tiny.model.save_pretrained(tmp_path / "m")
    tiny.tokenizer.save_pretrained(tmp_path / "m")
    with pytest.raises(UsageError, match="a tokenizer of at most 100 tokens, the rows of the model's table, found 259"):
        load_model(str(tmp_path / "m"))
