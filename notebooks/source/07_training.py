# %% [markdown]
# # 07 · Training
#
# **After this notebook you can**
#
# 1. say of every token of a row whether the trainer learns from it, and what it costs the model;
# 2. give the reason of each setting, on a CPU and on a GPU, and find a learning rate;
# 3. prove that grouping by length and micro-batches change the time and not the gradient;
# 4. read a curve by its loss *and* by the task's scores, and see overfitting while it happens;
# 5. predict time and memory before the start, interrupt a training and go on with the same weights, and distrust a single seed.
#
# | you need | minutes |
# |---|---|
# | two cores, 4 GB of free memory; the first run also gets a model of 93 MB | about 2 to run, 75 with the exercises |
# | a GPU instead | the same cells and minutes; section 2 then prints other choices with other reasons |
#
# Real trainings take an hour, so their curves are stored results and labelled so. What is trained here live is a toy: a tiny random
# model on made-up orders, seconds each, by the very loop that trained the real adapter.

# %% part="bootstrap"

# %% part="versions"

# %% [markdown]
# ## 1 · What the trainer sees
#
# A row is a message and the answer that is wanted. The trainer sees neither: it sees one list of tokens. *Your guess: from which of
# them does the model learn, from the message, the answer, or both?* Here is a held-out row, and its tokens by the part they belong to:

# %%
import tempfile
from collections import Counter
from pathlib import Path

from ftlab import load_model, load_task, plots
from ftlab.notebook import show
from ftlab.xray import Subject, xray

task = load_task("support_plan")
row = next(row for row in task.rows("validation") if row.output["entities"] and len(row.text) < 60)
print(row.text, "\n", task.completion(row))

# %%
loaded = load_model("smollm2-135m", progress=False)
scratch = Path(tempfile.mkdtemp())
seen = xray("sft", Subject(loaded, scratch, task=task, rows=[row]))
positions = seen.rows[0].positions
print("tokens:   ", dict(Counter(p.part for p in positions)))
print("with loss:", dict(Counter(p.part for p in positions if p.loss is not None)))

# %% [markdown]
# The **template** wraps the chat in special tokens; `system` is the prompt, `user` the message. None of them carries loss: their
# *label* is empty, they are **masked**. The model reads them, but is never asked to write them. Only the answer and its end token are
# asked for. Without the end token a model would learn to answer and never to stop.

# %%
for p in positions[-14:]:
    cost = "masked" if p.loss is None else f"weight {p.weight:.4f}  loss {p.loss:6.3f}"
    print(f"{p.at:>4} {p.part:<9} {cost:<30} {p.token!r}")

# %% [markdown]
# The **loss** of a token is −log of the probability that the model gave it, in *nats*: 0 if it was sure and right, log 2 if it tossed
# a coin. A model that knows nothing chooses blindly among all tokens:

# %%
from math import log

print(f"blind choice among {loaded.model.config.vocab_size} tokens: {log(loaded.model.config.vocab_size):.2f} nats")
by_hand = sum(p.weight * p.loss for p in positions if p.loss is not None)
print(f"weights times losses, by hand: {by_hand:.6f}   the trainer's own loss: {seen.own_loss:.6f}")
assert abs(by_hand - seen.own_loss) < 1e-4 * seen.own_loss, "what is shown is not what is trained"

# %% [markdown]
# So nothing is hidden: the one number that a trainer prints is this sum. The weights of free text are lower, since `next_step` may be
# worded in many ways. *Guess before you look: in the untuned model, which tokens of the answer are dear?*

# %%
show(plots.xray_figure(seen.as_dict()))

# %% [markdown]
# Now the same row under the tuned model, which has never trained on it:

# %%
after = xray("sft", Subject(loaded, scratch, task=task, rows=[row], adapter=task.folder / "adapter"))
show(plots.xray_compared(seen.as_dict(), after.as_dict(), ("untuned", "tuned")))

# %%
assert after.own_loss < 0.5 * seen.own_loss, "the sentence below no longer holds"
full = max(p.weight for p in positions if p.loss is not None)  # free text weighs less
form = sum(p.weight * p.loss for p in positions if p.loss is not None and p.weight == full) / seen.own_loss
print(f"loss of the row: {seen.own_loss:.2f} untuned, {100 * form:.0f} % of it outside the free text; {after.own_loss:.2f} tuned")
assert form > 0.5, "the sentence below no longer holds"

# %% [markdown]
# **What it means**: most of the loss was the price of the agreed form: the keys, their order, the name of the intent; tuning
# takes that away. Letters that only have to be copied were cheap from the start. **What it does not mean**: that the answer is
# right. At each position the model was shown the *right* tokens before it; alone, it goes on from its own mistakes.

# %% [markdown]
# **Your turn**: other rows, and other rules, under the untuned model again. *What would be asked for if the whole row carried
# loss, and what if free text weighed as much as the rest?* Choose it under *Masking* and *Weight of free text*, and go from
# token to token. (Where widgets are not shown, a picture of the first row stands here.)

# %%
from ftlab.widgets import MaskingXray

loaded = None  # the adapter is in its weights by now; the untuned model comes back
MaskingXray(load_model("smollm2-135m", progress=False), task, task.rows("validation")[:5])

# %% exercise="07.1"

# %% [markdown]
# ## 2 · Settings, each with its reason
#
# A setting without a reason is a superstition. Some words first. The *gradient* says for each weight which way the loss falls,
# and how steeply. A *step* moves the weights that way, as far as the *learning rate* allows; the *optimizer* works it out.
# *LoRA* leaves the weights as they are and trains small matrices beside them, *rank* numbers wide: that is the adapter. *Your
# guess: what would go wrong with each setting, if it were ten times as large?* The profile `cpu`, in its own words:

# %%
# restart here
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ftlab.device import Load, Machine, machine, plan_device
from ftlab.models import embedded_model
from ftlab.train import sft_config

gentle = ("learning_rate", "epochs", "batch_size", "warmup", "max_grad_norm", "patience", "max_length", "micro_tokens")
for line in sft_config("cpu").explain():
    if line.split()[0] in gentle:
        print(line)

# %% [markdown]
# **Conservative** settings are such that one odd row or one wild step cannot spoil the run: a rate that rises from nothing,
# gradients cut to a length, few passes, stopping when the score stops, rows that are refused and never cut. Each costs little
# when it was not needed. The rate of a step follows from two numbers, which step it is and how many there are. It rises while
# the run warms up, and falls from there to the end:

# %%
from ftlab.train.loop import rate_at

config, steps = sft_config("cpu"), 200
for step in (0, 5, 12, 100, 199):
    print(f"step {step:>3}: rate {rate_at(step, steps, config):.6f}")

# %% [markdown]
# Other settings follow from the **machine**. One function decides for a CPU, a CUDA GPU and Apple's, and says why. It reads
# this machine, so this cell prints other lines on a GPU. Not every word need be familiar: what counts is that each line has its
# reason on the right. The model is only described here, without its weights:

# %%
with torch.device("meta"):  # shapes alone
    described = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(embedded_model(progress=False)))
load = Load.of(described, rank=16)
here = plan_device(machine(), load, batch_size=32, row_tokens=512)
print("\n".join(here.explain()))

# %% [markdown]
# The same question for two machines that are not here. *Guess which lines change, and which may not change whatever the machine.*

# %%
large = plan_device(Machine("cuda", "a GPU of 80 GB", 80_000, bf16=True), load, batch_size=32, row_tokens=512)
small = plan_device(Machine("cuda", "an old GPU of 8 GB", 8_000), load, batch_size=32, row_tokens=512)
for name in ("precision", "attention", "rows_at_once", "accumulate", "checkpointing"):
    print(f"{name:>16}: here {here[name]!s:<8} 80 GB {large[name]!s:<8} 8 GB {small[name]}")

# %%
for plan in (here, large, small):
    rows = plan["rows_at_once"] * plan["accumulate"] * plan["processes"]
    print(f"{plan.machine.name:>20}: {rows} rows make a step")
    assert rows == 32, "the sentence below no longer holds"

# %% [markdown]
# **What it means**: the machine decides how a step is computed, you decide what a step *is*. Rows computed at once, times pieces, times
# processes is always the batch that was asked for. **What it does not mean**: that results are equal to the last digit. Sixteen-bit
# numbers round, and other kernels add in another order.

# %% exercise="07.2"

# %% [markdown]
# ## 3 · A range for the learning rate
#
# The rate is the setting that matters most. *Your guess: between which powers of ten does the toy learn at all?* Orders at a counter
# come in, the kind of thing goes out:

# %%
# restart here
from ftlab import plots
from ftlab.course.toy import orders, rate_range
from ftlab.notebook import show

