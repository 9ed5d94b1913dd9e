"""A small task of another domain, made for the notebooks: messages to a bicycle workshop, each as a booking that a program can act on.

The rows were written one by one. There are far too few of them to train on or to measure with; they show how a folder is set up.
"""

import json
from pathlib import Path

SCHEMA = {
    "title": "workshop",
    "type": "object",
    "required": ["job", "reply"],
    "additionalProperties": False,
    "properties": {
        "job": {"enum": ["brakes", "gears", "tyre", "other"]},
        "day": {"type": "string", "pattern": "\\S"},
        "reply": {"type": "string", "pattern": "\\S"},
    },
}
RULES = [
    {"rule": "copied_from_input", "path": "day", "code": "invented_day"},
    {"rule": "question_count", "path": "reply", "when_nonempty": "day", "then": 0, "else": 1, "code": "wrong_question_count"},
]
FIELDS = ["job", "day"]
_ASK = "Which day would suit you?"
_BRING = "Please bring it in that day before noon."
_ROWS = (  # message, job, day or ""
    ("my front brake squeals, can i come tuesday", "brakes", "tuesday"),
    ("Flat tyre again. Thursday?", "tyre", "Thursday"),
    ("The chain jumps whenever I change up.", "gears", ""),
    ("Could you look at my brakes on the 4th of May", "brakes", "4th of May"),
    ("puncture, rear wheel, need it for saturday", "tyre", "saturday"),
    ("I would like my saddle raised, it keeps slipping.", "other", ""),
    ("Brake lever comes all the way to the bar!", "brakes", ""),
    ("gear cable snapped this morning, any chance on Friday", "gears", "Friday"),
    ("New inner tube please, Monday is fine", "tyre", "Monday"),
    ("wheel wobbles since I hit a kerb", "other", ""),
    ("Do you also sell bells?", "other", ""),
    ("stuck in third gear :(", "gears", ""),
    ("Two flat tyres, I can be there on Wednesday or later", "tyre", "Wednesday"),
    ("My daughter's brake pads are worn through, 12 June would be good", "brakes", "12 June"),
    ("the tyre has a cut in the side", "tyre", ""),
    ("hi, the bike makes a noise, no idea what it is", "other", ""),
    ("Rear derailleur bent. Sunday?", "gears", "Sunday"),
    ("Brakes bled before the 20th of July please", "brakes", "20th of July"),
    ("I lost a pedal", "other", ""),
    ("Shifting got sluggish after the winter, see you in March?", "gears", "March"),
    ("slow leak in the front tyre", "tyre", ""),
    ("Cable brakes to be swapped for discs, what would that take", "brakes", ""),
    ("bike fell over, now it will not go into the big gear", "gears", ""),
    ("Tubeless sealant refill on Saturday morning", "tyre", "Saturday"),
    ("Please check the brakes, I ride down a steep hill every day.", "brakes", ""),
    ("light does not come on any more, tuesday would suit me", "other", "tuesday"),
    ("Which tyres do you advise for gravel? Mine are bald", "tyre", ""),
    ("The brake rubs and I leave on Friday", "brakes", "Friday"),
    ("my gears. again. 3 October", "gears", "3 October"),
    ("Could someone fit a child seat next Monday", "other", "Monday"),
    ("there is glass in my tyre", "tyre", ""),
    ("brake fluid drips on the floor", "brakes", ""),
    ("Grip shift is broken, I can come by on thursday", "gears", "thursday"),
    ("nothing wrong, just a service before summer", "other", ""),
    ("valve torn off, tyre flat, help", "tyre", ""),
    ("hydraulic brake feels spongy", "brakes", ""),
)


def rows() -> list[dict]:
    """The labelled rows as they stand in a file: {"id", "input", "output"}."""
    found = []
    for number, (message, job, day) in enumerate(_ROWS, 1):
        output = {"job": job, "day": day, "reply": _BRING} if day else {"job": job, "reply": _ASK}
        found.append({"id": f"ws-{number:02d}", "input": message, "output": output})
    return found


def write_folder(folder: Path, lines: list[dict | str] | None = None) -> Path:
    """A task folder: schema, rules and training rows; `lines` stand in train.jsonl in place of the rows, a text just as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    (folder / "rules.json").write_text(json.dumps({"rules": RULES, "fields": FIELDS}), encoding="utf-8")
    text = [line if isinstance(line, str) else json.dumps(line) for line in (rows() if lines is None else lines)]
    (folder / "train.jsonl").write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder
