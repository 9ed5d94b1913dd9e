"""Adapters on disk: 16-bit safetensors in peft's format, with a lineage that says what they were made from and how they scored; files
written in one step."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ftlab import __version__
from ftlab.errors import DataError, UsageError
from ftlab.models import LoadedModel, free_disk
from ftlab.task import Task, file_sha256

WEIGHTS, CONFIG, LINEAGE = "adapter_model.safetensors", "adapter_config.json", "lineage.json"
REWARD = "reward"  # the method of a reward model, in its lineage


def save_adapter_weights(model: Any, folder: Path) -> None:
    """Write the LoRA matrices of a peft model to `folder` as 16-bit floats, replacing what is there in one step.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: t.detach().to(torch.float16).contiguous() for name, t in get_peft_model_state_dict(model).items()}
        free_disk(folder, sum(t.numel() * 2 for t in tensors.values()))
        partial = folder / f"{WEIGHTS}.partial"
        save_file(tensors, partial)
        os.replace(partial, folder / WEIGHTS)
        config = model.peft_config["default"].to_dict()
        config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        write_json(folder / CONFIG, config | {"base_model_name_or_path": None, "inference_mode": True})
    except (OSError, SafetensorError) as error:  # the latter is what a full disk comes as
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder}: the adapter could not be written ({reason}); make room or choose another --out.") from None


def read_adapter_weights(model: Any, folder: Path) -> None:
    """Put the matrices saved in `folder` into a peft model of the same shape."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    tensors = {name: t.float() for name, t in load_file(folder / WEIGHTS).items()}
    set_peft_model_state_dict(model, tensors)


def lineage_origin(task: Task, loaded: LoadedModel, config: Any, profile_name: str) -> dict:
    """What an adapter depends on, as its lineage says it: task and data by hash, base model, settings."""
    return {
        "task": task.name,
        "hashes": task.hashes(),
        "base": {"model": loaded.name, "sha256": loaded.sha256},
        "config": asdict(config) | {"profile": profile_name},
        "ftlab": __version__,
    }


def write_lineage(folder: Path, lineage: dict) -> None:
    """Say beside the adapter what it was made from. The weights' own hash is added, so that a damaged file is noticed."""
    write_json(folder / LINEAGE, lineage | {"adapter_sha256": file_sha256(folder / WEIGHTS)})


def read_lineage(folder: Path) -> dict:
    """The lineage of an adapter; {} if it has none (an adapter made elsewhere)."""
    path = folder / LINEAGE
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: expected JSON, found a fault: {error.msg}; get the adapter again.") from None


def adapter_identity(folder: Path) -> str:
    """Hash of an adapter's matrices and of the settings that say how they apply: its scale is in no matrix."""
    return hashlib.sha256(f"{file_sha256(folder / WEIGHTS)} {file_sha256(folder / CONFIG)}".encode()).hexdigest()


def apply_adapter(loaded: LoadedModel, folder: Path) -> dict:
    """Merge the adapter in `folder` into `loaded.model` for good and return its lineage.

    An adapter of a kind that has no place in the weights stays beside them: `loaded.model` is then a peft model, and stderr says so.

    Raises:
        UsageError: no adapter there, or it was made for another base model or to score replies.
        DataError: its weights are damaged.
    """
    lineage = checked_lineage(loaded, folder)
    loaded.model = _merged(read_adapter(loaded.model, folder), folder)
    loaded.adapter_sha256 = adapter_identity(folder)
    return lineage


def attach_adapter(loaded: LoadedModel, folder: Path) -> dict:
    """Put the LoRA adapter in `folder` on `loaded.model`, its matrices free to be tuned further, and return its lineage.

    Raises:
        UsageError: see `apply_adapter`; or it is no LoRA adapter.
        DataError: see `apply_adapter`.
    """
    lineage = checked_lineage(loaded, folder)
    adapted = read_adapter(loaded.model, folder, is_trainable=True)
    if (kind := adapted.active_peft_config.peft_type.value) != "LORA":
        raise UsageError(f"--adapter: expected a LoRA adapter to go on from, found {kind} in {folder}; choose another, or --base.")
    loaded.model = adapted
    loaded.adapter_sha256 = adapter_identity(folder)
    return lineage


def checked_lineage(loaded: LoadedModel, folder: Path, *, scores: bool = False) -> dict:
    """The lineage of the adapter in `folder`, which is there, undamaged and made for `loaded`.

    Args:
        scores: whether a reward model's adapter is wanted, which scores replies instead of writing them.

    Raises:
        UsageError, DataError: see `apply_adapter`.
    """
    if not (folder / WEIGHTS).exists():
        raise UsageError(f"--adapter: expected a folder with {WEIGHTS}, found none in {folder}.")
    lineage = read_lineage(folder)
    base = lineage.get("base", {})
    if base and base.get("sha256") != loaded.sha256:
        raise UsageError(
            f"--adapter: {folder.name} was made for {base.get('model')} ({str(base.get('sha256'))[:12]}…), "
            f"the model is {loaded.name} ({loaded.sha256[:12]}…); choose the adapter's own base with --model."
        )
    found = file_sha256(folder / WEIGHTS)
    if lineage and lineage.get("adapter_sha256") != found:
        raise DataError(
            f"{folder / WEIGHTS}: expected SHA-256 {lineage.get('adapter_sha256', '')[:12]}… (lineage.json), found {found[:12]}…; "
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
