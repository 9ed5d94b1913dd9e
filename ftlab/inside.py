"""`ftlab inspect BEFORE AFTER`: what training changed inside a model, in its weights (`updates`), its choices and its states.

Both models read the same texts. On task replies and on general text apart: how often their likeliest next token differs, how often the
later model's is not even among the earlier one's three, and how alike their states are after each layer. Intervals come from drawing
the texts anew; the weights are counted whole and have none.

Sources: Lin et al. (2023), The Unlocking Spell on Base LLMs, for the shift of token choices; Kornblith et al. (2019), Similarity of
Neural Network Representations Revisited, section 3, for linear CKA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import stdev
from typing import Any

from ftlab.artifact import WEIGHTS, adapter_identity, apply_adapter, read_lineage
from ftlab.chatparts import token_parts
from ftlab.errors import DataError, UsageError
from ftlab.models import EMBEDDED, LoadedModel, load_model
from ftlab.outputs import cached_generate
from ftlab.regress import general_prompts
from ftlab.stats import Z_95, percentile_interval, resampled_counts
from ftlab.task import Task, stratified
from ftlab.train.rehearsal import ANSWER_TOKENS, encode_answer
from ftlab.train.sft import encode_rows
from ftlab.updates import THRESHOLD, Update, lora_factors, overall, updates

TOP = 3  # a choice has left the earlier model's candidates if it is not among this many
MOST_STATES = 800  # positions of all texts of a kind whose states are compared: the cost grows with their square
CHOICES = {"changed": "another token is likeliest", "outside_top_3": "… and it was not among the three likeliest before"}


@dataclass(frozen=True)
class Side:
    """One of the two models: a base with adapters merged, in their order."""

    name: str
    loaded: LoadedModel
    adapters: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Text:
    """Token ids, and which of them count: the words, not the template. A token at place t is chosen at t − 1."""

    ids: list[int]
    counted: list[int]


@dataclass(frozen=True)
class Observed:
    """What a model made of texts: per text the `TOP` likeliest tokens for each counted place, (n, TOP), and for some of these places
    the state after the embedding and after each layer, (L + 1, N, D), with the number of each state's text, (N,)."""

    top: list[Any]
    states: Any
    owner: Any


