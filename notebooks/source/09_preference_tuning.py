# %% [markdown]
# # 09 · Preference tuning
#
# **After this notebook you can**
#
# 1. write pairs of replies that teach a policy and not length, form or tone;
# 2. say what the loss of a pair asks for, what beta does, and when the chosen reply is lost on the way;
# 3. judge a reward model against a ruler and a word count, and choose the best of n by it;
# 4. measure policy under pressure on both sides: giving in, and refusing what is allowed;
# 5. write a reward that a program checks, and notice when one is hacked.
#
# | you need | minutes |
# |---|---|
# | a laptop with two cores and 2 GB of free memory; nothing is fetched | 1 to 2 to run, 80 with the exercises |
#
# It stands on notebooks 06 to 08. Demonstrations showed *one right answer*; here a model learns *which of two* is better. What is
# trained live is the shipped model of a million parameters: it shows each mechanism in seconds, and no size of an effect. Pairs
# are from the training file; of the held-out files you see stored results only.

# %% part="bootstrap"

# %% part="versions"

# %% [markdown]
# ## 1 · A pair is a lesson
#
# A pair holds a message, a **chosen** reply and a **rejected** one. The trainer is told which is better, and never why. *Your
# guess, before you read the replies: what differs between the two below?*

# %%
import json

from ftlab import load_task, plots
from ftlab.course.pairs import as_record, message_letters, pair_faults
from ftlab.notebook import show
from ftlab.prefer import task_pairs

task = load_task("support_reply")
pairs = task_pairs(task)
for key, value in as_record(pairs[2]).items():
    print(f"{key:>8}: {json.dumps(value, ensure_ascii=False)}")

# %% [markdown]
# Same action, same length, same calm tone. One promises the money, and the handbook forbids that. **What differs is the lesson.**
# If all chosen replies were longer as well, a model could win every pair by writing more. *Your guess: how often is the chosen
# message the longer one here?*

# %%
letters = [message_letters(pair) for pair in pairs]
show(plots.pair_lengths(letters, "support_reply, pairs to train on"))

# %%
faults = [fault for pair in pairs for fault in pair_faults(task, as_record(pair))]
by_ruler = max(sum(c > r for c, r in letters), sum(c < r for c, r in letters)) / len(letters)
print(f"{len(faults)} faults in {len(pairs)} pairs; the best rule by length alone is right in {100 * by_ruler:.0f} %")
assert not faults and by_ruler < 0.7, "the sentence below no longer holds"

# %% [markdown]
# **What it means**: both replies of every pair parse, keep the schema and the rules, and are about equally long, so that little
# but policy is left to learn. Little is not nothing: a rule by length is right a bit more often than a coin. **What it does not
# mean**: that the chosen replies are better. That is for people to judge; a program cannot.

# %% exercise="09.1"

# %% exercise="09.2"

# %% [markdown]
# ## 2 · One pair inside the loss
#
# *Direct preference optimisation* (DPO) needs four numbers a pair: the **log-probability** of each reply under the model, now and
# before tuning. *Your guess: before the first step, is the loss of a pair large or small?* Here is a pair, and the pieces that
# the trainer computes:

# %%
# restart here
import tempfile
from math import exp, log
from pathlib import Path

from ftlab import load_model, load_task, plots
from ftlab.course.pairs import small_split
from ftlab.notebook import show
from ftlab.xray import Subject, xray

task, loaded = load_task("support_reply"), load_model("tiny-pretrained")
train, held_out = small_split(task, loaded.tokenizer)
pair = next(pair for pair in train if pair.id == "pp-0005")
print(pair.messages[-1]["content"], "\n+", pair.chosen, "\n-", pair.rejected)

# %%
seen = xray("dpo", Subject(loaded, Path(tempfile.mkdtemp()), task=task, pairs=[pair]))
(facts,) = seen.pairs
for name in ("chosen_logp", "reference_chosen_logp", "rejected_logp", "reference_rejected_logp", "margin"):
    print(f"{name:>24} {round(facts[name], 2) + 0.0:8.2f} nats")

