"""What tuning leaves on disk, with a lineage that says what it was made from and how it scored; files written in one step.

An adapter is 16-bit safetensors in peft's format; a model tuned in all its weights is a folder as transformers writes it, in 32 bits.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ftlab import __version__
from ftlab.errors import DataError, UsageError
from ftlab.models import LoadedModel, free_disk
from ftlab.task import Task, file_sha256

WEIGHTS, CONFIG, LINEAGE = "adapter_model.safetensors", "adapter_config.json", "lineage.json"
MODEL, MODEL_CONFIG = "model.safetensors", "config.json"  # of a model that was tuned in all its weights
REWARD = "reward"  # the method of a reward model, in its lineage


def save_tuned(model: Any, folder: Path, state: dict | None = None) -> None:
    """Write what was tuned of a model: its adapter if it carries one, else all its weights.

    Args:
        state: the model's whole state, where the model itself holds only a part of it.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    if hasattr(model, "peft_config"):
        save_adapter_weights(model, folder, state)
    else:
        save_model_weights(model, folder, state)


def read_tuned(model: Any, folder: Path) -> None:
    """Put what `save_tuned` wrote to `folder` into a model of the same shape."""
    if hasattr(model, "peft_config"):
        read_adapter_weights(model, folder)
    else:
        read_model_weights(model, folder)


def save_adapter_weights(model: Any, folder: Path, state: dict | None = None) -> None:
    """Write the LoRA matrices of a peft model to `folder` as 16-bit floats, replacing what is there in one step.

    Args:
        state: the model's whole state, where the model itself holds only a part of it.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # DoRA's lengths stay in 32 bits: there are few of them, and rounding one would round a whole row of the base weights
        sizes = {True: torch.float16, False: torch.float32}
        tensors = {
            name: t.detach().cpu().to(sizes[t.dim() > 1]).contiguous()
            for name, t in get_peft_model_state_dict(model, state_dict=state).items()
        }
        free_disk(folder, sum(t.numel() * t.itemsize for t in tensors.values()))
        partial = folder / f"{WEIGHTS}.partial"
        save_file(tensors, partial)
        os.replace(partial, folder / WEIGHTS)
        config = model.peft_config["default"].to_dict()
        config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        write_json(folder / CONFIG, config | {"base_model_name_or_path": None, "inference_mode": True})
    except (OSError, SafetensorError) as error:  # the latter is what a full disk comes as
        raise _not_written(folder, "the adapter", error) from None


def _not_written(folder: Path, what: str, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{folder}: {what} could not be written ({reason}); make room or choose another --out.")


def read_adapter_weights(model: Any, folder: Path) -> None:
    """Put the matrices saved in `folder` into a peft model of the same shape."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    tensors = {name: t.float() for name, t in load_file(folder / WEIGHTS).items()}
    set_peft_model_state_dict(model, tensors)


def save_model_weights(model: Any, folder: Path, state: dict | None = None) -> None:
    """Write all weights of a model with its settings to `folder`, so that `load_model` takes it once a tokenizer is beside them.

    An adapter in the folder is removed: transformers would put it on the model when it loads the folder.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    from safetensors import SafetensorError

    partial = folder / f"{MODEL}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_disk(folder, sum(p.numel() * p.itemsize for p in model.parameters()))
        # the module's own names, which `read_model_weights` finds again, in one file
        model.save_pretrained(partial, state_dict=state, save_original_format=False, max_shard_size="1000GB")
        for path in (folder / WEIGHTS, folder / CONFIG):
            path.unlink(missing_ok=True)
        for path in partial.iterdir():
            os.replace(path, folder / path.name)
        partial.rmdir()
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _not_written(folder, "the model", error) from None


def read_model_weights(model: Any, folder: Path) -> None:
    """Put the weights saved in `folder` into a model of the same shape, one by one: there is never a second copy of all of them.

    Raises:
        DataError: they are damaged, or those of a model of another shape.
    """
    from safetensors import safe_open

    try:
        with safe_open(folder / MODEL, "pt") as file:
            state = model.state_dict()
            for name in file.keys():
                state[name].copy_(file.get_tensor(name))
    except Exception as error:  # safetensors and torch raise their own kinds for each sort of damage
        raise DataError(f"{folder / MODEL}: the weights cannot be read ({_reason(error)}); get them again.") from None


def tuned_file(folder: Path, lineage: dict) -> Path:
    """The file of the tuned weights: all of the model's if the lineage says so, else an adapter's."""
    return folder / (MODEL if lineage.get("config", {}).get("method") == "full" else WEIGHTS)


def lineage_origin(task: Task, loaded: LoadedModel, config: Any, profile_name: str) -> dict:
    """What an adapter depends on, as its lineage says it: task and data by hash, base model, settings."""
    base = {"model": loaded.name, "sha256": loaded.sha256} | ({"chat_template": loaded.template} if loaded.template else {})
    return {
        "task": task.name,
        "hashes": task.hashes(),
        "base": base,
        "config": asdict(config) | {"profile": profile_name},
        "ftlab": __version__,
    }


def write_lineage(folder: Path, lineage: dict) -> None:
    """Say beside the tuned weights what they were made from. Their own hash is added, so that a damaged file is noticed."""
    write_json(folder / LINEAGE, lineage | {"adapter_sha256": file_sha256(tuned_file(folder, lineage))})


def read_lineage(folder: Path) -> dict:
    """The lineage of an adapter; {} if it has none (an adapter made elsewhere)."""
    path = folder / LINEAGE
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: expected JSON, found a fault: {error.msg}; get the adapter again.") from None


def parent_of(adapter: Path | None) -> dict | None:
    """What a lineage says of the adapter that tuning went on from: how it was tuned, and its weights by hash."""
    if adapter is None:
        return None
    return {"method": read_lineage(adapter).get("method", "sft"), "adapter_sha256": file_sha256(adapter / WEIGHTS)}


def adapter_identity(folder: Path) -> str:
    """Hash of the tuned weights and of the settings that say how they apply: an adapter's scale is in no matrix."""
    weights = tuned_file(folder, read_lineage(folder))
    settings = folder / (CONFIG if weights.name == WEIGHTS else MODEL_CONFIG)
    return hashlib.sha256(f"{file_sha256(weights)} {file_sha256(settings)}".encode()).hexdigest()


def apply_adapter(loaded: LoadedModel, folder: Path) -> dict:
    """Merge the adapter in `folder` into `loaded.model` for good and return its lineage; or give it all weights that were tuned there.

    An adapter of a kind that has no place in the weights stays beside them: `loaded.model` is then a peft model, and stderr says so.

    Raises:
        UsageError: no adapter there, or it was made for another base model or chat template, or to score replies.
        DataError: its weights are damaged.
    """
    lineage = checked_lineage(loaded, folder)
    if tuned_file(folder, lineage).name == WEIGHTS:
        loaded.model = _merged(read_adapter(loaded.model, folder), folder)
    else:
        read_model_weights(loaded.model, folder)
        loaded.model = loaded.model.eval()
    loaded.adapter_sha256 = adapter_identity(folder)
    return lineage


@contextmanager
def swapped_in(loaded: LoadedModel, folder: Path) -> Iterator[dict]:
    """Merge the adapter in `folder` into `loaded.model` for the time of a `with` block, which is given its lineage.

    What the adapter changes is copied before and put back afterwards, bit by bit: taking s·B·A off again would leave rounding errors,
    which grow with each swap.

    Raises:
        UsageError: see `apply_adapter`; or the adapter is not plain LoRA.
        DataError: its weights are damaged.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    lineage = swappable_lineage(loaded, folder)
    base, before = loaded.model, loaded.adapter_sha256
    adapted = read_adapter(loaded.model, folder)
    layers = [module.get_base_layer() for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
    originals = {p: p.detach().clone() for layer in layers for p in layer.parameters()}
    try:
        loaded.model = adapted.merge_and_unload().eval()
        loaded.adapter_sha256 = adapter_identity(folder)
        yield lineage
    finally:
        for p, original in originals.items():
            p.data.copy_(original)
        loaded.model = base.eval()  # makes the decoder be built anew
        loaded.adapter_sha256 = before


def swappable_lineage(loaded: LoadedModel, folder: Path) -> dict:
    """The lineage of an adapter that `swapped_in` can take: one of LoRA matrices alone, since a copy of a module does not come off again.

    Raises:
        UsageError, DataError: see `swapped_in`.
    """
    lineage = checked_lineage(loaded, folder)
    if tuned_file(folder, lineage).name != WEIGHTS:
        raise UsageError(
            f"--adapter {folder}: expected plain LoRA, which can be taken off again, found a model tuned in all its weights."
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind, more = config["peft_type"], [name for name in ("modules_to_save", "trainable_token_indices") if config.get(name)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / CONFIG}: expected the settings of an adapter, found a fault ({error!r}); get it again."
        ) from None
    if kind != "LORA" or more:
        found = f"{kind} with {more[0]}" if more else kind
        raise UsageError(
            f"--adapter {folder}: expected plain LoRA, which can be taken off again, found {found}; compare it alone with ftlab try."
        )
    return lineage


def attach_adapter(loaded: LoadedModel, folder: Path) -> dict:
    """Put the LoRA adapter in `folder` on `loaded.model`, its matrices free to be tuned further, and return its lineage.

    Raises:
        UsageError: see `apply_adapter`; or it is no LoRA adapter.
        DataError: see `apply_adapter`.
    """
    lineage = checked_lineage(loaded, folder)
    if tuned_file(folder, lineage).name != WEIGHTS:
        raise UsageError(f"--adapter: expected a LoRA adapter to go on from, found a model tuned in all its weights in {folder}.")
    lora_settings(folder)
    loaded.model = read_adapter(loaded.model, folder, is_trainable=True)
    loaded.adapter_sha256 = adapter_identity(folder)
    return lineage


def lora_settings(folder: Path) -> Any:
    """The settings of the LoRA adapter in `folder`, as peft reads them.

    Raises:
        UsageError: there is none.
        DataError: they cannot be read.
    """
    from peft import PeftConfig

    if not (folder / CONFIG).exists():
        raise UsageError(f"--adapter: expected a folder with a LoRA adapter ({CONFIG}), found none in {folder}.")
    try:
        settings = PeftConfig.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # peft raises many kinds for a damaged or foreign file
        raise DataError(f"{folder / CONFIG}: the adapter's settings cannot be read ({_reason(error)}); get it again.") from None
    if settings.peft_type.value != "LORA":
        raise UsageError(
            f"--adapter: expected a LoRA adapter to go on from, found {settings.peft_type.value} in {folder}; choose another."
        )
    return settings


def checked_lineage(loaded: LoadedModel, folder: Path, *, scores: bool = False) -> dict:
    """The lineage of what was tuned in `folder`, which is there, whole, and made for this model and its chat template.

    Args:
        scores: whether a reward model's adapter is wanted, which scores replies instead of writing them.

    Raises:
        UsageError: nothing there, it was made for another base model or chat template, or it is of the other kind.
        DataError: its weights are not those that the lineage speaks of.
    """
    lineage = read_lineage(folder)
    weights = tuned_file(folder, lineage)
    if not weights.exists():
        raise UsageError(f"--adapter: expected a folder with {weights.name}, found none in {folder}.")
    base = lineage.get("base", {})
    if base and base.get("sha256") != loaded.sha256:
        raise UsageError(
            f"--adapter: {folder.name} was made for {base.get('model')} ({str(base.get('sha256'))[:12]}…), "
            f"the model is {loaded.name} ({loaded.sha256[:12]}…); choose the adapter's own base with --model."
        )
    if base and base.get("chat_template", "") != loaded.template:
        made, now = (
            f"a given chat template ({t[:12]}…)" if t else "the model's own" for t in (base.get("chat_template"), loaded.template)
        )
        raise UsageError(
            f"--adapter: {folder.name} was made with {made}, found {now}; give --chat-template as it was given for the training."
        )
    found = file_sha256(weights)
    if lineage and lineage.get("adapter_sha256") != found:
        raise DataError(
            f"{weights}: expected SHA-256 {lineage.get('adapter_sha256', '')[:12]}… (lineage.json), found {found[:12]}…; "
            "the adapter is damaged, get it again."
        )
    if (lineage.get("method") == REWARD) != scores:
        kinds = ("an adapter that writes replies", "a reward model, which scores them")
        raise UsageError(f"{folder}: expected {kinds[scores]}, found {kinds[not scores]}; choose another folder.")
    return lineage


def read_adapter(model: Any, folder: Path, **options: Any) -> Any:
    """`model` as a peft model with the adapter in `folder`."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(folder), local_files_only=True, **options)
    except Exception as error:  # peft and safetensors raise many kinds for a damaged or foreign file
        raise DataError(f"{folder}: the adapter cannot be read ({_reason(error)}); get it again.") from None


