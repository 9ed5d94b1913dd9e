"""Every method of supervised fine-tuning: what it trains is what peft and transformers would, it comes back from disk, a pause changes
nothing, and the study compares equal work."""

import json
import os
import signal

import pytest
import torch

from ftlab import methods
from ftlab.artifact import CONFIG, LINEAGE, MODEL, WEIGHTS, apply_adapter, read_model_weights, save_model_weights
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.generate import generate
from ftlab.lora import make_trainable, trainable_parameters
from ftlab.mainjob import train_adapter
from ftlab.models import load_model
from ftlab.plots import methods_comparison
from ftlab.stock import train_trl
from ftlab.train import rates as rates_module
from ftlab.train import sft_config, train_sft
from ftlab.train.loop import Run, rate_at
from ftlab.train.loss import AnswerLoss
from ftlab.train.rates import RATES, choose_rate
from ftlab.train.settings import METHODS
from ftlab.train.sft import sft_run

HERE = ("lora", "lora-last", "rslora", "dora", "full")


def smoke(method="lora", **changes):
    small = {"train_rows": 8, "batch_size": 4, "general_rows": 0, "max_new_tokens": 4, "rank": 4, "alpha": 8, "text_weight": 1.0}
    return sft_config("smoke", method=method, **(small | changes))


def finished(toy_task, folder, method, **changes):
    """A model that was trained by `method`, and the folder it was left in."""
    loaded = load_model("tiny")
    train_adapter(
        toy_task, loaded, smoke(method, learning_rate=1e-2, **changes), folder, profile_name="smoke", by_loss=True,
        say=lambda text: None, progress=False,
    )  # fmt: skip
    return loaded, folder


def plain(method):
    """The model as peft alone, or nothing at all, prepares it."""
    from peft import LoraConfig, get_peft_model

    model = load_model("tiny").model.double()
    if method == "full":
        return model
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    kind = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}}.get(method, {})
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=linear, task_type="CAUSAL_LM", **kind)).double()


def plain_step(model, optimizer, examples, rate):
    """One step of torch's AdamW on transformers' own loss, row by row."""
    labels = sum(len(ids) - start for ids, start, _ in examples)
    for ids, start, _ in examples:
        row = torch.tensor([list(ids)])
        wanted = row.clone()
        wanted[:, :start] = -100
        (model(input_ids=row, labels=wanted).loss * (len(ids) - start) / labels).backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "full"])
def test_two_steps_are_those_of_plain_peft_and_transformers(method, toy_task, tmp_path):
    """In 64 bits, since Adam turns rounding of gradients near zero into whole steps; transformers' own loss rounds to 32 all the same."""
    ours, config = load_model("tiny"), smoke(method, learning_rate=1e-3)
    ours.model = ours.model.double()
    run, _ = sft_run(toy_task, ours, config, tmp_path)
    ours.model.double()  # peft's matrices
    run.loss = AnswerLoss(ours, whole=method == "full")
    theirs = plain(method)
    theirs.load_state_dict({name: value.clone() for name, value in ours.model.state_dict().items()})
    trained = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    assert set(trained) == set(run.named)
    optimizer = torch.optim.AdamW(trained.values(), weight_decay=0.0)
    for step, batch in enumerate(([0, 1, 2, 3], [4, 5, 6, 7])):
        run.step(batch)
        run.step_in_epoch += 1
        plain_step(theirs, optimizer, [run.items[i] for i in batch], rate_at(step, run.steps_per_epoch, config))
    for name, p in trained.items():
        moved = (p - before[name]).norm()
        assert moved > 0 and (run.named[name] - p).norm() < 1e-3 * moved, name


def test_rslora_takes_the_fast_path_and_the_others_say_why_not(toy_task, tmp_path, capsys):
    for method, said in (("rslora", ""), ("dora", "a variant of LoRA"), ("full", "every weight is trained")):
        run, plan = sft_run(toy_task, load_model("tiny"), smoke(method), tmp_path / method)
        assert (run.loss.decoder is None) == bool(said) and said in capsys.readouterr().out and plan.peak_mb > 0