few, held_out = orders(48), orders(60, skip=400)
for message, answer in few[:3]:
    print(f"{message:<24} {answer}")
assert not {message for message, _ in few} & {message for message, _ in held_out}

# %%
rates = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
tried, untrained = rate_range(few, held_out, rates, seeds=(0, 1))
show(plots.rate_points(tried, untrained, "One short pass of the toy at each rate, n = 60 held-out rows"))

# %%
losses = {rate: sum(t["loss"] for t in tried if t["learning_rate"] == rate) / 2 for rate in rates}
best = min(losses, key=losses.get)
print("lowest held-out loss at", best)
assert best not in (rates[0], rates[-1]), "the sentence below no longer holds"

# %% [markdown]
# **What it means**: too low a rate hardly moves, too high a rate throws the weights about, and between them lies a valley. Look for it on
# *held-out* rows, in steps of a factor of three or ten; finer steps would choose by noise. If the best rate stands at the edge of your
# range, the range was too narrow.
#
# **What it does not mean**: that this rate suits another model, another method or a longer run. Short runs bear more. For the real thing
# `ftlab train --learning-rate auto` does the same with short trainings at rates a factor of √10 apart.

# %% [markdown]
# ## 4 · Faster, and still the same gradient
#
# Rows have different lengths, and a computer wants rectangles: short rows are **padded** to the longest. So rows of like length are put
# together, and a step's rows are cut into **micro-batches** that fit the memory. *Guess: how much of the work is padding without
# grouping?*

# %%
# restart here
import torch
from transformers import AutoTokenizer

from ftlab import load_model, load_task, plots
from ftlab.course.toy import WHOLE, encoded, orders, step_gradient
from ftlab.models import embedded_model
from ftlab.notebook import show
from ftlab.train.loop import plan_epoch
from ftlab.train.sft import encode_rows

task = load_task("support_plan")
tokenizer = AutoTokenizer.from_pretrained(embedded_model(progress=False))
lengths = list(encode_rows(task, task.rows("train")[:800], tokenizer, 512).lengths)
print("tokens a row, shortest and longest:", min(lengths), max(lengths))

# %%
grouped = [[lengths[i] for i in batch] for batch in plan_epoch(lengths, 8, 0, 0)]
as_they_come = [lengths[i : i + 8] for i in range(0, len(lengths), 8)]
show(plots.padding_bars({"as they come": as_they_come, "like lengths together": grouped}))

# %%
plan = plan_epoch(lengths, 8, 0, 0)
assert sorted(i for batch in plan for i in batch) == list(range(len(lengths))), "the sentence below no longer holds"
print(f"{len(plan)} steps; rows of the first three:", plan[:3])

# %% [markdown]
# Every row is still there exactly once, and the steps come in random order. But does cutting a step into pieces change it? By
# arithmetic, with four tokens of losses 1, 2, 3 and 6, cut into a piece of three and a piece of one:

# %%
pieces = [([1.0, 2.0, 3.0], 3), ([6.0], 1)]  # losses, and how many
whole = (1 + 2 + 3 + 6) / 4
mean_of_means = (2.0 + 6.0) / 2
divided_by_all = sum(sum(losses) / 4 for losses, _ in pieces)
print("the whole step:", whole, "  mean of the means:", mean_of_means, "  each piece divided by all four:", divided_by_all)

# %% [markdown]
# The mean of the means is wrong: the lonely token counts three times as much as the others. Dividing each piece's *sum* by the
# weight of the **whole** step is exact, and since the gradient of a sum is the sum of the gradients, it is exact for gradients too. On a
# real network, with all of its weights:

# %%
tiny = load_model("tiny")
examples = list(encoded(orders(12), tiny.tokenizer))
at_once = step_gradient(tiny, examples, micro_tokens=WHOLE)
for micro_tokens in (400, 150, 1):
    off = (step_gradient(tiny, examples, micro_tokens) - at_once).norm() / at_once.norm()
    print(f"pieces of at most {micro_tokens:>3} tokens: relative difference {off:.1e}")
    assert off < 1e-5, "the sentence below no longer holds"

# %% [markdown]
# **What it means**: for the same rows in a step, micro-batches and padding change nothing but the last digits of 32-bit numbers. Take the
# largest pieces that fit. **What it does not mean**: that grouping changes nothing at all. It decides *which rows meet in a step*, so that
# the path of the training is another one, as with another seed. Each path is as legitimate.

# %% exercise="07.3"

