"""The next token of a text: which a model thinks likely, what the temperature does to that, and a text written token by token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftlab.chatparts import token_text
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_prompt
from ftlab.models import LoadedModel
from ftlab.sample import DrawnChoice, Sampling


@dataclass(frozen=True)
class Candidate:
    """A token that may come next, and how likely it is at the temperature asked for; None where nobody has asked."""

    token_id: int
    token: str
    probability: float | None = None


@dataclass(frozen=True)
class Next:
    """What may come next.

    Attributes:
        candidates: the likeliest tokens, the likeliest first.
        rest: probability of all other tokens together.
        others: how many those are.
        bits: entropy of the whole distribution, in bits: as uncertain as a choice among 2^bits equally likely tokens.
    """

    candidates: tuple[Candidate, ...]
    rest: float
    others: int
    bits: float


@dataclass(frozen=True)
class Story:
    """A text that is being continued.

    Attributes:
        prompt: what was given: a text, or with `chat` a user's message.
        chat: put the prompt into the model's chat template, so that its answer comes next.
        system: the system message before it, with `chat`.
        taken: the tokens that were chosen so far.
    """

    prompt: str
    chat: bool = False
    system: str = ""
    taken: tuple[Candidate, ...] = ()

    def take(self, candidate: Candidate) -> "Story":
        return replace(self, taken=(*self.taken, candidate))

    def back(self) -> "Story":
        """One token less; the same at the beginning."""
        return replace(self, taken=self.taken[:-1])


def story_ids(loaded: LoadedModel, story: Story) -> list[int]:
    """The token ids that a model is given.

    Raises:
        UsageError: there is no text to continue.
    """
    if not story.prompt.strip():
        raise UsageError("expected a text to continue, found an empty one; write a few words.")
    if story.chat:
        system = [{"role": "system", "content": story.system}] if story.system else []
        ids = encode_prompt(loaded.tokenizer, [*system, {"role": "user", "content": story.prompt}])
    else:
        ids = loaded.tokenizer(story.prompt, add_special_tokens=False)["input_ids"]
    return [*ids, *(candidate.token_id for candidate in story.taken)]


def said(loaded: LoadedModel, story: Story) -> str:
    """The tokens taken, as text; an end token stands in it as the tokenizer names it."""
    return loaded.tokenizer.decode([c.token_id for c in story.taken], clean_up_tokenization_spaces=False)


def ended(loaded: LoadedModel, story: Story) -> bool:
    """Whether the last token taken is the one that ends an answer."""
    return bool(story.taken) and story.taken[-1].token_id == loaded.tokenizer.eos_token_id


def next_logits(loaded: LoadedModel, ids: Sequence[int]) -> Any:
    """The scores of all tokens to come after `ids`, (V,), as 64-bit floats.

    Raises:
        DataError: the text is as long as the model's context.
    """
    import torch

    room = getattr(loaded.model.config, "max_position_embeddings", None)
    if room and len(ids) >= room:
        raise DataError(f"expected fewer than {room} tokens, the model's context, found {len(ids)}; shorten the text.")
    with torch.inference_mode():
        out = loaded.model(input_ids=torch.tensor([list(ids)], device=loaded.model.device), use_cache=False, logits_to_keep=1)
    return out.logits[0, -1].double().cpu()


def likeliest(loaded: LoadedModel, logits: Any, temperature: float = 1.0, k: int = 10) -> Next:
    """The k likeliest tokens by the model's scores, which are divided by the temperature before they become probabilities.

    Raises:
        UsageError: a temperature that is not above 0.
    """
    probabilities = (logits / Sampling(temperature).temperature).softmax(-1)
    top, ids = probabilities.topk(min(k, len(probabilities)))
    pairs = zip(ids.tolist(), top.tolist(), strict=True)
    found = tuple(Candidate(token, token_text(loaded.tokenizer, token), p) for token, p in pairs)
    entropy = -(probabilities * probabilities.clamp(min=1e-300).log()).sum().item() / math.log(2)
    return Next(found, max(0.0, 1 - top.sum().item()), len(probabilities) - len(found), max(0.0, entropy))


def draw(loaded: LoadedModel, logits: Any, temperature: float, seed: int, place: int) -> Candidate:
    """One token drawn at random, by the probabilities; the same for the same seed and place in the text.

    Raises:
        UsageError: see `likeliest`.
    """
    (token,) = DrawnChoice(Sampling(temperature, seed), [place])([0], logits[None])
    p = (logits / temperature).softmax(-1)[token].item()
    return Candidate(token, token_text(loaded.tokenizer, token), p)


def retold(story: Story, before: LoadedModel, after: LoadedModel) -> Story:
    """The same text for another model: the tokens taken stay if the vocabulary does, else their text is cut up anew."""
    if not story.taken or before is after or before.tokenizer.get_vocab() == after.tokenizer.get_vocab():
        return story
    ids = after.tokenizer(said(before, story), add_special_tokens=False)["input_ids"]
    return replace(story, taken=tuple(Candidate(token, token_text(after.tokenizer, token)) for token in ids))


def surprise_bits(story: Story) -> float | None:
    """−log₂ of the probability of all tokens taken; None if one of them has none."""
    known = [c.probability for c in story.taken]
    return None if None in known else -sum(map(math.log2, known))
