# %% [markdown]
# # 00 · Start here
#
# **After this notebook you can**
#
# 1. tell what fine-tuning did to a small language model on one real task, and how sure that is;
# 2. read every score of this course, and say which failure came first;
# 3. judge whether a difference between two models is more than chance.
#
# | you need | minutes |
# |---|---|
# | a laptop with two cores and 4 GB of free memory; the first run also gets a model of 93 MB | about 3, and 25 with the exercises |
#
# **How to read the course.** Each section asks a question and wants your guess before it shows an answer. Stored results come from real
# runs and are labelled so; nothing else is needed to follow. Any section can be entered alone: cells marked *restart here* load what
# it builds on. `FTLAB_SPEED=live` computes everything on your machine instead.

# %% part="bootstrap"

# %% part="versions"

# %% [markdown]
# ## 1 · One message, two models
#
# The task: read a customer's message and answer with **one JSON object** that a program can act on. *Your guess: what will a small chat
# model that has never seen this task make of the message below, when it gets a page of instructions?*

# %%
from ftlab import load_task
from ftlab.sidebyside import side_by_side

task = load_task("support_plan")
message = "I can't get in."
(pair,) = side_by_side(task, [message], adapter=task.folder / "adapter", progress=False)
print(pair.base)

# %% [markdown]
# That was the untuned model, after a page of instructions; its answer was cut off when it had run on for too long. Now the same
# model with an *adapter*: a small file of extra weights, trained on rows of this task (messages with the answers that are
# wanted). Its prompt is one line:

# %%
print(pair.tuned)

# %% [markdown]
# This has the agreed form: `intent` is what the customer wants, `entities` are values copied from the message, `missing_info`
# is what the desk still has to ask for, and `next_step` is what the customer gets to read. Whether the *content* is right is
# another question, and it takes more than one message to say.

# %% [markdown]
# ## 2 · What "right" means here
#
# Every output climbs the same ladder of five rungs: it **parses** as JSON, fits the **schema** (the agreed keys), keeps the
# **rules**, has the **fields** as labelled, and breaks no **policy**. Where it falls, the failure gets a kind: *format* (the
# first two rungs), *instruction*, *knowledge* or *safety*. If there are several, the gravest is its *first cause*. The checker
# repairs nothing. *Guess which rung this output falls from: the JSON is fine, but look at the entity.*

# %% tags=["nbval-check-output"]
output = '{"entities": {"email": "leo@mail.example"}, "intent": "reset_password", "missing_info": [], '
output += '"next_step": "Please use \\"Forgot password\\" on the sign-in page."}'
check_result = task.checker.check(output, "forgot my password, I am Leo")
print(check_result.labels, "first cause:", check_result.first_cause)
print(check_result.problems[0].message)

# %% [markdown]
# The message holds no address, so the address is **fabricated**: a grave error, filed under *knowledge*. A program that acts on
# it would write to a stranger.

# %% tags=["nbval-check-output"]
fenced = "```json\n" + output + "\n```"
promise = output.replace("Please use", "I have reset it. Use")
for text in (fenced, promise):
    found = task.checker.check(text, "forgot my password, leo@mail.example")
    print(found.first_cause, "|", found.problems[0].message)

# %% [markdown]
# A code fence is not JSON, and a support assistant that says it has done something has said something untrue. Both are failures, of
# different kinds, and the kind decides what to do about them.

# %% [markdown]
# **Your turn.** Write a message of your own and let both models answer. Before each rung of the ladder is lit, guess which of
# the two answers falls from it. (The message of section 1 is answered already. Where widgets are not shown, a picture of it
# stands here; go on.)

# %%
from ftlab.models import load_model
from ftlab.widgets import Playground

playground = Playground(load_model(progress=False), task, message=message)
playground.answer.click()  # as if you had pressed *Answer*; this takes some seconds
playground

# %% exercise="00.1"

# %% exercise="00.2"

