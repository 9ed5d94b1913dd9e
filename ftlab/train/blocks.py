"""From a corpus to blocks of tokens: the tokenizer is trained, the text becomes 16-bit numbers in files, and blocks are read from there.

The files are mapped into memory, so that any block can be had in any order and a corpus may be larger than the memory. Documents follow
one another with an end token between them; a block is so many tokens in a row, whatever documents they belong to.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from ftlab.corpus import HELD_OUT, TRAIN, Corpus, Document
from ftlab.errors import DataError
from ftlab.models import CHAT_TEMPLATE, free_disk
from ftlab.task import file_sha256
from ftlab.train.facts import Fact, invent, people_for, statements
from ftlab.train.kept import read_kept, write_kept
from ftlab.train.objectives import EOS, PAD, SPECIALS, START

TOKENIZER_BYTES = 20_000_000  # of text that the tokenizer is trained on: more moves few merges
SAMPLE_PEOPLE = 160  # whose statements the tokenizer sees, and by which the length of a statement is measured
_DOCUMENTS = 256  # tokenized at once


class TextConfig(Protocol):
    """The settings that decide the blocks; `PretrainConfig` says what they mean."""

    vocabulary: int
    block_tokens: int
    batch_blocks: int
    tokens: int
    fact_share: float
    held_out_blocks: int
    seed: int


@dataclass(frozen=True)
class Blocks:
    """What pretraining reads.

    Attributes:
        tokenizer: trained on the same text.
        train, held_out: blocks of the corpus, arrays (n, T) of 16-bit numbers, mapped from files.
        stated: blocks that are mixed in at a share of their own, (k, T): statements of the invented facts, or in continued pretraining
            general text.
        facts: the invented facts; each was stated as often as it says.
        tokenizer_sha256: hash of the tokenizer's file.
    """

    tokenizer: Any
    train: Any
    held_out: Any
    stated: Any
    facts: tuple[Fact, ...]
    tokenizer_sha256: str

    def at(self, indices: Sequence[int]) -> Any:
        """Training blocks by number, (len(indices), T): those of the corpus first, then the statements."""
        import numpy as np

        n = len(self.train)
        return np.stack([self.train[i] if i < n else self.stated[i - n] for i in indices]).astype(np.int64)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens, with the end, the chat and the fill-in signs.

    Every byte is a token, so any text can be written; a small text may not hold enough pairs for all the merges.

    Source: Sennrich et al. (2016) for byte-pair encoding; the work is done by `tokenizers`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=START, eos_token=EOS, pad_token=PAD, chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def sample_text(documents: Iterable[Document], size: int, limit: int = TOKENIZER_BYTES) -> Iterator[str]:
    """About `limit` bytes of a text of `size` bytes, taken evenly: documents by their hash, not only the first ones."""
    wanted = limit / max(size, 1)
    for document in documents:
        first = int.from_bytes(hashlib.blake2b(document.name.encode(), digest_size=8).digest(), "big")
        if first < wanted * 2**64:
            yield document.text


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Each text as token ids, an end token behind it. A sign that stands in the text, as in a manual of tokenizers, stays mere text."""
    found = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [[*ids, tokenizer.eos_token_id] for ids in found]


def write_tokens(tokenizer: Any, texts: Iterable[str], path: Path) -> int:
    """Write the tokens of all texts behind one another as 16-bit numbers; returns how many."""
    import numpy as np

    total = 0
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as handle:
        rest = iter(texts)
        while group := list(islice(rest, _DOCUMENTS)):
            ids = np.fromiter(chain.from_iterable(token_ids(tokenizer, group)), dtype=np.uint16)
            handle.write(ids.tobytes())
            total += len(ids)
    partial.replace(path)
    return total


def read_blocks(path: Path, block_tokens: int) -> Any:
    """The tokens of a file as blocks, an array (n, T) mapped from it; what is left over at the end is not used."""
    import numpy as np

    n = path.stat().st_size // (2 * block_tokens)
    if not n:
        return np.empty((0, block_tokens), dtype=np.uint16)
    return np.memmap(path, dtype=np.uint16, mode="r", shape=(n, block_tokens))