# %% [markdown]
# ## 5 · Two curves: the loss and the task
#
# After each pass of a real training, two things were measured on validation rows: the loss on the right answers, and the scores
# of answers that the model **generated**. They stand in the adapter's *lineage*, the record that is shipped with it. *Your
# guess: do the two always agree which pass is best?*

# %%
# restart here
from math import log

from ftlab import load_task, plots
from ftlab.artifact import read_lineage
from ftlab.notebook import show

task = load_task("support_plan")
lineage = read_lineage(task.folder / "adapter")
training = lineage["training"]
print("stored result of a real run: the lineage of", task.name, "/ adapter, profile", lineage["config"]["profile"])
print(training["rows"], "rows,", training["steps"], "steps,", training["tokens"], "tokens")

# %%
about = {"rows": {"validation": len(task.rows("validation"))}, "class_field": task.class_field}
show(plots.learning_curves({"training": training, "about": about}))

# %% [markdown]
# Which pass would each measure choose? Ties go to the earlier one:

# %%
curve = training["curve"]
for name, sign in (("validation_loss", -1), ("strict", 1), ("values_right", 1), ("fabricated", -1)):
    chosen = max(curve, key=lambda point: sign * point[name])
    print(f"{name:>15} chooses pass {chosen['epoch']}:", *[f"{point[name]:.3f}" for point in curve])
print("kept: pass", training["best_epoch"])
assert training["best_epoch"] == max(curve, key=lambda point: point["strict"])["epoch"], "the sentence below no longer holds"

# %% [markdown]
# The pass with the best **strict** score was kept, whatever the loss said. Whether they agreed this time is in the lines above; why they
# need not agree is arithmetic. Two models answer ten rows, one deciding token each. *A* gives every right token a little less than half,
# *B* is nearly sure on seven and badly wrong on three:

# %%
a = [0.45] * 10  # the probability of the right token; a rival has 0.55
b = [0.95] * 7 + [0.01] * 3
for name, given in (("A", a), ("B", b)):
    loss = -sum(map(log, given)) / len(given)
    print(f"{name}: loss {loss:.2f} nats, right {sum(p > 0.5 for p in given)} of {len(given)}")

# %% [markdown]
# *A* has the lower loss and not a single right answer. Loss pays for confidence in right and wrong alike; a score asks only what comes
# first. **What it means**: watch the loss for signs of trouble, since it is smooth and moves early, but choose by what you want. **What it
# does not mean**: that a score's last percent counts. The intervals on the figure overlap from some pass on.

# %% exercise="07.4"

# %% [markdown]
# ## 6 · Overfitting, live
#
# A model **overfits** when it goes on to learn its rows by heart and gets worse on others. Two toy trainings of equally many steps: a
# dozen rows over and over, against ten times as many rows a few times. *Your guess: which one has the lower training loss at the end?*

# %%
# restart here
from ftlab import plots
from ftlab.course.toy import orders, train_toy
from ftlab.notebook import show

held_out = orders(60, skip=400)
runs = {
    "12 rows, 30 passes": train_toy(orders(12), held_out, passes=30),
    "120 rows, 3 passes": train_toy(orders(120), held_out, passes=3),
}
print({name: curve[-1]["step"] for name, curve in runs.items()}, "steps")

# %%
show(plots.run_curves(runs, len(held_out)))  # of three kinds, blind guessing has one in three right

# %% [markdown]
# The training loss is the mean over a pass, taken while the model still learns; so it starts higher than the held-out loss, which is
# measured after the pass. In numbers:

# %%
memorised, varied = (curve[-1] for curve in runs.values())
for name, curve in runs.items():
    low = min(curve, key=lambda point: point["validation_loss"])
    print(f"{name}: held-out loss at best {low['validation_loss']:.3f} (step {low['step']}),", end=" ")
    print(
        f"at the end {curve[-1]['validation_loss']:.3f}; exactly right {low['exact']:.2f} then, {curve[-1]['exact']:.2f} at the end"
    )
lowest = min(point["validation_loss"] for point in runs["12 rows, 30 passes"])
assert memorised["train_loss"] < varied["train_loss"], "the sentence below no longer holds"
assert memorised["validation_loss"] > max(1.2 * lowest, 1.5 * varied["validation_loss"]), "the sentence below no longer holds"