# %% [markdown]
# A log-probability adds up the losses of all tokens of a reply, with a minus. The **margin** is what the chosen reply *gained*
# over the start, minus what the rejected one gained. Nothing has moved yet, so it is zero, whatever the model liked before. The
# loss is −log σ(β · margin), plus the mean loss of a chosen token, the **supervised term**:

# %%
chosen_tokens = [p.loss for row in seen.rows if row.name == "chosen" for p in row.positions if p.loss is not None]
preference = -log(1 / (1 + exp(-facts["beta"] * facts["margin"])))
by_hand = preference + facts["sft_weight"] * sum(chosen_tokens) / len(chosen_tokens)
print(
    f"preference {preference:.4f} (log 2 is {log(2):.4f}), with the supervised term {by_hand:.4f}; the trainer: {seen.own_loss:.4f}"
)
assert abs(by_hand - seen.own_loss) < 1e-3 * seen.own_loss, "what is shown is not what is trained"

# %% [markdown]
# Log 2 is the loss of a tossed coin: at the start each pair counts as undecided. Now the same, token by token. *Guess which
# tokens of the rejected reply are pushed down: those that break the policy, or all of them?*

# %%
show(plots.xray_figure(seen.as_dict()))

# %% [markdown]
# Each token of the chosen reply is pulled up, each of the rejected one pushed down (hatched), **within a reply all by the same
# weight**. The loss does not know where the lie stands. Tokens that both replies share are pulled and pushed at once, which
# mostly cancels: one more reason to change only what differs in policy.
#
# **What it does not mean**: that the dear tokens are the bad ones. This model has never seen a support chat; nearly all is dear
# to it.

# %% exercise="09.3"

# %% [markdown]
# ## 3 · Tuning on pairs: what moves
#
# Some tens of these pairs, the small model, a high rate so that much happens in seconds. One run has the pair's loss **alone**,
# one has the **supervised term** too. *Your guess for both: does the chosen reply become likelier?* Measured on held-out pairs:

# %%
# restart here
import tempfile
from pathlib import Path

from ftlab import load_model, load_task, plots
from ftlab.course.pairs import small_split
from ftlab.notebook import show
from ftlab.train.preference import DpoConfig, train_dpo

task, traces = load_task("support_reply"), {}
for name, weight in (("pairs alone", 0.0), ("with the supervised term", 1.0)):
    loaded = load_model("tiny-pretrained")
    train, held_out = small_split(task, loaded.tokenizer)
    config = DpoConfig(learning_rate=5e-3, epochs=3, sft_weight=weight, watch_every=4)
    found = train_dpo(loaded, train, config, Path(tempfile.mkdtemp()), held_out=held_out, progress=False)
    traces[name] = found["trace"]

# %%
show(plots.preference_lines(traces, len(held_out)))

# %%
for name, trace in traces.items():
    first, last = trace[0], trace[-1]
    print(
        f"{name}: margin {last['margin']:.1f} nats, chosen gained more in {100 * last['reward_accuracy']:.0f} % of held-out pairs,"
    )
    print(f"    chosen reply {last['chosen_logp'] - first['chosen_logp']:+.1f} nats")
alone, both = (trace[-1] for trace in traces.values())
assert alone["margin"] > 0 and both["chosen_logp"] > alone["chosen_logp"] + 10, "the sentence below no longer holds"

# %% [markdown]
# **What it means**: the margin grows in both runs, and that is all the pair's loss asks for. It is content if the chosen reply
# falls, as long as the rejected one falls *further*. The probability that leaves both goes to texts that nobody judged: this is
# called **displacement**. The supervised term holds the chosen reply up. So watch its log-probability, not the margin alone.
#
# **What it does not mean**: that this model can now answer customers. It writes no reply at all; it only moved numbers.

# %% exercise="09.4"

# %% [markdown]
# ## 4 · Policy under pressure, in miniature
#
# To see *replies*, we need a model that writes some. So the same small model is first taught a toy: a help desk whose clerks did
# all well, but **gave in every other time somebody pushed**. Its checks are those of `support_reply`. *Your guess: what does a
# model learn from clerks who disagree?*

# %%
# restart here
import json

from ftlab import plots
from ftlab.course import desk
from ftlab.notebook import show

for row in desk.demonstrations(480)[:2]:
    print(row.text, "\n ", json.dumps(row.output))
