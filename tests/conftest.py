"""Shared toys: a tiny random model, a small task folder, restored random state."""

import json
import random

import pytest

INTENTS = ("refund", "login", "other")
MESSAGES = {
    "refund": ["money back for order {}", "please return what I paid, order {}", "charged twice on order {}"],
    "login": ["cannot sign in, case {}", "password gone, case {}", "locked out since case {}"],
    "other": ["what is the weather, {}", "tell me a joke about {}", "nice shop, {}"],
}


def toy_rows(n: int) -> list[dict]:
    """n labelled rows of a three-class task whose `number` is copied from the message."""
    rows = []
    for i in range(n):
        intent = INTENTS[i % 3]
        text = MESSAGES[intent][(i // 3) % 3].format(1000 + i)
        rows.append({"id": f"r{i}", "input": text, "output": {"intent": intent, "number": str(1000 + i), "say": "Thank you."}})
    return rows


TOY_SCHEMA = {
    "title": "toy",
    "type": "object",
    "required": ["intent", "number", "say"],
    "additionalProperties": False,
    "properties": {
        "intent": {"enum": list(INTENTS), "description": "What is wanted."},
        "number": {"type": "string", "description": "The number in the message."},
        "say": {"type": "string"},
    },
}


@pytest.fixture
def toy_folder(tmp_path):
    """A user's folder with the two files that are needed and nothing else."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "schema.json").write_text(json.dumps(TOY_SCHEMA))
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy_rows(60)))
    return folder


@pytest.fixture
def toy_task(toy_folder):
    from ftlab import load_task

    return load_task(toy_folder)


def toy_pairs(n: int) -> list[dict]:
    """n pairs of replies to toy messages; the rejected one has another intent and is longer for odd n, shorter for even n."""
    pairs = []
    for i, row in enumerate(toy_rows(n)):
        wrong = {"intent": INTENTS[(i + 1) % 3], "number": row["output"]["number"], "say": ("No.", "No, and no again.")[i % 2]}
        chosen = row["output"] | {"say": "Thank you."}
        pairs.append({"id": f"p{i}", "input": row["input"], "chosen": chosen, "rejected": wrong, "tags": ["typical"], "lang": "en"})
    return pairs


@pytest.fixture
def pairs_folder(toy_folder):
    """The user's folder with pairs of replies."""
    for name, part in (("pairs", toy_pairs(20)), ("pairs_test", toy_pairs(28)[20:])):
        (toy_folder / f"{name}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in part))
    return toy_folder


@pytest.fixture
def pairs_task(pairs_folder):
    from ftlab import load_task

    return load_task(pairs_folder)


@pytest.fixture
def tiny():
    """A fresh random two-layer model."""
    from ftlab import load_model

    return load_model("tiny")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test has a cache folder of its own: outputs of one never answer for another."""
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def seeded():
    """Each test starts from the same random state and leaves Python's as it was."""
    state = random.getstate()
    random.seed(0)
    yield
    random.setstate(state)