def shipped_adapter(task: Task, given: Path | None = None) -> Path:
    """The adapter folder that was asked for, else the one shipped with the task."""
    folder = given or task.folder / "adapter"
    if not folder.is_dir():
        wanted = f"--adapter {given}" if given else f"task {task.name} ships no adapter"
        raise UsageError(f"{wanted}: expected a folder with an adapter, found none; train one with ftlab train, or use --base.")
    return folder


def _merged(adapted: Any, folder: Path) -> Any:
    """The model with its adapter in the weights, or `adapted` as it is, told on stderr, if its kind cannot be merged."""
    try:
        return adapted.merge_and_unload().eval()
    except Exception as error:  # a kind that cannot be merged lacks the method or raises one of many kinds
        print(
            f"{folder}: the adapter ({adapted.active_peft_config.peft_type.value}) cannot be merged into the weights ({_reason(error)}); "
            "it is used beside them, which is slower.",
            file=sys.stderr,
        )
        return adapted.eval()


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people to read, in one step: a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def write_lines(path: Path, records: Sequence[dict]) -> None:
    """Write one JSON object a line, in one step."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8", errors="backslashreplace") as handle:
        handle.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    os.replace(partial, path)


def writer(path: Path | None, write: Callable[[Path, Any], None] = write_json) -> Callable[[Any], None]:
    """What writes results to `path`, if one is given; its folder is made, and tried, now rather than after the work.

    Raises:
        OSError: the folder cannot be made or written.
    """
    if path is None:
        return lambda results: None
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=path.parent):
        pass
    return lambda results: write(path, results)
