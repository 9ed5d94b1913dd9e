"""What a masking teaches: the answer's loss is the trainer's, everything's is transformers' own, and the parts add up."""

from dataclasses import replace

import pytest
import torch

from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_example
from ftlab.masking import masked_xray, part_lines, parts
from ftlab.xray import Subject, xray


@pytest.fixture
def row(toy_task):
    return toy_task.rows("validation")[0]


def test_the_answer_only_is_what_our_trainer_sees(tiny, toy_task, row, tmp_path):
    by_trainer = xray("sft", Subject(tiny, tmp_path, toy_task, [row], text_weight=0.5))
    found = masked_xray(tiny, toy_task, row, "answer", 0.5)
    assert found.rows == by_trainer.rows and found.own_loss == by_trainer.own_loss and found.agrees


def test_everything_is_the_loss_that_transformers_computes_for_plain_text(tiny, toy_task, row):
    ids, _ = encode_example(tiny.tokenizer, toy_task.conversation(row), toy_task.completion(row))
    batch = torch.tensor([ids])
    with torch.no_grad():
        reference = tiny.model(input_ids=batch, labels=batch).loss.item()
    found = masked_xray(tiny, toy_task, row, "everything", text_weight=1.0)
    assert found.own_loss == pytest.approx(reference, rel=1e-4)
    assert [p.at for p in found.rows[0].positions if p.loss is None] == [0]


def test_the_shares_of_the_parts_add_up_and_masked_parts_have_none(tiny, toy_task, row):
    answer, everything = (parts(masked_xray(tiny, toy_task, row, m).rows[0].positions) for m in ("answer", "everything"))
    for found in (answer, everything):
        assert sum(p.share for p in found) == pytest.approx(1)
        assert {p.name for p in found} == {"template", "system", "user", "answer", "end"}
    assert {p.name for p in answer if p.trained} == {"answer", "end"}
    assert {p.name for p in answer if p.share == 0} == {"template", "system", "user"}
    assert next(p for p in everything if p.name == "user").trained == len(row.text)
    assert part_lines(answer)[0].split()[:2] == ["part", "tokens"] and len(part_lines(answer)) == 6


def test_free_text_of_no_weight_has_no_share(tiny, toy_task, row):
    trained = [p for p in masked_xray(tiny, toy_task, row, text_weight=0.0).rows[0].positions if p.loss is not None]
    free = [p for p in trained if p.weight == 0]
    assert "".join(p.token for p in free) == toy_task.free_text(row) != ""


def test_the_model_stays_as_it_is(tiny, toy_task, row):
    model, decoder = tiny.model, dict(tiny.model.named_parameters())
    masked_xray(tiny, toy_task, row, "everything")
    assert tiny.model is model and all(p is decoder[name] and p.grad is None for name, p in tiny.model.named_parameters())


def test_bad_input_is_told_in_a_sentence(tiny, toy_task, row):
    with pytest.raises(UsageError, match="expected one of answer, everything, found 'nothing'"):
        masked_xray(tiny, toy_task, row, "nothing")
    with pytest.raises(UsageError, match="expected a number from 0 on, found -1"):
        masked_xray(tiny, toy_task, row, text_weight=-1)
    with pytest.raises(UsageError, match="label it first"):
        masked_xray(tiny, toy_task, replace(row, output=None))
    with pytest.raises(DataError, match="longer than 10 tokens"):
        masked_xray(tiny, toy_task, row, max_length=10)
