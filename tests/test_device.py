"""Settings that follow from the machine: what torch reports is faked, what is chosen is checked; two CPU processes train as one does."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import ftlab
from ftlab.artifact import WEIGHTS, read_lineage
from ftlab.cli import main
from ftlab.device import Load, Machine, is_main, leave_together, machine, place, plan_device, settle
from ftlab.errors import UsageError
from ftlab.lora import add_lora, trainable_parameters
from ftlab.stock import one_gpu, sft_trainer, training_arguments
from ftlab.train.settings import PROFILES, sft_config

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's own

GB = 1000.0
A100 = Machine("cuda", "A100", 80 * GB, bf16=True)
T4 = Machine("cuda", "T4", 15 * GB, bf16=False)
SMALL = Load(135_000_000, 5_000_000, layers=30, hidden=576, inner=1536, vocabulary=49_152)  # SmolLM2-135M with LoRA
LARGE = Load(1_720_000_000, 18_000_000, layers=24, hidden=2048, inner=8192, vocabulary=49_152)  # SmolLM2-1.7B with LoRA
FULL = replace(LARGE, trainable=LARGE.parameters)


def plan(found, load=SMALL, batch_size=32, row_tokens=512):
    return plan_device(found, load, batch_size=batch_size, row_tokens=row_tokens)


@pytest.fixture
def fake(monkeypatch):
    """Makes torch report a machine; `fake("cuda", capability=(8, 0), gb=80, count=1)`."""

    def set_up(kind, capability=(8, 0), gb=80, count=1, **environment):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda at: f"GPU {at}")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda at: capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda at: SimpleNamespace(total_memory=gb * 1e9))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: gb * 1e9)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return set_up


def test_a_gpu_with_bfloat16_units_is_seen_as_such(fake):
    fake("cuda", (8, 0), 80)
    assert machine() == Machine("cuda", "GPU 0", 80 * GB, bf16=True)


def test_emulated_bfloat16_does_not_count(fake):
    fake("cuda", (7, 5), 15)
    assert not machine().bf16


def test_each_process_sees_its_own_gpu(fake):
    fake("cuda", count=4, WORLD_SIZE="4", LOCAL_RANK="3", RANK="3", ACCELERATE_USE_FSDP="true")
    found = machine()
    assert (found.name, found.devices, found.processes, found.sharded) == ("GPU 3", 4, 4, True) and not is_main()


def test_a_cpu_that_was_asked_for_is_taken_beside_a_gpu(fake):
    fake("cuda", ACCELERATE_USE_CPU="true", WORLD_SIZE="2")
    assert machine() == Machine(processes=2)


def test_an_apple_gpu_is_seen(fake):
    fake("mps", gb=16)
    assert machine() == Machine("mps", "Apple GPU", 16 * GB)


def test_on_a_cpu_everything_is_32_bits_and_whole(fake, tiny):
    fake("none")
    found = plan(machine())
    arguments = found.arguments()
    assert arguments["use_cpu"] and not arguments["bf16"] and not arguments["fp16"] and not arguments["gradient_checkpointing"]
    assert (arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]) == (32, 1)
    assert arguments["tf32"] is None and not arguments["dataloader_pin_memory"] and arguments["ddp_backend"] is None
    assert place(tiny.model) is tiny.model


def test_a_large_gpu_takes_the_whole_batch_in_bfloat16_by_fused_attention():
    found, arguments = plan(A100), plan(A100).arguments()
    assert arguments["bf16"] and not arguments["use_cpu"] and arguments["tf32"] and arguments["optim"] == "adamw_torch_fused"
    assert (found["attention"], found["weights"], found["rows_at_once"]) == ("sdpa", "32-bit", 32)
    assert arguments["dataloader_pin_memory"] and not arguments["gradient_checkpointing"]


def test_an_older_gpu_takes_16_bit_floats_with_loss_scaling():
    arguments = plan(T4).arguments()
    assert arguments["fp16"] and not arguments["bf16"] and arguments["tf32"] is None


def test_pieces_are_divisors_of_the_batch_and_fit():
    """For 135M with LoRA: 0.54 + 0.02 + 0.04 GB are fixed; a token takes 1.5·(30·(10·576 + 4·1536)·2 + 49,152·10) B = 1.81 MB, a row of
    512 0.93 GB; of 4 GB 80 % are used, so (3.2 - 0.6) / 0.93 = 2.8 rows fit: 2 at once, 16 pieces."""
    found = plan(Machine("cuda", "small", 4 * GB, bf16=True))
    assert SMALL.token_mb(2, False) == pytest.approx(1.5 * (30 * (5760 + 6144) * 2 + 491_520) / 1e6)
    assert (found["rows_at_once"], found["accumulate"], found["checkpointing"]) == (2, 16, False)


def test_layers_are_computed_again_only_if_nothing_fits_otherwise():
    found = plan(Machine("cuda", "small", 6 * GB, bf16=True), LARGE)
    assert found["checkpointing"] and found["weights"] == "bf16" and found["rows_at_once"] * found["accumulate"] == 32
    assert not plan(Machine("cuda", "middle", 24 * GB, bf16=True), LARGE)["checkpointing"]


def test_frozen_weights_are_halved_where_they_would_fill_a_quarter():
    assert plan(Machine("cuda", "x", 24 * GB, bf16=True), LARGE)["weights"] == "bf16"  # 6.9 GB of 24
    assert plan(A100, LARGE)["weights"] == "32-bit"  # of 80
    assert plan(T4, LARGE)["weights"] == "fp16"


def test_8_bit_optimizer_where_its_states_are_large_and_it_is_installed(monkeypatch):
    """Full tuning of 1.7B: 13.8 GB of states, 17 % of 80 GB. LoRA: 0.14 GB."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "bitsandbytes")
    assert plan(A100, FULL)["optimizer"] == "adamw_bnb_8bit" and plan(A100, LARGE)["optimizer"] == "adamw_torch_fused"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    without = plan(A100, FULL)
    assert without["optimizer"] == "adamw_torch_fused" and "pip install bitsandbytes" in "\n".join(without.explain())


