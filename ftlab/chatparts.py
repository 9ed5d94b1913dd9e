"""Which tokens of a chat are the template's and which are a message's words, and how a token reads."""

from collections.abc import Sequence
from typing import Any


def token_text(tokenizer: Any, token: int) -> str:
    """What a token stands for; its own name where it is a piece of a letter."""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return tokenizer.convert_ids_to_tokens(int(token)) if "\ufffd" in text else text


def token_parts(tokenizer: Any, ids: Sequence[int], chat: Sequence[dict] | None) -> list[str]:
    """What each token of a chat with its answer belongs to: what `prompt_parts` says, then "answer" and "end"; "text" without a chat."""
    if chat is None:
        return ["text"] * len(ids)
    prompt = prompt_parts(tokenizer, chat)
    start = len(prompt)
    if list(ids[:start]) != [token for token, _ in prompt]:  # tokens that merged across the border of prompt and answer
        start = next(i for i, (a, (b, _)) in enumerate(zip([*ids, None], prompt, strict=False)) if a != b)
    rest = ["end" if token == tokenizer.eos_token_id else "answer" for token in ids[start:]]
    return [part for _, part in prompt[:start]] + rest


def prompt_parts(tokenizer: Any, chat: Sequence[dict]) -> list[tuple[int, str]]:
    """(token, whose it is) of a chat up to where the answer begins: the role of the message that holds it, or "template".

    The template is rendered once more with a mark in place of each message, so that a message is found even if its words also stand in
    the template. "prompt" for every token if the template changes the messages themselves or the tokenizer keeps no offsets.
    """
    text = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    owners = _owners(tokenizer, chat, text) if tokenizer.is_fast else None
    if owners is None:
        return [(token, "prompt") for token in encoded["input_ids"]]
    found = []
    for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        inside = [owner for owner in owners[start:end] if owner != "template"]
        found.append((token, inside[0] if inside else "template"))
    return found


def _owners(tokenizer: Any, chat: Sequence[dict], text: str) -> list[str] | None:
    """Whose each character of the rendered chat is; None if the messages do not stand in it as they were written, spaces apart."""
    marks = [f"\ue000{i}\ue001" for i in range(len(chat))]  # private use: no message holds them
    marked = [{**message, "content": mark} for message, mark in zip(chat, marks, strict=True)]
    rest = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    for strip in (str, str.strip):
        owners, again, left = [], "", rest
        for message, mark in zip(chat, marks, strict=True):
            before, _, left = left.partition(mark)
            content = strip(message["content"])
            again += before + content
            owners += ["template"] * len(before) + [message["role"]] * len(content)
        if again + left == text:
            return owners + ["template"] * len(left)
    return None
