"""General rows to mix into a narrow tuning: everyday prompts, answered by the untuned model itself, so that tuning has to keep them.

Source: rehearsal against forgetting, Robins (1995), Catastrophic Forgetting, Rehearsal and Pseudorehearsal; for tuned language models
Scialom et al. (2022), Fine-tuned Language Models are Continual Learners.
"""

import hashlib
import json
from array import array
from pathlib import Path
from typing import Any

from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_example, encode_prompt, generate
from ftlab.models import LoadedModel
from ftlab.task import DATA
from ftlab.train.examples import Example
from ftlab.train.kept import read_kept, write_kept

ANSWER_TOKENS = 64  # longer answers are cut there and get no end token


def rehearsal_prompts(n: int) -> list[str]:
    """The first n prompts of data/general/train.jsonl, none of which is in the suite that measures general ability.

    Raises:
        UsageError: more prompts are wanted than there are.
        DataError: the file is broken.
    """
    path = DATA / "general" / "train.jsonl"
    try:
        prompts = [json.loads(line)["input"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path.name}: expected rows with an input, found a fault: {error!r}.") from None
    if n > len(prompts):
        raise UsageError(f"--general-rows: expected at most {len(prompts)}, the prompts of {path.name}, found {n}.")
    return prompts[:n]


def longest_rehearsal(loaded: LoadedModel, n: int, max_length: int) -> int:
    """Tokens that the longest of `rehearsal_examples` may have, known before any of them is answered; 0 without any."""
    prompts = [encode_prompt(loaded.tokenizer, [{"role": "user", "content": prompt}]) for prompt in rehearsal_prompts(n)]
    return min(max_length, max((len(ids) + ANSWER_TOKENS for ids in prompts), default=0))


def rehearsal_examples(loaded: LoadedModel, n: int, keep: Path, max_length: int, *, batch_size: int = 32) -> list[Example]:
    """n general prompts with the answers of `loaded`, which must be untuned still.

    Args:
        keep: a file for the answers, so that a resumed run trains on the very same rows; made anew if it is of other prompts or
            another model.
        max_length: longer examples are left out; the caller sees how many by the length of the list.
        batch_size: prompts answered together; memory grows with it.
    """
    if not n:
        return []
    prompts = rehearsal_prompts(n)
    key = hashlib.sha256(json.dumps([loaded.sha256, ANSWER_TOKENS, prompts]).encode()).hexdigest()
    kept = read_kept(keep, key)
    if kept is None:
        conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
        answers = generate(loaded, conversations, max_new_tokens=ANSWER_TOKENS, batch_size=batch_size)
        kept = [[a.text, a.ended] for a in answers]
        write_kept(keep, key, kept)
    examples = []
    for prompt, (text, ended) in zip(prompts, kept, strict=True):
        example = encode_answer(loaded.tokenizer, prompt, text, ended)
        if example[1] < len(example[0]) <= max_length:
            examples.append(example)
    return examples


def encode_answer(tokenizer: Any, prompt: str, text: str, ended: bool) -> Example:
    """A general prompt with the untuned model's answer; one that was cut gets no end token, which the model did not give."""
    ids, start = encode_example(tokenizer, [{"role": "user", "content": prompt}], text)
    ids = array("i", ids if ended else ids[:-1])
    return ids, start, [1.0] * (len(ids) - start)
