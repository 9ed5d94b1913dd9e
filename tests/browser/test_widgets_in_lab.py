"""The widgets in a real JupyterLab, opened and used by Chromium: `make browser` once, then `make test-browser`.

Each test opens a notebook of its own, runs it, uses its widget by mouse and by keyboard, and looks for what the kernel answers. Afterwards
there may be no error in the browser's console, in the cells or in the kernels' log. What was seen is kept in runs/browser.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from conftest import TOY_SCHEMA, toy_rows
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SEEN = ROOT / "runs" / "browser"  # screenshots and the server's log
TOKEN = "only-for-this-test"
PATIENCE_MS = 90_000  # a kernel that starts while the machine has other work
EVIL = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

BEGIN = f"""
from dataclasses import replace
from ftlab import evaluate_outputs, load_model, load_task, widgets
tiny, task = load_model("tiny"), load_task("toy")
EVIL = {EVIL!r}
"""
CELLS = {
    "tokens": 'widgets.NextTokens({"base": tiny, "other": load_model("tiny")}, "Hello")',
    "masking": 'rows = [replace(row, input=EVIL + row.text) for row in task.rows("validation")[:2]]\nwidgets.MaskingXray(tiny, task, rows)',
    "playground": """
import ftlab.sidebyside
from ftlab.generate import Generation
replies = [EVIL, '{"intent": "login", "number": "12", "say": "Hi."}']
ftlab.sidebyside.cached_generate = lambda loaded, chats, **options: ([Generation(replies.pop(0), 1, 1, True)], 0)
widgets.Playground(tiny, task, task.folder / "adapter", message="case 12")""",
    "errors": """
rows = task.rows("train")[:3]
records = evaluate_outputs(task, rows, ["Sure!", EVIL, task.completion(rows[2])])["rows"]
widgets.ErrorExplorer(rows, records, "labels.jsonl", rater="ann")""",
}


def write_adapter(folder: Path) -> None:
    """A random adapter for the tiny model."""
    from ftlab.artifact import save_adapter_weights, write_lineage
    from ftlab.lora import add_lora
    from ftlab.models import load_model

    tiny = load_model("tiny")
    save_adapter_weights(add_lora(tiny.model, rank=2, alpha=4, seed=1), folder)
    write_lineage(folder, {"base": {"model": "tiny", "sha256": tiny.sha256}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small task, its adapter, and a notebook for each widget."""
    home = tmp_path_factory.mktemp("lab")
    (home / "toy").mkdir()
    (home / "toy" / "schema.json").write_text(json.dumps(TOY_SCHEMA))
    (home / "toy" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy_rows(60)))
    write_adapter(home / "toy" / "adapter")
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for name, code in CELLS.items():
        cells = [new_code_cell(BEGIN.strip()), new_code_cell(code.strip())]
        nbformat.write(new_notebook(cells=cells, metadata=metadata), home / f"{name}.ipynb")
    return home