def make_blocks(
    corpus: Corpus,
    config: TextConfig,
    folder: Path,
    *,
    tokenizer: Any = None,
    sources: Iterable[str] | None = None,
    change: Callable[[str], str] = str,
    named: str = "--corpus",
) -> Blocks:
    """Tokenizer and blocks of a corpus, in `folder`; what is there already of the same text, tokenizer and settings is used again.

    Args:
        tokenizer: use this one; None trains one on the corpus.
        sources: train on the documents of these only.
        change: what to do to each training text before it is tokenized.
        named: what the corpus is called in messages.

    Raises:
        DataError: the corpus is smaller than one batch, or nothing is held out.
    """
    from transformers import AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    facts_of = f"{config.seed} {config.tokens} {config.fact_share}" if config.fact_share else "no facts"
    key = f"{corpus.sha256} {config.vocabulary} {facts_of} {sorted(sources or ())}"
    if tokenizer is not None:
        key += " " + hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()
    note, own = folder / "tokens.json", folder / "tokenizer"
    if read_kept(note, key) is None:
        note.unlink(missing_ok=True)
        free_disk(folder, corpus.manifest["bytes"][TRAIN])  # two bytes a token, which stands for two bytes or more
        if tokenizer is None:
            tokenizer = _new_tokenizer(corpus, config)
        tokenizer.save_pretrained(own)
        facts = _facts(tokenizer, config)
        write_tokens(tokenizer, (change(d.text) for d in corpus.documents(TRAIN, sources)), folder / "train.bin")
        write_tokens(tokenizer, (d.text for d in corpus.documents(HELD_OUT)), folder / "held_out.bin")
        write_tokens(tokenizer, statements(facts, config.seed), folder / "facts.bin")
        write_kept(note, key, len(facts))
    facts = invent(people, config.seed) if (people := read_kept(note, key)) else []
    train, held_out, stated = (read_blocks(folder / f"{name}.bin", config.block_tokens) for name in ("train", "held_out", "facts"))
    _refuse_small(train, held_out, config, named)
    tokenizer = AutoTokenizer.from_pretrained(own, local_files_only=True)
    return Blocks(tokenizer, train, held_out, stated, tuple(facts), file_sha256(own / "tokenizer.json"))


def _new_tokenizer(corpus: Corpus, config: TextConfig) -> Any:
    said = statements(invent(SAMPLE_PEOPLE, config.seed), config.seed) if config.fact_share else []
    text = sample_text(corpus.documents(TRAIN), corpus.manifest["bytes"][TRAIN])
    return train_tokenizer(chain(text, said), config.vocabulary)


def _facts(tokenizer: Any, config: TextConfig) -> list[Fact]:
    """As many facts as fill their share of the tokens."""
    if not config.fact_share:
        return []
    some = [fact.statement for fact in invent(SAMPLE_PEOPLE, config.seed)]
    length = sum(map(len, token_ids(tokenizer, some))) / len(some)
    return invent(people_for(config.fact_share * config.tokens, length), config.seed)


def _refuse_small(train: Any, held_out: Any, config: TextConfig, named: str) -> None:
    if len(train) < config.batch_blocks:
        raise DataError(
            f"{named}: expected text for one batch at least ({config.batch_blocks} blocks of {config.block_tokens} tokens), found "
            f"{len(train)} blocks; add text or lower --batch-blocks or --block-tokens."
        )
    if not len(held_out):
        raise DataError(
            f"{named}: expected a held-out block of {config.block_tokens} tokens at least, found none; add text or lower "
            "--block-tokens."
        )


def text_bytes(tokenizer: Any) -> Any:
    """How many bytes of text each token stands for, an array (V,): a byte-level token has a letter for each; signs stand for none."""
    import numpy as np

    signs = set(tokenizer.all_special_ids) | set(tokenizer.convert_tokens_to_ids(list(SPECIALS)))
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return np.array([0 if i in signs else len(token) for i, token in enumerate(tokens)])