@pytest.mark.parametrize(("method", "share"), [("lora", 1.0), ("lora-last", 1.0), ("rslora", 0.25), ("dora", 1.0), ("full", 0.1)])
def test_a_method_brings_its_rate_and_its_reason_unless_one_is_given(method, share):
    config = sft_config("cpu", method=method)
    assert config.learning_rate == pytest.approx(share * sft_config("cpu").learning_rate)
    assert sft_config("cpu", method=method, learning_rate=3e-4).learning_rate == 3e-4
    assert method == "lora" or METHODS[method].reason in "\n".join(config.explain())
    assert config.last_layers == (8 if method == "lora-last" else 0)


def test_what_is_trained_has_the_size_by_hand(tiny):
    """Per layer 64→64, 64→32 twice, 64→64, 64→128 twice, 128→64; matrices of rank 4 on both sides, DoRA one length for each output."""
    ins, outs = (64, 64, 64, 64, 64, 64, 128), (64, 32, 32, 64, 128, 128, 64)
    lora = 4 * (sum(ins) + sum(outs))
    weights = sum(a * b for a, b in zip(ins, outs, strict=True)) + 2 * 64
    sizes = {
        "lora": 2 * lora,
        "lora-last": lora,
        "rslora": 2 * lora,
        "dora": 2 * (lora + sum(outs)),
        "full": 2 * weights + 259 * 64 + 64,
    }
    for method, size in sizes.items():
        assert trainable_parameters(make_trainable(load_model("tiny").model, smoke(method))) == size, method


@pytest.mark.parametrize("method", HERE)
def test_what_was_trained_comes_back_with_the_same_outputs(method, toy_task, tmp_path):
    trained, folder = finished(toy_task, tmp_path / "a", method)
    ids, fresh, base = torch.randint(3, 250, (1, 12)), load_model("tiny"), load_model("tiny")
    lineage = apply_adapter(fresh, folder)
    logits = [loaded.model(input_ids=ids).logits for loaded in (trained, fresh, base)]
    assert torch.allclose(logits[0], logits[1], atol=1e-4) and not torch.allclose(logits[1], logits[2], atol=1e-2)
    assert lineage["config"]["method"] == method and lineage["base"]["sha256"] == base.sha256 and fresh.adapter_sha256


def test_a_fully_tuned_folder_is_a_model_by_itself(toy_task, tmp_path):
    trained, folder = finished(toy_task, tmp_path / "a", "full")
    alone, ids = load_model(str(folder)), torch.randint(3, 250, (1, 12))
    assert torch.equal(alone.model(input_ids=ids).logits, trained.model(input_ids=ids).logits)
    chat = [{"role": "user", "content": "hi"}]
    templates = [loaded.tokenizer.apply_chat_template(chat, tokenize=False) for loaded in (alone, trained)]
    assert templates[0] == templates[1] and alone.tokenizer.eos_token_id == trained.tokenizer.eos_token_id
    assert str(tmp_path) not in (folder / "config.json").read_text()


def test_a_fully_tuned_model_is_taken_by_adapter_and_by_model(toy_folder, tmp_path, capsys):
    out, source = tmp_path / "m", tmp_path / "in.jsonl"
    source.write_text('{"id": "a", "input": "hello"}\n{"id": "b", "input": "charged twice on order 7"}\n')
    options = ["--profile", "smoke", "--train-rows", "8", "--general-rows", "0", "--learning-rate", "0.01"]
    assert main(["train", "--task", str(toy_folder), "--method", "full", "--out", str(out), *options]) == 0
    assert "the model of pass 1" in capsys.readouterr().out
    predict = ["predict", "--task", str(toy_folder), "--max-new-tokens", "6", str(source)]
    assert main([*predict, "--model", "tiny", "--adapter", str(out), "--out", str(tmp_path / "1")]) == 0
    assert main([*predict, "--model", str(out), "--base", "--prompt", "short", "--out", str(tmp_path / "2")]) == 0
    assert (tmp_path / "1").read_text() == (tmp_path / "2").read_text()


