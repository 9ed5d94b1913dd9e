# %% [markdown]
# # 04 · Specification and evaluation
#
# **After this notebook you can**
#
# 1. write what a model shall do so that it can be observed, and tell what a checker decides and what only people can;
# 2. write a JSON Schema and rules for a task of your own, and show that they refuse what they should;
# 3. find out whether a labelling guide decides, before a model is blamed for it;
# 4. set up a test set: rows checked by line, cut and frozen by hash, and enough of them;
# 5. measure refusals and stated confidence, and plan a blind review, all *before* the first training.
#
# | you need | minutes |
# |---|---|
# | two cores, 2 GB of free memory; no language model runs here, so every profile takes the same time | about 1, and 90 with the exercises |
#
# Why before? Whoever chooses the ruler after the race can always win. Cells marked *restart here* load what a section builds on.

# %% part="bootstrap"

# %% part="versions"

# %% [markdown]
# ## 1 · What can be observed?
#
# "Be helpful, be polite, never make anything up." Everybody agrees, and nobody could say whether an answer keeps it. The built-in
# task **support_plan** asks for a JSON plan in answer to a customer's message. Its behaviour specification names, for every part
# of the answer, what decides about it:

# %%
from ftlab import load_task

task = load_task("support_plan")
specification = (task.folder / "specification.md").read_text(encoding="utf-8")
lines = specification.splitlines()
start = lines.index("| key | what it holds | decided by |")
print("\n".join(lines[start : start + 6]))

# %% [markdown]
# *Your guess: the answer below is unkind. Which check will stop it?*

# %% tags=["nbval-check-output"]
import json

label = {
    "entities": {},
    "intent": "reset_password",
    "missing_info": ["email"],
    "next_step": "Which email address is on the account?",
}
unkind = label | {"next_step": "Nobody else loses theirs this often. Which email address is on the account, if you know that?"}
for answer in (label, unkind):
    check = task.checker.check(json.dumps(answer), "forgot my password again", expected=label)
    print("passes everything" if check.ok else check.problems)

# %% [markdown]
# None does. It parses, fits the schema, keeps the rules and has every field right: a perfect score for an answer that you would
# not want to get. Nothing is broken here: tone is simply not among the things that this checker looks at. So what does it look
# at? `checklist` says it from the declared rules:

# %%
from ftlab import plots
from ftlab.checks import checklist
from ftlab.notebook import show

checks = checklist(task.schema, task.rules, task.fields)
show(plots.deciders(checks, people=("plain and polite", "safe to follow", "offers the likely readings")))

# %% [markdown]
# **What it means.** Some checks need the answer alone; they also work in production. Some need the message beside it: whether a
# value was copied. Some need a label, so they exist only on a test set. The last column stands in the specification and in no
# checker: that is the work of section 8.
#
# **What it does not mean.** That a check is right because it is mechanical. Section 3 fools one.

# %% exercise="04.1"

# %% [markdown]
# ## 2 · From sentences to a schema
#
# A task of another domain, small enough to build here: a **bicycle workshop** turns messages into bookings. Its specification:
#
# > One JSON object. `job` is brakes, gears, tyre or other. `day` is the day that the customer names, copied; it is left out if none is
# > named. `reply` is what the customer reads: if no day is named, it asks for one, with one question; else it asks nothing.
#
# *Your guess: which of these four sentences can a JSON Schema hold?*

# %%
# restart here
import json
from ftlab import Checker
from ftlab.course import workshop

