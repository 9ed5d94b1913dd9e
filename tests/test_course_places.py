"""Minutes, memory, index, badges and Binder's files: noted by hash, derived from what is there, nothing invented."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from io import BytesIO

import pytest
from places import fresh

from ftlab.cli import _parser
from ftlab.course import badges, build, index, measure
from ftlab.course.watch import Watch
from ftlab.errors import DataError, UsageError
from ftlab.models import default_profile
from ftlab.notebook import METADATA
from ftlab.train.settings import PROFILES, sft_config

HOME = badges.Home("https://github.com/owner/name", "v1.2")
NOTEBOOKS = sorted(build.NOTEBOOKS.glob("*.ipynb"))


def png(shade: int) -> str:
    from PIL import Image

    buffer = BytesIO()
    Image.new("L", (800, 400), shade).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def code(source: str, *shades: int, tags: tuple = ()) -> dict:
    outputs = [
        {"output_type": "display_data", "data": {"image/png": png(s)}, "metadata": {"image/png": {"alt": f"Grey {s}. More."}}}
        for s in shades
    ]
    return {
        "cell_type": "code",
        "id": f"c{len(source)}",
        "source": source,
        "outputs": outputs,
        "execution_count": 1,
        "metadata": {"tags": list(tags)},
    }


def notebook(path, *cells: dict):
    head = {"cell_type": "markdown", "id": "head", "metadata": {}, "source": "# 01 · A title\n\n1. see | it;\n2. say it."}
    path.write_text(json.dumps({"cells": [head, *cells], "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture
def folder(tmp_path):
    """A course of one notebook, whose index is not written yet."""
    notebook(tmp_path / "01_one.ipynb", code("a = 1", 10), code("b = 22", 20, tags=("picture",)))
    (tmp_path / "README.md").write_text("<!-- results: index -->\n<!-- end -->\n<!-- results: machine -->\n<!-- end -->\n")
    return tmp_path


# memory of a tree of processes


HOLD = "import time; x = bytearray({mb} * 10**6); time.sleep({seconds})"


def hold(mb: int, seconds: float) -> list[str]:
    """A process that starts another, which holds `mb` for a while."""
    inner = HOLD.format(mb=mb, seconds=seconds)
    return [
        sys.executable,
        "-c",
        f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {inner!r}]).returncode != 0)",
    ]


def test_memory_of_grandchildren_counts():
    with Watch() as watch:
        subprocess.run(hold(150, 0.5), check=True)
    assert 150 < watch.peak_mb < 250 and not watch.killed


def test_what_passes_the_limit_is_killed_and_the_rest_is_not():
    with Watch(limit_mb=100) as watch:
        started = time.monotonic()
        assert subprocess.run(hold(150, 30)).returncode != 0
        assert time.monotonic() - started < 20
    assert watch.killed


@pytest.mark.parametrize("grouped", [True, False], ids=["control group, where there are any", "watch"])
def test_the_hard_limit_of_test_binder_kills(grouped, monkeypatch):
    """The same two processes, one within the limit, one not, whichever means the machine has."""
    if not grouped:
        monkeypatch.setattr(fresh, "_control_group", lambda limit_mb: None)
    with fresh.hard_limit(150) as limit:
        held = [
            subprocess.run([sys.executable, "-c", HOLD.format(mb=mb, seconds=0.5)], preexec_fn=limit.enter).returncode
            for mb in (60, 400)
        ]
        assert held[0] == 0 != held[1] and limit.passed()


# what a run took, and whether outputs are still those of it


@pytest.fixture
def ran(folder, monkeypatch):
    """A notebook run for real under the profile smoke and under cpu; (its path, its record)."""
    path = notebook(folder / "02_two.ipynb", code("import os\nprint(os.environ['FTLAB_SPEED'])"))
    monkeypatch.setenv("FTLAB_SPEED", "live")
    before = path.read_bytes()
    smoke = measure.measure(path, "smoke")
    assert path.read_bytes() == before, "only cpu stores outputs"
    cpu = measure.measure(path, "cpu")
    assert os.environ["FTLAB_SPEED"] == "live"
    return path, measure.note(path, "cpu", cpu, measure.note(path, "smoke", smoke, None))


@pytest.mark.enable_socket
def test_a_run_is_measured_and_only_cpu_is_stored(ran):
    path, record = ran
    assert json.loads(path.read_text())["cells"][1]["outputs"][0]["text"] in ("replay\n", ["replay\n"])
    for run in record["measured"].values():
        assert run["seconds"] > 0 and 20 < run["peak_memory_mb"] < 500 and run["cores"] >= 1
    assert set(record["measured"]) == {"smoke", "cpu"} and measure.stale_outputs(path, record) == []


@pytest.mark.enable_socket
def test_a_cell_that_fails_or_takes_too_much_is_told(folder):
    with pytest.raises(DataError, match=r"02_x.ipynb, profile smoke: expected it to run through, found: [\s\S]*ZeroDivisionError"):
        measure.measure(notebook(folder / "02_x.ipynb", code("1 / 0")), "smoke")
    with pytest.raises(DataError, match="it took more than 150 MB"):
        measure.measure(
            notebook(folder / "02_x.ipynb", code("x = bytearray(200 * 10**6)\nimport time\ntime.sleep(20)")), "smoke", limit_mb=150
        )


def noted(path, **changes) -> dict:
    run = {
        "seconds": 60.0,
        "peak_memory_mb": 500,
        "cores": 2,
        "date": "2026-01-02",
        "code_sha256": measure.code_sha256(path),
    } | changes
    return measure.note(path, "cpu", run, None)


def test_changed_code_and_changed_outputs_are_noticed(folder):
    path = folder / "01_one.ipynb"
    record = noted(path)
    assert measure.stale_outputs(path, record) == [] == measure.stale_outputs(path, None)
    notebook(path, code("a = 1", 10), code("b = 22", 21, tags=("picture",)))
    assert "its outputs are not those of the run" in measure.stale_outputs(path, record)[0]
    notebook(path, code("a = 2", 10), code("b = 22", 20, tags=("picture",)))
    (said,) = measure.stale_outputs(path, record)
    assert "its code has changed" in said and said.endswith("run `make notebooks`")


def test_a_stored_result_that_changed_is_noticed(folder, tmp_path):
    path = notebook(
        folder / "01_one.ipynb", code('x = stored("a", say=False)\ny = stored_evaluations("b")\nz = stored_if_there("d", "make d")')
    )
    results = tmp_path / "results"
    results.mkdir()
    for name in ("a", "b", "b_rows", "c"):
        (results / f"{name}.json").write_text("1")
    assert sorted(measure.results_read(path, results)) == ["a", "b", "b_rows", "d"]
    before = measure.results_read(path, results)
    (results / "b_rows.json").write_text("2")
    assert [n for n, sha in measure.results_read(path, results).items() if before[n] != sha] == ["b_rows"]
    record = noted(path)
    record["results"]["a"] = "another"
    assert "results/a.json, which has changed" in measure.stale_outputs(path, record)[0]


def test_runs_of_other_code_are_dropped(folder):
    path = folder / "01_one.ipynb"
    old = noted(path, code_sha256="old")
    run = noted(path)["measured"]["cpu"]
    assert set(measure.note(path, "smoke", run, old)["measured"]) == {"smoke"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_those_of_the_noted_run(path):
    assert measure.stale_outputs(path, measure.measured().get(path.stem)) == []


# the index


def test_the_index_is_the_one_that_would_be_written():
    text = (build.NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    assert index.fill(text, index.blocks()) == text, "run python -m ftlab.course.index"
    assert index.picture_problems() == []


def test_pictures_are_small_and_of_the_tagged_figure(folder):
    from PIL import Image

    index.write(folder)
    picture = folder / "pictures" / "01_one.png"
    with Image.open(picture) as image:
        assert image.size == (480, 240) and image.convert("L").getpixel((5, 5)) == 20
    assert index.picture_problems(folder) == [] and index.write(folder) == []
    notebook(folder / "01_one.ipynb", code("a = 1", 30))
    assert "01_one.png: not the picture" in index.picture_problems(folder)[0]
    index.write(folder)
    assert index.picture_problems(folder) == []


def test_a_picture_without_its_notebook_is_noticed_and_removed(folder):
    index.write(folder)
    (folder / "01_one.ipynb").rename(folder / "03_three.ipynb")
    assert [said.split(":")[0] for said in index.picture_problems(folder)] == ["01_one.png", "03_three.png"]
    index.write(folder)
    assert [p.name for p in (folder / "pictures").iterdir()] == ["03_three.png"]


def test_the_index_shows_what_was_measured_and_invents_nothing(folder):
    path = folder / "01_one.ipynb"
    shown = index.blocks(folder, {"01_one": noted(path)})
    assert "| 1.0 min, 0.5 GB | not measured yet | not measured yet |" in shown["index"]
    assert "**01 · A title**](01_one.ipynb)<br>see \\| it<br>say it" in shown["index"] and 'alt="Grey 20"' in shown["index"]
    assert "2026-01-02 with 2 cores" in shown["machine"]
    assert "| 12 s, 0.5 GB |" in index.blocks(folder, {"01_one": noted(path, seconds=12.3)})["index"]
    other = index.blocks(folder, {"01_one": noted(path, code_sha256="old")})
    assert "1.0 min" not in other["index"]


def test_numbered_notebooks_come_first(folder):
    notebook(folder / "bring_your_own_task.ipynb")
    notebook(folder / "00_start.ipynb")
    assert [e.path.stem[:2] for e in index.entries(folder)] == ["00", "01", "br"]
    (folder / "00_start.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "no title"}]}))
    with pytest.raises(DataError, match="expected a title"):
        index.entries(folder)


# badges


def test_badges_lead_to_the_notebook_at_the_tag():
    shown = badges.badges("04_x", HOME)
    assert "(https://mybinder.org/v2/gh/owner/name/v1.2?urlpath=lab%2Ftree%2Fnotebooks%2F04_x.ipynb)" in shown
    assert "(https://colab.research.google.com/github/owner/name/blob/v1.2/notebooks/04_x.ipynb)" in shown
    assert badges.pip_source(HOME) == "ftlab @ git+https://github.com/owner/name@v1.2"


def test_without_an_address_there_are_no_badges():
    assert badges.badges("04_x", badges.Home("", "v1")) == "" and badges.pip_source(badges.Home("", "v1")) == "ftlab"


def test_the_address_is_read_from_pyproject_and_checked(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nversion = "1.2"\n[project.urls]\nRepository = "https://github.com/owner/name"\n')
    assert badges.home(file) == HOME
    file.write_text('[project]\nversion = "1.2"\n')
    assert badges.home(file) == badges.Home("", "v1.2")
    file.write_text('[project]\nversion = "1.2"\n[project.urls]\nRepository = "https://example.org/x"\n')
    with pytest.raises(DataError, match="https://github.com/OWNER/NAME"):
        badges.home(file)


def test_badges_stand_under_the_title_and_cost_no_output(tmp_path, monkeypatch):
    source = tmp_path / "99_x.py"
    source.write_text("# %% [markdown]\n# # A title\n#\n# A text\n\n# %%\nprint(1)\n")
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path)
    path = build.build(source)
    written = json.loads(path.read_text())
    written["cells"][1] |= {"execution_count": 1, "outputs": [{"name": "stdout", "output_type": "stream", "text": ["1\n"]}]}
    path.write_text(json.dumps(written))
    monkeypatch.setattr(build, "badges", lambda name: f"BADGES of {name}")
    build.build(source)
    head, cell = json.loads(path.read_text())["cells"]
    assert "".join(head["source"]) == "# A title\n\nBADGES of 99_x\n\nA text" and cell["outputs"] and cell["execution_count"] == 1


# Binder's files and the profile


def test_start_sets_the_profile_and_limits_threads():
    said = measure.environments()["binder"]
    assert said["FTLAB_PROFILE"] == "binder" and said["OMP_NUM_THREADS"] == "1"
    start = build.NOTEBOOKS.parent / "binder" / "start"
    shown = subprocess.run(["bash", start, "env"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {f"{name}={value}" for name, value in said.items() if name != "FTLAB_SPEED"} <= set(shown)
    assert start.read_text().rstrip().endswith('exec "$@"') and os.access(start, os.X_OK)


def test_binder_opens_on_a_notebook_that_is_there():
    folder = build.NOTEBOOKS.parent / "binder"
    config = json.loads((folder / "jupyter_config.json").read_text())
    for app in ("LabApp", "ServerApp"):
        assert (folder.parent / config[app]["default_url"].removeprefix("/lab/tree/")).is_file()


def test_binder_takes_the_tested_torch():
    root = build.NOTEBOOKS.parent
    (pin,) = [line for line in (root / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    assert pin in (root / "binder" / "requirements.txt").read_text().splitlines()


def test_the_profile_is_chosen_by_the_environment(monkeypatch):
    monkeypatch.delenv("FTLAB_PROFILE", raising=False)
    assert default_profile() == "cpu" and sft_config() == PROFILES["cpu"].sft
    monkeypatch.setenv("FTLAB_PROFILE", "binder")
    assert sft_config() == PROFILES["binder"].sft and sft_config("long") == PROFILES["long"].sft
    for command in ("train", "run"):
        assert _parser().parse_args([command, *(["--task"] if command == "train" else []), "x", "--out", "y"]).profile == "binder"
    monkeypatch.setenv("FTLAB_PROFILE", "bindr")
    with pytest.raises(UsageError, match="expected one of smoke, .*binder.*found 'bindr'"):
        sft_config()


# what every stored notebook has in common


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cells_and_metadata_are_the_same_everywhere(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    code_cells = ["".join(cell["source"]) for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert code_cells[:2] == [build.BOOTSTRAP, build.VERSIONS] and code_cells.count(build.BOOTSTRAP) == 1
    assert stored["metadata"] == METADATA and stored["cells"][0]["cell_type"] == "markdown"
    assert all(set(cell["metadata"]) <= {"tags"} for cell in stored["cells"])
    identities = [cell["id"] for cell in stored["cells"]]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("path", [*NOTEBOOKS, build.NOTEBOOKS / "README.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    for target in re.findall(r"\]\(([^)#:\s]+)\)|src=\"([^\":]+)\"", text):
        assert (path.parent / "".join(target)).exists(), target