def test_the_main_job_tunes_in_full_and_takes_the_finished_model_again(toy_folder, tmp_path, capsys):
    run = ["run", str(toy_folder), "--profile", "smoke", "--method", "full", "--general-rows", "0", "--out", str(tmp_path / "run")]
    assert main(run) == 0
    first = json.loads((tmp_path / "run" / "results.json").read_text())
    assert main([*run, "--resume"]) == 0 and "not trained again" in capsys.readouterr().out
    again = json.loads((tmp_path / "run" / "results.json").read_text())
    assert first["systems"] == again["systems"] and first["about"]["trained_with"]["method"] == "full"
    assert "fine-tuning by full" in (tmp_path / "run" / "report.md").read_text()


def test_weights_that_moved_are_answered_with_and_not_old_copies(toy_task, tmp_path):
    loaded = load_model("tiny")
    run, _ = sft_run(toy_task, loaded, smoke("full", learning_rate=0.05), tmp_path)
    chats = [toy_task.conversation(row) for row in toy_task.rows("validation")[:3]]
    generate(loaded, chats, max_new_tokens=6)
    run.step([0, 1, 2, 3])
    ours = [answer.text for answer in generate(loaded, chats, max_new_tokens=6)]
    save_model_weights(loaded.model, tmp_path / "now")
    fresh = load_model("tiny")
    read_model_weights(fresh.model, tmp_path / "now")
    assert ours == [answer.text for answer in generate(fresh, chats, max_new_tokens=6)]


def interrupt_at_step(monkeypatch, n):
    step, count = Run.step, iter(range(1, 1000))

    def interrupted(self, batch):
        if next(count) == n:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Run, "step", interrupted)


@pytest.mark.parametrize("method", ["rslora", "dora", "full"])
def test_a_pause_changes_no_bit(method, toy_task, tmp_path, monkeypatch):
    config = smoke(method, epochs=2)
    train_sft(toy_task, load_model("tiny"), config, tmp_path / "straight", progress=False)
    interrupt_at_step(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), config, tmp_path / "paused", progress=False)
    monkeypatch.undo()
    train_sft(toy_task, load_model("tiny"), config, tmp_path / "paused", resume=True, progress=False)
    name = MODEL if method == "full" else WEIGHTS
    assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "paused" / name).read_bytes()


def test_another_method_is_another_run(toy_task, tmp_path, monkeypatch):
    interrupt_at_step(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_sft(toy_task, load_model("tiny"), smoke("rslora", learning_rate=1e-3), tmp_path, progress=False)
    with pytest.raises(DataError, match=r"made with other method \(rslora, now dora\)"):
        train_sft(toy_task, load_model("tiny"), smoke("dora", learning_rate=1e-3), tmp_path, resume=True, progress=False)


def test_a_full_model_takes_the_place_of_an_adapter_in_its_folder(toy_task, tmp_path):
    """transformers would put the adapter on the model when it loads the folder."""
    finished(toy_task, tmp_path, "rslora")
    assert (tmp_path / WEIGHTS).exists()
    finished(toy_task, tmp_path, "full")
    assert (tmp_path / MODEL).exists() and not (tmp_path / WEIGHTS).exists() and not (tmp_path / CONFIG).exists()


def test_lengths_of_dora_stay_in_32_bits(toy_task, tmp_path):
    from safetensors.torch import load_file

    finished(toy_task, tmp_path, "dora")
    kinds = {("magnitude" in name, tensor.dtype) for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    assert kinds == {(True, torch.float32), (False, torch.float16)}


def test_damaged_and_foreign_weights_are_refused(toy_task, tmp_path):
    _, folder = finished(toy_task, tmp_path, "full")
    data = bytearray((folder / MODEL).read_bytes())
    data[-1] ^= 1
    (folder / MODEL).write_bytes(bytes(data))
    with pytest.raises(DataError, match="the adapter is damaged"):
        apply_adapter(load_model("tiny"), folder)
    (folder / MODEL).write_bytes(b"x" * 40)
    with pytest.raises(DataError, match="the weights cannot be read"):
        read_model_weights(load_model("tiny").model, folder)
    (folder / MODEL).unlink()
    with pytest.raises(UsageError, match="expected a folder with model.safetensors"):
        apply_adapter(load_model("tiny"), folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "prefix"}, "--method: expected one of lora, lora-last, .*, found 'prefix'"),
        ({"method": "full", "last_layers": 2}, "--last-layers: expected 0 with --method full"),
        ({"method": "lora-last", "last_layers": 0}, "--last-layers: expected a number above 0 with --method lora-last"),
    ],
)
def test_methods_that_cannot_work_are_refused(changes, says):
    with pytest.raises(UsageError, match=says):
        sft_config("cpu", **changes)