schema = {
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
assert schema == workshop.SCHEMA  # what later sections start from

# %% [markdown]
# `required` lists the keys that must be there, `additionalProperties` forbids all others, `enum` is a closed set, and the pattern
# `\S` wants at least one visible sign. Five answers to the message *flat tyre, friday?*:

# %%
message = "flat tyre, friday?"
answers = {
    "as agreed": '{"job": "tyre", "day": "friday", "reply": "Please bring it in on that day."}',
    "unknown job": '{"job": "wheel", "day": "friday", "reply": "Please bring it in on that day."}',
    "a key too many": '{"job": "tyre", "day": "friday", "price": 12, "reply": "Please bring it in."}',
    "a key too few": '{"job": "tyre", "day": "friday"}',
    "another day": '{"job": "tyre", "day": "Monday", "reply": "Please bring it in on that day."}',
}
for name, answer in answers.items():
    found = Checker(schema).check(answer, message).problems
    print(f"{name:>14}: {found[0].message if found else 'fits'}")

# %% [markdown]
# The last one fits too. A schema sees the answer alone, and a Monday is as good a text as a Friday. So it holds the first two
# sentences, of the third only that a day is a text, of the fourth next to nothing: it holds **form**. What the form has to do
# with the message is for rules. And a schema has a trap of its own. *Guess what this one says about an empty object:*

# %% tags=["nbval-check-output"]
misspelt = {"type": "object", "requird": ["job", "reply"]}
print(Checker(misspelt).check("{}", message).problems)

# %% [markdown]
# Nothing. JSON Schema passes over words that it does not know, so a slip of the pen forbids nothing and says nothing. Two more of
# the kind: without `additionalProperties: false` every further key is welcome, and a `pattern` without `^` and `$` may match
# anywhere. So try a schema on answers that it **must refuse**; that it accepts good ones proves little.

# %% exercise="04.2"

# %% [markdown]
# ## 3 · Two rules, and what fools them
#
# In ftlab a rule is data: a kind of check, where it looks, and a code for its reports. Two of the kinds are enough for what the
# schema could not hold. *Guess: on which rung of the ladder (parse, schema, rule, field, policy) does an invented day fail, and
# what is its first cause?*

# %%
# restart here
import json
from ftlab import Checker
from ftlab.course import workshop

rules = [
    {"rule": "copied_from_input", "path": "day", "code": "invented_day"},
    {"rule": "question_count", "path": "reply", "when_nonempty": "day", "then": 0, "else": 1, "code": "wrong_question_count"},
]
assert rules == workshop.RULES
checker = Checker(workshop.SCHEMA, rules, fields=["job", "day"])


# %% tags=["nbval-check-output"]
def told(answer: dict, message: str) -> str:
    found = checker.check(json.dumps(answer), message)
    return "nothing wrong" if found.ok else f"{found.first_cause}: {found.problems[0].code}, {found.problems[0].message}"


for message in ("flat tyre, Monday?", "flat tyre, friday?"):
    print(told({"job": "tyre", "day": "Monday", "reply": "Please bring it in on that day."}, message))
print(told({"job": "tyre", "reply": "Please bring it in."}, "flat tyre"))
print(told({"job": "tyre", "reply": "Morning or noon? And which day?"}, "flat tyre"))

# %% [markdown]
# One answer, two messages, two verdicts: the rule holds the answer against its source. An invented value is filed under
# *knowledge*, because the model states what it cannot know; a wrong number of questions under *instruction*. That is the whole
# checker of this task, a schema and two rules, and it never gets tired.
#
# Now one that is harder. The workshop's book is kept by people, so a reply must never say that something **was booked**. As a
# pattern:

# %%
claims = {"rule": "pattern", "path": "reply", "code": "claims_booking", "rung": "policy"}
claims |= {"patterns": [r"\b(?:i|we)(?: have|'ve)? booked\b"], "says": "says that something was booked"}
guard = Checker(workshop.SCHEMA, [*workshop.RULES, claims])
sentences = {  # sentence → does it claim a booking? (a person's reading)
    "We have booked you in.": True,
    "I booked the stand for you.": True,
    "You are down for nine o'clock.": True,
    "Consider it done.": True,
    "Nobody can say yet whether we have booked that hour.": False,
    "Please bring it in on that day.": False,
}

# %% [markdown]
# *Your guess: on how many of the six do pattern and person agree?*

# %% tags=["nbval-check-output"]
for sentence, claim in sentences.items():
    answer = json.dumps({"job": "tyre", "day": "friday", "reply": sentence})
    caught = guard.check(answer, "flat tyre, friday").has("claims_booking")
    print(f"{'as the person' if caught == claim else 'FOOLED':>13} | {'caught' if caught else 'let by':>6} | {sentence}")

# %% [markdown]
# Fooled both ways: by claims in other words, and by a harmless sentence that holds the words. The policy of support_plan has
# hundreds of alternatives, tested on violating and harmless sentences in four languages, and is still a **floor** under safety,
# not a proof. Mend the pattern and somebody finds the next sentence. So a pattern comes with a list of sentences of both sorts,
# and its misses are counted like a model's.

# %% exercise="04.3"

# %% [markdown]
# ## 4 · Does the guide decide?
#
# Field checks compare with a label. But who says that the label is right? Let a second person label the same rows **blind**, from
# the text and the guide alone. Where two careful readers part, no model can be right. The task **support_reply** has such a
# second labelling: its `action` is answer, clarify, escalate or refuse. *Your guess: on how many of a hundred rows do the two
# agree?*

# %%
# restart here
import json
from ftlab import load_task, plots
from ftlab.notebook import show
from ftlab.stats import cohen_kappa, kappa_interval, share

reply = load_task("support_reply")
text = (reply.folder / "second_labels.jsonl").read_text(encoding="utf-8")
second = {record["id"]: record for record in map(json.loads, text.splitlines())}
labelled = [row for split in ("validation", "test") for row in reply.rows(split)]
pairs = [(row.output["action"], second[row.id]["action"]) for row in labelled]

# %%
one, other = zip(*pairs, strict=True)
show(plots.label_matrix(one, other, "Action in support_reply, labelled twice"))

# %% [markdown]
# The diagonal holds what they agree on. Part of that would come about by chance alone: two people who both say *answer* most of
# the time often meet. **Cohen's kappa** takes that part out. It is what they agree on beyond chance, as a share of what chance
# left to agree on. By hand, then by the library:

# %%
n = len(pairs)
observed = sum(a == b for a, b in pairs) / n
by_chance = sum(one.count(name) / n * other.count(name) / n for name in set(one))
print(f"agree on {observed:.3f}, by chance {by_chance:.3f}, kappa {(observed - by_chance) / (1 - by_chance):.3f}")
low, high = kappa_interval(one, other)
print(f"ftlab: {cohen_kappa(one, other):.3f}, 95 % interval {low:.3f} to {high:.3f}")

# %% [markdown]
# Very high, so the guide decides most rows. And the few others? Their labels carry a `confidence`: how many of ten careful
# readers would choose the same action. Now there is a second reader, so this can be held against what happened. *Guess: does the
# second reader part from the first more often where the first was unsure?*

# %%
stated = sorted({row.output["confidence"] for row in labelled}, reverse=True)
agreed = {}
for c in stated:
    hits = [row.output["action"] == second[row.id]["action"] for row in labelled if row.output["confidence"] == c]
    agreed[f"first labeller said {c:g}"] = share(hits)
drawn = {name: found.as_dict() for name, found in agreed.items()}
show(plots.share_points(drawn, "The second labeller took the same action", "of the rows"))

# %%
sure, unsure = agreed[f"first labeller said {stated[0]:g}"], agreed[f"first labeller said {stated[-1]:g}"]
assert unsure.high < sure.low, "the sentence below no longer holds"
assert unsure.k > 0 and cohen_kappa(one, other) < 1

# %% [markdown]
# Yes: where the first labeller foresaw doubt, the second went another way far more often. **What it means**: most disagreements
# are no slips but gaps of the guide, and they were known beforehand. Three of the second labeller's notes, on validation rows,
# disagreements first (a note says that one *could* have decided otherwise):

# %%
from textwrap import shorten

noted = [row for row in reply.rows("validation") if "doubt" in second[row.id] and isinstance(row.input, str)]
noted.sort(key=lambda row: row.output["action"] == second[row.id]["action"])  # those that differ come first
for row in noted[:3]:
    print(
        f"{shorten(row.input, 160)}\n    first: {row.output['action']}, second: {second[row.id]['action']} ({second[row.id]['doubt']})"
    )

# %% [markdown]
# **What it does not mean.** Both readers came from one project and read one guide: other people may part more often. And look how
# a number can flatter. The training rows of support_plan were labelled twice as well, and there:

# %%
plan = load_task("support_plan")
first = {row.id: row.output for row in plan.rows("train")}
lines = (plan.folder / "second_labels.jsonl").read_text(encoding="utf-8").splitlines()
again = [record for record in map(json.loads, lines) if record["id"] in first]
same = share([record["intent"] == first[record["id"]]["intent"] for record in again])
print(f"the same intent in {same.k} of {same.n} rows")
assert same.share > 0.99, "the sentence below no longer holds"

# %% [markdown]
# As good as all of them! But the data card says why: rows on which the two differed and which the guide does not settle **were
# taken out**. The number tells how the rows were chosen, not how clear the task is. Before you believe an agreement, ask what was
# removed before it was counted.

# %% exercise="04.4"

# %% [markdown]
# ## 5 · Rows, checked by line and frozen by hash
#
# A test set with a wrong label punishes the better model. So the loader holds every labelled row against the task's own checks.
# Here is the workshop's folder with four faults written into it. *Guess which of them a reader of the file would overlook:*

# %%
# restart here
import json
import tempfile
from pathlib import Path
from ftlab import load_task
from ftlab.course import workshop
from ftlab.errors import DataError

rows = workshop.rows()
faulty = list(rows)
faulty[1] = json.dumps(rows[1])[:40]  # cut off
faulty[4] = rows[4] | {"id": "ws-01"}  # an id used before
faulty[6] = rows[6] | {"output": rows[6]["output"] | {"day": "Monday", "reply": "Please bring it in."}}  # a day nobody named
faulty[10] = {"id": "ws-11", "input": "Do you also sell bells?"}  # no label

# %% tags=["nbval-check-output"]
folder = Path(tempfile.mkdtemp()) / "workshop"
try:
    load_task(workshop.write_folder(folder, faulty))
except DataError as error:
    print(error)
    print(*(problem[:110] for problem in error.problems), sep="\n")

# %% [markdown]
# File and line, what was expected, what was found. The invented day is the one that eyes slide over; the rule of section 3 sees
# it. Nothing was skipped in silence: a loader that drops what it cannot read changes your test set without telling you.
#
# Without test rows of their own the loader **cuts** them from the training rows. *Guess: if you add rows tomorrow, which of
# today's rows change sides?*

# %% tags=["nbval-check-output"]
task = load_task(workshop.write_folder(folder))
print({split: len(found) for split, found in task.splits.items()})
place = {row.id: split for split, found in task.splits.items() for row in found}
new = {
    "id": "ws-99",
    "input": "The bell is gone, Friday?",
    "output": {"job": "other", "day": "Friday", "reply": "Please bring it in."},
}
more = load_task(workshop.write_folder(folder, [new, *rows]))
print("moved:", [row.id for split, found in more.splits.items() for row in found if place.get(row.id, split) != split])

# %% [markdown]
# None: the side is decided by a hash of the message, not by chance or by order. The same message, with other spaces or capitals,
# lands on the same side on every machine, so a copy cannot end up in both. The next exercise builds that function.

# %% exercise="04.5"

# %% [markdown]
# Then the test rows become a file, and the file is **frozen**: its SHA-256 is written beside it before the first training.
# *Guess: what if one letter of one label is improved later?*

# %% tags=["nbval-check-output"]
from ftlab.task import check_frozen, file_sha256

test = folder / "test.jsonl"
test.write_text("".join(json.dumps({"id": r.id, "input": r.input, "output": r.output}) + "\n" for r in task.rows("test")))
(folder / "test.sha256").write_text(f"{file_sha256(test)}  test.jsonl\n")
check_frozen(test)  # no complaint
test.write_text(test.read_text().replace("Which day would suit you?", "Which day suits you?", 1))
try:
    check_frozen(test)
except DataError as error:
    print(error)

# %% [markdown]
# The change may well be right. The point is that nobody can make it **unnoticed**: with another hash it is another test, and
# earlier results do not compare. What the hash does not stop: choosing a model by its score on the frozen rows. That takes a
# habit, not a lock. Choose on validation rows; open the test once per system.

# %% [markdown]
# ## 6 · How many rows?
#
# You hope that tuning gains ten points, and you have written sixty test rows. The two models will differ on perhaps a fifth of
# them. *Your guess: if the gain is real, how likely is it that the test finds it?*

# %%
# restart here
from ftlab import plots
from ftlab.course import stored
from ftlab.notebook import show
from ftlab.stats import mcnemar_power

power = mcnemar_power(n=60, difference=0.10, discordant=0.20)  # discordant: the share of rows on which the two differ
print(f"found in {100 * power:.0f} of 100 such experiments")
assert power < 0.5, "the sentence below no longer holds"

# %% [markdown]
# Less than a coin toss: most of the time the work would end in "no difference found", although there is one. This probability is
# the **power** of the test; four in five is what people usually ask for. The figure shows what a test of each size can tell:

# %%
show(plots.rows_curves((50, 100, 200, 400, 800, 1600), share=0.9, discordant=(0.1, 0.2, 0.4)))

# %% [markdown]
# **What it means.** Left: one model's share, with an interval that halves when the rows are four times as many. Right: two
# models on the **same** rows; the fewer rows they differ on, the smaller the difference that shows. (A line begins at the
# smallest test that can show anything.) So write down *before* training which difference would be worth having, and count
# whether the test could see it.
#
# **What it does not mean.** That the rows beside you are like tomorrow's. And ten rewordings of one message are not ten rows.

# %%
results = stored("support_plan")
for name in ("class_right", "strict"):
    test = results["paired"]["tfidf"][name]
    differ = (test["gained"] + test["lost"]) / test["n"]
    found = mcnemar_power(test["n"], min(0.05, differ), differ)
    print(
        f"{name}: the systems differed on {100 * differ:.0f} % of rows; 5 points would be found in {100 * found:.0f} of 100 tests"
    )

# %% [markdown]
# That is the course's own test set, with the tuned model against word counts. The share of rows on which two systems differ is
# known only afterwards; before, take a fifth, or count it for two cheap systems on validation rows. (A power computed from the
# very difference that was found says nothing new: decide on the difference first.)

# %% exercise="04.6"

# %% [markdown]
# ## 7 · The checks run before there is a model
#
# A measure that was never run is a wish. Give it systems that cost nothing, whose faults you know, and see whether it finds them.
# In support_reply some requests must be turned down. *Guess: which score would a system get that refuses everything, if only
# unsafe answers were counted?*

# %%
# restart here
import json
from ftlab import evaluate_outputs, load_task, plots
from ftlab.baselines import TfidfBaseline
from ftlab.notebook import show
from ftlab.stats import share

reply = load_task("support_reply")
rows = reply.rows("validation")
baseline = TfidfBaseline(reply, reply.rows("train"))  # word counts: no language model
outputs = {"word counts": baseline.predict(rows)}
for action in ("answer", "refuse"):
    same = {"action": action, "confidence": 0.95, "message": "Thank you for the message."}
    outputs[f"always {action}"] = [json.dumps(same)] * len(rows)

# %%
found = {name: evaluate_outputs(reply, rows, texts) for name, texts in outputs.items()}
forbidden = [row.output["action"] == "refuse" for row in rows]
plane = {}
for name, evaluation in found.items():
    codes = [{error["code"] for error in record["errors"]} for record in evaluation["rows"]]
    complied = share([("complies" in c) for c, no in zip(codes, forbidden, strict=True) if no])
    plane[name] = (evaluation["over_refusal"], complied.as_dict())
show(plots.refusal_plane(plane))

# %%
assert plane["always refuse"][0]["share"] == 1 and plane["always refuse"][1]["share"] == 0, "the sentence below no longer holds"
assert plane["always answer"][0]["share"] == 0 and plane["always answer"][1]["share"] == 1

# %% [markdown]
# Counting unsafe answers alone, the system that refuses everything is perfect, and useless. So two faults are counted, each on
# its own rows: **compliance** where policy forbids, **over-refusal** where it allows. The two stubborn systems sit in opposite
# corners, which is where they belong: the measure works. A system worth having has to come near the lower left. Neither number
# says whether a refusal was kind.
#
# Next: the answers state a `confidence`. *Guess: the word-count system copies that number from the most similar training row. Is
# it worth anything?*

# %%
likely = baseline.classifier.predict_proba([row.text for row in rows]).max(axis=1)  # its own probability of the action
own = [json.dumps(json.loads(text) | {"confidence": float(p)}) for text, p in zip(outputs["word counts"], likely, strict=True)]
calibrated = {
    "copied from a row": found["word counts"]["calibration"]["class_right"],
    "its own probability": evaluate_outputs(reply, rows, own)["calibration"]["class_right"],
}
show(plots.reliability(calibrated, "Word counts on validation rows: stated confidence, and how often the action was right"))

# %%
for name, c in calibrated.items():
    print(f"{name:>19}: Brier {c['brier']:.3f}, always the base rate {c['base_brier']:.3f}", end=", ")
    print(f"gain {c['gain']:+.3f}, 95 % interval {c['low']:+.3f} to {c['high']:+.3f}")
assert calibrated["copied from a row"]["high"] < 0 < calibrated["its own probability"]["low"], "the sentence below no longer holds"

# %% [markdown]
# The same answers, right and wrong on the same rows; only the stated number differs. Each point holds equally many rows; on the
# left several stand above one number, since labels state few. The **Brier score** is the mean square of what was stated less
# what came true (1 or 0): lower is better, and *gain* is how much lower than by always stating the average hit rate. Copied
# confidence is worse than always stating the average hit rate; the system's own probability is better.
#
# **What it does not mean**: that labels with a confidence are useless. Such a label says how clear the *row* is, not how good the
# *system* is; a model that learns to write it may fall into the same trap, and this check will show it.

# %% [markdown]
# The same was done for support_plan, with the untuned model and its best prompt, before anything was trained:

# %%
from ftlab.course import stored

results = stored("support_plan")
before = {name: results["systems"][name] for name in ("tfidf", "prompt", "few_shot")}
show(plots.score_ladder(results | {"systems": before}))

# %% [markdown]
# A ladder without any tuned model on it. Where a line lies at the bottom from the first rung on, the form failed, and nobody
# knows yet what the content would have been. Whatever training is worth will be measured from here, on the same rows, by the same
# checks; notebook 05 reads the failures behind it.

# %% [markdown]
# ## 8 · What only people can say
#
# The last column of section 1. Ask people, but not "is this good?": show two answers to one message and ask for the kinder one.
# The traps are known: raters prefer the first, the longer, their own. So names are hidden, and order and sides are shuffled, for
# each rater in another way.

# %%
# restart here
import json
from ftlab import load_task, plots
from ftlab.notebook import framed, show
from ftlab.review import agreement, blind_sheet, left_share, page, preferred, read_ratings, unblind
from ftlab.train.preference import read_pairs

folder = load_task("support_reply").folder
pairs = [p for p in read_pairs(folder / "pairs.jsonl") if isinstance(p.input, str)][:30]  # training pairs
messages = {p.id: p.input for p in pairs}
replies = {name: {p.id: json.loads(getattr(p, name))["message"] for p in pairs} for name in ("chosen", "rejected")}

# %%
items, key = blind_sheet(messages, replies, rater="1")
item = items[0]
print(f"{item.number}. {item.message}\n\nLEFT:  {item.left}\n\nRIGHT: {item.right}")

# %% [markdown]
# Two replies from the training pairs of support_reply; the key, which a rater never sees, knows which of them the task's authors
# chose. As a page to be opened in any browser (its button saves a small file, nothing is sent anywhere):

# %%
framed(page(items[:3], "Which reply is kinder?", rater="1"), height=420)

# %% [markdown]
# For your own task, write the pages of all items to `review_1.html` and `review_2.html` and give them to two people;
# `read_ratings` reads what they saved.
#
# What shuffling is good for shows with raters whose fault is known. These are **made by code, no people**: two who always take
# the left side, and two who take the longer reply. *Guess how far each pair agrees, with and without shuffling:*


# %%
def left(item):
    return "left"


def longer(item):
    more = len(item.left) - len(item.right)
    return "left" if more > 0 else "right" if more < 0 else "same"


def both(habit, shuffle=True):
    """How far two raters with one habit agree, each with a sheet of their own."""
    sheets = [blind_sheet(messages, replies, rater, shuffle=shuffle) for rater in ("1", "2")]
    return agreement(*(unblind({item.number: habit(item) for item in items}, key) for items, key in sheets))


# %%
cases = {"left, not shuffled": both(left, shuffle=False), "left, shuffled": both(left), "longer, shuffled": both(longer)}
drawn = {name: case["same"].as_dict() for name, case in cases.items()}
show(plots.share_points(drawn, "Two raters made by code take the same reply", "of the items"))


# %%
for name, case in cases.items():
    print(f"{name:>18}: kappa {case['kappa']:+.2f} [{case['low']:+.2f}, {case['high']:+.2f}]")
perfect = [cases[name]["same"].share == 1 for name in ("left, not shuffled", "longer, shuffled")]
assert all(perfect), "the sentence below no longer holds"
assert cases["left, shuffled"]["low"] < 0.4

# %% [markdown]
# Not shuffled, two people who do not read at all agree perfectly (with a single label on both sides kappa has no value; ftlab
# writes one). Shuffling turns that habit into disagreement, so kappa exposes it. It does **not** help against a habit that
# follows the reply itself: those who take the longer one agree perfectly too, and have not said a word about kindness. Agreement
# is needed, and it is not enough. Hence two more looks:

# %%
import tempfile
from pathlib import Path

sides = {item.number: left(item) for item in items}
print("left side taken:", left_share(sides).k, "of", left_share(sides).n)
saved = Path(tempfile.mkdtemp()) / "ratings_1.csv"  # what the page's button would save
saved.write_text("number,choice\n" + "".join(f"{item.number},{longer(item)}\n" for item in items))
taken = unblind(read_ratings(saved, items), key)
won = preferred(taken, "chosen", "rejected")
print(f"the longer-taker took: chosen {won['chosen']}, rejected {won['rejected']}, neither {won['same']}, p = {won['p']:.2f}")
assert won["p"] > 0.05, "the sentence below no longer holds"

# %% [markdown]
# `left_share` should be near a half, and a preference should hold among pairs of like length. The pairs here were written to be
# about equally long, so that length alone wins little. With people: rate a third of the items first, talk about those in
# `agreement(...)["differ"]`, mend the question, and only then rate the rest.
#
# **What is now fixed, before any training:**

# %%
reply = load_task("support_reply")
fixed = {
    "hashes": {name: value[:12] for name, value in reply.hashes().items() if name in ("schema", "rules", "test")},
    "decides": "strict score on the test rows, exact McNemar test, p < 0.05",
    "smallest difference worth having": 0.10,
    "must not get worse": ["over_refusal", "complies"],
    "people": {"question": "Which reply is kinder?", "items": len(items), "raters": 2, "least kappa": 0.6},
}
print(json.dumps(fixed, indent=1))

# %% [markdown]
# Put such a record beside the data and commit it. It binds nobody, but it makes it visible when the goal moves.

# %% open="04.1"

# %% [markdown]
# ## 9 · Quiz

# %% quiz="04"

# %% [markdown]
# ## What you can do now
#
# 1. **Specify observably**: each demand has a check that sees the answer, the message or a label; the rest is named as work for people.
# 2. **Write schema and rules**, and try them on what they must refuse: misspelt words in a schema, claims in other words.
# 3. **Test the guide**: two blind labellings, kappa with its interval, and the question what was taken out beforehand.
# 4. **Set up a test set**: faults by file and line, cut and frozen by hash, large enough for the difference that you hope for.
# 5. **Measure first**: over-refusal beside compliance, stated confidence against the base rate, a blind review with a key.
#
# **Not shown here**: ratings by real people; that a good score means satisfied customers; a judge model, which nothing in this
# course relies on, since it brings habits of its own; what happens to labels when the world changes. Next: notebook 05 runs the
# baselines and reads their failures.
#
# **Further reading.** Cohen (1960), *A coefficient of agreement for nominal scales*, Educational and Psychological Measurement
# 20(1). McNemar (1947), *Note on the sampling error of the difference between correlated proportions or percentages*,
# Psychometrika 12(2). Brier (1950), *Verification of forecasts expressed in terms of probability*, Monthly Weather Review 78(1).
# Card et al. (2020), *With Little Power Comes Great Responsibility*, EMNLP. Zhou et al. (2023), *Instruction-Following Evaluation
# for Large Language Models*, arXiv:2311.07911. Röttger et al. (2024), *XSTest: A Test Suite for Identifying Exaggerated Safety
# Behaviours in Large Language Models*, NAACL. Zheng et al. (2023), *Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena*,
# NeurIPS. The JSON Schema specification, draft 2020-12, json-schema.org.
