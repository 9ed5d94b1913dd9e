"""What Colab would do, here: `python tests/places/colab.py [NOTEBOOK…]`, or `make test-colab`.

In a fresh environment that has torch and numpy, and what Jupyter needs, but no ftlab, two notebooks (or those that are named) are run
outside the repository. Their first cell has to install ftlab, from a wheel of this working tree, and to leave every file of torch and
numpy as it was.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fresh import ROOT, Failed, clean_variables, copy_of_tree, fresh_environment, step

FIXED = ("torch==2.13.0", "numpy==2.0.2")  # there before; this numpy is older than what pip would choose
THERE = ("ipykernel", "ipywidgets", "matplotlib", "nbclient")  # Colab has these
NOTEBOOKS = ("00_start_here", "04_specification_and_evaluation")
WHERE = "import ftlab, json, numpy, torch; print(json.dumps([ftlab.__file__, torch.__version__, numpy.__version__]))"


def state(packages: Path) -> dict[str, str]:
    """Of each fixed package: a hash over name, size and time of change of its files, caches of bytecode left out."""
    found = {}
    for name in (fixed.partition("==")[0] for fixed in FIXED):
        folders = [packages / name, *packages.glob(f"{name}-*.dist-info")]
        files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
        if not files:
            raise Failed(f"{name}: expected its files in the environment, found none")
        told = [f"{path.relative_to(packages)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
        found[name] = hashlib.sha256("\n".join(told).encode()).hexdigest()
    return found


def wheel(folder: Path, variables: dict[str, str]) -> Path:
    """A wheel of the working tree."""
    tree = copy_of_tree(folder / "tree")
    step(
        "a wheel of the working tree",
        ["python", "-m", "pip", "wheel", "-qq", "--no-deps", "-w", str(folder), str(tree)],
        env=variables,
    )
    return next(folder.glob("ftlab-*.whl"))


def check(folder: Path, names: list[str]) -> None:
    """Run the notebooks as on Colab.

    Raises:
        Failed: one did not run, torch or numpy was touched, or ftlab came from elsewhere.
    """
    programs, content = folder / "environment" / "bin", folder / "content"
    content.mkdir()
    fresh_environment(folder / "environment")
    variables = clean_variables(programs, Path.home())  # the cache of the model may be there; on Colab it is fetched
    step("torch, numpy and Jupyter's parts", ["python", "-m", "pip", "install", "-qq", *FIXED, *THERE], env=variables)
    packages = next((folder / "environment" / "lib").glob("python*/site-packages"))
    before = state(packages)
    variables |= {"FTLAB_SOURCE": str(wheel(folder, variables))}
    for name in names:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", content)
        run = ["jupyter", "execute", "--kernel_name=python3", f"{name}.ipynb"]
        step(name, run, cwd=content, env=variables)
    if changed := [name for name, sha256 in state(packages).items() if before[name] != sha256]:
        raise Failed(f"{', '.join(changed)}: expected every file as it was, found changes")
    said = subprocess.run(["python", "-c", WHERE], cwd=content, env=variables, capture_output=True, text=True, check=True)
    place, *versions = json.loads(said.stdout)
    if Path(place).parent.parent != packages:
        raise Failed(f"ftlab: expected it in the environment, found {place}")
    print(f"torch {versions[0]} and numpy {versions[1]} are as they were, file by file; {len(names)} notebooks ran")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", default=NOTEBOOKS, help="names of notebooks (default: two)")
    names = [Path(name).stem for name in parser.parse_args().notebooks]
    with tempfile.TemporaryDirectory(prefix="ftlab-colab-") as folder:
        try:
            check(Path(folder), names)
        except Failed as error:
            print(f"make test-colab: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