@pytest.fixture(scope="module")
def lab(folder):
    """The address of a JupyterLab of this environment that shows the folder; its log is looked at when all is done."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    SEEN.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    command += [
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    own = {
        name: str(folder / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "FTLAB_CACHE")
    }
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    log = SEEN / "server.log"
    with log.open("w") as handle:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | own | {"PYTHONPATH": paths}, stdout=handle, stderr=subprocess.STDOUT
        )
        try:
            await_server(server, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)
    assert "Traceback" not in log.read_text(), "an error in the server or a kernel, see runs/browser/server.log"


def await_server(server: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(180):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "expected Debian's Chromium, found none; run make browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, lab, request):
    """A page with the notebook that the test is about, run; errors in its console fail the test, and its last look is kept."""
    name = request.node.name.removeprefix("test_").partition("_")[0]
    page = chromium.new_page(viewport={"width": 1300, "height": 1500})
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
    page.on("console", lambda message: wrong.append(f"{message.text} ({message.location})") if message.type == "error" else None)
    page.goto(f"{lab}/lab/tree/{name}.ipynb?reset&token={TOKEN}")
    page.locator(".jp-Notebook .jp-CodeCell").nth(1).wait_for()
    page.locator(".jp-NotebookPanel-toolbar .jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    outputs(page).locator(".widget-vbox").first.wait_for()
    yield page
    outputs(page).screenshot(path=SEEN / f"{request.node.name}.png")
    assert page.locator(".jp-OutputArea-output[data-mime-type*=error], .jp-OutputArea-output[data-mime-type*=stderr]").count() == 0
    assert wrong == [] and page.title() != "broken"
    page.close()


def outputs(page: Page):
    return page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator(".jp-OutputArea-output").first


def box(page: Page, heading: str):
    """The text under a heading."""
    return outputs(page).locator(f'section[aria-label="{heading}"]')


def press(page: Page, name: str) -> None:
    outputs(page).get_by_role("button", name=name, exact=True).click()


def test_tokens_go_on_by_click_and_by_keyboard(page):
    first = outputs(page).locator("button", has_text=re.compile("^“")).first
    written = box(page, "written so far")
    expect(written).to_contain_text("Hello ▸")
    before = written.inner_text()
    first.click()
    expect(box(page, "what else")).to_contain_text("1 tokens taken")
    first.focus()
    page.keyboard.press("Enter")
    expect(box(page, "what else")).to_contain_text("2 tokens taken")
    outputs(page).get_by_label("Model").select_option("other")
    press(page, "Draw one")
    expect(box(page, "what else")).to_contain_text("3 tokens taken")
    for _ in range(3):
        press(page, "Back")
    expect(outputs(page).get_by_role("button", name="Back", exact=True)).to_be_disabled()
    assert written.inner_text() == before


def test_masking_marks_what_carries_loss_and_changes_with_the_masking(page):
    table = box(page, "where the loss of this row comes from")
    expect(table).to_contain_text(re.compile(r"user +\d+ +0 +0\.0 %"))
    press(page, "Next with loss")
    expect(outputs(page).get_by_role("status").first).to_contain_text("a loss of")
    outputs(page).get_by_label("Masking").select_option("loss on every token, as in pretraining")
    expect(table).not_to_contain_text(re.compile(r"user +\d+ +0 +0\.0 %"))
    expect(box(page, "the row, token by token")).to_contain_text("<img src=x onerror=")


def test_playground_lights_the_ladder_and_shows_a_script_as_text(page):
    press(page, "Answer")
    expect(box(page, "untuned model")).to_contain_text(EVIL)
    expect(box(page, "tuned model")).to_contain_text('"intent": "login"')
    press(page, "Light the next rung")
    expect(box(page, "ladder of the untuned answer")).to_contain_text("✗ parse")
    outputs(page).get_by_role("button", name="Light all", exact=True).focus()
    page.keyboard.press("Space")
    expect(box(page, "ladder of the tuned answer")).to_contain_text("✓ policy")
    outputs(page).get_by_label("Message").fill(" ")
    press(page, "Answer")
    expect(outputs(page).get_by_role("alert")).to_contain_text("expected a message to answer")


def test_errors_are_labelled_by_click_and_by_keyboard(page, folder):
    place, labels = box(page, "answer"), folder / "labels.jsonl"
    expect(place).to_contain_text("1 of 3")
    press(page, "format (f)")
    expect(place).to_contain_text("2 of 3")
    expect(box(page, "the model's answer")).to_contain_text(EVIL)
    outputs(page).get_by_label("Key").focus()
    page.keyboard.press("s")
    expect(place).to_contain_text("3 of 3")
    expect(outputs(page).get_by_label("Key")).to_have_value("")
    page.keyboard.press("p")
    expect(box(page, "so far")).to_contain_text("3 of 3 labelled")
    assert [json.loads(line)["label"] for line in labels.read_text().splitlines()] == ["format", "safety", "pass"]
