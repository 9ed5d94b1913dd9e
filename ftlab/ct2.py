"""CTranslate2 as an engine of generation: weights converted once, kept under their hash, decoded by compiled code.

In float32 its answers are those of torch; a conversion is compared with the model it came from before it is kept. With int8 weights
are rounded and answers differ, so int8 needs scores of its own. The package is an extra and imported only when it is asked for.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftlab.errors import DataError, UsageError
from ftlab.models import LoadedModel, cache_dir, free_disk

COMPUTE_TYPES = {"ctranslate2": "float32", "ctranslate2-int8": "int8"}  # engine -> how it stores weights
_TOLERANCE = {"float32": 1e-3, "int8": 0.5}  # largest ||found - expected|| / ||expected|| of logits; int8 is rounded to 1 in 127
_PROBE = 'Order 4711 has not come. Where is it, please? {"intent": "delivery"}'
_FLEETING = ("_name_or_path", "architectures", "dtype", "transformers_version")  # config keys that saving or loading changes


def open_generator(loaded: LoadedModel, engine: str) -> Any:
    """A CTranslate2 generator of `loaded`, converted on first use into FTLAB_CACHE/ctranslate2.

    Each conversion takes as much disk as the model (a quarter of it with int8) and stays until the folder is deleted.

    Args:
        engine: a key of `COMPUTE_TYPES`.

    Raises:
        UsageError: the package is missing, an adapter is not merged, or CTranslate2 cannot compute this model.
        DataError: the cache folder cannot be written.
    """
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        raise UsageError(
            f"--engine {engine} needs the package ctranslate2, which is not installed; run: pip install 'ftlab[ctranslate2]'"
        ) from None
    if hasattr(loaded.model, "get_base_model") or any(hasattr(module, "base_layer") for module in loaded.model.modules()):
        raise UsageError(
            f"--engine {engine}: expected a model without adapter, found one that still carries it; merge it with merge_and_unload() first."
        )
    folder = cache_dir() / "ctranslate2" / f"{model_sha256(loaded)}-{COMPUTE_TYPES[engine]}"
    if not folder.exists():
        _keep_conversion(loaded, engine, folder)
    return _generator(folder, engine)


def _generator(folder: Path, engine: str) -> Any:
    import ctranslate2
    import torch

    return ctranslate2.Generator(
        str(folder), compute_type=COMPUTE_TYPES[engine], inter_threads=1, intra_threads=torch.get_num_threads()
    )


def model_sha256(loaded: LoadedModel) -> str:
    """Hash of all that a conversion depends on, read from memory: `loaded.sha256` is the file's and stays when an adapter is merged."""
    import ctranslate2
    import torch

    config = {key: value for key, value in loaded.model.config.to_dict().items() if key not in _FLEETING}
    about = [ctranslate2.__version__, config, sorted(loaded.tokenizer.get_vocab().items())]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, weight in loaded.model.named_parameters():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _keep_conversion(loaded: LoadedModel, engine: str, folder: Path) -> None:
    """Convert beside `folder` and move the result there in one step: no reader sees half of it."""
    print(f"preparing {loaded.name} for {engine} (once for these weights) …", file=sys.stderr, flush=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free_disk(folder, 2 * sum(p.numel() * p.element_size() for p in loaded.model.parameters()))
        with tempfile.TemporaryDirectory(suffix=".partial", dir=folder.parent) as scratch:
            made = _convert(loaded, engine, Path(scratch))
            if not folder.exists():
                made.rename(folder)
    except OSError as error:
        raise DataError(
            f"the cache folder {folder.parent} cannot be written ({error.strerror or error}): make room or point FTLAB_CACHE to "
            "another disk. Nothing half-made was left behind."
        ) from None


def _convert(loaded: LoadedModel, engine: str, scratch: Path) -> Path:
    """The converted model in `scratch`, compared with the original.

    Raises:
        UsageError: the converter does not know the model, or what it made computes something else.
    """
    from ctranslate2.converters import TransformersConverter

    source, made, tolerance = scratch / "source", scratch / "made", _TOLERANCE[COMPUTE_TYPES[engine]]
    try:
        loaded.model.save_pretrained(source)
        loaded.tokenizer.save_pretrained(source)
        TransformersConverter(str(source)).convert(str(made), quantization=COMPUTE_TYPES[engine])
        difference = _difference(loaded, _generator(made, engine))
    except OSError:
        raise
    except Exception as error:  # the converter raises many kinds for a model that it does not know
        raise _cannot(loaded, engine, (str(error) or type(error).__name__).splitlines()[0][:120]) from None
    if not difference <= tolerance:  # not a number is a difference too
        raise _cannot(loaded, engine, f"its logits differ by {difference:.1g}, expected at most {tolerance:.1g}")
    return made


def _cannot(loaded: LoadedModel, engine: str, reason: str) -> UsageError:
    kind = loaded.model.config.model_type
    return UsageError(
        f"--engine {engine}: expected a model that CTranslate2 can compute, found {kind} ({reason}); use --engine torch."
    )


def _difference(loaded: LoadedModel, generator: Any) -> float:
    """||found - expected|| / ||expected|| of the logits of one text, (1, T, V)."""
    import numpy as np
    import torch

    ids = loaded.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        expected = loaded.model(input_ids=torch.tensor([ids])).logits
    found = torch.from_numpy(np.array(generator.forward_batch([loaded.tokenizer.convert_ids_to_tokens(ids)])))
    return ((found - expected).norm() / expected.norm()).item()


def greedy_ct2(
    generator: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int],
    max_new_tokens: int,
    ended: Callable[[int, int], bool],
) -> list[list[int]]:
    """Greedy token ids after each prompt, as `decode.greedy` gives them.

    Args:
        generator: from `open_generator`; it keeps the keys and values of the prefix from call to call.
        prompts: token ids of each row after the shared prefix, at least one; all are one batch.
        prefix: token ids that stand before all prompts, or none.
        ended: called with (row, token) for each new token; True ends the row, that token included.
    """
    names = tokenizer.convert_ids_to_tokens
    results = generator.generate_batch(
        [names(list(prompt)) for prompt in prompts],
        static_prompt=names(list(prefix)) if prefix else None,
        cache_static_prompt=True,
        include_prompt_in_result=False,
        beam_size=1,
        max_length=max_new_tokens,
        end_token=[tokenizer.eos_token_id],
        return_end_token=True,
        callback=lambda step: ended(step.batch_id, step.token_id),
    )
    return [result.sequences_ids[0] for result in results]
