"""Notebooks from their sources: `python -m ftlab.course.build [NAME…]` writes notebooks/NAME.ipynb from notebooks/source/NAME.py.

A source is a Python file in jupytext's percent format. Cells that carry one of these marks are made from `ftlab.course` instead:

    # %% part="bootstrap"     the first cell, the same in every notebook
    # %% part="versions"      versions of Python and of the packages used
    # %% exercise="04.1"      text, stub with its check, hints and solution
    # %% open="04.1"          an open-ended task with its rubric
    # %% quiz="04"            questions, and a cell for the answers

Outputs of the notebook that is there are kept if its code is that of the source, and dropped otherwise. Under the title of each notebook
stand the badges of `ftlab.course.badges`, if the project has an address.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftlab.course.badges import badges, pip_source
from ftlab.course.exercise import LETTERS, exercise, open_task, questions
from ftlab.errors import UsageError
from ftlab.notebook import METADATA

NOTEBOOKS = Path(__file__).resolve().parent.parent.parent / "notebooks"
SOURCE = NOTEBOOKS / "source"
BOOTSTRAP = f"""\
# the same cell in every notebook: where ftlab is not installed (Colab), it is, and torch and numpy stay as they are
import importlib.util, os, subprocess, sys
from importlib.metadata import version

if importlib.util.find_spec("ftlab") is None:
    held = [f"{{name}}=={{version(name)}}" for name in ("torch", "numpy")]
    source = os.environ.get("FTLAB_SOURCE", "{pip_source()}")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source, *held], check=True)"""
VERSIONS = """\
for package in ("torch", "transformers", "peft"):
    print(package, version(package).split("+")[0])
print("Python", ".".join(map(str, sys.version_info[:2])))"""
_PARTS = {"bootstrap": BOOTSTRAP, "versions": VERSIONS}


def cells_of(source: Path) -> list[Any]:
    """The cells of a source, its marks replaced, each with a stable id.

    Raises:
        UsageError: a mark names a part, exercise or notebook that does not exist.
    """
    import jupytext
    from nbformat.v4 import new_code_cell, new_markdown_cell

    makers = {"markdown": new_markdown_cell, "code": new_code_cell}
    found: list[tuple[str, str, list[str]]] = []
    for cell in jupytext.read(source, fmt="py:percent").cells:
        found += _expand(cell)
    found[:1] = [_with_badges(*cell, source.stem) for cell in found[:1]]
    cells = []
    for number, (kind, text, tags) in enumerate(found):
        cell = makers[kind](text)
        cell.id = f"{source.stem[:2]}-{number:03d}"
        if tags:
            cell.metadata["tags"] = tags
        cells.append(cell)
    return cells


def _with_badges(kind: str, text: str, tags: list[str], notebook: str) -> tuple[str, str, list[str]]:
    """The first cell with the badges under its title."""
    title, _, rest = text.partition("\n")
    under = badges(notebook)
    return (kind, f"{title}\n\n{under}\n{rest}", tags) if under and kind == "markdown" else (kind, text, tags)


def _expand(cell: Any) -> list[tuple[str, str, list[str]]]:
    marks = {key: cell.metadata[key] for key in ("part", "exercise", "open", "quiz") if key in cell.metadata}
    if not marks:
        return [(cell.cell_type, cell.source, list(cell.metadata.get("tags", [])))]
    (kind, name), *_ = marks.items()
    if kind == "part":
        if name not in _PARTS:
            raise UsageError(f"part: expected one of {', '.join(_PARTS)}, found {name!r}.")
        return [("code", _PARTS[name], [])]
    return {"exercise": exercise_cells, "open": open_cells, "quiz": quiz_cells}[kind](name)


def exercise_cells(identity: str) -> list[tuple[str, str, list[str]]]:
    """(kind, text, tags) of the three cells of an exercise: what is asked, stub and check, hints and solution folded."""
    e = exercise(identity)
    head = f"**Exercise {e.id} · {e.title}** (level {e.level}, {e.minutes} minutes). {e.text}"
    code = f'{e.stub}\n\nfrom ftlab.course import check\n\ncheck("{e.id}", {e.name})'
    folded = [_folded(f"Hint {number}", hint) for number, hint in enumerate(e.hints, 1)]
    return [
        ("markdown", head, []),
        ("code", code, ["exercise"]),
        ("markdown", "\n".join([*folded, _folded("Solution", f"\n```python\n{e.solution}\n```\n")]), []),
    ]


def open_cells(identity: str) -> list[tuple[str, str, list[str]]]:
    """The cell of an open-ended task, its rubric folded."""
    task = open_task(identity)
    rubric = "\n" + "\n".join(f"- {point}" for point in task.rubric) + "\n"
    text = f"**Open question {task.id} · {task.title}** ({task.minutes} minutes, no single right answer). {task.text}"
    return [("markdown", f"{text}\n\n{_folded('What a good answer shows', rubric)}", [])]


def quiz_cells(notebook: str) -> list[tuple[str, str, list[str]]]:
    """The questions of a quiz, and a cell for the answers."""
    asked = []
    for number, question in enumerate(questions(notebook), 1):
        options = "\n".join(f"   - {letter}) {option}" for letter, option in zip(LETTERS, question.options, strict=False))
        asked.append(f"{number}. {question.text}\n{options}")
    code = 'from ftlab.course import quiz\n\nanswers = {1: "", 2: "", 3: "", 4: "", 5: ""}  # a letter each\n'
    return [("markdown", "\n".join(asked), []), ("code", f'{code}quiz("{notebook}", answers)', ["quiz"])]


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>{text}</details>"


def build(source: Path) -> Path:
    """Write the notebook of one source; outputs stay where all code is as it was."""
    import nbformat

    path, cells = _stored(source), cells_of(source)
    if path.exists() and _holds(path, cells):
        return path
    if path.exists():
        _take_outputs(cells, nbformat.read(path, as_version=4).cells)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), path)
    return path


def _take_outputs(cells: Sequence[Any], old: Sequence[Any]) -> None:
    """Give code cells the outputs of the old ones, if the code is the same from first to last."""
    new_code, old_code = ([cell for cell in some if cell.cell_type == "code"] for some in (cells, old))
    if [cell.source for cell in new_code] == [cell.source for cell in old_code]:
        for new, before in zip(new_code, old_code, strict=True):
            new.outputs, new.execution_count = before.outputs, before.execution_count


def stale(source: Path) -> str:
    """Why the stored notebook of a source is not up to date; "" if it is."""
    path = _stored(source)
    if not path.exists():
        return f"{path.name}: expected a notebook of {source.name}, found none; run `make notebooks`"
    return "" if _holds(path, cells_of(source)) else f"{path.name}: its cells are not those of {source.name}; run `make notebooks`"


def _stored(source: Path) -> Path:
    return NOTEBOOKS / f"{source.stem}.ipynb"


def _holds(path: Path, cells: Sequence[Any]) -> bool:
    """Whether the stored notebook has these cells, whatever their outputs."""
    import nbformat

    old = nbformat.read(path, as_version=4).cells
    return [(c.cell_type, c.source) for c in old] == [(c.cell_type, c.source) for c in cells]


def main(argv: Sequence[str]) -> int:
    sources = [SOURCE / f"{name.removesuffix('.py')}.py" for name in argv] or sorted(SOURCE.glob("*.py"))
    for source in sources:
        print(build(source).name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
