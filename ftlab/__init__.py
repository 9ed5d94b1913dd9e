"""ftlab: what pretraining and fine-tuning do to a language model, shown by experiment.

Importing this package is cheap: nothing here imports torch. The public names below are loaded when first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "Check": "checks",
    "Checker": "checks",
    "Row": "task",
    "Task": "task",
    "evaluate_outputs": "evaluate",
    "load_model": "models",
    "load_task": "task",
    "mcnemar_exact": "stats",
    "parse_strict": "checks",
    "train_sft": "train",
    "wilson_interval": "stats",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"ftlab.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ftlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