# %% [markdown]
# **What it means**: the dozen rows are known by heart, with the lower training loss and by far the higher held-out loss. Training loss
# alone would have chosen the worse model. The gap between the two lines is the sign to look for, and a held-out loss that turns upwards,
# as on the left, is the loud one. The remedy here was no setting but **more different rows**.
#
# **What it does not mean**: that scores fall when the loss turns. Compare the lower panels with the upper ones: a model that grows too
# sure of its mistakes pays in loss and may still write the same answers. `patience` therefore looks at the score, and stops when it has not
# improved for some passes.

# %% exercise="07.5"

# %% [markdown]
# ## 7 · Time and memory, before the start
#
# *Your guess: how much memory does training every weight of a model of 135 million parameters take, beside the weights themselves?* In
# 32 bits a number is four bytes. Each trained weight needs itself, its gradient, and two running means of the optimizer (Adam):

# %%
# restart here
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ftlab import plots
from ftlab.course import stored
from ftlab.course.toy import orders, toy_run
from ftlab.models import embedded_model
from ftlab.notebook import show
from ftlab.train.loop import plan_epoch
from ftlab.train.memory import Shape, step_mb

with torch.device("meta"):  # shapes alone
    described = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(embedded_model(progress=False)))
parameters = sum(p.numel() for p in described.parameters())
print(f"{parameters:,} parameters x 4 numbers x 4 bytes = {parameters * 4 * 4 / 1e9:.2f} GB")

# %% [markdown]
# LoRA trains a few per cent of that, so three of the four nearly vanish. What is left for both is what a step keeps of each token for the
# way back. The library counts that tensor by tensor:

# %%
shape, sizes = Shape.of(described), (100, 200, 400, 900, 1600)
ways = {"full": ("full", False), "LoRA": ("lora", False), "LoRA, layers computed twice": ("lora", True)}
lines = {
    name: [(n, step_mb(shape, micro_tokens=n, row_tokens=100, rank=16, checkpoint=again, method=method)) for n in sizes]
    for name, (method, again) in ways.items()
}
show(plots.memory_lines(lines, 4000, "Expected memory of a step, 135 M parameters, rows of up to 100 tokens"))

# %% [markdown]
# **What it means**: memory grows in a straight line with the tokens computed at once, and by section 4 those are free to choose. Before a
# training starts, the largest that fits is taken, or the training is refused with what to lower. **What it does not mean**: that the line
# holds for other machines' libraries to the megabyte.
#
# Time is predicted from a few steps on your machine. By hand for a toy, *and how far off will it be?*

# %%
loaded, run = toy_run(orders(96), Path(tempfile.mkdtemp()), passes=2)
plan = plan_epoch(run.lengths, 6, 0, 0)
run.step(plan[0])  # the first step is slower than all others
started = time.perf_counter()
for batch in plan[:4]:
    run.step(batch)
per_token = (time.perf_counter() - started) / sum(run.lengths[i] for batch in plan[:4] for i in batch)
run.train(dict, progress=False)
print(f"predicted {per_token * 2 * sum(run.lengths):.1f} s, measured {run.seconds:.1f} s")

# %% [markdown]
# For real trainings `ftlab cost` does it with a little more care, memory included. Three whole runs were predicted, then made:

# %%
costs = stored("cost")
show(plots.predicted_and_measured(costs))

# %%
for run_ in costs:
    print(f"{run_['run']:<42} measured / predicted: time {run_['measured_s'] / run_['predicted_s']:.2f}", end="")
    print(f", memory {run_['measured_mb'] / run_['predicted_mb']:.2f}")
assert all(1 / 2 < run_["measured_s"] / run_["predicted_s"] < 2 for run_ in costs), "the sentence below no longer holds"

# %% [markdown]
# Good enough to decide whether to wait or to go to lunch, which is the question. A machine that does other work at the same time is the
# largest error.

# %% exercise="07.6"

# %% [markdown]
# ## 8 · Interrupt, go on, and do it again
#
# A training of an hour will be interrupted. *Your guess: is a training that was stopped and resumed as good as one that ran through,
# nearly as good, or the very same?* First one that runs through:

# %%
# restart here
import tempfile
from pathlib import Path

from ftlab import plots
from ftlab.course import stored
from ftlab.course.toy import fingerprint, orders, stop_after, toy_run
from ftlab.errors import DataError
from ftlab.notebook import show

folder = Path(tempfile.mkdtemp())
loaded, straight = toy_run(orders(48), folder / "straight", passes=2)
straight.train(dict, progress=False)
print("straight through:", fingerprint(straight.model))

