# %% [markdown]
# # 02 · What fine-tuning changes
#
# **After this notebook you can**
#
# 1. measure what a training did to a weight matrix: how far it moved, and in how many directions;
# 2. read the scope of a tuning layer by layer, and tell full tuning, LoRA, rsLoRA, DoRA and last-layer tuning by their marks;
# 3. turn the strength up and down, and say what it wins and what it costs;
# 4. count how often a tuned model would say another token, on its task and elsewhere;
# 5. make different models from one base, by nothing, by demonstrations and by preferences, and say which gives what;
# 6. read the same measurements of a real adapter, and say what they do not tell.
#
# | you need | minutes |
# |---|---|
# | a laptop with two cores and 2 GB of free memory; nothing is fetched | about 1, and 60 with the exercises |
#
# It stands on notebook 01. What is trained here live is the small model that was pretrained there, on made-up orders, by the loop
# that trains the real adapters. Section 8 shows a real one.

# %% part="bootstrap"

# %% part="versions"

# %% [markdown]
# ## 1 · One matrix, before and after
#
# A model is a pile of matrices of numbers. Tuning goes on with the very same numbers, from where pretraining left them. The task
# here: an order comes in, JSON goes out. *Your guess: after a few dozen such rows, how far has a typical number moved, by a tenth
# of its size, by half, by more than itself?*

# %%
# restart here
from ftlab.course.outcomes import demonstrations, tuned, untouched, written

few, held_out = demonstrations(48), demonstrations(60, skip=400)  # the latter are never trained on
for message, answer in few[:3]:
    print(f"{message:<26} {answer}")

# %% [markdown]
# Train every weight for some seconds, and let both models answer an order that neither has seen. (An end of a line is shown as
# `\n`.)

# %%
base, sft = untouched(), tuned(few)
order = held_out[0][0]
for name, model in (("before", base), ("after", sft)):
    print(f"{name:>6}: {written(model, [order])[0][:70]!r}")
print(f"{sft.trained:,} numbers trained on {sft.tokens:,} tokens")

# %% [markdown]
# From the manner of a manual to JSON. Now look inside, at one matrix *W* of the attention in layer 2. Its **update** is the
# difference *D* of after and before. Size is measured by the *Frobenius norm*: the root of the sum of all squares.

# %%
name = "model.layers.2.self_attn.q_proj.weight"
w, after = (model.loaded.model.get_parameter(name) for model in (base, sft))
d = after - w
by_hand = ((d**2).sum() ** 0.5 / (w**2).sum() ** 0.5).item()
print(f"{tuple(w.shape)} numbers, typical size {(w**2).mean() ** 0.5:.4f}, typical change {(d**2).mean() ** 0.5:.4f}")
print(f"size of the update, |D| / |W|: {100 * by_hand:.2f} %")

# %% [markdown]
# By hand, and then as the library does it for every weight at once. It also counts the weights that **moved**: by more than a
# hundredth of what is typical in their matrix.

# %%
from ftlab.course.outcomes import changes