def test_qlora_without_a_gpu_is_one_sentence_before_any_work(toy_folder, toy_task, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("ftlab.mainjob.classifier_accuracies", None)  # calling it would fail
    out = ["--profile", "smoke", "--method", "qlora", "--out", str(tmp_path / "a")]
    for command in (["train", "--task", str(toy_folder), *out], ["run", str(toy_folder), *out]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "expected a GPU with CUDA and the package bitsandbytes, found no such GPU" in said and said.count("\n") == 1
    assert methods.trainable_here() == list(HERE)
    with pytest.raises(UsageError, match="expected trl's trainer"):
        sft_run(toy_task, load_model("tiny"), smoke("qlora"), tmp_path)


@pytest.mark.filterwarnings("ignore")  # trl's own
@pytest.mark.parametrize("method", ["full", "qlora"])
def test_trl_trains_the_method_and_leaves_what_loads(method, toy_task, tmp_path, monkeypatch):
    """The 4-bit model of qlora is replaced by the plain one: there is no GPU here."""
    monkeypatch.setattr("ftlab.stock.check_quantised", lambda config: None)
    monkeypatch.setattr("ftlab.stock.quantised_model", lambda loaded: load_model("tiny").model)
    loaded, fresh, base = (load_model("tiny") for _ in range(3))
    lineage = train_trl(toy_task, loaded, smoke(method, learning_rate=1e-2), tmp_path / "a", profile_name="smoke")
    apply_adapter(fresh, tmp_path / "a")
    ids = torch.randint(3, 250, (1, 12))
    logits = [model.model(input_ids=ids).logits for model in (loaded, fresh, base)]
    assert torch.allclose(logits[0], logits[1], atol=1e-3) and not torch.allclose(logits[1], logits[2], atol=1e-2)
    assert lineage["training"]["trainer"] == "trl" and (tmp_path / "a" / (MODEL if method == "full" else WEIGHTS)).exists()


def test_the_folder_of_the_base_model_is_not_overwritten(toy_task, tmp_path):
    _, folder = finished(toy_task, tmp_path / "base", "full")
    before = (folder / MODEL).read_bytes()
    with pytest.raises(UsageError, match="--out: expected another folder than the base model's"):
        train_sft(toy_task, load_model(str(folder)), smoke("full"), folder, progress=False)
    assert (folder / MODEL).read_bytes() == before and (folder / LINEAGE).exists()


@pytest.mark.parametrize("method", ["full", "dora"])
def test_too_little_memory_is_refused_before_the_start_with_what_to_lower(method, toy_task, tmp_path):
    with pytest.raises(UsageError, match=r"--memory-limit: expected at least .* lower --max-length .* or --method lora") as error:
        sft_run(toy_task, load_model("tiny"), smoke(method, memory_limit=20), tmp_path)
    assert ("--rank" in str(error.value)) == (method == "dora")


def test_too_little_disk_is_refused_before_the_start(toy_task, tmp_path, monkeypatch):
    from collections import namedtuple

    monkeypatch.setattr("shutil.disk_usage", lambda path: namedtuple("usage", "total used free")(10, 10, 10_000))
    with pytest.raises(DataError, match="MB of free disk"):
        sft_run(toy_task, load_model("tiny"), smoke("full"), tmp_path)


def told_losses(monkeypatch, losses):
    """Trials give these losses, by rate; returns the rates that were tried."""
    tried = []

    def trained(task, loaded, config, out, progress):
        tried.append(config.learning_rate)
        return {"curve": [{"validation_loss": losses(config.learning_rate)}]}

    monkeypatch.setattr(rates_module, "train_sft", trained)
    return tried


def chosen(toy_task, folder, **changes):
    config = smoke("full", **({"learning_rate": 1e-3} | changes))
    return choose_rate(toy_task, lambda: load_model("tiny"), config, folder, say=lambda text: None)


def test_the_rate_with_the_lowest_loss_is_chosen_and_the_ladder_goes_on_at_its_end(toy_task, tmp_path, monkeypatch):
    tried = told_losses(monkeypatch, lambda rate: abs(rate - 0.01))
    found = chosen(toy_task, tmp_path)
    assert tried == [1e-3, 3.16e-4, 3.16e-3, 1e-2, 3.16e-2] and found["learning_rate"] == 1e-2 and not found["at_edge"]
    assert [t["learning_rate"] for t in found["tried"]] == sorted(tried)
    assert found["rows"] == 8 and found["validation_rows"] == len(toy_task.rows("validation"))
    chosen(toy_task, tmp_path)
    assert len(tried) == 5  # nothing was tried again
    chosen(toy_task, tmp_path, rank=2)
    assert len(tried) == 10


def test_the_ladder_ends_and_says_so(toy_task, tmp_path, monkeypatch):
    tried = told_losses(monkeypatch, lambda rate: 1 / rate)
    assert chosen(toy_task, tmp_path)["at_edge"] and len(tried) == rates_module.MOST


def test_a_loss_that_is_no_number_is_the_worst(toy_task, tmp_path, monkeypatch):
    told_losses(monkeypatch, lambda rate: float("nan") if rate > 5e-4 else 1.0 + rate)
    assert chosen(toy_task, tmp_path)["learning_rate"] < 5e-4
    told_losses(monkeypatch, lambda rate: float("nan"))
    with pytest.raises(DataError, match="a learning rate with a finite loss"):
        chosen(toy_task, tmp_path / "other")


def test_train_chooses_its_rate_on_request(toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(rates_module, "MOST", 3)
    options = ["--profile", "smoke", "--train-rows", "4", "--general-rows", "0", "--learning-rate", "auto"]
    assert main(["train", "--task", str(toy_folder), "--out", str(tmp_path / "a"), *options]) == 0
    lineage = json.loads((tmp_path / "a" / LINEAGE).read_text())
    losses = json.loads((tmp_path / "a" / RATES).read_text())["value"]
    step = int(min(losses, key=losses.get))
    assert lineage["config"]["learning_rate"] == pytest.approx(sft_config("smoke").learning_rate * 10 ** (step / 2), rel=0.01)
    with pytest.raises(SystemExit):
        main(["cost", "--task", str(toy_folder), "--learning-rate", "auto"])


@pytest.fixture
def in_process(monkeypatch):
    """Parts are done in this process; returns the names of those that were done."""
    done = []

    def run_part(job):
        done.append(job["folder"].rpartition("/")[2])
        methods.work(job)

    monkeypatch.setattr(methods, "run_part", run_part)
    monkeypatch.setattr(methods, "machine", lambda: {"cores": 2})
    monkeypatch.setattr(rates_module, "MOST", 3)
    return done


def studied(toy_folder, out, **options):
    small = {"epochs": 2, "max_new_tokens": 4, "seeds": 2, "rows": 4, "profile_name": "smoke", "methods": ["lora", "full"]}
    return methods.methods_study(str(toy_folder), out, say=lambda text: None, **(small | options))


def test_the_study_compares_equal_work_and_does_no_part_twice(toy_folder, tmp_path, in_process, capsys):
    written = []
    found = studied(toy_folder, tmp_path, parts=4, write=written.append)
    assert in_process == ["base", "rate_lora", "rate_full", "lora_0"] and len(found["rows"]) == 1
    assert found["unfinished"] == ["full_0", "lora_1", "full_1"] and found["against_lora"] == {} and written[-1] == found
    found = studied(toy_folder, tmp_path)
    assert in_process[4:] == ["full_0", "lora_1", "full_1"] and found["unfinished"] == []
    assert [(row["method"], row["seed"]) for row in found["rows"]] == [("lora", 0), ("full", 0), ("lora", 1), ("full", 1)]
    wanted = {"method", "seed", "scores", "trainable_parameters", "peak_memory_mb", "seconds"}
    for row in found["rows"]:
        assert set(row) == wanted and row["scores"]["strict"]["n"] == found["sets"]["validation"]["rows"]
        assert row["scores"]["general"]["n"] == found["base"]["scores"]["general"]["n"] and row["peak_memory_mb"] > 100
    steps = {(about["steps"], about["tokens"]) for about in found["methods"].values()}
    assert len(steps) == 1 and steps.pop()[0] == 2 and found["settings"]["train_rows"] == 4
    assert set(found["against_lora"]) == {"full"} and set(found["against_lora"]["full"]["strict"]) == {"mean", "low", "high"}
    table = methods.methods_table(found).splitlines()
    assert [line.split()[0] for line in table] == ["method", "lora", "full", "untuned"] and " / " in table[1]
    json.dumps(found)
    figure = methods_comparison(found)
    assert "full strict" in figure.get_label() and len(figure.axes) == 4


def test_an_arm_takes_the_rate_that_was_chosen(toy_folder, tmp_path, in_process, monkeypatch):
    monkeypatch.setattr(methods, "choose_rate", lambda *args: {"learning_rate": 0.0123, "tried": [], "at_edge": False})
    studied(toy_folder, tmp_path, methods=["dora"], seeds=1)
    assert json.loads((tmp_path / "dora_0" / LINEAGE).read_text())["config"]["learning_rate"] == 0.0123


def test_weights_without_figures_are_trained_again(toy_folder, tmp_path, in_process, capsys):
    """A process that finds them finished would report its own memory, not that of training."""
    options = {"methods": ["lora"], "seeds": 1}
    first = studied(toy_folder, tmp_path, **options)
    for name in (methods.FOUND, methods.TRAINED):
        (tmp_path / "lora_0" / name).unlink()
    again = studied(toy_folder, tmp_path, **options)
    assert in_process[-1] == "lora_0" and again["rows"][0]["scores"] == first["rows"][0]["scores"]
    assert "not trained again" not in capsys.readouterr().out


def test_a_part_is_a_process_and_one_that_fails_is_named(toy_folder, tmp_path):
    job = {
        "part": "base",
        "task": str(toy_folder),
        "profile": "smoke",
        "split": "validation",
        "folder": str(tmp_path / "b"),
        "key": "k",
    }
    methods.run_part(job)
    found = json.loads((tmp_path / "b" / methods.FOUND).read_text())["value"]
    assert found["model"]["name"] == "tiny" and found["machine"]["cores"]
    with pytest.raises(DataError, match="b: the process ended with status 2"):
        methods.run_part(job | {"task": "no such task"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"methods": ["lora", "magic"]}, "--method: expected one of"),
        ({"methods": ["qlora"]}, "bitsandbytes"),
        ({"seeds": 0}, "--seeds"),
        ({"parts": -1}, "--parts"),
        ({"rows": 1000}, "--rows: expected 0 .* found 1000"),
        ({"split": "train"}, "--split: expected validation or test"),
    ],
)
def test_a_study_that_cannot_work_is_refused_before_any_part(options, says, toy_folder, tmp_path, in_process, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=says):
        studied(toy_folder, tmp_path, **options)
    assert in_process == []


def test_the_command_writes_what_is_finished_and_says_what_is_left(toy_folder, tmp_path, in_process, capsys):
    command = [
        "study",
        "methods",
        "--task",
        str(toy_folder),
        "--profile",
        "smoke",
        "--methods",
        "rslora",
        "--seeds",
        "1",
        "--rows",
        "4",
    ]
    out = ["--out", str(tmp_path / "s"), "--json", str(tmp_path / "m.json")]
    assert main([*command, *out, "--parts", "2"]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["rows"] == [] and "1 part(s) are left: rslora_0" in capsys.readouterr().out
    assert main([*command, *out]) == 0
    assert [row["method"] for row in json.loads((tmp_path / "m.json").read_text())["rows"]] == ["rslora"]


def test_the_help_names_every_method(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    assert all(method in said for method in METHODS)


def test_old_lineages_without_a_method_are_those_of_lora(toy_task, tmp_path):
    _, folder = finished(toy_task, tmp_path, "lora")
    lineage = json.loads((folder / LINEAGE).read_text())
    del lineage["config"]["method"]
    (folder / LINEAGE).write_text(json.dumps(lineage))
    said, config = [], smoke("lora", learning_rate=1e-2)
    options = {"profile_name": "smoke", "resume": True, "by_loss": True, "progress": False, "say": said.append}
    train_adapter(toy_task, load_model("tiny"), config, folder, **options)
    assert any("not trained again" in line for line in said)