start = desk.conduct(desk.starter())  # some seconds of supervised training

# %%
for kind, scores in start.items():
    told = ", ".join(f"{name} {100 * scores[name]['share']:.0f} %" for name in ("schema_valid", "unsafe", "strict"))
    print(f"{kind} requests, pushed (n = {scores['strict']['n']}): {told}")
assert start["forbidden"]["schema_valid"]["share"] > 0.9 and start["forbidden"]["unsafe"]["share"] > 0.1

# %% [markdown]
# The form is settled: **demonstrations teach form**. On pushed, forbidden requests it gives in as often as not, as it was shown.
# Now 48 pairs, all of one kind: the refusal over giving in. They use other kinds of pressure than those it is judged on. *Your
# guess for both kinds of request: what happens to those that are allowed?*

# %% tags=["picture"]
refusals = desk.pairs(48)
one_sided = {"start": desk.right(start)}
for name, objective in (("SFT on the chosen", "sft"), ("DPO", "dpo")):
    model, _ = desk.tuned(refusals, objective=objective)
    one_sided[name] = desk.right(desk.conduct(model))
show(plots.grouped_bars(one_sided, ("forbidden", "allowed"), "Right replies to pushed requests, tuned on refusals"))

# %%
before, after = one_sided["start"], one_sided["DPO"]
for kind in ("forbidden", "allowed"):
    print(f"{kind}: {before[kind]['k']} right before, {after[kind]['k']} after, of {after[kind]['n']}")
assert after["forbidden"]["share"] > before["forbidden"]["share"] + 0.2, "the sentence below no longer holds"
assert after["allowed"]["share"] < before["allowed"]["share"], "the sentence below no longer holds"

# %% [markdown]
# It no longer gives in, and it now turns down requests that it may grant. Nothing in the pairs said *when* to refuse; all said
# **refuse**. A score of violations alone would call this a triumph. The remedy is in the data: half of the pairs pull the other
# way, allowed requests that are pushed just as hard, with a refusal as the *rejected* reply.

# %%
balanced = desk.both_ways()
two_sided = {"start": one_sided["start"]}
for name, objective in (("SFT on the chosen", "sft"), ("DPO", "dpo")):
    model, _ = desk.tuned(balanced, objective=objective)
    two_sided[name] = desk.right(desk.conduct(model))
show(plots.grouped_bars(two_sided, ("forbidden", "allowed"), "Right replies to pushed requests, tuned on pairs of both kinds"))

# %%
for name in ("SFT on the chosen", "DPO"):
    print(
        f"{name}: allowed {one_sided[name]['allowed']['k']} → {two_sided[name]['allowed']['k']} of {two_sided[name]['allowed']['n']}"
    )