def test_apples_gpu_stays_in_32_bits():
    arguments = plan(Machine("mps", "Apple GPU", 16 * GB)).arguments()
    assert not (arguments["bf16"] or arguments["fp16"] or arguments["use_cpu"] or arguments["dataloader_pin_memory"])


def test_the_batch_is_shared_among_processes_and_stays_the_same():
    for n in (1, 2, 4):
        found = plan(replace(A100, processes=n))
        assert found["rows_at_once"] * found["accumulate"] * n == 32
    with pytest.raises(UsageError, match="--batch-size: expected a multiple of 3, the number of processes, found 32"):
        plan(replace(A100, processes=3))
    with pytest.raises(UsageError, match="--train-rows: expected at least one row for each of 4 processes, found 2"):
        plan_device(replace(A100, processes=4), SMALL, batch_size=32, row_tokens=9, rows=2)


def test_sharding_divides_what_is_fixed():
    four = Machine("cuda", "x", 12 * GB, bf16=True, devices=4, processes=4)
    with pytest.raises(UsageError, match="expected a training that fits into 12 GB of x, found 2.* GB before .* --use_fsdp"):
        plan(four, FULL)
    assert plan(replace(four, sharded=True), FULL)["processes"] == 4


def test_capped_attention_is_left_to_the_model_that_caps_it():
    assert plan(A100, replace(SMALL, capped_attention=True))["attention"] == "eager"


def test_an_architecture_without_fused_attention_keeps_its_own():
    assert plan(A100, replace(SMALL, fused_attention=False))["attention"] == "eager"


def test_a_process_computes_on_its_own_gpu_and_a_sharded_model_stays(fake):
    moved = SimpleNamespace(to=lambda where: where)
    fake("cuda", count=2, LOCAL_RANK="1")
    assert place(moved) == "cuda:1"
    fake("cuda", ACCELERATE_USE_FSDP="true")
    assert place(moved) is moved
    fake("mps", ACCELERATE_USE_FSDP="false")
    assert place(moved) == "mps"


def test_idle_gpus_are_told(fake):
    fake("cuda", count=2)
    assert "accelerate launch --num_processes 2 -m ftlab" in "\n".join(plan(machine()).explain())


def test_every_choice_has_a_reason():
    for found in (Machine(), A100, T4, Machine("mps", "Apple GPU", 16 * GB), replace(A100, processes=2, sharded=True)):
        for choice in plan(found).choices:
            assert len(choice.reason) > 15 and choice.name in str(choice) and str(choice.value) in str(choice)


def test_the_load_is_read_off_the_model(tiny):
    before = Load.of(tiny.model, rank=2)
    model = add_lora(tiny.model, rank=2, alpha=4, seed=0)
    load = Load.of(model)
    assert load.trainable == before.trainable == trainable_parameters(model)
    assert (load.layers, load.hidden, load.inner, load.vocabulary) == (2, 64, 128, 259)
    from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

    assert Load.of(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2))).inner == 32
    small = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    assert Load.of(Gemma2ForCausalLM(Gemma2Config(**small, head_dim=4, intermediate_size=8))).capped_attention


