"""The package as a whole: light to import, its names in order, its imports one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import ftlab

PACKAGE = Path(ftlab.__file__).parent
ORDER = [
    "errors", "language", "stats", "embed", "checks", "ladder", "rows", "task", "datatools", "constrain", "sample", "llama", "chat", "models", "decode", "ct2", "generate", "lora", "artifact", "outputs", "runbook", "runbook_task", "corpus", "train", "evaluate", "review", "labelling", "device", "stock", "trl_runs",
    "baselines", "regress", "chatparts", "nexttoken", "xray", "masking", "updates", "inside", "mainjob", "prefer", "reward", "bestofn", "rl", "preference_study", "choose", "newtask", "study", "pretrain_study", "continued_study", "head_start", "cost", "bench", "bench_worker", "methods", "sidebyside", "plots", "report", "study_blocks", "readme", "notebook", "widgets", "course", "data_cli", "inside_cli", "choose_cli", "compare_cli", "preference_cli", "pretrain_cli", "continue_cli", "newtask_cli", "cli", "__main__",
]  # fmt: skip
FACES = {
    "plots",
    "report",
    "study_blocks",
    "readme",
    "notebook",
    "widgets",
    "course",
    "data_cli",
    "inside_cli",
    "choose_cli",
    "compare_cli",
    "preference_cli",
    "pretrain_cli",
    "continue_cli",
    "newtask_cli",
    "cli",
    "sidebyside",
}


def imports(path):
    """Modules of ftlab that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ftlab."):
            found.add(node.module.split(".")[1])
    return found


def test_import_is_light():
    heavy = "torch transformers peft sklearn matplotlib numpy jsonschema_rs"
    code = f"import sys, ftlab, ftlab.cli; print(*[m for m in {heavy.split()!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_public_names_are_sorted_and_there():
    assert ftlab.__all__ == sorted(ftlab.__all__)
    for name in ftlab.__all__:
        assert callable(getattr(ftlab, name)), name


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(ftlab, "no_such_name")


def test_imports_go_one_way():
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for other in imports(path) - {own}:
            assert ORDER.index(other) < ORDER.index(own), f"{path.name} imports ftlab.{other}"


def test_the_documented_order_is_this_one():
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert [name for cell in table for name in re.findall(r"`(\w+)`", cell)] == ORDER[:-1]  # all but __main__


def test_faces_are_imported_by_faces_only():
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert own in FACES | {"__main__"} or not imports(path) & FACES, path.name


def test_every_module_says_what_it_is_for():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.name
