# %% [markdown]
# # Bring your own task
#
# **With this notebook you can**
#
# 1. turn labelled rows of your own into a task folder with a frozen test set, without writing code;
# 2. see what its checks decide, what its rows lack, and what works without training;
# 3. get advice on whether to train at all, before anything is trained;
# 4. train, and read a strict report with intervals.
#
# | you need | minutes |
# |---|---|
# | some 200 rows, each a text and its answer, as CSV or JSONL; or the example | rehearsal: about 1; real run: `ftlab cost` tells |
#
# The task may be anything whose answer is **one JSON object**: fields read out of a text, a class, an order to be written. The notebook
# works on whatever rows you give it, so its text says how to read a result, not what it is.

# %% part="bootstrap"

# %% part="versions"

# %% [markdown]
# ## 1 · Your rows, and the profile
#
# This cell you have to fill in, and the answers in section 5. Left as it is, it takes the **example**: notes of shift workers
# in a food factory, to be turned into work orders. `ROWS` is a file with one column for the text and one for each part of the
# answer. From it a folder is made at `FOLDER`; a folder that is there already is used as it is.
#
# `PROFILE = "cpu"` trains the real model. Left empty, everything runs as a **rehearsal**: each step on your rows, with a tiny model of
# random weights. It finds what is broken in minutes; its scores mean nothing.

# %%
FOLDER = ""  # for example "my_task"
ROWS = ""  # for example "my_rows.csv"
TEXT = ""  # the name of the text's column, if it is not found by itself
PROFILE = ""  # "cpu" for a real run
WANTED = 0.9  # the share of answers that has to pass all checks

# %%
from ftlab.course.own import opened, profile_name

folder, profile = opened(FOLDER, ROWS, TEXT), profile_name(PROFILE)
out = folder.parent / "runs" / folder.name
print(f"\nprofile {profile}")

# %% [markdown]
# **Done** is what the rows say by themselves; **left to you** is what they cannot. Both stand in the folder's files, which are yours
# to edit: open them, mend what is wrong, and run this notebook again. The test rows were frozen before anybody saw a score; from now
# on a change in them is noticed.

# %% [markdown]
# ## 2 · What decides about an answer
#
# The schema holds form; rules hold what the answer has to do with the text. `pattern` `\S` means "not empty".

# %%
import json
from ftlab import load_task

task = load_task(folder)
for key, spec in task.schema["properties"].items():
    always = "always" if key in task.schema["required"] else "if there"
    print(f"{key:<12} {always:<9} {json.dumps(spec, ensure_ascii=False)}")
for rule in task.rules:
    print("rule", {name: value for name, value in rule.items() if name != "rung"})

# %%
from ftlab import plots
from ftlab.checks import checklist
from ftlab.notebook import show

show(plots.deciders(checklist(task.schema, task.rules, task.fields)))

# %% [markdown]
# **How to read it.** Checks on the left need the answer alone, so they work in production too; those in the middle hold it against
# the text; those on the right need a label. What you want and find in no row of the figure is decided by nobody yet: write a rule,
# or plan for people to look.
#
# A checker is worth what it refuses. Here is one of your own labels, and the same with a key that nobody asked for. If the second is
# accepted as well, `schema.json` has lost its `additionalProperties`.

# %%
row = task.rows("train")[0]
for answer in (row.output, row.output | {"remark": "x"}):
    found = task.checker.check(json.dumps(answer), row.text, expected=row.output)
    print(f"refused: {found.problems[0].message}" if found.problems else f"accepted: {json.dumps(answer, ensure_ascii=False)}")

# %% [markdown]
# ## 3 · Are the rows fit to learn from, and to measure with?
#
# Repeated rows, copies of test rows among the training rows, one wording filled with values, contradicting labels, personal
# data: all of them make scores that do not hold. Lines with `!` have to be mended; the others want a look. Where rows are few,
# other rows doubt nearly every label a little: only those listed under `label` are worth your time.

# %%
from ftlab.datatools.check import check_sets, report_text
from ftlab.datatools.sets import load_sets

sets = load_sets(folder)
checked = check_sets(sets)
print(report_text(checked, shown=2))

# %%
from ftlab.datatools.coverage import coverage

show(plots.coverage_map(coverage(sets), axis="words"))

# %% [markdown]
# **How to read it.** Crossed cells are kinds of texts of which the model will see no example. **What it does not show**: texts that
# your rows do not contain at all, and those are the ones that fail later.

# %% [markdown]
# ## 4 · Before training: what works without?
#
# *Your guess: how many of the validation rows does the untuned model pass, with the whole instruction in its prompt? And word
# counts alone?* Validation rows, not test rows: decisions are made on these, and the test is opened once. (In a rehearsal the
# untuned model has random weights and passes nothing; the word counts are real.)

# %%
from ftlab.choose import read_measured
from ftlab.course.own import measure_prompt
from ftlab.stats import percent

before = measure_prompt(task, profile, out / "before.json")
for score in ("schema_valid", "values_right", "strict"):
    print(f"untuned, long prompt: {score:<12} {percent(before['scores'][score])}, n = {before['n']}")
print("first causes:", {cause: found["k"] for cause, found in before["first_causes"].items()})

