"""Chat templates and the special tokens that go with them: how a chat becomes a text for any model, and where an answer ends.

A model says it itself, or `--chat-template` does. What templates differ in is asked of the template, not looked up by the model's name:
whether it takes a system message, and which token it writes behind an answer.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftlab.errors import UsageError

PLAIN = "plain"  # the chat template for models without one, by the name that --chat-template knows it by
_PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}{{ m['role'] | capitalize }}:{{ '\\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{{ '\\n' }}{% endif %}"
)
_MARK = "ftlabmark"  # stands for an answer or a system message, to see what a chat template makes of it


def read_template(given: str) -> str:
    """The text of a chat template: the plain one or a file's.

    Raises:
        UsageError: no such file, or an empty one.
    """
    if given == PLAIN:
        return _PLAIN_TEMPLATE
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--chat-template: expected {PLAIN} or a file with a jinja template, found {given!r} ({error}).") from None
    if not text.strip():
        raise UsageError(f"--chat-template: expected a jinja template, found the empty file {given}.")
    return text


def settle_special_tokens(model: Any, tokenizer: Any, name: str, template: str = "") -> None:
    """A chat template that works, one end and one padding token, the same on tokenizer, model and generation settings.

    An answer ends where the chat template ends it: for some models that is another token than the one that ends a text.

    Raises:
        UsageError: one of them is missing, or the tokenizer knows more tokens than the model.
    """
    if template:
        tokenizer.chat_template = template
    if tokenizer.chat_template is None:
        raise UsageError(
            f"--model {name}: expected a tokenizer with a chat template, found none; give one with --chat-template FILE, take the simple "
            f"one with --chat-template {PLAIN}, or add chat_template.jinja to the model's folder."
        )
    _check_template(tokenizer, name, given=bool(template))
    end_of_text, end = tokenizer.eos_token, _end_of_answer(tokenizer)
    if end_of_text is None and end is None:
        raise UsageError(
            f"--model {name}: expected a tokenizer with an end-of-text token, found none; set eos_token in its config."
        )
    if end not in (None, end_of_text):
        tokenizer.eos_token = end
        print(f"{name}: answers end with {end}, as its chat template has it; its end of a text is {end_of_text}.", file=sys.stderr)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = end_of_text or end
    rows, known = model.get_input_embeddings().weight.shape[0], max(tokenizer.vocab_size, tokenizer.eos_token_id + 1)
    if known > rows:
        raise UsageError(
            f"--model {name}: expected a tokenizer of at most {rows} tokens, the rows of the model's table, found {known}; put the "
            "model's own tokenizer into its folder."
        )
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id


def _check_template(tokenizer: Any, name: str, given: bool) -> None:
    """Raise UsageError unless the chat template renders a message of the user."""
    from jinja2 import TemplateError

    where = "--chat-template" if given else f"--model {name}: its chat template"
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError) as error:
        raise UsageError(f"{where}: expected a jinja template of a chat, found a fault: {error}.") from None
    if _MARK not in text:
        raise UsageError(f"{where}: expected a template that shows the user's message, found one that leaves it out.")


def _end_of_answer(tokenizer: Any) -> str | None:
    """The special token that the chat template writes right behind an answer; None if it writes none."""
    from jinja2 import TemplateError

    chat = [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}]
    try:
        before, mark, rest = tokenizer.apply_chat_template(chat, tokenize=False).rpartition(_MARK)
    except TemplateError:
        return None
    ids = tokenizer(rest.lstrip(), add_special_tokens=False)["input_ids"] if mark and before else []
    token = tokenizer.convert_ids_to_tokens(ids[0]) if ids else None
    known = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special} | set(tokenizer.all_special_tokens)
    return token if token in known else None


def prompt_text(tokenizer: Any, conversation: Sequence[dict]) -> str:
    """A chat as its template writes it, up to where the assistant's answer begins. Where the template has no place for a system
    message, or refuses it, its text goes before the user's first."""
    chat = list(conversation)
    if chat and chat[0]["role"] == "system" and not _takes_system(tokenizer, str(tokenizer.chat_template)):
        chat = _without_system(chat)
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


@functools.lru_cache(maxsize=4)
def _takes_system(tokenizer: Any, template: str) -> bool:
    from jinja2 import TemplateError

    try:
        chat = [{"role": "system", "content": _MARK}, {"role": "user", "content": "hello"}]
        return _MARK in tokenizer.apply_chat_template(chat, tokenize=False)
    except TemplateError:
        return False


def _without_system(chat: Sequence[dict]) -> list[dict]:
    system, *rest = chat
    first = next((i for i, message in enumerate(rest) if message["role"] == "user"), None)
    if first is None:
        return rest
    joined = f"{system['content']}\n\n{rest[first]['content']}"
    return [*rest[:first], rest[first] | {"content": joined}, *rest[first + 1 :]]
