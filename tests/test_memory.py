"""Memory planned before the start: monotone in every size, a plan that fits, one sentence where none does."""

import json
import subprocess
import sys

import pytest

from ftlab.errors import UsageError
from ftlab.lora import add_lora, trainable_parameters
from ftlab.models import fast_decoder, free_memory_mb, resident_mb
from ftlab.train import sft_config
from ftlab.train.loop import CHECKPOINT
from ftlab.train.loss import AnswerLoss
from ftlab.train.memory import LEAST_TOKENS, SPARE, Shape, plan_memory, step_mb
from ftlab.train.sft import sft_run

SMOLLM2 = Shape(106_168_320, 49_152, 30, 576, 1536, 9, 3, 64)
SIZES = {"micro_tokens": 900, "row_tokens": 300, "rank": 16, "checkpoint": False}


def test_shape_is_read_off_the_model(tiny):
    shape = Shape.of(tiny.model)
    layer = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 128
    assert shape == Shape(2 * layer, 259, 2, 64, 128, 4, 2, 16)
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0)
    assert Shape.of(model) == shape
    assert shape.lora_parameters(4, layers=2) == trainable_parameters(model)


def test_only_trained_layers_count(tiny):
    """Their LoRA matrices, and half of what two layers keep for the backward pass."""
    shape = Shape.of(tiny.model)
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0, last_layers=1)
    assert shape.lora_parameters(4, layers=1) == trainable_parameters(model)
    kept = [step_mb(shape, **SIZES | {"rank": 0}, last_layers=k) for k in (0, 2, 1)]
    assert kept[0] == kept[1] and kept[1] - kept[2] == pytest.approx(SPARE * 4 * 900 * shape.kept_floats(300) / 1e6)


@pytest.mark.parametrize("size", ["micro_tokens", "row_tokens", "rank"])
def test_more_of_anything_takes_more_memory(size):
    assert step_mb(SMOLLM2, **SIZES | {size: 2 * SIZES[size]}) > step_mb(SMOLLM2, **SIZES)


def test_checkpointing_takes_less():
    assert step_mb(SMOLLM2, **SIZES | {"checkpoint": True}) < 0.7 * step_mb(SMOLLM2, **SIZES)


@pytest.fixture
def holding(monkeypatch):
    """The process is taken to hold 300 MB: what it really holds depends on the tests before."""
    monkeypatch.setattr("ftlab.train.memory.resident_mb", lambda: 300.0)
    return 300


def test_a_plan_fits_and_is_as_large_as_asked_where_there_is_room(tiny, holding):
    assert plan_memory(tiny.model, [50, 300], micro_tokens=900, rank=16).micro_tokens == 900
    tight = holding + step_mb(Shape.of(tiny.model), micro_tokens=300, row_tokens=40, rank=16, checkpoint=False)
    plan = plan_memory(tiny.model, [40], micro_tokens=5000, rank=16, limit_mb=int(tight) + 2)
    assert 200 < plan.micro_tokens < 5000 and plan.peak_mb <= tight + 2 and not plan.checkpoint


def test_checkpointing_is_the_last_resort(tiny, holding, monkeypatch):
    monkeypatch.setattr(Shape, "of", lambda model: SMOLLM2)
    least = [step_mb(SMOLLM2, micro_tokens=900, row_tokens=900, rank=16, checkpoint=c) for c in (False, True)]
    plan = plan_memory(tiny.model, [900], micro_tokens=900, rank=16, limit_mb=int(holding + sum(least) / 2))
    assert plan.checkpoint and "computed again" in str(plan)


@pytest.mark.parametrize("micro_tokens", [1, LEAST_TOKENS - 1, LEAST_TOKENS, LEAST_TOKENS + 1])
def test_micro_batches_that_are_small_already_are_planned_or_refused(tiny, micro_tokens):
    assert plan_memory(tiny.model, [40], micro_tokens=micro_tokens, rank=16).micro_tokens == micro_tokens
    with pytest.raises(UsageError, match="found 20 MB"):
        plan_memory(tiny.model, [40], micro_tokens=micro_tokens, rank=16, limit_mb=20)