# %%
from ftlab.stats import share

measured = read_measured(task, out / "before.json")
passed = {"untuned, long prompt": measured.prompt, "word counts": measured.tfidf}
shares = {name: share([True] * p[0] + [False] * (p[1] - p[0])) for name, p in passed.items() if p}
show(plots.against_bar(shares, WANTED, "Rows that pass all checks, before training"))

# %% [markdown]
# **How to read it.** The line on each point is its 95 % interval, and with few rows it is wide. If a prompt or a plain classifier
# reaches what you need, stop here: that is the cheapest success there is. Where the first cause is *format*, nobody knows yet
# what the content would be worth.

# %% [markdown]
# ## 5 · Should you train?
#
# Answer for your own task; the answers below are those for the example. `ftlab choose` asks the same questions one by one, and
# says what each means. In a rehearsal the advice speaks of the random model: read its form, not its verdict.

# %%
answers = {
    "known": "examples",  # where what an answer needs stands: message, examples (a judgement), documents, general
    "changes": "rarely",  # the right answer to one message changes: rarely, monthly, daily
    "rules": "none",  # could a program compute the answer: all, part, none
    "must_hold": "yes",  # something has to hold in every single answer (law, money, safety)
    "access": "weights",  # what you may do with the model: weights, tunable (by its host), prompt
    "rows_may_train": "yes",  # consent, law, contracts
    "judged": "right",  # what makes an answer better: right, or preferred among several that are
    "language": "known",  # can the model read the messages: known, partly, unknown
    "volume": 40,  # requests a day
    "good_enough": WANTED,
}

# %%
from ftlab.choose import check_answers, recommend, recommendation_text, task_defaults

told, _ = check_answers(answers, task_defaults(task) | {"prompt_tried": True})
advice = recommend(told, measured)
print(recommendation_text(advice))

# %% [markdown]
# **What it means.** Each line quotes the number or the answer that made it speak, so you can object to it. **What it does not mean**:
# that you may not train against the advice. Then the test below says what it was worth.

# %% [markdown]
# ## 6 · Train, and answer the test rows once
#
# The main job runs the baselines on the test rows, trains, answers the same rows with the tuned model, and asks everyday
# questions before and after. A real run that is stopped goes on when the cell is run again. A rehearsal takes only some rows of
# each part.

# %%
from ftlab.mainjob import run_main_job

results = run_main_job(task, out=out, profile_name=profile, resume=True, say=lambda line: None, progress=False)
print(f"{results['training']['rows']} rows, {results['training']['steps']} steps, model {results['about']['model']['name']}")
print(f"{results['about']['test_rows_scored']} test rows answered by {', '.join(results['systems'])}")

# %% [markdown]
# ## 7 · The strict report
#
# *Your guess: at which rung do the systems part?*

# %%
show(plots.score_ladder(results))

# %%
show(plots.failure_flow(results))

# %%
from ftlab.stats import p_value, percent

for name, system in results["systems"].items():
    print(f"{name:>11}  all checks passed {percent(system['scores']['strict'])}  n = {system['n']}")
for name in ("tfidf", results["about"]["best_prompt"]):
    test = results["paired"][name]["strict"]
    print(f"tuned against {name}: {test['gained']} rows gained, {test['lost']} lost, McNemar {p_value(test)}")

# %%
for failure in results["failures"][:3]:
    print(failure["first_cause"], "|", failure["input"][:70])
    print("   ", failure["errors"][0]["message"][:90])

# %%
from ftlab.report import write_report

page = write_report(results, out)
real = results["about"]["profile"] != "smoke"
print(f"{page.name} in the folder {out.parent.name}/{out.name}")
print("a real run" if real else "a rehearsal with a model of random weights: every step works, and no score above says anything")

# %% [markdown]
# **How to read it.** Rows gained and lost, not the two shares, say whether tuning helped: it is the same rows, and McNemar's
# test looks at those on which two systems differ. If p is above the level that you fixed beforehand, the test has not shown a
# difference, and a small test seldom can. Read the failures before you write rows: each kind calls for something else. The
# everyday questions in the report say what tuning cost.
#
# **What it does not mean**: that other people's texts fare as well, or that a second training with another seed gives the same.

# %% [markdown]
# ## What you can do now
#
# 1. **From rows to a folder**: commit it; `specification.md` and `DATA_CARD.md` have places marked `(write)`.
# 2. **See what decides**: and add the rules that your rows could not show.
# 3. **Take advice before training**: with numbers of your own, from validation rows.
# 4. **Train and report**: set `PROFILE = "cpu"` and run all cells again. On the command line the same is `ftlab run FOLDER`.
#
# Then: `ftlab data feedback` turns failures on validation rows into a file of rows to be written; `ftlab predict` answers new texts with
# your adapter. **Not shown here**: a second round, another model, whether people like the answers; notebooks 04 to 08 have the reasons.
#
# **Further reading.** Wilson (1927), *Probable inference, the law of succession, and statistical inference*, J. Am. Stat. Assoc. 22(158).
# McNemar (1947), *Note on the sampling error of the difference between correlated proportions or percentages*, Psychometrika 12(2).
# Gebru et al. (2021), *Datasheets for Datasets*, Communications of the ACM 64(12).
