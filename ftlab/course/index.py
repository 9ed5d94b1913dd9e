"""The course's table of contents: `python -m ftlab.course.index` writes the marked blocks of notebooks/README.md and a picture of each
notebook, from the stored notebooks and results/notebooks.json.

The picture is a notebook's first figure, or that of the cell tagged `picture`, smaller. It carries the hash of the figure that it was
made from, so that a test can tell whether it still is that.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ftlab.course.badges import FIRST, badges
from ftlab.course.measure import code_sha256, environments, measured
from ftlab.errors import DataError
from ftlab.readme import fill

NOTEBOOKS = Path(__file__).resolve().parent.parent.parent / "notebooks"
PICTURES = "pictures"  # in the folder of the notebooks
WIDTH = 480  # pixels
COLOURS = 64
FROM = "made-from-sha256"
UNMEASURED = "not measured yet"
WITHOUT_ADDRESS = (
    "On mybinder.org, give the address of this repository; the folder `binder/` does the rest. In Colab, choose *Open notebook*, *GitHub*, "
    "and give the same address."
)


@dataclass(frozen=True)
class Figure:
    """A figure stored in a notebook: its PNG and its alternative text."""

    png: bytes
    alt: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.png).hexdigest()


@dataclass(frozen=True)
class Entry:
    """What the index says of a notebook."""

    path: Path
    title: str
    goals: tuple[str, ...]
    figure: Figure | None

    @property
    def picture(self) -> Path:
        return self.path.parent / PICTURES / f"{self.path.stem}.png"


def entries(folder: Path = NOTEBOOKS) -> list[Entry]:
    """One for each notebook: the numbered ones in order, then the others."""
    paths = sorted(folder.glob("*.ipynb"), key=lambda path: (not path.stem[:2].isdigit(), path.stem))
    return [_entry(path) for path in paths]


def _entry(path: Path) -> Entry:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    head = "".join(cells[0]["source"])
    title = re.match(r"# (.+)", head)
    if not title:
        raise DataError(f"{path.name}: expected a title (# …) in the first cell, found {head[:40]!r}.")
    goals = re.findall(r"^\d+\. (.+?)[;.]?$", head, re.MULTILINE)
    return Entry(path, title[1], tuple(goals), _figure(cells))


def _figure(cells: Sequence[dict]) -> Figure | None:
    """The figure of the cell tagged `picture`, else the first of all."""
    found = [
        (PICTURES[:-1] not in cell["metadata"].get("tags", []), output)
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if not found:
        return None
    _, output = min(found, key=lambda pair: pair[0])
    image = output["data"]["image/png"]
    png = base64.b64decode(image if isinstance(image, str) else "".join(image))
    alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
    return Figure(png, alt)


def smaller(figure: Figure) -> bytes:
    """The figure as a small PNG that names the figure it was made from."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    image = Image.open(BytesIO(figure.png)).convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH))
    told, buffer = PngInfo(), BytesIO()
    told.add_text(FROM, figure.sha256)
    image.quantize(COLOURS).save(buffer, format="PNG", pnginfo=told, optimize=True)
    return buffer.getvalue()


def made_from(picture: Path) -> str:
    """Hash of the figure that a picture was made from, "" if it does not say or is not there."""
    from PIL import Image

    if not picture.exists():
        return ""
    with Image.open(picture) as image:
        return image.info.get(FROM, "")


def picture_problems(folder: Path = NOTEBOOKS) -> list[str]:
    """Pictures that are missing, or of a figure that the notebook no longer shows."""
    wanted = {entry.picture: entry.figure.sha256 if entry.figure else "" for entry in entries(folder)}
    left = set((folder / PICTURES).glob("*.png")) - {picture for picture, sha256 in wanted.items() if sha256}
    wrong = [picture for picture, sha256 in wanted.items() if made_from(picture) != sha256 and picture not in left]
    return [
        f"{picture.name}: not the picture of its notebook; run python -m ftlab.course.index" for picture in sorted([*wrong, *left])
    ]


def blocks(folder: Path = NOTEBOOKS, records: dict[str, dict] | None = None) -> dict[str, str]:
    """Name → Markdown of each block of notebooks/README.md."""
    known = measured() if records is None else records
    profiles = [name for name in environments() if name != "live" or any("live" in r["measured"] for r in known.values())]
    lines = ["| | notebook: afterwards you can | " + " | ".join(profiles) + " |", "|---" * (len(profiles) + 2) + "|"]
    for entry in entries(folder):
        runs = _current(entry, known)
        lines.append(f"| {_picture(entry)} | {_about(entry)} | " + " | ".join(_took(runs.get(name)) for name in profiles) + " |")
    return {"badges": badges(FIRST) or WITHOUT_ADDRESS, "index": "\n".join(lines), "machine": _machine(known)}


def _current(entry: Entry, known: dict[str, dict]) -> dict[str, dict]:
    """The runs of the code that the notebook has now."""
    runs = known.get(entry.path.stem, {}).get("measured", {})
    return {name: run for name, run in runs.items() if run["code_sha256"] == code_sha256(entry.path)}


def _picture(entry: Entry) -> str:
    if entry.figure is None:
        return ""
    alt = (re.split(r"[.:,] ", entry.figure.alt)[0] or entry.title).replace("|", "/").replace('"', "'")
    return f'<img src="{PICTURES}/{entry.picture.name}" width="240" alt="{alt}">'


def _about(entry: Entry) -> str:
    under = badges(entry.path.stem)
    parts = [f"[**{entry.title}**]({entry.path.name})", *entry.goals, *([under] if under else [])]
    return "<br>".join(part.replace("|", "\\|") for part in parts)


def _took(run: dict | None) -> str:
    if run is None:
        return UNMEASURED
    took = f"{run['seconds'] / 60:.1f} min" if run["seconds"] >= 60 else f"{run['seconds']:.0f} s"
    return f"{took}, {run['peak_memory_mb'] / 1000:.1f} GB"


def _machine(known: dict[str, dict]) -> str:
    runs = [run for record in known.values() for run in record["measured"].values()]
    if not runs:
        return "None has been measured yet."
    dates, cores = sorted({run["date"] for run in runs}), sorted({run["cores"] for run in runs})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"Measured {when} with {' or '.join(map(str, cores))} core{'s' if cores != [1] else ''} to run on, exercises left open."


def write(folder: Path = NOTEBOOKS) -> list[Path]:
    """Write the index's blocks and the pictures that changed; remove pictures of notebooks that are gone. Returns what was written."""
    (folder / PICTURES).mkdir(exist_ok=True)
    found, changed = entries(folder), []
    for gone in set((folder / PICTURES).glob("*.png")) - {entry.picture for entry in found if entry.figure}:
        gone.unlink()
    for entry in found:
        if entry.figure and made_from(entry.picture) != entry.figure.sha256:
            entry.picture.write_bytes(smaller(entry.figure))
            changed.append(entry.picture)
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    if (filled := fill(text, blocks(folder))) != text:
        readme.write_text(filled, encoding="utf-8")
        changed.append(readme)
    return changed


def main() -> int:
    for path in write():
        print(f"{path.parent.name}/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
