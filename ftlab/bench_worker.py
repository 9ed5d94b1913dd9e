"""One side of one round of `bench`, in a process of its own: reads a job (JSON) from the command line, prints its figures as JSON.

Figures: {"tokens", "seconds", "cpu_s", "peak_memory_mb"}, for generation and checks also "outputs", for our training also "flops".
null stands for a side that can be left out and whose package is not installed.
"""

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.errors import DataError
from ftlab.models import EMBEDDED, LoadedModel, embedded_model, load_model, peak_memory_mb
from ftlab.task import Task, load_task

ROWS = {"sft": 64, "preference": 32, "generate": 64, "check": 2000}
EXTRA = {"ctranslate2": "ctranslate2", "ctranslate2-int8": "ctranslate2"}  # side that can be left out -> its package
SINGLE = 6  # rows that are answered one by one
NEW_TOKENS = 80


class _Clock:
    """Wall and CPU seconds of the block, and the figures made from them."""

    def __init__(self) -> None:
        self.tokens = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds, self.cpu_s = time.perf_counter() - wall, time.process_time() - cpu

    def figures(self, **more: Any) -> dict:
        return {
            "tokens": self.tokens, "seconds": round(self.seconds, 6), "cpu_s": round(self.cpu_s, 6),
            "peak_memory_mb": round(peak_memory_mb(), 1), **more,
        }  # fmt: skip


def stock_model(name: str) -> LoadedModel:
    """The same weights without any of our settings of the process."""
    if name != EMBEDDED:
        return load_model(name, progress=False)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded_model(progress=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", local_files_only=True, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return LoadedModel(name, model.eval(), tokenizer, "")


def _config(job: dict) -> Any:
    from ftlab.train import sft_config

    tiny = {"max_length": 4096, "micro_tokens": 4000} if job["model"] == "tiny" else {}
    return sft_config("cpu", batch_size=16, epochs=1, text_weight=1.0, general_rows=0, train_rows=job["rows"], **tiny)


def _examples(task: Task, loaded: LoadedModel, config: Any) -> Any:
    from ftlab.task import stratified
    from ftlab.train.sft import encode_rows

    rows = stratified(task.rows("train"), config.train_rows, task.class_field)
    return encode_rows(task, rows, loaded.tokenizer, config.max_length)


def sft_ours(job: dict, task: Task) -> dict:
    from ftlab.train.sft import sft_run

    loaded, config = load_model(job["model"], progress=False), _config(job)
    with tempfile.TemporaryDirectory() as scratch:
        run, _ = sft_run(task, loaded, config, Path(scratch))
        clock = _Clock()
        with clock.running():
            _one_pass(run)
    clock.tokens = run.tokens
    return clock.figures(flops=_training_flops(loaded, run.items))


def _one_pass(run: Any) -> None:
    from ftlab.train.loop import plan_epoch

    for batch in plan_epoch(run.lengths, run.config.batch_size, run.config.seed, 0):
        run.step(batch)


def _training_flops(loaded: LoadedModel, examples: list) -> float:
    """Multiplications and additions that the task needs at least: forward and backward through frozen weights, head on labels only.

    Four a weight and token; LoRA and attention are left out, so the share of the peak that is computed from it is a lower bound.
    """
    causal = loaded.model.get_base_model()
    head = causal.get_output_embeddings().weight.numel()
    body = sum(p.numel() for name, p in causal.named_parameters() if p.dim() == 2 and "lora_" not in name) - head
    tokens, labels = sum(len(ids) for ids, _, _ in examples), sum(len(w) for _, _, w in examples)
    return 4.0 * (body * tokens + head * labels)


def sft_stock(job: dict, task: Task) -> dict:
    from ftlab.stock import sft_trainer

    loaded, config = stock_model(job["model"]), _config(job)
    examples = _examples(task, loaded, config)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sft_trainer(loaded, examples, config, Path(scratch))
        clock = _Clock()
        with clock.running():
            trainer.train()
    clock.tokens = sum(len(ids) for ids, _, _ in examples)
    return clock.figures()


def sft_gradients(job: dict, task: Task) -> dict:
    """Largest relative difference (norm of the difference over the norm, by matrix) between our gradients and trl's, LoRA random."""
    from ftlab.stock import sft_trainer
    from ftlab.train.examples import shared_prefix
    from ftlab.train.loss import AnswerLoss

    loaded, config = load_model(job["model"], progress=False), replace(_config(job), batch_size=8, train_rows=8)
    examples = _examples(task, loaded, config)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sft_trainer(loaded, examples, config, Path(scratch))
        _randomise(trainer.model)
        trainer.model.train()
        (batch,) = list(trainer.get_train_dataloader())
        theirs = _gradients(trainer.model, lambda: trainer.compute_loss(trainer.model, batch))
    loaded.model = trainer.model.eval()
    loss = AnswerLoss(loaded, shared_prefix(examples))

    def ours() -> Any:
        total, weight = loss(examples)
        return total / weight

    return {"max_relative_gradient_difference": _largest_difference(_gradients(loaded.model, ours), theirs)}


def _randomise(model: Any) -> None:
    """Random LoRA matrices: with B at zero, as peft starts, the gradients of A would all be zero."""
    import torch

    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.02)


