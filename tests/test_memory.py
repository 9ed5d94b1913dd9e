"""Memory planned before the start: monotone in every size, a plan that fits, one sentence where none does."""

import pytest

from ftlab.errors import UsageError
from ftlab.train import sft_config
from ftlab.train.loss import AnswerLoss
from ftlab.train.memory import Shape, free_memory_mb, plan_memory, resident_mb, step_mb
from ftlab.train.sft import sft_run

SMOLLM2 = Shape(106_168_320, 49_152, 30, 576, 1536, 9, 3, 64)
SIZES = {"micro_tokens": 900, "row_tokens": 300, "rank": 16, "checkpoint": False}


def test_shape_is_read_off_the_model(tiny):
    from ftlab.lora import add_lora

    shape = Shape.of(tiny.model)
    layer = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 128
    assert shape == Shape(2 * layer, 259, 2, 64, 128, 4, 2, 16)
    model = add_lora(tiny.model, rank=4, alpha=8, seed=0)
    assert Shape.of(model) == shape
    assert shape.lora_parameters(4) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("size", ["micro_tokens", "row_tokens", "rank"])
def test_more_of_anything_takes_more_memory(size):
    assert step_mb(SMOLLM2, **SIZES | {size: 2 * SIZES[size]}) > step_mb(SMOLLM2, **SIZES)


def test_checkpointing_takes_less():
    assert step_mb(SMOLLM2, **SIZES | {"checkpoint": True}) < 0.7 * step_mb(SMOLLM2, **SIZES)


def test_a_plan_fits_and_is_as_large_as_asked_where_there_is_room(tiny):
    held = resident_mb()
    assert plan_memory(tiny.model, [50, 300], micro_tokens=900, rank=16).micro_tokens == 900
    tight = held + step_mb(Shape.of(tiny.model), micro_tokens=300, row_tokens=40, rank=16, checkpoint=False)
    plan = plan_memory(tiny.model, [40], micro_tokens=5000, rank=16, limit_mb=int(tight) + 2)
    assert 200 < plan.micro_tokens < 5000 and plan.peak_mb <= tight + 2 and not plan.checkpoint


def test_checkpointing_is_the_last_resort(tiny):
    least = [step_mb(Shape.of(tiny.model), micro_tokens=4000, row_tokens=4000, rank=16, checkpoint=c) for c in (False, True)]
    plan = plan_memory(tiny.model, [4000], micro_tokens=4000, rank=16, limit_mb=int(resident_mb() + sum(least) / 2))
    assert plan.checkpoint and "computed again" in str(plan)


def test_too_little_memory_is_one_sentence_that_says_what_to_lower(tiny, toy_task, tmp_path):
    config = sft_config("smoke", memory_limit=20)
    with pytest.raises(UsageError, match=r"--memory-limit: expected at least \d+ MB .* found 20 MB; lower --max-length"):
        sft_run(toy_task, tiny, config, tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_the_plan_reaches_the_run(tiny, toy_task, tmp_path):
    limit = int(resident_mb()) + 60
    run, plan = sft_run(toy_task, tiny, sft_config("smoke", memory_limit=limit, general_rows=0), tmp_path)
    assert run.config.micro_tokens == plan.micro_tokens < sft_config("smoke").micro_tokens
    assert isinstance(run.loss, AnswerLoss) and run.loss.checkpoint == plan.checkpoint


def test_the_system_tells_what_is_free():
    assert resident_mb() > 50 and free_memory_mb() > 50
