"""What notebooks need: show a figure; run all afresh and store their outputs; check that stored ones are in order and clean.

python -m ftlab.notebook notebooks/*.ipynb            run and store
python -m ftlab.notebook --check notebooks/*.ipynb    only check
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_WIDGET = "application/vnd.jupyter.widget-view+json"
_PATH = re.compile(r"/(?:home|root|Users|tmp)/|site-packages")


def show(figure: Any) -> Any:
    """A matplotlib `Figure` as an image with its alt text, whatever backend the notebook runs on."""
    from io import BytesIO

    from IPython.display import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image(buffer.getvalue(), alt=figure.get_label())


def framed(page: str, height: int) -> Any:
    """A whole HTML page in a frame of its own: its styles and scripts do not reach the notebook, nor the notebook's it."""
    from html import escape

    from IPython.display import HTML

    inside = f'srcdoc="{escape(page, quote=True)}" sandbox="allow-scripts allow-downloads" title="a page in the notebook"'
    return HTML(f'<div><iframe {inside} style="width:100%;height:{height}px;border:1px solid #888"></iframe></div>')


def run_notebook(path: Path, timeout_s: int = 900) -> None:
    """Execute a notebook in its own folder on a fresh kernel and write it back with clean metadata.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)
    nbformat.write(notebook, path)


def tidy(outputs: Sequence[dict]) -> list[dict]:
    """A cell's outputs as they are stored: text in one piece, no stderr, no widgets: what stands in for one is stored beside it."""
    # progress bars and warnings say nothing to a reader and differ from run to run; a widget does not outlive its kernel
    kept = [output for output in outputs if not (output["output_type"] == "stream" and output["name"] == "stderr")]
    joined: list[dict] = []
    for output in kept:
        output.get("data", {}).pop(_WIDGET, None)
        if output["output_type"] == "stream" and joined and joined[-1]["output_type"] == "stream":
            joined[-1]["text"] += output["text"]  # printed bit by bit, read as one text
        else:
            joined.append(output)
    return joined


def notebook_problems(path: Path) -> list[str]:
    """What is wrong with a stored notebook, one line each; [] if nothing."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    problems = []
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        problems.append(f"{path.name}: not executed from 1 in order; run `make notebooks`")
    for number, cell in enumerate(code, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                problems.append(f"{path.name}: cell {number} stored an error")
            shown = json.dumps({key: value for key, value in output.items() if key != "metadata"})
            if match := _PATH.search(re.sub(r'"image/png": "[^"]*"', "", shown)):
                problems.append(f"{path.name}: cell {number} shows a path of a machine ({match.group()})")
    return problems


def main(argv: Sequence[str]) -> int:
    check_only = "--check" in argv
    paths = [Path(name) for name in argv if not name.startswith("-")]
    if not check_only:
        for path in paths:
            print(f"running {path} …", flush=True)
            run_notebook(path)
    problems = [problem for path in paths for problem in notebook_problems(path)]
    print("\n".join(problems) if problems else f"{len(paths)} notebook(s) in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