# %% [markdown]
# ## 3 · Not one message: the frozen test set
#
# The stored results below are from all rows of the test set. It was frozen before the first training: its hash, a fingerprint
# of the file, was written down, so that no change goes unnoticed. *Your guess: which is harder for the tuned model, the form or
# the content?*

# %%
# restart here
from ftlab import plots
from ftlab.course import stored
from ftlab.notebook import show

results = stored("support_plan")
print(results["about"]["test_rows_scored"], "test rows,", results["about"]["model"]["name"])

# %% [markdown]
# In the figure below `tfidf` is a program that counts words and cuts out values by patterns, without any language model.
# `prompt` and `few_shot` are the untuned model with a page of instructions, without and with worked examples. `tuned` is the
# model of section 1, and `constrained` the same, kept by code from writing values that are not in the message.
#
# The scores: `class_right` has the right intent, `values_right` the right values, and `strict` passes every check. Each bar
# carries its **95 % interval**: the range in which the share may well lie for all messages of this kind, of which these rows
# are a sample.

# %% tags=["picture"]
show(plots.score_bars(results))

# %% [markdown]
# **What it means**: form is all but solved by tuning. As a whole the tuned model passes clearly more rows than a word-count
# baseline without any language model, above all because it copies values better; at the intent alone the two do not differ.
# **What it does not mean**: that the tuned model is good at anything else, or that either would do as well on messages that
# other people wrote.

# %%
tuned = results["systems"]["tuned"]["scores"]
for name in ("schema_valid", "class_right", "strict", "fabricated"):
    s = tuned[name]
    print(f"{name:>12}  {s['k']:>3} of {s['n']}   95 % interval {100 * s['low']:.1f} to {100 * s['high']:.1f} %")

against = results["paired"]["tfidf"]  # the tuned model against the baseline, the same rows
assert against["strict"]["p"] < 0.05 < against["class_right"]["p"], "the sentence above no longer holds"  # p: see exercise 00.4

# %% exercise="00.3"

# %% exercise="00.4"

# %% [markdown]
# ## 4 · Where the failures went
#
# *Your guess: which kind of failure is left after tuning?* The untuned model's failures, sorted by first cause, and what became of each
# row:

# %%
show(plots.failure_flow(results))

# %%
print("\n".join(results["verdict"]["why"]))

# %% [markdown]
# The verdict was computed **before** training, from the error analysis of the untuned model. It can also say "do not train".

# %% [markdown]
# ## 5 · What tuning cost
#
# The same everyday questions before and after, each decided by a mechanical check. *Your guess: more right, fewer, or the same?*

# %%
general = results["regression"]
for when in ("before", "after"):
    s = general[when]
    print(f"{when:>6}: {s['k']} of {s['n']} passed, {general['json_answers'][when]} answers were JSON")
test = general["test"]
told = "more than chance gives easily" if test["p"] < 0.05 else "cannot be told from chance on these questions"
print(f"lost {test['lost']}, gained {test['gained']}, p = {test['p']:.3f}: {told}")

# %% [markdown]
# A narrow training leaks: without care, everyday answers take the form of the task. Here everyday prompts of another kind were
# mixed into the training, answered by the untuned model itself, so that tuning had to keep them. Whether it did is what the
# last line says: *lost* are questions that only the untuned model had right, *gained* those that only the tuned one has.

# %% open="00.1"

# %% [markdown]
# ## 6 · Quiz

# %% quiz="00"

# %% [markdown]
# ## What you can do now
#
# 1. **Tell what tuning did**: form first, content less, with an interval on each claim, and what it cost elsewhere.
# 2. **Read the ladder**: parse → schema → rule → field → policy, and one first cause per failing output.
# 3. **Judge a difference**: on the same rows, by the rows on which two models differ.
#
# **Not shown here**: other tasks, other models, other seeds, messages from people who write differently. The next step with your own
# task is `ftlab run FOLDER`.
#
# **Further reading.** Wilson (1927), *Probable inference, the law of succession, and statistical inference*, J. Am. Stat. Assoc. 22(158).
# McNemar (1947), *Note on the sampling error of the difference between correlated proportions or percentages*, Psychometrika 12(2).
