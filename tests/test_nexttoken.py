"""The next token's probabilities are transformers' own, whatever the temperature, and a text is continued by what was chosen."""

import math

import pytest
import torch

from ftlab.errors import DataError, UsageError
from ftlab.models import LoadedModel, load_model
from ftlab.nexttoken import Candidate, Story, draw, ended, likeliest, next_logits, retold, said, story_ids, surprise_bits


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_probabilities_are_those_of_the_model_by_the_temperature(tiny, temperature):
    ids = story_ids(tiny, Story("Hello"))
    with torch.no_grad():
        reference = (tiny.model(torch.tensor([ids])).logits[0, -1].double() / temperature).softmax(-1)
    found = likeliest(tiny, next_logits(tiny, ids), temperature, k=5)
    assert [c.token_id for c in found.candidates] == reference.topk(5).indices.tolist()
    assert [c.probability for c in found.candidates] == pytest.approx(reference.topk(5).values.tolist(), rel=1e-4)
    assert sum(c.probability for c in found.candidates) + found.rest == pytest.approx(1)
    assert found.others == len(reference) - 5


def test_entropy_is_that_of_a_fair_choice_and_of_none(tiny):
    """Four equally likely tokens: 2 bits. One certain token: 0 bits."""
    four = torch.full((259,), -1e9, dtype=torch.double)
    four[:4] = 0
    assert likeliest(tiny, four).bits == pytest.approx(2)
    one = torch.full((259,), -1e9, dtype=torch.double)
    one[7] = 0
    assert likeliest(tiny, one).bits == 0 and likeliest(tiny, one).candidates[0].probability == 1


def test_drawn_tokens_come_as_often_as_they_are_likely_and_again_with_the_same_seed(tiny):
    logits = torch.full((259,), -1e9, dtype=torch.double)
    logits[10], logits[11] = math.log(0.8), math.log(0.2)
    drawn = [draw(tiny, logits, 1.0, seed=0, place=place).token_id for place in range(400)]
    assert set(drawn) == {10, 11} and 0.74 < drawn.count(10) / 400 < 0.86  # three standard errors: 0.06
    assert drawn[:20] == [draw(tiny, logits, 1.0, seed=0, place=place).token_id for place in range(20)]
    assert draw(tiny, logits, 1.0, 0, 0).probability == pytest.approx({10: 0.8, 11: 0.2}[drawn[0]])


def test_a_story_goes_on_and_back_and_ends(tiny):
    story = Story("ab").take(Candidate(tiny.tokenizer("c")["input_ids"][0], "c", 0.25))
    assert said(tiny, story) == "c" and len(story_ids(tiny, story)) == 3 and not ended(tiny, story)
    story = story.take(Candidate(tiny.tokenizer.eos_token_id, "<|im_end|>", 0.5))
    assert ended(tiny, story) and surprise_bits(story) == pytest.approx(3)  # −log₂(¼ · ½)
    assert story.back().back() == Story("ab") == Story("ab").back()


def test_a_chat_is_rendered_as_generation_does(tiny):
    text = tiny.tokenizer.decode(story_ids(tiny, Story("hi", chat=True, system="Be short.")))
    assert text.startswith("<|im_start|>system\nBe short.<|im_end|>") and text.endswith("<|im_start|>assistant\n")


def test_another_vocabulary_cuts_the_text_anew_and_the_same_one_keeps_the_tokens(tiny):
    story = Story("x").take(Candidate(tiny.tokenizer("a")["input_ids"][0], "a", 0.5)).take(Candidate(5, "?", 0.5))
    assert retold(story, tiny, load_model("tiny")) is story

    class Reversed:
        """A tokenizer whose ids are the letters' own."""

        def get_vocab(self):
            return {}

        def __call__(self, text, **options):
            return {"input_ids": [ord(sign) for sign in text]}

        def decode(self, ids, **options):
            return "".join(map(chr, ids))

    told = retold(story.back(), tiny, LoadedModel("other", None, Reversed(), ""))
    assert told.taken == (Candidate(ord("a"), "a"),) and surprise_bits(told) is None


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(tiny, text):
    with pytest.raises(UsageError, match="expected a text to continue"):
        story_ids(tiny, Story(text))


def test_a_text_longer_than_the_context_is_refused(tiny):
    with pytest.raises(DataError, match="expected fewer than 4096 tokens"):
        next_logits(tiny, [5] * 4096)


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan")])
def test_a_temperature_that_cannot_be_drawn_at_is_refused(tiny, temperature):
    with pytest.raises(UsageError, match="expected a number above 0"):
        likeliest(tiny, torch.zeros(5), temperature)
