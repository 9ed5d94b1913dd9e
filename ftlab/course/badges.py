"""Where the project is on the web, said once, under `[project.urls]` of pyproject.toml; and the badges that lead there.

Without an address there are no badges: `python -m ftlab.course.build` and `python -m ftlab.course.index` put them in once
`Repository` is set. They lead to the tag of the version, so that a notebook and its outputs stay what they were.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ftlab.errors import DataError

PYPROJECT = Path(__file__).resolve().parent.parent.parent / "pyproject.toml"
FIRST = "00_start_here"
_GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")


@dataclass(frozen=True)
class Home:
    """The project's repository and the tag of its version; `address` is "" where pyproject.toml names none."""

    address: str
    tag: str


def home(pyproject: Path = PYPROJECT) -> Home:
    """Read off pyproject.toml.

    Raises:
        DataError: the address is not one that badges can lead to.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository", "")
    if address and not _GITHUB.fullmatch(address):
        raise DataError(
            f"{pyproject.name}: expected a Repository of the form https://github.com/OWNER/NAME under [project.urls], found {address!r}; "
            "Colab opens notebooks from there only."
        )
    return Home(address, f"v{project['version']}")


def badges(notebook: str, at: Home | None = None) -> str:
    """Markdown of a notebook's two badges; "" without an address.

    Args:
        notebook: its name without folder and ending.
    """
    at = at or home()
    match = _GITHUB.fullmatch(at.address)
    if not match:
        return ""
    file, project = f"notebooks/{notebook}.ipynb", match[1]
    binder = f"https://mybinder.org/v2/gh/{project}/{at.tag}?urlpath={quote(f'lab/tree/{file}', safe='')}"
    colab = f"https://colab.research.google.com/github/{project}/blob/{at.tag}/{file}"
    return (
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder}) "
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    )


def pip_source(at: Home | None = None) -> str:
    """What pip installs ftlab from where it is missing: the repository at the tag, or the registry's package without an address."""
    at = at or home()
    return f"ftlab @ git+{at.address}@{at.tag}" if at.address else "ftlab"
