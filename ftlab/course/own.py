"""A reader's own task in the notebook: the folder it lies in, and the untuned model measured on its validation rows."""

import tempfile
from pathlib import Path

from ftlab.artifact import write_json
from ftlab.course.replay import speed
from ftlab.evaluate import evaluate_outputs
from ftlab.mainjob import UNTUNED_TOKENS
from ftlab.models import load_model
from ftlab.newtask import EXAMPLE, new_task
from ftlab.outputs import cached_generate
from ftlab.task import Task, task_folder
from ftlab.train.settings import profile


def opened(folder: str = "", rows: str = "", text: str = "") -> Path:
    """The task folder to work on, and a word on where it came from.

    Args:
        folder: of a task that is there, or where to make one; "" makes the example in a temporary place.
        rows: labelled rows to make it of, see `new_task`; not needed where the folder is there, and never read then.
        text: the column that holds the text, if it has no usual name.

    Raises:
        UsageError: there is no such folder and no rows to make it of; see `new_task`.
        DataError: see `new_task`.
    """
    place = Path(folder) if folder else Path(tempfile.mkdtemp()) / "work_orders"
    if folder and (place.is_dir() or not rows):
        task_folder(place)
        print(f"{place.name}: the folder as it is; nothing in it is changed")
        return place
    made = new_task(place, Path(rows) if rows else EXAMPLE, text or None)
    print(f"{place.name}: made of {(Path(rows) if rows else EXAMPLE).name}\n{made.decisions()}")
    return place


def profile_name(asked: str = "") -> str:
    """The profile that a reader asked for; without one "cpu" if FTLAB_SPEED is live, else "smoke", the rehearsal on a tiny model.

    Raises:
        UsageError: there is no such profile.
    """
    name = asked or ("cpu" if speed() == "live" else "smoke")
    profile(name)
    return name


def measure_prompt(task: Task, name: str, out: Path) -> dict:
    """The untuned model of a profile with the long prompt on the validation rows, checked and written to `out` for `ftlab choose`."""
    settings, rows = profile(name), task.rows("validation")
    loaded = load_model(settings.model, progress=False)
    limit = min(UNTUNED_TOKENS, settings.sft.max_new_tokens)
    chats = [task.conversation(row, "long") for row in rows]
    answers, _ = cached_generate(loaded, chats, max_new_tokens=limit, batch_size=settings.sft.eval_batch_size)
    found = evaluate_outputs(task, rows, [answer.text for answer in answers])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found)
    return found