def _gradients(model: Any, loss: Callable[[], Any]) -> dict:
    model.zero_grad(set_to_none=True)
    loss().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _largest_difference(ours: dict, theirs: dict) -> float:
    return float(f"{max(((ours[name] - g).norm() / g.norm()).item() for name, g in theirs.items()):.2e}")


def _pairs(job: dict, task: Task, loaded: LoadedModel) -> tuple[list, list[dict], Any]:
    """Pairs to measure with, ours and trl's form of them, and the settings: the labelled answer against that of another row.

    Raises:
        DataError: all rows have the same label.
    """
    from ftlab.train.preference import DpoConfig, Preference

    train = task.rows("train")
    chosen = train[: job["rows"]]
    others = [next((o for o in train[i + 1 :] + train[:i] if o.output != row.output), None) for i, row in enumerate(chosen)]
    if None in others:
        raise DataError(f"bench preference: expected different labels in the training rows of {task.name}, found one; add rows.")
    pairs = [
        Preference(row.id, task.conversation(row), task.completion(row), task.completion(other))
        for row, other in zip(chosen, others, strict=True)
    ]
    texts = [
        {
            "prompt": loaded.tokenizer.apply_chat_template(pair.messages, tokenize=False, add_generation_prompt=True),
            "chosen": pair.chosen,
            "rejected": pair.rejected,
        }
        for pair in pairs
    ]
    longest = {"max_length": 4096, "micro_tokens": 8000} if job["model"] == "tiny" else {}
    return pairs, texts, DpoConfig(**longest)


def preference_ours(job: dict, task: Task) -> dict:
    from ftlab.train.preference import dpo_run

    loaded = load_model(job["model"], progress=False)
    pairs, _, config = _pairs(job, task, loaded)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch, clock.running():
        run = dpo_run(loaded, pairs, config, Path(scratch))
        _one_pass(run)
    clock.tokens = run.tokens
    return clock.figures()


def preference_stock(job: dict, task: Task) -> dict:
    from ftlab.stock import dpo_trainer
    from ftlab.train.preference import encode_pairs

    loaded = stock_model(job["model"])
    pairs, texts, config = _pairs(job, task, loaded)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch, clock.running():
        dpo_trainer(loaded, texts, config, Path(scratch)).train()
    clock.tokens = sum(pair.tokens for pair in encode_pairs(pairs, loaded.tokenizer, config.max_length))
    return clock.figures()


def preference_gradients(job: dict, task: Task) -> dict:
    """Our gradients and loss beside those of trl's DPOTrainer on the same eight pairs, LoRA random, the reference computed by each."""
    from ftlab.stock import dpo_trainer
    from ftlab.train.preference import dpo_run

    loaded, losses = load_model(job["model"], progress=False), {}
    pairs, texts, config = _pairs(job | {"rows": 8}, task, loaded)

    def noted(side: str, loss: Any) -> Any:
        losses[side] = loss.item()
        return loss

    with tempfile.TemporaryDirectory() as scratch:
        run = dpo_run(loaded, pairs, config, Path(scratch))
        _randomise(run.model)
        run.loss.refresh()
        items = run.prepare(list(run.items))
        found = _gradients(run.model, lambda: noted("ours", run.loss(items)[0] / len(items)))
        trainer = dpo_trainer(stock_model(job["model"]), texts, config, Path(scratch))
        _randomise(trainer.model)
        (batch,) = list(trainer.get_train_dataloader())
        expected = _gradients(trainer.model, lambda: noted("stock", trainer.compute_loss(trainer.model, batch)))
    relative = abs(losses["ours"] - losses["stock"]) / abs(losses["stock"])
    return {
        "max_relative_gradient_difference": _largest_difference(found, expected),
        "relative_loss_difference": float(f"{relative:.2e}"),
    }