def inspect(
    before: str,
    after: str,
    task: Task,
    *,
    rows: int = 24,
    prompts: int = 20,
    texts: Path | None = None,
    base: str | None = None,
    threshold: float = THRESHOLD,
    rounds: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> dict:
    """Compare two models of one shape and one tokenizer.

    Args:
        before, after: a model's name or folder, or an adapter's folder, which means its base with the adapter merged; several adapters
            one after the other are joined by "+".
        task: its labelled validation rows are the task replies.
        rows, prompts: how many task replies and how many general prompts, which the earlier model answers.
        texts: a file with general text to use instead of the prompts; an empty line ends a text.
        base: the model of adapters that do not say theirs.
        threshold: a weight has moved if it changed by more than this times the root mean square of its matrix.
        rounds, seed: of the bootstrap over texts.
        progress: show a bar while texts are read.

    Returns:
        {"about": date, task, model and the weights of both sides by hash, "before", "after", "task", "threshold", "rounds", "seed",
        "overall", "matrices": [`Update`], "choices": {kind: {"texts", "left_out", "positions", "changed": {share, low, high},
        "outside_top_3": {…}}}, "similarity": {kind: [{"layer", "cka", "low", "high"}]}}; the kinds are "task" and "general", layer 0 is
        the embedding.

    Raises:
        UsageError: one of the two is no model, or they differ in shape or tokenizer.
        DataError: too few texts.
    """
    if min(rows, prompts, rounds / 20) < 2:
        raise UsageError("expected --rows and --prompts of 2 or more and --rounds of 40 or more, which intervals need.")
    if not threshold >= 0:
        raise UsageError(f"--threshold: expected 0 or a number above it, found {threshold}.")
    one, two = open_side(before, base), open_side(after, base)
    _check_tokenizers(one.loaded, two.loaded)
    kinds = {
        "task": task_texts(task, one.loaded, rows),
        "general": plain_texts(texts, one.loaded) if texts else general_texts(one.loaded, prompts),
    }
    options = {"factors": _factors(one, two), "threshold": threshold, "rounds": rounds, "seed": seed, "progress": progress}
    about = {"about": _about(one, two, task), "before": one.name, "after": two.name, "task": task.name}
    return about | compare(one.loaded, two.loaded, kinds, **options)


def compare(
    before: LoadedModel,
    after: LoadedModel,
    kinds: Mapping[str, Sequence[Text]],
    *,
    factors: dict | None = None,
    threshold: float = THRESHOLD,
    rounds: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> dict:
    """The same of two loaded models, on kinds of texts by name.

    Args:
        factors: see `updates`.

    Returns:
        what `inspect` returns, without what names the two and the task.

    Raises:
        UsageError, DataError: see `inspect`.
    """
    found = updates(before.model, after.model, threshold=threshold, factors=factors)
    choices, similarity = {}, {}
    for kind, every in kinds.items():
        used = _that_fit(kind, every, before, after)
        counts = resampled_counts(len(used), rounds, seed)
        bars = [f"{kind}, {which}" if progress else "" for which in ("before", "after")]
        seen = [observe(loaded, used, bar) for loaded, bar in zip((before, after), bars, strict=True)]
        choices[kind] = {"texts": len(used), "left_out": len(every) - len(used)} | changed_choices(*seen, counts)
        similarity[kind] = layer_similarity(*seen, counts)
    told = {"threshold": threshold, "rounds": rounds, "seed": seed, "overall": overall(found)}
    return told | {"matrices": [asdict(update) for update in found], "choices": choices, "similarity": similarity}


def open_side(name: str, base: str | None = None) -> Side:
    """The model that a name stands for; see `inspect`.

    Raises:
        UsageError: it stands for none, or an adapter cannot be merged into the weights.
    """
    first, *more = [name] if Path(name).exists() else name.split("+")
    adapters = [Path(part) for part in more]
    model = first
    if (Path(first) / WEIGHTS).exists():
        adapters.insert(0, Path(first))
        model = read_lineage(Path(first)).get("base", {}).get("model") or base or EMBEDDED
    loaded = load_model(model)
    for adapter in adapters:
        apply_adapter(loaded, adapter)
    if hasattr(loaded.model, "peft_config"):
        raise UsageError(f"{name}: expected an adapter that can be merged into the weights, found one that cannot.")
    return Side(name, loaded, tuple(adapters))


def _about(one: Side, two: Side, task: Task) -> dict:
    """Date, task and model as results files have them, and the weights of both sides by hash."""
    sides = {name: [side.loaded.sha256, *map(adapter_identity, side.adapters)] for name, side in (("before", one), ("after", two))}
    model = {"name": one.loaded.name, "sha256": one.loaded.sha256}
    return {"date": date.today().isoformat(), "task": task.name, "model": model, "sha256": sides}


def _factors(one: Side, two: Side) -> dict | None:
    """The LoRA factors of the difference, where it is just one more adapter on the same weights."""
    same = one.loaded.sha256 and one.loaded.sha256 == two.loaded.sha256
    if not same or len(two.adapters) != len(one.adapters) + 1 or two.adapters[:-1] != one.adapters:
        return None
    return lora_factors(two.adapters[-1])


def _check_tokenizers(one: LoadedModel, two: LoadedModel) -> None:
    vocabularies = [loaded.tokenizer.get_vocab() for loaded in (one, two)]
    if vocabularies[0] != vocabularies[1]:
        sizes = " and ".join(str(len(v)) for v in vocabularies)
        raise UsageError(
            f"expected BEFORE and AFTER to have one vocabulary, found two ({sizes} tokens); compare a model with what was trained from it."
        )


def task_texts(task: Task, loaded: LoadedModel, rows: int) -> list[Text]:
    """Validation rows of each class in its share; the labelled answer counts."""
    chosen = stratified(task.rows("validation"), rows, task.class_field)
    examples = encode_rows(task, chosen, loaded.tokenizer, max_length=2**31)
    return [Text(list(ids), list(range(start, len(ids)))) for ids, start, _ in examples]


def general_texts(loaded: LoadedModel, prompts: int) -> list[Text]:
    """General prompts, spread over their list, with the answers of `loaded`; the words of both count."""
    every = general_prompts()
    chosen = every[:: max(1, len(every) // prompts)][:prompts]
    chats = [prompt.conversation for prompt in chosen]
    answers, _ = cached_generate(loaded, chats, max_new_tokens=ANSWER_TOKENS)
    texts = []
    for chat, answer in zip(chats, answers, strict=True):
        ids = list(encode_answer(loaded.tokenizer, chat[0]["content"], answer.text, answer.ended)[0])
        parts = token_parts(loaded.tokenizer, ids, chat)
        texts.append(Text(ids, [t for t in range(1, len(ids)) if parts[t] != "template"]))
    return texts


def plain_texts(path: Path, loaded: LoadedModel) -> list[Text]:
    """The texts of a file, every token but the first counted.

    Raises:
        DataError: it cannot be read as text.
    """
    try:
        pieces = [piece.strip() for piece in path.read_text(encoding="utf-8").split("\n\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a UTF-8 text file, found {type(error).__name__}; give another --texts.") from None
    encoded = [loaded.tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    return [Text(ids, list(range(1, len(ids)))) for ids in encoded if len(ids) > 1]


def _that_fit(kind: str, texts: Sequence[Text], *models: LoadedModel) -> list[Text]:
    """The texts that have room in both models' contexts.

    Raises:
        DataError: fewer than two of them.
    """
    room = min(getattr(loaded.model.config, "max_position_embeddings", None) or 2**31 for loaded in models)
    used = [text for text in texts if len(text.ids) <= room and text.counted]
    if len(used) < 2:
        raise DataError(
            f"{kind}: expected two texts or more of at most {room} tokens, found {len(used)}; give more or shorter ones."
        )
    return used


def observe(loaded: LoadedModel, texts: Sequence[Text], bar: str = "") -> Observed:
    """Read texts with a model, one by one, with a bar of that name, if any."""
    import torch
    from tqdm import tqdm

    causal = loaded.model
    head = causal.get_output_embeddings()
    step = -(-sum(len(text.counted) for text in texts) // MOST_STATES)
    top, states, owner = [], [], []
    with torch.inference_mode():
        for number, text in enumerate(tqdm(texts, desc=bar, unit="text", disable=not bar)):
            out = causal.base_model(input_ids=torch.tensor([text.ids]), output_hidden_states=True, use_cache=False)
            at = torch.tensor(text.counted) - 1  # subtle: the state before a token chooses it
            top.append(head(out.last_hidden_state[0, at]).topk(TOP).indices)  # (n, TOP)
            kept = at[::step]
            states.append(torch.stack([layer[0, kept] for layer in out.hidden_states]))  # (L + 1, k, D)
            owner += [number] * len(kept)
    return Observed(top, torch.cat(states, dim=1), torch.tensor(owner))


def changed_choices(before: Observed, after: Observed, counts: Sequence[Sequence[int]]) -> dict:
    """The shares of `CHOICES` among all counted places, with intervals from drawing the texts `counts` times."""
    hits: dict[str, list[tuple[int, int]]] = {name: [] for name in CHOICES}
    for old, new in zip(before.top, after.top, strict=True):
        choice = new[:, :1]
        hits["changed"].append((int((old[:, :1] != choice).sum()), len(old)))
        hits["outside_top_3"].append((int((old != choice).all(dim=1).sum()), len(old)))
    return {"positions": sum(len(old) for old in before.top)} | {name: _share(parts, counts) for name, parts in hits.items()}


def _share(parts: Sequence[tuple[int, int]], counts: Sequence[Sequence[int]]) -> dict:
    """The share of hits over all texts' places, (hits, places) each."""
    drawn = [
        sum(c * k for c, (k, _) in zip(row, parts, strict=True)) / sum(c * n for c, (_, n) in zip(row, parts, strict=True))
        for row in counts
    ]
    low, high = percentile_interval(drawn)
    return {"share": sum(k for k, _ in parts) / sum(n for _, n in parts), "low": low, "high": high}


def layer_similarity(before: Observed, after: Observed, counts: Sequence[Sequence[int]]) -> list[dict]:
    """Linear CKA of the two models' states after each layer, with intervals from drawing the texts `counts` times.

    The interval is 1.96 times the spread of the draws around the value. A draw holds some texts twice and others not, fewer places in
    all, which raises its likeness by itself: the middle of the draws would lie above the value.
    """
    found = []
    for layer, (x, y) in enumerate(zip(before.states, after.states, strict=True)):
        whole, *drawn = text_cka(x, y, before.owner, [[1] * len(before.top), *counts])
        half = Z_95 * stdev(drawn)
        found.append({"layer": layer, "cka": whole, "low": max(0.0, whole - half), "high": min(1.0, whole + half)})
    return found


def linear_cka(x: Any, y: Any) -> float:
    """How alike two sets of states of the same N positions are, (N, D) and (N, E): 1 for the same up to rotation, scale and shift.

    |XᵀY|² / (|XᵀX|·|YᵀY|) in Frobenius norms, both centred. With few positions beside the width it comes out high.
    """
    x, y = (states.double() - states.double().mean(0) for states in (x, y))
    return ((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())).item()


def text_cka(x: Any, y: Any, owner: Any, counts: Sequence[Sequence[int]]) -> list[float]:
    """`linear_cka` of the positions of drawn texts, for each row of `counts`: how often text i is drawn.

    With K and L the products of all positions, w the weight of each position (how often its text is drawn), m their sum and u = K·w,
    v = L·w, the numerator |XᵀWY − b·cᵀ/m|² of centred states is Σ wᵢwⱼKᵢⱼLᵢⱼ − 2/m·Σ wᵢuᵢvᵢ + (w·u)(w·v)/m². The sums run over texts
    first, so that a draw costs little. A test compares it with `linear_cka` of the drawn positions.
    """
    import torch

    drawn = torch.tensor(counts, dtype=torch.float64)  # (R, n)
    member = torch.nn.functional.one_hot(owner, drawn.shape[1]).double()  # (N, n)
    w = drawn @ member.T  # (R, N)
    m = w.sum(1)
    grams = [(s @ s.T).double() for s in (x - x.mean(0), y - y.mean(0))]  # (N, N); centring first keeps digits
    sums = [drawn @ (member.T @ gram) for gram in grams]  # u and v, (R, N)

    def numerator(i: int, j: int) -> Any:
        both = member.T @ (grams[i] * grams[j]) @ member  # (n, n)
        plain = ((drawn @ both) * drawn).sum(1)
        crossed = (w * sums[i] * sums[j]).sum(1)
        return plain - 2 * crossed / m + (w * sums[i]).sum(1) * (w * sums[j]).sum(1) / m**2

    return (numerator(0, 1) / (numerator(0, 0) * numerator(1, 1)).sqrt()).tolist()


def inspection_text(result: dict) -> str:
    """The comparison to read in a terminal."""
    whole, about = result["overall"], f"{100 * result['threshold']:g} % of its matrix's root mean square"
    lines = [
        f"BEFORE {result['before']}    AFTER {result['after']}",
        f"{whole['parameters']:,} weights; {100 * whole['in_changed_matrices']:.1f} % of them in matrices that changed; "
        f"{100 * whole['moved']:.1f} % moved by more than {about}",
    ]
    matrices = [Update(**u) for u in result["matrices"]]
    for title, value in (
        ("size of the update, |D|/|W| in %", lambda u: f"{100 * u.relative_norm:.2f}" if u.relative_norm is not None else "from 0"),
        ("effective rank of the update / rank of 90 % of its energy", lambda u: f"{u.effective_rank:.0f}/{u.rank_90}"),
        (f"weights moved by more than {about}, in %", lambda u: f"{100 * u.moved:.1f}"),
    ):
        lines += ["", title, *_grid(matrices, value)]
    lines += ["", *_rest_lines(matrices), "", *_choice_lines(result["choices"]), "", *_similarity_lines(result["similarity"])]
    return "\n".join(lines)


def _grid(matrices: Sequence[Update], value: Any) -> list[str]:
    """Layers down, kinds of matrices across."""
    inside = [u for u in matrices if u.layer is not None and len(u.shape) == 2]
    kinds, layers = list(dict.fromkeys(u.kind for u in inside)), sorted({u.layer for u in inside})
    cells = {(u.layer, u.kind): value(u) for u in inside}
    heads = [kind.rpartition(".")[2] for kind in kinds]
    heads = heads if len(set(heads)) == len(heads) else kinds
    widths = [
        max(len(head), *(len(cells.get((layer, kind), "")) for layer in layers)) for head, kind in zip(heads, kinds, strict=True)
    ]
    lines = ["layer  " + "  ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    for layer in layers:
        row = "  ".join(f"{cells.get((layer, kind), ''):>{width}}" for kind, width in zip(kinds, widths, strict=True))
        lines.append(f"{layer:>5}  {row}")
    return lines


def _rest_lines(matrices: Sequence[Update]) -> list[str]:
    """What is no matrix of a layer, if it changed."""
    rest = [u for u in matrices if u.layer is None or len(u.shape) != 2]
    changed = [u for u in rest if u.relative_norm != 0]
    lines = [f"other weights (embedding, norms, biases): {len(changed)} of {len(rest)} changed"]
    for u in changed:
        size = "from 0" if u.relative_norm is None else f"{100 * u.relative_norm:.2f} %"
        rank = "" if u.effective_rank is None else f", effective rank {u.effective_rank:.0f}, rank of 90 % {u.rank_90}"
        lines.append(f"  {u.name}: {size}{rank}, moved {100 * u.moved:.1f} %")
    return lines


def _choice_lines(choices: dict) -> list[str]:
    lines = ["token choices (95 % intervals, texts drawn anew)"]
    for kind, found in choices.items():
        out = f", {found['left_out']} left out as too long" if found["left_out"] else ""
        lines.append(f"  {kind}: {found['positions']} places in {found['texts']} texts{out}")
        for name, about in CHOICES.items():
            s = found[name]
            lines.append(f"    {100 * s['share']:5.1f} % [{100 * s['low']:.1f}, {100 * s['high']:.1f}]  {about}")
    return lines


def _similarity_lines(similarity: dict) -> list[str]:
    kinds = list(similarity)
    lines = ["likeness of the states after each layer (linear CKA, 95 % intervals; layer 0 is the embedding, the last is normed)"]
    lines.append("layer  " + "  ".join(f"{kind:<22}" for kind in kinds).rstrip())
    for points in zip(*similarity.values(), strict=True):
        told = [f"{p['cka']:.4f} [{p['low']:.4f}, {p['high']:.4f}]" for p in points]
        cells = "  ".join(f"{cell:<22}" for cell in told)
        lines.append(f"{points[0]['layer']:>5}  {cells}".rstrip())
    return lines