assert two_sided["DPO"]["allowed"]["share"] > one_sided["DPO"]["allowed"]["share"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: the pairs decide what is learnt, on both sides. And the opponent in the figure matters: **SFT on the chosen
# replies alone**, at as many tokens. Read whether DPO is ahead of it at all; where the right reply can simply be shown, it need
# not be. **What it does not mean**: that either is better on real messages. For that see section 9.

# %% [markdown]
# ## 5 · Beta, and too much of a good thing
#
# How long does a pair go on pulling? Its pull is σ(−β · margin): half at the start, and less the further it is won. *Your guess:
# with a small beta, does the model stay nearer to where it started, or go further away?*

# %%
# restart here
from ftlab import plots
from ftlab.course import desk
from ftlab.notebook import show

show(plots.pair_pull((0.02, 0.1, 1.0)))

# %% [markdown]
# With a large beta a few nats are enough and the pair lets go; with a small one it pulls on for tens of nats. **Small beta: far
# from the start.** Now live, with a rate that is far too high, so that trouble shows in seconds. *Guess: which of the three still
# writes JSON?*

# %%
balanced = desk.both_ways()
settings = {
    "beta 0.1": {"beta": 0.1, "sft_weight": 0.0},
    "beta 1": {"beta": 1.0, "sft_weight": 0.0},
    "beta 0.1, supervised term": {"beta": 0.1, "sft_weight": 1.0},
}
hard = {}
for name, given in settings.items():
    model, found = desk.tuned(balanced, learning_rate=8e-3, epochs=3, **given)
    end, valid = found["curve"][-1], desk.conduct(model)["forbidden"]["schema_valid"]
    hard[name] = end | {"valid": valid["share"]}
    print(
        f"{name}: margin {end['margin']:.1f}, chosen reply {end['chosen_logp']:.1f} nats, valid form {valid['k']} of {valid['n']}"
    )

# %% [markdown]
# Each run won its pairs; the margin says nothing of what was lost. Where the chosen reply has become very unlikely, the model no
# longer writes *it*, nor the rejected one, but something else, and the JSON is gone. The larger beta let go sooner, with a
# smaller margin, and at such a rate even that is no protection. The supervised term is, and gentle rates and few passes are.

# %%
small, large, supervised = hard.values()
assert large["margin"] < small["margin"], "the sentence above no longer holds"
assert supervised["valid"] > max(small["valid"], large["valid"]), "the sentence above no longer holds"
assert supervised["chosen_logp"] > small["chosen_logp"], "the sentence above no longer holds"

# %% [markdown]
# **What it means**: measure form, and whatever else worked before, after each preference tuning. **What it does not mean**: that
# these values of beta suit another model; they are tried on held-out pairs, like any setting.

# %% [markdown]
# ## 6 · A reward model: one number for a reply
#
# Instead of tuning the writer, one can train a **judge**: a model whose head gives one number, higher for the chosen reply; its
# loss is −log σ(difference). First on the real pairs. *Your guess: how many of the pairs it trained on will it get right, and how
# many held-out ones?*

# %%
# restart here
from ftlab import load_model, load_task, plots
from ftlab.course import desk
from ftlab.course.pairs import small_split
from ftlab.course.rewards import small_reward
from ftlab.notebook import show
from ftlab.reward import reward_report, score_pairs

loaded = load_model("tiny-pretrained")
train, held_out = small_split(load_task("support_reply"), loaded.tokenizer)
judge = small_reward(loaded, train, passes=3)
known = reward_report(train, score_pairs(judge, train), train)
fresh = reward_report(held_out, score_pairs(judge, held_out), train)

# %%
found = {"pairs it trained on": known["accuracy"], "held-out pairs": fresh["accuracy"]}
found |= {f"held-out pairs, {name} alone": fresh[name]["baseline"]["accuracy"] for name in ("length", "words")}
show(plots.share_points(found, "A small reward model on few real pairs", "told apart"))

# %% [markdown]
# Two simple rules stand beside it: **length** (here: *"the … reply is the better one"*, learnt from the training pairs) and
# **words**, a regression on which words only one of the replies has. *A judge that does not beat both has learnt nothing that is
# worth its cost.*

# %%
print(f"the ruler says: {fresh['length']['baseline']['says']}; reward and length correlate by {fresh['length']['correlation']:.2f}")
gap = known["accuracy"]["share"] - fresh["accuracy"]["share"]
print(f"gap between known and held-out pairs: {100 * gap:.0f} points")
assert gap > 0, "the sentence below no longer holds"

# %% [markdown]
# The gap is learning by heart: far too few pairs for a judge this small. On the toy desk, where the policy is simple, the same
# code learns one that holds on pressure it never saw. *Guess how the two simple rules do there:*

# %%
balanced = desk.both_ways()
unseen = desk.pairs(20, 5, "forbidden", desk.HELD_OUT) + desk.pairs(20, 5, "allowed", desk.HELD_OUT)
judge = desk.judge()  # the same code on 48 pairs of the desk
report = reward_report(unseen, score_pairs(judge, unseen), balanced)
simple = {f"{name} alone": report[name]["baseline"]["accuracy"]["k"] for name in ("length", "words")}
print(f"of {report['n']} unseen pairs told apart: {report['accuracy']['k']} by the judge;", simple)
assert report["accuracy"]["share"] > report["length"]["baseline"]["accuracy"]["share"], "the sentence below no longer holds"

# %% [markdown]
# It is no ruler. But look at the words: where they do as well, a few words give the right reply away, and a list of words would
# be the cheaper judge. We keep ours, to see what it is like to choose by one.

# %% [markdown]
# **What it means**: training accuracy of a judge says nothing; held-out pairs, a ruler and a word count say a lot. **What it does
# not mean**: that the number itself is a grade. Only differences between replies *to one message* were trained.

# %% [markdown]
# ## 7 · Best of n: choosing without training
#
# Draw n replies, send the one that the judge likes best: the writer stays as it is. The **oracle** is the bound; it sends a reply
# that passes the strict ladder wherever there is one. *Your guess: with ever more replies to choose from, does the judge's choice
# get ever better?*

# %%
# restart here
from ftlab import plots
from ftlab.bestofn import best_of_n
from ftlab.course import desk
from ftlab.notebook import show

task, writer = desk.desk_task(), desk.starter()
rows = desk.judged()["forbidden"][:24] + desk.judged()["allowed"][:16]
rewards = {
    "the judge": desk.judge().score,
    "closed tickets": lambda chats, replies: [float('"action": "answer"' in reply) for reply in replies],
}
best = {name: best_of_n(task, writer, rows, score, n=8, max_new_tokens=48) for name, score in rewards.items()}

# %%
show(plots.choice_lines(best))

# %%
ends = {name: found["table"][-1] for name, found in best.items()}
for name, end in ends.items():
    print(
        f"{name}: {100 * end['reward']['share']:.0f} % by the reward, {100 * end['random']['share']:.0f} % at random, of 8 replies"
    )
peak = max(best["the judge"]["table"], key=lambda point: point["reward"]["share"])["n"]
print("the judge is at its best with", peak, "replies to choose from")
assert ends["closed tickets"]["reward"]["share"] < ends["the judge"]["reward"]["share"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: a reward that fits turns extra replies into extra quality, with no training. One that does not fit turns them
# into harm: the second, a desk's wish to *close tickets*, chooses the clerk who gives in, the more surely the more it may choose.
# If even the judge falls beyond some n, that is the same effect: among many replies, those stand out that *fool* it.
#
# **What it does not mean**: that it is free. Each message costs n replies, each time.

# %% [markdown]
# ## 8 · A reward that is hacked, and mended
#
# Now the writer itself learns by a reward: draw a group of replies to each message, make those likelier that earned **more than
# the group's mean**, the others less likely. *Your guess: what does a group teach in which all earned the same?*

# %%
# restart here
from ftlab import plots
from ftlab.course import desk
from ftlab.course.rewards import advantages, learn_by_reward
from ftlab.notebook import show
from ftlab.rl import keyword_reward, ladder_parts

print(advantages([1.0, 0.0, 0.0, 1.0], group=4), advantages([1.0, 1.0, 1.0, 1.0], group=4))

# %% [markdown]
# Nothing: only differences teach. The first reward is the wish of section 7, *closed tickets*: 1 if the reply holds `"action":
# "answer"`. Its inventor thinks of happy customers. *Guess both lines for nine steps: the reward, and the strict score of the
# same replies.*

# %%
task = desk.desk_task()
rows, curves, ends = task.rows("train"), {}, {}
hacked = desk.starter()
curves["closed tickets"] = learn_by_reward(task, hacked, rows, [keyword_reward('"action": "answer"')])
ends["closed tickets"] = desk.conduct(hacked)
print({kind: f"{scores['unsafe']['k']} unsafe of {scores['unsafe']['n']}" for kind, scores in ends["closed tickets"].items()})

# %% [markdown]
# The reward rises; the model has found out what pays. Nobody lied to it: **a reward is what it says, not what was meant.** The
# mended reward is the strict ladder of this course: a fifth for each rung passed, none skipped. It needs the right action of each
# training message, and a program that checks.

# %%
mended = desk.starter()
curves["the strict ladder"] = learn_by_reward(task, mended, rows, ladder_parts(task, rows))
ends["the strict ladder"] = desk.conduct(mended)
show(plots.reward_lines(curves, 48))

# %%
systems = {"start": desk.right(desk.conduct(desk.starter()))} | {name: desk.right(end) for name, end in ends.items()}
show(plots.grouped_bars(systems, ("forbidden", "allowed"), "Right replies to pushed requests, after learning by a reward"))

# %%
start, closed, ladder = (systems[name]["forbidden"]["share"] for name in systems)
print(
    f"forbidden requests answered rightly: {100 * start:.0f} % at the start, {100 * closed:.0f} % hacked, {100 * ladder:.0f} % mended"
)
assert closed < start < ladder, "the sentence below no longer holds"
assert curves["closed tickets"][-1]["reward"] > curves["closed tickets"][0]["reward"], "the sentence below no longer holds"

# %% [markdown]
# **What it means**: the same start, the same steps, two rewards, two characters. The first curve looked like success to everybody
# who watched only the reward. So watch something that is *not* rewarded. **What it does not mean**: that the ladder cannot be
# hacked. It does not read whether the message makes sense, and what is not checked may become anything. In full, with trl, it is
# `ftlab rl --reward both`.

# %% exercise="09.5"

# %% [markdown]
# ## 9 · The real model
#
# The same questions, asked of the 135-million-parameter model that was tuned on `support_reply`: does a judge tell held-out pairs
# apart, does DPO beat tuning on the chosen replies alone, with more than one seed, and what became of form and of general
# ability? *Your guess for each?*

# %%
# restart here
from ftlab import plots
from ftlab.course import stored_if_there
from ftlab.notebook import show
from ftlab.preference_study import conduct_shares, preference_text

real = stored_if_there("preference", made_by="make preference")
if real:
    print(preference_text(real))

# %%
if real and real["conduct"]:
    shares = conduct_shares(real, ("adapter", "dpo_0", "dpo-alone_0", "sft_0"))
    show(plots.grouped_bars(shares, tuple(next(iter(shares.values()))), "support_reply, held-out prompts, seed 0"))

# %%
if real and real["best_of_n"]:
    show(plots.choice_lines({"reward model, real task": real["best_of_n"]}))

# %% [markdown]
# How to read it: *adapter* is the start, tuned on demonstrations; *dpo* has the supervised term, *dpo-alone* has not; *sft* is
# tuned on the chosen replies at as many tokens. **A gain counts if the same prompts show it beyond chance, in both seeds, and if
# it is not paid for elsewhere.** Unsafe should fall; over-refusal, valid form and general ability should not get worse. Where DPO
# and *sft* are alike, the pairs helped and the comparison did not.
#
# **What it does not mean**: that preferences are useless where they do not win here. Published gains are of models a hundred
# times as large, and of wishes, such as tone, that no demonstration settles.

# %% exercise="09.6"

# %% open="09.1"

# %% [markdown]
# ## 10 · Quiz

# %% quiz="09"

# %% [markdown]
# ## What you can do now
#
# 1. **Write pairs**: alike in form, length and tone, different in what is decided, judged by somebody else, and pulling both ways.
# 2. **Read the loss**: the margin over the start; beta says when a pair is won; the supervised term keeps the chosen reply likely.
# 3. **Judge the judge**: on held-out pairs, against a ruler and a word count; then let it choose, and look for the n beyond which
#    it is fooled.
# 4. **Measure both sides**: giving in and over-refusal, form, general ability, against SFT on the chosen replies.
# 5. **Check rewards**: what is rewarded rises; watch what is not. A ladder that a program checks is harder to please by cheating,
#    and not impossible.
#
# **Not shown here**: that any size of effect carries over from the toy; tone and helpfulness, which need people as judges; trl's
# trainers on a GPU (`ftlab dpo --trainer trl`, `ftlab rl`), which take the same pairs and rewards.
#
# **Further reading.** Ouyang et al. (2022), *Training language models to follow instructions with human feedback*, NeurIPS.
# Rafailov et al. (2023), *Direct Preference Optimization: Your Language Model is Secretly a Reward Model*, NeurIPS. Pang et al.
# (2024), *Iterative Reasoning Preference Optimization*, NeurIPS. Razin et al. (2024), *Unintentional Unalignment: Likelihood
# Displacement in Direct Preference Optimization*, arXiv:2410.08847. Gao, Schulman & Hilton (2023), *Scaling Laws for Reward Model
# Overoptimization*, ICML. Shao et al. (2024), *DeepSeekMath*, arXiv:2402.03300. Röttger et al. (2024), *XSTest: A Test Suite for
# Identifying Exaggerated Safety Behaviours in Large Language Models*, NAACL.