def test_too_little_memory_is_one_sentence_that_says_what_to_lower(tiny, toy_task, tmp_path):
    config = sft_config("smoke", memory_limit=20)
    with pytest.raises(UsageError, match=r"--memory-limit: expected at least \d+ MB .* found 20 MB; lower --max-length"):
        sft_run(toy_task, tiny, config, tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_the_plan_reaches_the_run(tiny, toy_task, tmp_path, holding):
    limit = holding + 60
    run, plan = sft_run(toy_task, tiny, sft_config("smoke", memory_limit=limit, general_rows=0), tmp_path)
    assert run.config.micro_tokens == plan.micro_tokens < sft_config("smoke").micro_tokens
    assert isinstance(run.loss, AnswerLoss) and run.loss.checkpoint == plan.checkpoint


def test_the_plan_comes_before_general_rows_and_counts_them_without_the_base_decoder(tiny, toy_task, tmp_path, monkeypatch):
    """They are far longer than the task's rows for a model that has a token a byte."""
    seen, plan = {}, plan_memory

    def planned(model, lengths, **options):
        seen.update(decoder=tiny._decoder, lengths=lengths)
        return plan(model, lengths, **options)

    def answered(loaded, n, keep, max_length, batch_size):
        assert seen
        seen.update(batch_size=batch_size)
        return []

    fast_decoder(tiny)
    monkeypatch.setattr("ftlab.train.memory.plan_memory", planned)
    monkeypatch.setattr("ftlab.train.sft.rehearsal_examples", answered)
    monkeypatch.setattr("ftlab.train.sft.longest_rehearsal", lambda loaded, n, max_length: 777)
    sft_run(toy_task, tiny, sft_config("smoke", eval_batch_size=5), tmp_path)
    assert seen["decoder"] is None and max(seen["lengths"]) == 777 and seen["batch_size"] == 5


def test_a_limit_on_the_slow_path_is_said_to_have_no_effect(tiny, toy_task, tmp_path, capsys):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    tiny.model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes)).eval()
    for limit, times in ((0, 0), (20, 1)):
        _, plan = sft_run(toy_task, tiny, sft_config("smoke", memory_limit=limit, general_rows=0), tmp_path)
        assert plan is None and capsys.readouterr().out.count("--memory-limit has no effect") == times
        tiny.model = tiny.model.unload()


def test_the_system_tells_what_is_free():
    assert resident_mb() > 50 and free_memory_mb() > 50


V1 = {"memory/memory.limit_in_bytes": "60000000\n", "memory/memory.usage_in_bytes": "50000000\n", "memory/memory.stat": ""}
GROUPS = {
    "version 2": ({"memory.max": "60000000\n", "memory.current": "50000000\n", "memory.stat": "anon 1\n"}, 10),
    "files read lately": ({"memory.max": "60000000", "memory.current": "50000000", "memory.stat": "inactive_file 30000000\n"}, 40),
    "version 1": (V1, 10),
    "version 1, files": (V1 | {"memory/memory.stat": "inactive_file 5\ntotal_inactive_file 20000000\n"}, 30),
}


@pytest.mark.parametrize(("files", "free"), GROUPS.values(), ids=GROUPS)
def test_a_container_has_what_its_limit_leaves_and_dropping_cached_files_gains(tmp_path, files, free):
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert free_memory_mb(tmp_path) == free