# %% [markdown]
# Then one that is stopped in the middle of a pass, as by Ctrl-C. What is on disk afterwards?

# %%
_, paused = toy_run(orders(48), folder / "paused", passes=2)
stop_after(paused, 3)
for file in sorted((folder / "paused").iterdir()):
    print(file.name, f"{file.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# The **checkpoint** holds the weights, the optimizer's two means of each, and where in which pass the run stood. It also holds what the run
# depends on. *What happens if somebody goes on with another rate?*

# %%
_, other = toy_run(orders(48), folder / "paused", passes=2, rate=5e-3)
try:
    other.load()
except DataError as refusal:
    print(str(refusal).partition(": ")[2])

# %% [markdown]
# Refused: half a run of one kind and half of another is a run of no kind. With the same settings it goes on:

# %%
_, resumed = toy_run(orders(48), folder / "paused", passes=2)
resumed.load()
print("goes on after step", resumed.step_in_epoch)
resumed.train(dict, progress=False)
print("stopped and resumed:", fingerprint(resumed.model))
assert fingerprint(resumed.model) == fingerprint(straight.model), "the sentence below no longer holds"

# %% [markdown]
# The very same, bit by bit. That is more than tidiness: whoever cannot repeat a training cannot tell the effect of a change from an
# accident. The order of the rows follows from the **seed** and the pass alone, so nothing random has to be remembered. Another seed is
# another order:

# %%
_, reseeded = toy_run(orders(48), folder / "seed", passes=2, seed=1)
reseeded.train(dict, progress=False)
print("seed 1:", fingerprint(reseeded.model))
assert fingerprint(reseeded.model) != fingerprint(straight.model)

# %% [markdown]
# How much does a seed matter in a real training? *Guess the spread of the strict score in points.* The *seed* is the number
# from which everything random is drawn, the start of the adapter and the order of the rows. Two settings were trained with
# three seeds each, on few rows: LoRA in all layers of the model, and in the last eight alone.

# %%
layers = stored("layers")
arms = {name: [run["scores"]["strict"] for run in runs] for name, runs in layers["arms"].items()}
title = f"Trainings that differ by the seed alone, {layers['rows']} training rows"
show(plots.seed_points(arms, layers["validation_rows"], title))

# %%
spread = {name: 100 * (max(scores) - min(scores)) for name, scores in arms.items()}
print({name: f"{points:.1f} points from worst to best seed" for name, points in spread.items()})
gap = 100 * (min(arms["all layers"]) - max(arms["last 8 layers"]))
assert gap > max(spread.values()), "the sentence below no longer holds"

# %% [markdown]
# **What it means**: seeds alone move a score by a few points, so a gain of that size from one training each is no gain. Here the two
# settings differ by far more than their seeds do. **What it does not mean**: that three seeds measure the spread well, or that it is the
# same with other rows.

# %% open="07.1"

# %% [markdown]
# ## 9 · Quiz

# %% quiz="07"

# %% [markdown]
# ## What you can do now
#
# 1. **See what the trainer sees**: template, prompt and message masked, loss on the answer and its end, and each token's price.
# 2. **Give reasons**: gentle settings guard against single rows and steps; the machine decides how a step is computed, not what it is; the
#    rate is looked for on held-out rows.
# 3. **Prove sameness**: sums divided by the whole step's weight, and the gradient is the same.
# 4. **Read curves**: loss as a warning, the task's score for the choice, and the gap of the two losses for overfitting.
# 5. **Plan and repeat**: memory and time before the start, the same weights after a pause, more than one seed before a claim.
#
# **Not shown here**: that gentle settings are the best ones, which depends on rows and length; a training on a GPU, whose settings are
# printed above and not run; what tuning does to everything else the model could do (notebook 00 has a first look). The real thing is
# `ftlab cost --task support_plan` and then `ftlab train --task support_plan --out DIR`.
#
# **Further reading.** Hu et al. (2021), *LoRA: Low-Rank Adaptation of Large Language Models*, arXiv:2106.09685. Kingma and Ba (2015),
# *Adam: A Method for Stochastic Optimization*, ICLR. Mosbach, Andriushchenko and Klakow (2021), *On the Stability of Fine-tuning BERT*,
# ICLR. Dodge et al. (2020), *Fine-Tuning Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping*,
# arXiv:2002.06305. Chen et al. (2016), *Training Deep Nets with Sublinear Memory Cost*, arXiv:1604.06174.