def test_frozen_weights_are_cast_and_trained_ones_are_not(tiny):
    model = add_lora(tiny.model, rank=2, alpha=4, seed=0)
    settle(model, plan(Machine("cuda", "x", 24 * GB, bf16=True), LARGE))
    kinds = {p.requires_grad: p.dtype for p in model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    settle(model, plan(A100, replace(SMALL, capped_attention=True)))
    assert model.get_base_model().config._attn_implementation == "eager"


def test_one_process_never_spreads_a_batch_over_several_gpus(tmp_path):
    """trl refuses to; transformers counts the GPUs that it sees, and spreads."""
    told = training_arguments(sft_config("smoke"), tmp_path, plan(replace(A100, devices=4)))
    seen = one_gpu(SimpleNamespace(n_gpu=4, **told))
    assert seen._n_gpu == 1 and seen.bf16 and seen.per_device_train_batch_size == 32


def test_rows_are_grouped_within_the_batches_of_all_processes(tiny, tmp_path):
    examples = [([5] * n, 1, [1.0] * (n - 1)) for n in range(3, 43)]
    trainer = sft_trainer(tiny, examples, sft_config("smoke", batch_size=4, rank=2), tmp_path)
    one = list(trainer._get_train_sampler())
    assert sorted(one) == list(range(40)) and trainer._get_train_sampler().batch_size == 4
    trainer.args.per_device_train_batch_size = 2
    type(trainer.args).world_size, before = property(lambda self: 2), type(trainer.args).world_size
    try:
        assert trainer._get_train_sampler().batch_size == 4
    finally:
        type(trainer.args).world_size = before


def train(folder, out, *, processes):
    """(lineage, adapter's tensors) of one short training through the command line, in as many CPU processes."""
    from safetensors.torch import load_file

    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no",
              "--dynamo_backend", "no", "--main_process_port", "0"] if processes > 1 else []  # fmt: skip
    command = ["-m", "ftlab", "train", "--task", str(folder), "--profile", "smoke", "--trainer", "trl", "--train-rows", "14"]
    options = ["--general-rows", "2", "--epochs", "2", "--rank", "2", "--batch-size", "4", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(ftlab.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, *launch, *command, *options], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the adapter after the last pass") == 1  # the main process alone speaks
    return read_lineage(out), load_file(out / WEIGHTS)


def test_two_cpu_processes_train_as_one_does(toy_folder, tmp_path):
    """The same rows in the same steps: losses and matrices are equal but for the order of additions."""
    (one, alone), (two, together) = (train(toy_folder, tmp_path / str(n), processes=n) for n in (1, 2))
    a, b = one["training"], two["training"]
    assert (a["device"]["processes"], b["device"]["processes"]) == (1, 2) and b["device"]["rows_at_once"] == 2
    assert a["steps"] == b["steps"] == 8 and a["tokens"] == b["tokens"]
    for name in ("train_loss", "validation_loss"):
        assert b["curve"][0][name] == pytest.approx(a["curve"][0][name], rel=1e-4)
    for name, matrix in alone.items():
        assert torch.allclose(matrix.float(), together[name].float(), atol=2e-4), name


def test_the_gpu_profile_trains_and_runs_where_there_is_no_gpu(toy_folder, tmp_path, capsys):
    short = [
        "--profile",
        "gpu",
        "--model",
        "tiny",
        "--train-rows",
        "6",
        "--general-rows",
        "2",
        "--rank",
        "2",
        "--epochs",
        "1",
        "--max-length",
        "4096",
    ]
    assert main(["train", "--task", str(toy_folder), *short, "--out", str(tmp_path / "a")]) == 0
    assert "no GPU was found" in capsys.readouterr().out
    assert read_lineage(tmp_path / "a")["training"]["trainer"] == "trl"
    assert main(["run", str(toy_folder), *short, "--out", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["training"]["device"]["device"] == "cpu" and results["about"]["profile"] == "gpu"
    assert main(["run", str(toy_folder), *short, "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert "expected no --resume" in capsys.readouterr().err


def test_the_main_job_is_for_one_process(toy_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["run", str(toy_folder), "--profile", "smoke", "--out", str(tmp_path / "run")]) == 2
    assert "expected one process, found 2; train with accelerate launch" in capsys.readouterr().err


def test_the_gpu_profile_weighs_all_tokens_alike_as_trl_does():
    assert PROFILES["gpu"].sft.text_weight == 1.0 and PROFILES["gpu"].sft.batch_size % 8 == 0


def test_processes_take_leave_of_each_other_and_one_alone_just_ends(tmp_path):
    leave_together()  # nobody to leave
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    leave_together()
    assert not torch.distributed.is_initialized()