@pytest.mark.parametrize("files", [{}, {"memory.max": "max\n", "memory.current": "5", "memory.stat": ""}])
def test_a_container_without_limit_has_what_the_machine_has(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert free_memory_mb(tmp_path) == pytest.approx(free_memory_mb(tmp_path / "none"), rel=0.1)


SCALED = """
import json, resource, sys, tempfile
from pathlib import Path
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from ftlab.lora import make_trainable
from ftlab.models import fast_decoder, load_model, peak_memory_mb, resident_mb
from ftlab.train import sft_config
from ftlab.train.loop import Run
from ftlab.train.loss import AnswerLoss
from ftlab.train.memory import plan_training, release

job, loaded, row = json.loads(sys.argv[1]), load_model("tiny"), 128
sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
loaded.model = LlamaForCausalLM(LlamaConfig(vocab_size=259, tie_word_embeddings=True, **sizes)).eval()

def train(micro_tokens, limit_mb, batch=32, method="lora"):
    config = sft_config("smoke", micro_tokens=micro_tokens, memory_limit=limit_mb, batch_size=batch, method=method)
    plan = plan_training(loaded, [row] * batch, config, method=method)
    loaded.model = make_trainable(loaded.model, config)
    examples = [([5 + (7 * i + j) % 250 for j in range(row)], 64, [1.0] * 64) for i in range(batch)]
    config = sft_config("smoke", micro_tokens=plan.micro_tokens, batch_size=batch)
    folder = Path(tempfile.mkdtemp(dir=job["folder"]))
    run = Run(loaded.model, config, folder, items=examples, lengths=[row] * batch, weights=[64.0] * batch, origin={})
    run.loss = AnswerLoss(loaded, checkpoint=plan.checkpoint, whole=method == "full")
    for _ in range(2):
        run.step(list(range(batch)))
    return plan

import peft
release(loaded)
held = resident_mb()
"""


def scaled(work, folder, **job):
    """What `work` prints, run after SCALED in a process of its own: a random model whose steps take 100 MB and more."""
    command = [sys.executable, "-c", SCALED + work, json.dumps(job | {"folder": str(folder)})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


MEASURED = """
plan = train(job["micro_tokens"], job["extra"] and int(held + job["extra"]), method=job["method"])
print(json.dumps([plan.peak_mb - held, peak_memory_mb() - held, plan.checkpoint]))
"""


@pytest.mark.parametrize(
    ("method", "micro_tokens", "extra"),
    [
        ("lora", 512, 0),
        ("lora", 2048, 0),
        ("lora", 1024, 75),
        ("full", 512, 0),
        ("full", 2048, 0),
        ("dora", 512, 0),
        ("dora", 2048, 0),
    ],
)
def test_the_estimate_is_near_the_measured_peak(tmp_path, method, micro_tokens, extra):
    """Megabytes above what the process held before; the last case has room for one layer's states only."""
    estimate, growth, checkpoint = scaled(MEASURED, tmp_path, method=method, micro_tokens=micro_tokens, extra=extra)
    assert 0.8 * growth <= estimate <= 1.4 * growth and checkpoint == bool(extra)


RELEASED = """
fast_decoder(loaded)
torch.ones(50_000_000)
kept = resident_mb()
release(loaded)
print(json.dumps([kept - held, resident_mb() - held]))
"""


def test_the_base_decoder_and_freed_memory_are_given_back_before_planning(tmp_path):
    kept, left = scaled(RELEASED, tmp_path)
    assert kept > 200 and left < 15


LIMITED = """
status = dict(line.split(":") for line in open("/proc/self/status"))
data = float(status["VmData"].split()[0]) * 1024
hard = int(data + (job["allowed"] + job["margin"]) * 1e6)
resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
try:
    plan = train(4096, int(held + job["limit"]))
    print(json.dumps([plan.micro_tokens, ""]))
except (RuntimeError, MemoryError) as error:
    print(json.dumps([0, str(error) or "no memory"]))
"""


def test_a_run_keeps_its_limit_in_a_process_that_cannot_have_more(tmp_path):
    """The system refuses memory beyond the limit and a margin of 60 MB: the planned run trains, one with a far higher limit fails.

    RLIMIT_DATA counts what a process may write to; a limit on resident memory is not enforced by Linux.
    """
    tokens, _ = scaled(LIMITED, tmp_path, limit=250, allowed=250, margin=60)
    assert 128 < tokens < 4096
    _, fault = scaled(LIMITED, tmp_path, limit=5000, allowed=250, margin=60)
    assert "memory" in fault