def _answered(job: dict, task: Task, loaded: LoadedModel, answer: Callable[[list], list], rows: int) -> dict:
    conversations = [task.conversation(row) for row in task.rows("train")[:rows]]
    answer(conversations[:2])  # the first call compiles kernels and builds the decoder
    clock = _Clock()
    with clock.running():
        texts = answer(conversations)
    clock.tokens = sum(len(loaded.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in texts)
    return clock.figures(outputs=texts)


def _tuned(job: dict, task: Task, loaded: LoadedModel) -> LoadedModel:
    """With the task's shipped adapter merged where it fits: untuned answers rarely end, which would flatter dropping finished rows."""
    from ftlab.artifact import apply_adapter

    if job["model"] == EMBEDDED and (task.folder / "adapter").is_dir():
        loaded.sha256 = loaded.sha256 or load_sha256()
        apply_adapter(loaded, task.folder / "adapter")
    return loaded


def load_sha256() -> str:
    return (embedded_model(progress=False) / "weights.sha256").read_text().strip()


def generate_side(job: dict, task: Task) -> dict:
    from ftlab.generate import generate
    from ftlab.stock import hf_generate

    side = job["side"]
    single = side.endswith("_single")
    loaded = stock_model(job["model"]) if side.startswith("stock") else load_model(job["model"], progress=False)
    _tuned(job, task, loaded)
    engine = side if side.startswith("ctranslate2") else "auto"
    batch = 1 if single else 32

    def answer(conversations: list) -> list[str]:
        if side.startswith("stock"):
            return hf_generate(loaded, conversations, max_new_tokens=NEW_TOKENS, batch_size=batch)
        groups = [[c] for c in conversations] if single else [conversations]
        return [
            a.text for group in groups for a in generate(loaded, group, max_new_tokens=NEW_TOKENS, batch_size=batch, engine=engine)
        ]

    return _answered(job, task, loaded, answer, min(SINGLE, job["rows"]) if single else job["rows"])


def check_ours(job: dict, task: Task) -> dict:
    return _checked(job, task, lambda text, row: not task.checker.check(text, row.text, lang=row.lang).problems)


def check_stock(job: dict, task: Task) -> dict:
    import jsonschema

    validator = jsonschema.Draft202012Validator(task.schema)
    return _checked(job, task, lambda text, row: validator.is_valid(json.loads(text)))


def _checked(job: dict, task: Task, accept: Callable[[str, Any], bool]) -> dict:
    """Outputs a second stand as tokens a second: what is counted here is answers, all of them different."""
    rows = (task.rows("train") * (1 + job["rows"] // len(task.rows("train"))))[: job["rows"]]
    texts = [task.completion(row) for row in rows]
    accept(texts[0], rows[0])
    clock = _Clock()
    with clock.running():
        outputs = [accept(text, row) for text, row in zip(texts, rows, strict=True)]
    clock.tokens = len(rows)
    return clock.figures(outputs=outputs)


def growth_rows(job: dict) -> dict:
    """Reading, checking, tokenizing and ordering `value` rows: what grows with their number besides the steps themselves."""
    from transformers import AutoTokenizer

    from ftlab.train.loop import plan_epoch
    from ftlab.train.sft import encode_rows

    source = load_task("support_plan")
    tokenizer = AutoTokenizer.from_pretrained(embedded_model(progress=False), local_files_only=True)
    held = peak_memory_mb()
    with tempfile.TemporaryDirectory() as scratch:
        folder = _many_rows(source, Path(scratch), job["value"])
        clock = _Clock()
        with clock.running():
            task = load_task(str(folder))
            examples = encode_rows(task, task.rows("train"), tokenizer, 512)
            plan_epoch(examples.lengths, 8, 0, 0)
    clock.tokens = len(examples)
    return clock.figures(held_mb=round(held, 1))


def _many_rows(source: Task, folder: Path, n: int) -> Path:
    """A task folder with the rows of `source` again and again, their ids numbered, until there are n."""
    import shutil

    for name in ("schema.json", "rules.json", "prompt_short.txt", "prompt_long.txt", "validation.jsonl", "test.jsonl"):
        shutil.copy(source.folder / name, folder / name)
    rows = source.rows("train")
    with open(folder / "train.jsonl", "w", encoding="utf-8") as handle:
        for i in range(n):
            row = rows[i % len(rows)]
            handle.write(json.dumps({"id": f"{row.id}-{i}", "input": row.input, "output": row.output, "lang": row.lang}) + "\n")
    return folder


def growth_step(job: dict) -> dict:
    """Two optimizer steps of 16 rows of random tokens, half of them labelled, after one that is not timed."""
    import random

    from ftlab.lora import add_lora
    from ftlab.train.loop import Run
    from ftlab.train.loss import AnswerLoss

    sizes = {"row_tokens": 114, "rank": 16, "micro_tokens": 912} | {job["what"]: job["value"]}
    loaded = load_model(job["model"], progress=False)
    held = peak_memory_mb()
    loaded.model = add_lora(loaded.model, rank=sizes["rank"], alpha=32, seed=0)
    rng, n = random.Random(0), sizes["row_tokens"]
    examples = [([rng.randrange(5, 250) for _ in range(n)], n // 2, [1.0] * (n - n // 2)) for _ in range(16)]
    config = replace(_config(job | {"rows": 16}), micro_tokens=sizes["micro_tokens"])
    with tempfile.TemporaryDirectory() as scratch:
        weights = [float(n - n // 2)] * 16
        run = Run(loaded.model, config, Path(scratch), items=examples, lengths=[n] * 16, weights=weights, origin={})
        run.loss = AnswerLoss(loaded)
        run.step(list(range(16)))
        clock = _Clock()
        with clock.running():
            for _ in range(2):
                run.step(list(range(16)))
    clock.tokens = 2 * 16 * n
    return clock.figures(held_mb=round(held, 1))


def cost(job: dict, task: Task) -> dict:
    """A training run predicted, or made: with the scores after each pass, as `ftlab train` makes it."""
    from ftlab.cost import predict_cost
    from ftlab.mainjob import train_adapter
    from ftlab.train import sft_config

    changes = dict(job["changes"])
    profile = changes.pop("profile")
    config, loaded = sft_config(profile, **changes), load_model(job["model"], progress=False)
    if job["side"] == "predicted":
        return predict_cost(task, loaded, config)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch, clock.running():
        train_adapter(task, loaded, config, Path(scratch), profile_name=profile, say=lambda text: None, progress=False)
    return clock.figures()


def layers(job: dict, task: Task) -> dict:
    """One arm of the study of last-layers LoRA: trained, merged, scored on all validation rows. Filling the cache is timed too."""
    from ftlab.evaluate import evaluate_outputs
    from ftlab.generate import generate
    from ftlab.train import sft_config, train_sft

    loaded = load_model(job["model"], progress=False)
    changes = {name: job[name] for name in ("epochs", "seed", "last_layers")}
    tiny = {"max_length": 4096, "micro_tokens": 4000, "max_new_tokens": 8} if job["model"] == "tiny" else {}
    config = sft_config("cpu", train_rows=job["rows"], general_rows=0, patience=job["epochs"], **changes, **tiny)
    rows, clock = task.rows("validation"), _Clock()
    with tempfile.TemporaryDirectory() as scratch, clock.running():
        # the pass is the score, so that the last one is kept: both arms are compared after equal work
        passes = iter(range(job["epochs"]))
        done = train_sft(task, loaded, config, Path(scratch), score=lambda _: {"strict": next(passes)}, progress=False)
    clock.tokens = done["tokens"]
    loaded.model = loaded.model.merge_and_unload().eval()
    answers = generate(loaded, [task.conversation(row) for row in rows], max_new_tokens=config.max_new_tokens, batch_size=32)
    evaluation = evaluate_outputs(task, rows, [a.text for a in answers])
    names = ("schema_valid", "class_right", "values_right", "strict")
    return clock.figures(
        seed=job["seed"],
        scores={name: evaluation["scores"][name]["share"] for name in names},
        hits={name: [r["passes"][name] for r in evaluation["rows"]] for name in names},
    )


def main() -> None:
    job = json.loads(sys.argv[1])
    if job["kind"] == "machine":
        from ftlab.bench import machine

        print(json.dumps(machine()))
        return
    job["model"] = job["model"] or EMBEDDED
    if job["kind"] == "growth":
        print(json.dumps(growth_rows(job) if job["what"] == "rows" else growth_step(job)))
        return
    task = load_task(job["task"])
    if job["kind"] in ("layers", "cost"):
        print(json.dumps(layers(job, task) if job["kind"] == "layers" else cost(job, task)))
        return
    job["rows"] = job["rows"] or ROWS[job["kind"]]
    if job["side"] in EXTRA and importlib.util.find_spec(EXTRA[job["side"]]) is None:
        print("null")
        return
    work = globals().get(f"{job['kind']}_{job['side']}", generate_side)
    print(json.dumps(work(job, task)))


if __name__ == "__main__":
    main()
