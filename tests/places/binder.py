"""What Binder would do, here: `python tests/places/binder.py [--publish] [NOTEBOOK…]`, or `make test-binder`.

1. a copy of the working tree, a fresh environment, `pip install -r binder/requirements.txt`, `binder/postBuild`, with a home of its own;
2. under a hard limit of 2 GB for all together, as in a session: `binder/start` with JupyterLab, which has to open on notebook 00, and,
   while it runs, every notebook (or those that are named) under the profile `binder`, and a few steps of training under it.

--publish notes minutes and memory of the notebooks in results/notebooks.json. --keep FOLDER works in FOLDER and finds the environment
there if it is made already.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from fresh import ROOT, Failed, Limit, clean_variables, copy_of_tree, fresh_environment, hard_limit, step

LIMIT_MB = 2000
FIRST = "/lab/tree/notebooks/00_start_here.ipynb"


def build(folder: Path) -> tuple[Path, dict[str, str]]:
    """Binder's build: the copy of the tree and the variables of a session in it."""
    tree, home, ready = folder / "tree", folder / "home", folder / "ready"
    shutil.rmtree(tree, ignore_errors=True)
    home.mkdir(exist_ok=True)
    copy_of_tree(tree)
    programs = folder / "environment" / "bin"
    variables = clean_variables(programs, home)
    if not ready.exists():
        fresh_environment(folder / "environment")
    install = ["python", "-m", "pip", "install", "-qq", "-r", "binder/requirements.txt"]
    step("pip install -r binder/requirements.txt", install, cwd=tree, env=variables)
    step("binder/postBuild", ["bash", "binder/postBuild"], cwd=tree, env=variables)
    ready.touch()
    return tree, variables


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def opens_on(port: int, seconds: float = 120) -> str:
    """Where JupyterLab sends who comes to its front door, without host."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return answer.url.split(str(port), 1)[1]
        except OSError:
            time.sleep(1)
    raise Failed(f"JupyterLab: expected an answer within {seconds:.0f} s, found none")


def session(tree: Path, variables: dict[str, str], names: list[str], limit: Limit, out: Path) -> None:
    """A session: JupyterLab, beside it the notebooks and a short training, all under the limit.

    Raises:
        Failed: JupyterLab opens on something else, a notebook or the training failed.
    """
    start, port = ["bash", "binder/start"], free_port()
    options = {"cwd": tree, "env": variables, "preexec_fn": limit.enter}
    lab = subprocess.Popen(
        [*start, "jupyter-lab", "--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token="],
        **options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        if (found := opens_on(port)) != FIRST:
            raise Failed(f"JupyterLab: expected it to open on {FIRST}, found {found}")
        measure = ["python", "-m", "ftlab.course.measure", "--profile", "binder", "--json", str(out), *names]
        step(f"{len(names)} notebook(s) under the profile binder", [*start, *measure], **options)
        few = ["--train-rows", "32", "--general-rows", "2", "--out", str(tree / "runs" / "few")]
        step("a few steps of training", [*start, "ftlab", "train", "--task", "support_plan", *few], **options)
    finally:
        lab.terminate()
        lab.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="names of notebooks (default: all)")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    scratch = args.keep or Path(tempfile.mkdtemp(prefix="ftlab-binder-"))
    scratch.mkdir(exist_ok=True)
    try:
        tree, variables = build(scratch)
        names = [f"notebooks/{Path(n).stem}.ipynb" for n in args.notebooks]
        names = names or sorted(f"notebooks/{path.name}" for path in (tree / "notebooks").glob("*.ipynb"))
        out = scratch / "notebooks.json"
        out.unlink(missing_ok=True)
        with hard_limit(LIMIT_MB) as limit:
            print(f"· a session under {LIMIT_MB} MB, held by a {limit.kind}", flush=True)
            try:
                session(tree, variables, names, limit, out)
            finally:
                told = "something was killed for its memory" if limit.passed() else "nothing was killed"
                print(f"  most that all processes held together: {limit.watch.peak_mb:.0f} MB; {told}", flush=True)
        if args.publish:
            publish(json.loads(out.read_text(encoding="utf-8")))
    except Failed as error:
        print(f"make test-binder: {error}", file=sys.stderr)
        return 1
    finally:
        if not args.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0


def publish(runs: dict[str, dict]) -> None:
    """Add the runs to what results/notebooks.json knows of the notebooks."""
    from ftlab.artifact import write_json
    from ftlab.course.measure import MEASURED, measured, note

    known = measured()
    for name, record in runs.items():
        known[name] = note(ROOT / "notebooks" / f"{name}.ipynb", "binder", record["measured"]["binder"], known.get(name))
    write_json(MEASURED, known)


if __name__ == "__main__":
    sys.exit(main())