found = {change["name"]: change for change in changes(base, sft)}
library = found[name]
print(f"by hand {100 * by_hand:.4f} %, ftlab {100 * library['relative_norm']:.4f} %; moved: {100 * library['moved']:.0f} % of them")
assert abs(library["relative_norm"] - by_hand) < 1e-5, "the sentence above no longer holds"
assert by_hand < 0.5 < library["moved"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: nearly every number moved, and hardly any moved far. No place in the matrix lights up as "here is the JSON";
# all of it leans a little. **What it does not mean**: that small is harmless. A change of a few per cent turned manuals into
# JSON, so the size of an update says nothing of the size of its effect.

# %% exercise="02.1"

# %% [markdown]
# ## 2 · How far, layer by layer
#
# A layer has seven matrices: four of the attention, which looks at other tokens (`q`, `k`, `v`, `o`), and three of the network
# that works on each token alone (`gate`, `up`, `down`). *Your guess: where did tuning change most, in the first layers, in the
# last, or everywhere alike?*

# %%
# restart here
from statistics import median

from ftlab import plots
from ftlab.course.outcomes import before_pretraining, changes, demonstrations, tuned, untouched
from ftlab.updates import in_layers
from ftlab.notebook import show

base, sft = untouched(), tuned(demonstrations(48))
show(plots.update_map(changes(base, sft), "Full tuning on 48 orders: size of each update"))

# %%
elsewhere = [change["name"] for change in changes(base, sft) if change["layer"] is None]
print("outside the layers changed too:", ", ".join(elsewhere))
sizes = [change["relative_norm"] for change in in_layers(changes(base, sft))]
print(f"most against least changed matrix: {max(sizes) / min(sizes):.1f} times")
assert min(sizes) > 0 and max(sizes) < 5 * min(sizes), "the sentence below no longer holds"

# %% [markdown]
# This is the **scope** of the training: all of it, the table of tokens included, and no layer is left out or does it alone. To
# judge whether the numbers are large, compare them with what pretraining did. Its start is known, since random weights follow
# from a seed. *Your guess: how many times farther did pretraining go?*

# %%
ways = {"pretraining": changes(before_pretraining(), base), "tuning": changes(base, sft)}
middle = {}
for name, found in ways.items():
    each = [change["relative_norm"] for change in in_layers(found)]
    middle[name] = median(each)
    print(f"{name:>11}: from {100 * min(each):.1f} % to {100 * max(each):.1f} %, middle {100 * middle[name]:.1f} %")
print(f"pretraining went {middle['pretraining'] / middle['tuning']:.0f} times as far")
assert middle["pretraining"] > 5 * middle["tuning"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: pretraining made the model, tuning bends it. Nearly all of what is in the weights afterwards was there
# before. **What it does not mean**: that the map shows *where* the task is done. Matrices that changed much may matter little,
# and the other way round; to know, one would have to undo the change of one matrix and look.

# %% [markdown]
# ## 3 · In how many directions
#
# Size is not all. A matrix turns one list of numbers into another, and an update may bend that in one direction or in many. Any
# matrix is a sum of simple ones, each a column times a row, with a strength: its **singular values**. The **effective rank** says
# how many of them count. By hand:

# %%
# restart here
import torch

from ftlab import plots
from ftlab.course.outcomes import demonstrations, tuned, untouched
from ftlab.notebook import show
from ftlab.updates import effective_rank, singular_values

for strengths in ([1, 1, 1, 1], [1, 1, 0, 0], [1, 0.1, 0.1, 0.1]):
    print(strengths, "→", round(effective_rank(strengths), 2))

# %% [markdown]
# Four equal ones count as four, two as two, and one with three weak ones as somewhat more than two. Now the idea of **LoRA**:
# leave *W* alone and train two thin matrices, *B* and *A*, whose product is added. *Your guess: how many directions has the
# product of an 8 × 2 and a 2 × 6 matrix?*

# %%
torch.manual_seed(0)
b, a = torch.randn(8, 2), torch.randn(2, 6)
print("B·A has shape", tuple((b @ a).shape), "and rank", torch.linalg.matrix_rank(b @ a).item())
print("numbers in B and A:", b.numel() + a.numel(), "  in a full matrix of that shape:", 8 * 6)

# %% [markdown]
# It looks like a full matrix, but it is built of two columns and two rows, so it has two directions, whatever the numbers are.
# Train LoRA of rank 4 on the same orders as in section 1, and compare one matrix's updates:

# %%
few = demonstrations(48)
base, full, lora = untouched(), tuned(few), tuned(few, method="lora", rank=4, rate=5e-3)
name = "model.layers.2.self_attn.q_proj.weight"
before = base.loaded.model.get_parameter(name)
values = {
    way: singular_values(model.loaded.model.get_parameter(name) - before) for way, model in (("full", full), ("LoRA, rank 4", lora))
}
show(plots.singular_lines(values, f"Directions of the update of {name.removeprefix('model.')}"))

# %%
ranks = {way: effective_rank(found) for way, found in values.items()}
print({way: round(rank, 1) for way, rank in ranks.items()})
print(f"trained: {full.trained:,} numbers in full, {lora.trained:,} with LoRA")
assert ranks["LoRA, rank 4"] <= 4.01 and ranks["full"] > 5 * ranks["LoRA, rank 4"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: full tuning moves in many directions, most of them weak; LoRA is held to as many as its rank, with a small
# part of the numbers. **What it does not mean**: that the many weak directions were needed. Section 4 shows that both models
# write the form; a part of that long tail may be no more than the noise of single steps.

# %% exercise="02.2"

# %% [markdown]
# ## 4 · Full, LoRA and their kin
#
# Four more ways, all through one loop: a higher rank; **rsLoRA**, which divides by the root of the rank instead of the rank;
# **DoRA**, which also trains the length of each row of a matrix; and LoRA in the last layers only. *Your guess: which of them is
# not held to its rank?*

# %%
# restart here
from ftlab import plots
from ftlab.course.outcomes import demonstrations, scope, tuned, untouched
from ftlab.notebook import show

base, few = untouched(), demonstrations(48)
ways = {
    "full": tuned(few),
    "LoRA, rank 4": tuned(few, method="lora", rank=4, rate=5e-3),
    "LoRA, rank 16": tuned(few, method="lora", rank=16, rate=5e-3),
    "rsLoRA, rank 16": tuned(few, method="rslora", rank=16, rate=5e-3),
    "DoRA, rank 4": tuned(few, method="dora", rank=4, rate=5e-3),
    "LoRA, rank 4, last 2 layers": tuned(few, method="lora-last", rank=4, rate=5e-3, last_layers=2),
}

# %%
marks = {way: scope(base, model) for way, model in ways.items()}
show(plots.method_bars(marks))

# %%
for way, rank in (("LoRA, rank 4", 4), ("LoRA, rank 16", 16), ("rsLoRA, rank 16", 16), ("LoRA, rank 4, last 2 layers", 4)):
    assert marks[way]["rank"] <= rank + 0.01, "the sentence below no longer holds"
assert 50 * min(mark["trained"] for mark in marks.values()) < marks["full"]["trained"], "the sentences below no longer hold"
assert marks["DoRA, rank 4"]["rank"] > 5 and marks["rsLoRA, rank 16"]["strength"] > 1.5 * marks["LoRA, rank 16"]["strength"], (
    "the sentences below no longer hold"
)
print("at rank 16 the scale is", 32 / 16, "with LoRA and", 32 / 16**0.5, "with rsLoRA")

# %% [markdown]
# LoRA and rsLoRA are held to their rank. **DoRA** is not: it stretches each row of *W* by a factor of its own, and a stretched
# *W* differs from *W* in all of its directions. **rsLoRA** went much farther at the same learning rate, because its scale is four
# times as large; that is why it is given a lower one. Tuning **the last layers** leaves the others, bit by bit, as they were.

# %%
from ftlab.course.outcomes import changes, conduct

untouched_layers = {c["layer"] for c in changes(base, ways["LoRA, rank 4, last 2 layers"]) if c["relative_norm"] == 0}
print("layers with nothing changed:", sorted(layer for layer in untouched_layers - {2, 3} if layer is not None))
held_out = demonstrations(60, skip=400)
for way, model in ways.items():
    form = conduct(model, held_out)["in the form"]
    print(f"{way:<28} in the form: {form['k']} of {form['n']} held-out orders")
    assert form["share"] > 0.8, "the sentence below no longer holds"

# %% [markdown]
# **What it means**: very different updates lead to the same form. The form asks for so little that a fiftieth of the numbers will
# do. **What it does not mean**: that the ways are equal. Form is the easiest part, each way ran once, and one rate for all suits
# none of them well; a fair comparison gives each its own.

# %% exercise="02.3"

# %% [markdown]
# ## 5 · Strength: a dial with a price
#
# The **learning rate** and the number of steps decide how far a training goes. Going farther wins something and costs something.
# What it costs is measured on what nobody trained: the loss on documentation, the kind of text that the base learnt from, and the
# invented facts it knew. *Your guess: does the gentlest or the strongest training win the most for its price?*

# %%
# restart here
from ftlab import plots
from ftlab.course.outcomes import (
    conduct, demonstrations, facts_kept, general_texts, strength, task_loss, text_loss, tuned, untouched,
)  # fmt: skip
from ftlab.notebook import show

base, few, held_out = untouched(), demonstrations(48), demonstrations(60, skip=400)
texts = general_texts(base.loaded)
untuned = {"task": task_loss(base, held_out), "general": text_loss(base, texts)}
print(f"untuned: loss {untuned['task']:.2f} on orders, {untuned['general']:.2f} on {len(texts)} pieces of documentation")

# %%
grid = {"full": (3e-4, 1e-3, 3e-3), "LoRA, rank 4": (2e-3, 5e-3, 1.5e-2)}
points = []
for way, rates in grid.items():
    for rate in rates:
        model = tuned(few, rate=rate) if way == "full" else tuned(few, method="lora", rank=4, rate=rate)
        measured = {"strength": strength(base, model), "task": task_loss(model, held_out), "general": text_loss(model, texts)}
        counted = {"facts": facts_kept(model), "form": conduct(model, held_out)["in the form"]}
        points.append({"way": way, "rate": rate, **measured, **counted})

# %%
show(plots.strength_price(points, untuned, "Six trainings on the same 48 orders"))

# %% [markdown]
# Losses are means. Count, too: how many answers are in the form, and how many facts are left of those that the base had read most
# often (*person lives in city*)?

# %%
known = facts_kept(base)
print(f"{'untuned':<22} facts {known['k']:>2} of {known['n']}")
for point in points:
    facts, form = point["facts"], point["form"]
    print(
        f"{point['way']:<13} {point['rate']:<8g} facts {facts['k']:>2} of {facts['n']}, in the form {form['k']:>2} of {form['n']}"
    )

# %%
for way in grid:
    gentle, _, strong = (p for p in points if p["way"] == way)
    won = (untuned["task"] - gentle["task"]) / (untuned["task"] - min(p["task"] for p in points))
    print(f"{way}: the gentlest rate already takes off {100 * won:.0f} % of the loss on orders that any of them does")
    assert won > 0.7 and strong["general"] > gentle["general"] > untuned["general"], "the sentences below no longer hold"
    assert strong["facts"]["k"] < known["k"] - 5, "the sentences below no longer hold"

# %% [markdown]
# **What it means**: the gentlest trainings had most of the gain in loss, if not always in whole answers; after that the price
# goes on rising. **Forgetting** is no accident of bad data: nothing asked the model to keep its facts, and each step moved
# numbers that they rest on. The dial is yours, and mixing in general rows is the usual remedy (notebook 06).
#
# **What it does not mean**: that LoRA forgets less, or more. Read the figure at equal *task loss*, not at equal rate: whichever
# line is lower on the right for the same height on the left cost less *here*, in one training each of one tiny model.

# %% exercise="02.4"

# %% [markdown]
# ## 6 · Other choices, other states
#
# What does an update do to what the model says? Give both models the same text, with the right tokens before each place, and ask
# each for its **likeliest next token**. *Your guess: at how many places of a piece of documentation does the tuned model choose
# another one?*

# %%
# restart here
from ftlab import plots
from ftlab.course.outcomes import choices, demonstrations, general_texts, order_texts, tuned, untouched
from ftlab.inside import compare
from ftlab.notebook import show

base, few, held_out = untouched(), demonstrations(48), demonstrations(60, skip=400)
sft, texts = tuned(few), general_texts(base.loaded)
pairs = list(zip(choices(base, texts[0]), choices(sft, texts[0]), strict=True))
said = [f"{was!r} → {now!r}" if was != now else "·" for was, now in pairs]
print(" ".join(said[:32]))

# %%
by_hand = sum(was != now for was, now in pairs) / len(pairs)
print(f"{100 * by_hand:.0f} % of {len(pairs)} places of one text changed (a dot: the same choice)")

# %% [markdown]
# That was one text, by hand. `ftlab.inside.compare` does it for many, with intervals, and apart for the task. It also compares
# the **states**, the lists of numbers that a layer hands to the next: their likeness is 1 where both models see the same texts as
# alike and as different (*CKA*), 0 where they have nothing in common. A gentle and a strong training beside the usual one:

# %%
kinds = {"task": order_texts(base.loaded, held_out), "general": texts}
models = {"gentle": tuned(few, rate=3e-4), "usual": sft, "strong": tuned(few, rate=3e-3)}
seen = {f"full, {name}": compare(base.loaded, model.loaded, kinds, rounds=200) for name, model in models.items()}
show(plots.reach_figure(seen))

# %%
for name, found in seen.items():
    task, general = (found["choices"][kind]["changed"] for kind in ("task", "general"))
    told = [f"{100 * s['share']:.0f} % [{100 * s['low']:.0f}, {100 * s['high']:.0f}]" for s in (task, general)]
    print(f"{name:<13} choices changed on orders {told[0]}, on documentation {told[1]}")
    assert task["low"] > max(0.5, general["high"]), "the sentence below no longer holds"
    assert found["similarity"]["task"][-1]["cka"] < found["similarity"]["task"][1]["cka"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: tuning changed the choices most where it was trained, at any strength, since the base knew nothing of the
# form. It changed them also where it was not trained, and how much there is a matter of strength. On orders the states are the
# less alike the later the layer: each works on what the one before it handed over. **What it does not mean**: that a changed
# choice is a worse one. Two tokens may be equally good, and a place where both models are unsure changes easily.

# %% exercise="02.5"

# %% [markdown]
# ## 7 · One base, different outcomes
#
# **Demonstrations** (supervised fine-tuning, SFT) say: write this. **Preferences** say: of these two, rather this one. In our
# orders three demonstrations in four claim a deed that nobody did. Whoever sees that may write pairs which prefer to ask:

# %%
# restart here
from ftlab import plots
from ftlab.course.outcomes import (
    conduct, demonstrations, facts_kept, pair_scores, preferences, preferred, strength, tuned, untouched, written,
)  # fmt: skip
from ftlab.notebook import show

pairs = preferences(24, skip=100)
print(pairs[0].input, "\n  rather", pairs[0].chosen, "\n  than  ", pairs[0].rejected)

# %% [markdown]
# Four models from one base: left alone; tuned on demonstrations; tuned on pairs alone (by *DPO*, which raises the chance of the
# chosen answer against that of the rejected one, compared with the model before); and both, one after the other. *Your guess:
# what will each of the four write to an order that it has not seen?*

# %%
base, sft = untouched(), tuned(demonstrations(48))
outcomes = {"none": base, "SFT": sft, "pairs alone": preferred(base, pairs), "SFT, then pairs": preferred(sft, pairs)}
held_out, held_out_pairs = demonstrations(60, skip=400), preferences(60, skip=400)
for name, model in outcomes.items():
    print(f"{name:<16} {written(model, [held_out[0][0]])[0][:64]!r}")

# %% tags=["picture"]
scores = {name: conduct(model, held_out) | {"facts kept": facts_kept(model)} for name, model in outcomes.items()}
for name, model in outcomes.items():
    scores[name]["ranks the pair right"] = pair_scores(model, held_out_pairs)[0]
shown = ("in the form", "asks first", "ranks the pair right", "facts kept")
show(plots.grouped_bars(scores, shown, "One base, four outcomes, n = 60 held-out orders, pairs and facts each"))

# %%
share = {name: {score: found["share"] for score, found in each.items()} for name, each in scores.items()}
assert share["none"]["in the form"] == 0 and share["SFT"]["in the form"] > 0.8, "the sentences below no longer hold"
assert share["pairs alone"]["ranks the pair right"] > 0.8 and share["pairs alone"]["in the form"] < 0.1, (
    "the sentences below no longer hold"
)
assert share["SFT"]["asks first"] < 0.3 and share["SFT, then pairs"]["asks first"] > 0.7, "the sentences below no longer hold"
for name, model in outcomes.items():
    print(f"{name:<16} mean log-probability of the preferred answer: {pair_scores(model, held_out_pairs)[1]:7.1f} nats")

# %% [markdown]
# **Left alone**, it goes on like a manual. **SFT** gives the form, and with it the habit that most of the demonstrations have.
# **Pairs alone** turn the ranking round: it now finds asking likelier than claiming, and still writes neither, since both stay as
# good as impossible. **Pairs after SFT** choose between two things that the model can already say.

# %%
assert share["SFT"]["facts kept"] < share["none"]["facts kept"], "the sentences below no longer hold"
steps = {"SFT": strength(base, sft), "pairs, after SFT": strength(sft, outcomes["SFT, then pairs"])}
for name, size in steps.items():
    print(f"{name:<17} moved the weights of the layers by {100 * size:.1f} %")
for name in ("SFT", "SFT, then pairs"):
    print(f"{name:<17} kind right in {scores[name]['right kind']['k']} of {scores[name]['right kind']['n']}")

# %% [markdown]
# **What it means**: the base decides what there is to bend, the demonstrations what is written, the preferences which of the
# things that could be written. **What it does not mean**: that pairs were needed; here, better demonstrations would have done.
# Nor does any of it teach what is true. Whether the *kind* is right, the pairs never said, and it may suffer; and the facts of
# before are fewer, not more.
#
# One warning. The same pairs, pushed harder, alone and with a term that keeps the chosen answer likely in itself:

# %%
pushed = {"DPO, pushed": 0.0, "DPO, pushed, with the term": 1.0}
for name, weight in pushed.items():
    model = preferred(sft, pairs, rate=5e-3, beta=0.1, sft_weight=weight)
    found, (ranked, logp) = conduct(model, held_out), pair_scores(model, held_out_pairs)
    pushed[name] = found["in the form"]["k"]
    print(f"{name:<27} {pushed[name]:>2} in the form, {ranked['k']} pairs ranked right, preferred answer {logp:.1f} nats")
assert pushed["DPO, pushed"] <= pushed["DPO, pushed, with the term"], "the sentence below no longer holds"

# %% [markdown]
# DPO only looks at the *difference*. Once a pair is won, more of it can be had by making both answers unlikely, the rejected one
# more so, and then something else comes first. Pair scores do not see that; only what is written does. The term guards against
# it, and the course's own preference tuning has it switched on (notebook 09).

# %% exercise="02.6"

# %% [markdown]
# ## 8 · A real adapter
#
# All that was a toy. The same measurements were made of the course's real adapter, LoRA on all layers of a much larger model,
# after a long training, and stored. *Your guess: larger or smaller updates than the toy's, and in more or fewer directions?*

# %%
# restart here
from ftlab import plots
from ftlab.artifact import read_lineage
from ftlab.course import stored
from ftlab.updates import in_layers
from ftlab.notebook import show
from ftlab.task import load_task

real = stored("inside")
trained_with = read_lineage(load_task("support_plan").folder / "adapter")["config"]
print(f"{real['before']} with {real['after']}: rank {trained_with['rank']}, {real['overall']['parameters']:,} weights")
show(plots.update_map(real["matrices"], "support_plan's adapter: size of each update"))

# %%
inside = in_layers(real["matrices"])
sizes, ranks = ([change[key] for change in inside] for key in ("relative_norm", "effective_rank"))
print(f"size from {100 * min(sizes):.1f} to {100 * max(sizes):.1f} %; effective rank from {min(ranks):.1f} to {max(ranks):.1f}")
print(f"{100 * real['overall']['in_changed_matrices']:.0f} % of the weights are in matrices that changed")
assert max(ranks) <= trained_with["rank"] + 0.01 and min(sizes) > 0, "the sentence below no longer holds"

# %% [markdown]
# Every layer takes part, and no matrix goes beyond the adapter's rank. What does that do on replies to messages, and on everyday
# prompts that have nothing to do with the task?

# %%
show(plots.inspection_figure(real))

# %%
for kind, found in real["choices"].items():
    for key, told in (("changed", "another token is likeliest"), ("outside_top_3", "… one not among the three likeliest before")):
        s = found[key]
        print(f"{kind:>8}: {100 * s['share']:5.1f} % [{100 * s['low']:.1f}, {100 * s['high']:.1f}] {told}")
task, general = (real["choices"][kind] for kind in ("task", "general"))
assert task["changed"]["low"] > general["changed"]["high"], "the sentence below no longer holds"
assert general["outside_top_3"]["share"] < 0.5 * general["changed"]["share"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: as in the toy, choices change most on the task. On everyday text they change less, and mostly to a token that
# was a close second or third before: a nudge, not a rewrite.
#
# **What it does not mean**: that answers there are as good as before. The texts are the untuned model's own answers, one changed
# token may turn an answer, and likeness of states by CKA is ruled by a few directions of great size; where its interval is wide,
# it says little. What tuning cost is measured by the answers themselves:

# %%
regression = stored("support_plan", say=False)["regression"]
for name, s in (("untuned", regression["before"]), ("tuned", regression["after"])):
    print(f"{name:>8}: {s['k']} of {s['n']} general prompts answered right, {100 * s['low']:.0f} to {100 * s['high']:.0f} %")
print(f"paired: {regression['test']['gained']} gained, {regression['test']['lost']} lost, p = {regression['test']['p']:.3f}")

# %% open="02.1"

# %% [markdown]
# ## 9 · Quiz

# %% quiz="02"

# %% [markdown]
# ## What you can do now
#
# 1. **Measure an update**: its norm beside the weights' norm, its effective rank, the share of weights that moved.
# 2. **Read the scope**: full tuning touches everything in many directions; LoRA and rsLoRA stay within their rank; DoRA stretches rows
#    and does not; last-layer tuning leaves the rest as it was.
# 3. **Turn the dial**: a gentle training takes off most of the loss; what strength adds on the task, it takes elsewhere.
# 4. **Count choices**: most changed on the task, some everywhere.
# 5. **Tell outcomes apart**: demonstrations say what is written, preferences which of two; pairs alone rank what is never said.
# 6. **Read a real adapter**: all layers, within its rank, and a nudge on everyday text.
#
# **Not shown here**: more than one seed of anything trained live; a larger model tuned in full; whether LoRA forgets less at
# equal task score; which matrices matter for the task. The toy's held-out orders use the words of its training, so they measure
# form and not understanding. `ftlab inspect BEFORE AFTER` does what section 8 shows for any two models of yours.
#
# **Further reading.** Hu et al. (2021), *LoRA: Low-Rank Adaptation of Large Language Models*. Kalajdzievski (2023), *A Rank
# Stabilization Scaling Factor for Fine-Tuning with LoRA*. Liu et al. (2024), *DoRA: Weight-Decomposed Low-Rank Adaptation*.
# Biderman et al. (2024), *LoRA Learns Less and Forgets Less*. Lin et al. (2023), *The Unlocking Spell on Base LLMs*. Rafailov et
# al. (2023), *Direct Preference Optimization*. Roy & Vetterli (2007), *The Effective Rank: A Measure of Effective
# Dimensionality*. Kornblith et al. (2019), *Similarity of Neural Network Representations Revisited*.
