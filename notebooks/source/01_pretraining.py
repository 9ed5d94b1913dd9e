# %% [markdown]
# # 01 · Pretraining
#
# **After this notebook you can**
#
# 1. train a tokenizer and a small language model from nothing, on any folder of text;
# 2. read loss, perplexity, bits a byte and samples, and say what each of them hides;
# 3. tell by planted facts whether a model has learnt at all;
# 4. say what it means to be asked for the next token, for a gap, or for hidden tokens;
# 5. judge what amount, noise and diversity of text do, and see when a comparison compares nothing;
# 6. work out the bill of a big model, and say what pretraining is good for, and what not.
#
# | you need | minutes |
# |---|---|
# | a laptop with two cores and 2 GB of free memory; nothing is fetched | about 1, and 60 with the exercises |
#
# It stands on notebook 00. Here you do train: tiny models, for seconds each. They are toys, and they go through everything that a
# large one goes through.

# %% part="bootstrap"

# %% part="versions"

# %% [markdown]
# ## 1 · A text, as a model sees it
#
# A model reads numbers, so text is first cut into pieces, the *tokens*, each with a number. Which pieces there are is learnt
# from text too. Ours is what three installed packages say of themselves: any folder of text would do. *Your guess: of 100
# characters, how many are left after repetitions, tables and scraps have gone?*

# %%
# restart here
from ftlab.course.scratch import PACKAGES, small_corpus

corpus = small_corpus()
counts = corpus.manifest["counts"]["characters"]
for why, characters in counts.items():
    print(f"{why:>17}: {characters:>7,} characters, {100 * characters / sum(counts.values()):4.1f} %")
size = corpus.manifest["bytes"]
print(f"of {', '.join(PACKAGES)}: {size['train']:,} bytes to learn from, {size['held_out']:,} held out")

# %% [markdown]
# What is *held out* is never trained on: a loss measured on it cannot be had by learning by heart. Now the tokenizer. It starts
# with the 256 bytes and joins, again and again, the pair that stands side by side most often (*byte-pair encoding*). *Your guess:
# which of these words will be one piece?*

# %%
from ftlab.train.blocks import train_tokenizer

texts = [document.text for document in corpus.documents()]
tokenizers = {size: train_tokenizer(texts, size) for size in (300, 512, 1024, 2048)}
for size in (300, 2048):
    pieces = tokenizers[size].tokenize("Returns the eigenvalues of a matrix. Zwölf!")
    print(f"{size:>5}: {' '.join(p.replace('Ġ', '␣') for p in pieces)}")

# %%
from ftlab import plots
from ftlab.notebook import show

unseen = "\n".join(document.text for document in corpus.documents("held_out"))
size_of = {size: len(t(unseen)["input_ids"]) for size, t in tokenizers.items()}
points = [(size, len(unseen.encode()) / n) for size, n in size_of.items()]
show(plots.vocabulary_line(points, len(unseen.encode())))

# %% [markdown]
# **What it means.** Frequent words are one piece, rare ones several, and a letter that the text hardly had is its bytes (the ö
# above is two of them, shown as two odd signs). More tokens in the vocabulary make texts shorter, so a model sees further for
# the same price; each of them also costs a row of parameters. **What it does not mean**: that a token is a word or has a
# meaning. It is a piece that was frequent *in this text*.

# %%
lengths = [b for _, b in points]
assert lengths == sorted(lengths), "the sentence above no longer holds"

# %% exercise="01.1"

# %% [markdown]
# ## 2 · One number: the loss
#
# All that a language model gives is a chance for every token that might come next. Here are the likeliest ones by a model that has
# read millions of tokens of such text. (Spaces belong to the tokens.) *Your guess: how sure is it?*

# %%
# restart here
from math import exp, log

from ftlab import load_model
from ftlab.course.scratch import next_tokens, token_losses

loaded = load_model("tiny-pretrained")
for token, chance in next_tokens(loaded.model, loaded.tokenizer, "Returns the number"):
    print(f"{token!r:<12} {100 * chance:5.1f} %")

# %% [markdown]
# **Your turn.** A click on a token goes on with it, and the model is asked again. *Temperature* evens the chances out (above 1)
# or sharpens them (below 1); *Draw one* leaves the choice to chance, and *Back* takes it back. *Can you make it write a
# sentence that makes sense?* (The chances differ a little from those above: there the model was also told that a text begins
# with these words. Where widgets are not shown, a picture of the beginning stands here.)

# %%
from ftlab.widgets import NextTokens

NextTokens(loaded, "Returns the number")

# %% [markdown]
# Training takes a text as it is and asks at each place: what chance did you give to the token that really came? The *loss* is
# minus the natural logarithm of that chance, counted in *nats*: nothing if it was sure and right, large if it was surprised.
# *Your guess: which token of this sentence surprises it most?*

# %%
sentence = "Returns the number of samples in each class."
tokens = token_losses(loaded.model, loaded.tokenizer, sentence)
for token, chance, loss in tokens:
    print(f"{token!r:<12} chance {100 * chance:6.2f} %   loss {loss:5.2f}  {'█' * round(3 * loss)}")

# %% [markdown]
# The first word has nothing before it and is hard to foresee; where the phrase leaves hardly a choice, the loss is next to
# nothing. The mean over all tokens is *the* loss. By hand, and then as the library does it. (Both put the token that ends a
# text before the first word, so that it follows on something.)

# %%
import torch

by_hand = sum(loss for *_, loss in tokens) / len(tokens)
ids = torch.tensor([[loaded.tokenizer.eos_token_id, *loaded.tokenizer(sentence)["input_ids"]]])
with torch.inference_mode():
    library = loaded.model(input_ids=ids, labels=ids).loss.item()
print(f"by hand {by_hand:.4f}, transformers {library:.4f} nats per token")
assert abs(by_hand - library) < 1e-3 and tokens[0][2] > 3 > 0.3 > min(loss for *_, loss in tokens), (
    "the sentences above no longer hold"
)

# %% [markdown]
# Two other ways to say the same. *Perplexity* is e to the loss: the model is as unsure as if it chose evenly among so many tokens.
# *Bits a byte* divides by the length of the text, and so compares models whose tokens are of different size. *Your guess: what do
# these three say of a model that holds all tokens equally likely?*


# %%
def told(name, nats, tokens, text):
    bits = nats * tokens / log(2) / len(text.encode())
    print(f"{name:>14}: loss {nats:5.2f}   perplexity {exp(nats):7.1f}   {bits:5.2f} bits a byte")


told("this model", by_hand, len(tokens), sentence)
told("evenly guessed", log(len(loaded.tokenizer)), len(tokens), sentence)

# %% [markdown]
# **What it means.** A loss is a length: so many bits would be needed to send the text to somebody who has the same model. **What
# it does not mean**: that a low loss is a good answer. It says how well a text was *foreseen*. Nobody asked whether it is true,
# useful or polite.

# %% exercise="01.2"

# %% [markdown]
# ## 3 · From nothing to words
#
# Now train. A new model, which is a heap of random numbers (its *parameters*), reads small blocks of our text, a few at a time
# (a *batch*). After each batch every number is moved a little to where the loss would have been lower: one *step*. *Your guess:
# what will it write first, words or the gaps between them?*

# %%
# restart here
from math import log

from ftlab import plots
from ftlab.course.scratch import TINY, small_blocks, trained
from ftlab.notebook import show
from ftlab.train.measures import held_out_scores, samples
from ftlab.train.pretrain import new_model
from ftlab.train.pretrain_settings import SIZES

blocks = small_blocks()
nothing = new_model(SIZES[TINY.size], blocks.tokenizer)
start = held_out_scores(nothing, blocks, TINY, {})
print(f"loss {start['loss']:.2f}, perplexity {start['perplexity']:.0f} of {len(blocks.tokenizer)} tokens")
print(repr(samples(nothing, blocks, 0)[0]["text"][:80]))

# %% [markdown]
# That was the model before its first step: it is as lost as somebody who has never seen a letter, and a little worse than an
# even guess, because random numbers have random preferences. (`trained` below calls `ftlab.train.pretrain.pretrain_on`;
# `ftlab pretrain --corpus FOLDER` does the same to a folder of yours.)

# %%
run = trained(blocks)
print(f"{run.summary()['parameters']:,} parameters, {run.summary()['tokens']:,} tokens, {run.step} steps")
curve = [{"tokens": 0, **start}, *run.curve]
show(plots.loss_lines({"next token": curve}, "A tiny model reads for seconds (one training)", floor=log(len(blocks.tokenizer))))

# %%
for point in run.curve[::2] + run.curve[-1:]:
    print(f"{point['tokens']:>7,} tokens, loss {point['loss']:.2f}: {point['samples'][0]['text'][:74]!r}")
assert run.curve[-1]["loss"] < run.curve[0]["loss"] < log(len(blocks.tokenizer)), "the sentence below no longer holds"

# %% [markdown]
# **What it means.** The curve falls steeply, then more slowly: how often tokens come is learnt at once, which follow one another
# takes longer, and what a sentence says is out of reach. Out of noise come pieces of the right kind, then words. Trained text and
# held-out text stay close as long as hardly anything is met twice. **What it does not mean**: that the samples are about
# something. They sound like the text.

# %% exercise="01.3"

# %% [markdown]
# ## 4 · Did it learn at all?
#
# A smooth curve proves little. So facts were hidden in the text of a larger run: invented people, each living in an invented city,
# stated once, twice, … up to 128 times, scattered over all the text. A model that learns must recall the ones stated most often.
# That is a *positive control*. *Your guess: from how many statements on is a fact recalled?*

# %%
# restart here
from ftlab import load_model, plots
from ftlab.course import stored
from ftlab.course.scratch import go_on, next_tokens, stated_facts
from ftlab.notebook import show

real = stored("pretrained")
curve = real["training"]["curve"]
print(f"{real['training']['parameters']:,} parameters, {real['training']['tokens']:,} tokens, {real['training']['facts']:,} facts")
show(plots.pretraining_curve(real))

# %%
control = curve[-1]["recall"]["control"]
print(f"recall of the facts stated most often: {100 * control['found']:.0f} %, needed {100 * control['needed']:.0f} %")
seldom = [curve[-1]["recall"]["by_exposure"][n]["share"] for n in ("1", "2", "4")]
assert control["passed"] and max(seldom) < 0.25, "the sentences below no longer hold"

# %% [markdown]
# **What it means.** The control is passed, so what else this model shows may be believed. Facts stated a few times are lost, as
# if they had not been in the text. And when in its reading did it learn them?

# %%
for point in (curve[0], curve[len(curve) // 2], curve[-1]):
    print(f"{point['tokens']:>9,} tokens, loss {point['loss']:.2f}: {point['samples'][1]['text'][:84]!r}")
show(plots.recall_lines(curve, ("8", "32", "128"), control["needed"], curve[-1]["recall"]["chance"]))

# %% [markdown]
# The samples went from words to phrases, and the loss fell the whole time; yet for a long stretch no fact was there. First the
# language, late the facts. Had the run been stopped at half, a fine curve would have hidden a model that knows next to nothing.
# Ask it yourself; it is shipped as `tiny-pretrained`. *Your guess: what will it say of somebody who never was in its text?*

# %%
half = curve[len(curve) // 2 - 1]
assert half["recall"]["control"]["found"] < control["needed"] and half["loss"] < curve[0]["loss"], (
    "the sentence above no longer holds"
)
loaded = load_model("tiny-pretrained")
asked = {fact.question: f"told {n} times: {fact.city}" for n in (128, 1) for fact in stated_facts(real, n)[:3]}
asked["Somebody Else lives in"] = "never told"
for question, truth in asked.items():
    print(f"{go_on(loaded.model, loaded.tokenizer, question, 8).splitlines()[0]:<40} ({truth})")

# %%
for question in list(asked)[2:]:
    (token, chance), *_ = next_tokens(loaded.model, loaded.tokenizer, question)
    print(f"{question:<26} first piece {token!r:<8} {100 * chance:5.1f} %")

# %% [markdown]
# It names a place for each of them, in the same words, whether it knows or not, and at times it is as sure where it cannot know.
# (A hit or two among the people told once would be luck: there are few cities.) **Fluent is not correct**: the form was stated
# thousands of times, the fact perhaps never. A larger model knows more, but this loss teaches no model to say that it does not
# know.

# %% exercise="01.4"

# %% [markdown]
# ## 5 · Filling in what is missing
#
# The next token is not the only question one can put to a text without labels. One can cut out its middle and ask for that, or hide
# single tokens and let the model see both sides. *Your guess: which of the three asks something at every position?*

# %%
# restart here
from dataclasses import replace
from statistics import mean

import numpy as np

from ftlab.course import stored
from ftlab.course.scratch import TINY, asked_tokens, small_blocks, trained
from ftlab.pretrain_study import gap_scores
from ftlab.train.objectives import OBJECTIVES, SPECIALS

blocks = small_blocks()
ids = {sign: blocks.tokenizer.convert_tokens_to_ids(sign) for sign in SPECIALS}
some = np.asarray(blocks.train[:3, :28], dtype=np.int64)
for name, make in OBJECTIVES.items():
    batch = make(some, np.random.default_rng(3), ids)
    print(f"{name:>18}: {batch.asked} of {batch.input_ids.size} positions asked; sees both sides: {batch.both_ways}")

# %%
batch = OBJECTIVES["masked"](some, np.random.default_rng(3), ids)
print("masked:", "".join(f"[{said!r}?]" if said else token for token, said in asked_tokens(batch, blocks.tokenizer)))
cut = OBJECTIVES["fill-in-the-middle"](some, np.random.default_rng(3), ids).input_ids
told = next((row for row in cut if ids["<|fim_middle|>"] in row), cut[0])
print("\nfill-in-the-middle:", blocks.tokenizer.decode(told))

# %% [markdown]
# (The last position of a block has nothing after it, so it is never asked.) *Fill-in-the-middle* only moves the pieces: what
# stands behind the gap is told first (after `<|fim_suffix|>`), then, after `<|fim_middle|>`, the text from its beginning to the
# end of the gap, and it is next-token prediction again. *Masked* training hides tokens and asks for these alone. Train all
# three on the same tokens, then ask each for single missing tokens in text that none has read. *Sure and right* is who gave the
# right one more than a half. *Your guess: which finds the most?*

# %%
found = {}
for name in OBJECTIVES:
    run = trained(blocks, replace(TINY, objective=name))
    found[name] = gap_scores(run.model, blocks, run.config)
    right = found[name]["gap_right"]
    print(f"{name:>18}: loss at the gap {mean(found[name]['gap_losses']):.2f} nats, sure and right at {100 * right:.0f} % of gaps")

# %% [markdown]
# So few tokens decide nothing between them: seconds, and one *seed* (the number from which a training draws its random start
# and the order of its text). Longer runs, several seeds each, are stored where they have been made:

# %%
fill = stored("pretrain").get("fill")
if fill is None:
    print("The study `fill` has not been run yet: nothing to show here, and nothing is claimed.")
for name, effect in (fill or {"effects": {}})["effects"].items():
    print(f"{name}: {effect['difference']:+.2f} nats ({effect['low']:+.2f} to {effect['high']:+.2f}): {effect['verdict']}")

# %% [markdown]
# **What it means.** All these objectives get labels out of running text, so nobody has to write any. They differ in what a model
# sees and how many positions teach it per pass. **What it does not mean**: that one is best. Seeing both sides helps to fill and to
# classify; a model that goes on writing needs the next token, and that is what the rest of this course is about.

# %% [markdown]
# ## 6 · Which text?
#
# More text, cleaner text, more kinds of text: each is said to be better. Then compare at *equal compute*: both models read as many
# tokens, and only the text differs. First the amount, live: two dozen blocks met over and over, against all blocks. *Your
# guess: which has the lower loss on what it reads, and which on what it does not?*

# %%
# restart here
from ftlab import plots
from ftlab.course import stored
from ftlab.course.scratch import TINY, narrowed, small_blocks, trained
from ftlab.notebook import show

blocks = small_blocks()
few, all_of_it = trained(narrowed(blocks, 24)), trained(blocks)
for name, run in (("24 blocks", few), ("all blocks", all_of_it)):
    print(f"{name:>10}: {run.summary()['tokens']:,} tokens read, each block met {run.summary()['passes']:.1f} times")
show(
    plots.loss_lines({"24 blocks": few.curve, "all blocks": all_of_it.curve}, "Equal tokens read, unequal text (one training each)")
)

# %%
last = few.curve[-1]
assert last["train_loss"] < all_of_it.curve[-1]["train_loss"] - 0.3, "the sentence below no longer holds"
assert last["loss"] > all_of_it.curve[-1]["loss"] + 0.3, "the sentence below no longer holds"

# %% [markdown]
# The few blocks were learnt by heart: a low loss on them, a high one on everything else. That is *overfitting*, and only
# held-out text shows it. Now the stored studies, larger models and several seeds. In each row one kind of text stands against
# another at equal compute; right of zero the second is better, and inside the grey band a difference is too small to be worth
# having. *Your guess, before you look: which effect is the largest?*

# %%
studies = stored("pretrain")
compared = {name: study for name, study in studies.items() if name in ("amount", "noise", "diversity")}
for name, study in compared.items():
    print(f"{name:>9}: {study['compared']}; control passed: {study['control_passed']}")
show(plots.effects(compared))

# %%
diversity, noise = studies["diversity"]["effects"], studies["noise"]["effects"]["all held-out text"]
for name in ("same source", "other sources"):
    print(f"narrow minus diverse, {name}: {diversity[name]['difference']:+.2f} nats, {diversity[name]['verdict']}")
assert diversity["same source"]["high"] < 0 < diversity["other sources"]["low"] and noise["low"] > 0, (
    "the sentences below no longer hold"
)

# %% [markdown]
# **Noise**: slips in the training text cost loss on clean text. **Diversity** cuts both ways: who reads one source only is
# better at that source and worse at all others. So "diverse" is no virtue in itself; ask what the model will be used on.
# **Amount** needs a closer look, because a comparison can be fair and still compare nothing. How often was each block met?

# %%
amount = studies["amount"]
met = {name: arms[0]["passes"] for name, arms in amount["arms"].items()}
for name, passes in met.items():
    losses = ", ".join(f"{arm['loss']:.2f}" for arm in amount["arms"][name])
    print(f"{name:>6}: each block of its text was met {passes:.2f} times; loss by seed {losses}")
if max(met.values()) <= 1:
    print("No block was met twice: both arms read fresh text of one kind. Whatever differs between them, it is not the amount.")
else:
    print("One text was read over and over, the other was not: here the amount is compared.")

# %% [markdown]
# Only a text that is read over and over can be too small. Had no block been met twice, the two arms would have been the same
# experiment done twice, and any "effect" between them the noise of training, even if all seeds happened to agree. So before the
# verdict, read what was compared. **What none of this means**: that effects of this size hold for other models and other texts.

# %% exercise="01.5"

# %% [markdown]
# ## 7 · The bill of a big model
#
# What does a training cost? A rule of thumb: six operations for each parameter and each token, two on the way forward and four on
# the way back (*6ND*). *Your guess: how far is it off for our tiny model, if torch counts the operations of every matrix product?*

# %%
# restart here
import numpy as np

from ftlab import plots
from ftlab.course import stored
from ftlab.course.scratch import TINY, counted_flops, small_blocks
from ftlab.notebook import show
from ftlab.pretrain_study import bill
from ftlab.train.objectives import next_token
from ftlab.train.pretrain import new_model
from ftlab.train.pretrain_settings import SIZES

blocks = small_blocks()
model, batch = new_model(SIZES[TINY.size], blocks.tokenizer), next_token(np.asarray(blocks.train[:8], dtype=np.int64))
counted = counted_flops(model, batch)
rule = 6 * sum(p.numel() for p in model.parameters()) * batch.input_ids.size
print(f"counted {counted:,}, by the rule {rule:,}: ratio {counted / rule:.2f}")
assert 0.8 < counted / rule < 1.6, "the sentence below no longer holds"

# %% [markdown]
# The rule is near enough (the counter leaves small things out, and so does the rule: attention's own products grow with the
# length of a text). So with the speed of a machine, anybody can work out a bill. The speed here is that of the stored run of
# section 4; for the others, what a maker states, and the share of it that well-run trainings reach. (*20 a parameter*: twenty
# tokens for each parameter, a rule of thumb. *As …*: as many as its makers say. Each mark to the right is a hundred times as
# long.) *Your guess: how long would this machine need for a model of 70 billion parameters?*

# %%
real = stored("pretrained")["training"]
here = real["flops"] / real["seconds"]
print(f"{real['flops']:.1e} operations in {real['seconds'] / 60:.0f} minutes: {here / 1e9:.0f} billion a second")
show(plots.bill_lines(bill(here)))

# %%
tuning = max(run["measured_s"] for run in stored("cost"))
published = next(row for row in bill(here) if row["model"] == "135M" and row["why"].startswith("as"))
ratio = published["hours"]["this machine"] * 3600 / tuning
print(f"pretraining the course's 135M model here: {published['hours']['this machine'] / 8766:,.0f} years")
print(f"a small tuning of it: {tuning / 60:.1f} minutes, {ratio / 1e6:,.0f} million times less")
assert ratio > 1e6, "the sentence below no longer holds"

# %% [markdown]
# **What it means.** Pretraining is millions of times dearer than tuning. That is why one is done by few and shared, and the other
# by everybody. **What it does not mean**: that these hours are exact. The machine had other work while its speed was measured,
# and a bill also holds failed runs, data and people.

# %% [markdown]
# What is bought for it? Loss falls with parameters and with tokens by a *power law*: each tenfold costs ten times as much and
# brings a smaller step than the one before. Where the study has been run, here is the law that was fitted to small models:

# %%
scaling = stored("pretrain", say=False).get("scaling")
if scaling is None:
    print("The study `scaling` has not been run yet: no law is drawn here, and none is claimed.")
else:
    display(show(plots.scaling(scaling)))  # noqa: F821
    print(f"exponent of the best size by compute: {scaling['law']['optimal_exponent']}")

# %% exercise="01.6"

# %% [markdown]
# ## 8 · One loss, two phases
#
# Fine-tuning sounds like something else. Is it? Take a row of `support_plan`, as tuning sees it, and a block of text, as
# pretraining sees it. *Your guess: which of these differ: the loss, the data, the positions that are asked, the size of the
# steps?*

# %%
# restart here
import torch

from ftlab import load_model, load_task, plots
from ftlab.course.scratch import as_batch, token_losses
from ftlab.notebook import show
from ftlab.train.loss import plain_token_losses
from ftlab.train.objectives import next_token, summed_loss
from ftlab.train.pretrain_settings import pretrain_config
from ftlab.train.settings import sft_config
from ftlab.train.sft import encode_rows

loaded, task = load_model("tiny-pretrained"), load_task("support_plan")
(row,) = encode_rows(task, task.rows("train")[:1], loaded.tokenizer, 4096)
ids, start, weights = row
print(f"a row of the task: {len(ids)} tokens, {start} of them the prompt, {len(ids) - start} the answer")

# %%
block = next_token(as_batch(row).input_ids)  # the same tokens, read as pretraining reads: every position is asked
with torch.inference_mode():
    one = summed_loss(loaded.model, as_batch(row)).item()  # the loss function of pretraining, on the labels of tuning
    other = plain_token_losses(loaded.model, [row]).sum().item()  # the loss function of tuning
    whole = summed_loss(loaded.model, block).item()
print(f"the answer's tokens: {one:.3f} by pretraining's function, {other:.3f} by tuning's; all tokens: {whole:.3f}")
assert abs(one - other) < 1e-3 * one, "the sentence below no longer holds"

# %% [markdown]
# The same number, by both: minus the logarithm of the chance of the right token, added up. What differs is where it is asked:

# %%
from ftlab.course.scratch import losses_by_token

near = slice(start - 18, start + 24)  # the end of the prompt and the beginning of the answer
phases = {"the row as pretraining would read it": block, "the same row in tuning": as_batch(row)}
show(plots.token_loss_bars({name: losses_by_token(loaded.model, loaded.tokenizer, batch)[near] for name, batch in phases.items()}))

# %%
before, after = pretrain_config("cpu"), sft_config("cpu")
print(f"pretraining: random start, step size {before.learning_rate:g}, {before.tokens:,} tokens of running text, all of them asked")
print(f"tuning: pretrained start, step size {after.learning_rate:g}, {after.train_rows:,} rows with answers, only these asked")
assert after.learning_rate < before.learning_rate, "the sentence below no longer holds"

# %% [markdown]
# **What it means.** Both phases use one loss. In tuning a person wrote what is right, the prompt is only read, the start is a
# model that knows the language already, and the steps are smaller. **What it does not mean**: that tuning is more pretraining.
# *What* is asked decides what is learnt: answers to messages here, the next line of a manual there.

# %% exercise="01.7"

# %% [markdown]
# ## 9 · What pretraining is good for, and what not
#
# First a thing it is good for. Two models of one size read customers' messages, a kind of text that neither has met: one starts
# from random numbers, the other from `tiny-pretrained`, which knows manuals. *Your guess: does knowing manuals help with
# messages?*

# %%
# restart here
from dataclasses import replace

from ftlab import evaluate_outputs, load_model, load_task, plots
from ftlab.course import stored
from ftlab.course.scratch import TINY, go_on, head_start, message_blocks
from ftlab.generate import generate
from ftlab.notebook import show

loaded, task = load_model("tiny-pretrained"), load_task("support_plan")
messages = message_blocks(task, loaded.tokenizer)
config = replace(TINY, size="1M", vocabulary=len(loaded.tokenizer), tokens=16_000, measurements=3)
starts = head_start(loaded, messages, config)
curves = {f"{name} start": [{k: p[k] for k in ("tokens", "loss")} for p in curve] for name, curve in starts.items()}
show(plots.loss_lines(curves, "Two starts read the same messages (one training each)"))

# %%
pretrained, random = (curve[-1]["loss"] for curve in starts.values())
print(f"held-out messages at the end: {pretrained:.2f} nats from the pretrained start, {random:.2f} from the random one")
assert pretrained < random - 0.1 and starts["pretrained"][0]["loss"] < starts["random"][0]["loss"], (
    "the sentence below no longer holds"
)

# %% [markdown]
# It helps: spelling, words and the shape of sentences need not be learnt again. That head start is what tuning lives on. Now a
# thing that it is not good for. Ask the same model for what `support_plan` wants. *Your guess: how many of twenty answers are
# JSON?*

# %%
rows = task.rows("validation")[:20]
answers = [g.text for g in generate(loaded, [task.conversation(row) for row in rows], max_new_tokens=40)]
for row, answer in list(zip(rows, answers, strict=True))[:2]:
    print(f"{row.text[:60]!r}\n   → {answer[:80]!r}")
valid = evaluate_outputs(task, rows, answers)["scores"]["schema_valid"]
print(f"valid by the schema: {valid['k']} of {valid['n']}")

# %%
untuned = stored("support_plan")["systems"]["prompt"]["scores"]["schema_valid"]
print(f"the 135M model with a page of instructions, on the test rows: {untuned['k']} of {untuned['n']}")
assert valid["k"] == 0 and untuned["high"] < 0.1, "the sentence below no longer holds"

# %% [markdown]
# None, and hardly any by a model a hundred times larger that was even tuned to chat. A model goes on as its text went on, and no
# manual goes on with our form. **What it means**: language and whatever was stated often come from pretraining; format, policy and
# the habit of answering come from tuning. **What it does not mean**: that a large pretrained model could not be *shown* the form
# in its prompt. Notebook 03 is about that choice.

# %% open="01.1"

# %% [markdown]
# ## 10 · Quiz

# %% quiz="01"

# %% [markdown]
# ## What you can do now
#
# 1. **Train from nothing**: text without repetitions, a tokenizer of its own, blocks, steps; a part held out.
# 2. **Read the numbers**: loss is surprise, perplexity and bits a byte say it in other units, samples show form and hide knowledge.
# 3. **Trust a control**: plant facts; a curve that falls is not yet a model that knows.
# 4. **Name the question**: next token, a gap, or hidden tokens, all with labels that the text itself holds.
# 5. **Judge text**: at equal compute, on text that none has read, and only where the arms differ in what the row says.
# 6. **Work out a bill**: 6 × parameters × tokens by the speed of the machine; a language for all, a form for nobody in particular.
#
# **Not shown here**: large models, other languages, long contexts, more than one seed of what was trained live. Held-out loss in
# the stored runs is measured on the first blocks of the held-out text, so on some packages more than on others; and the planted
# facts are one sentence each, always in the same words. The next notebook looks at what fine-tuning then changes inside.
#
# **Further reading.** Sennrich, Haddow & Birch (2016), *Neural Machine Translation of Rare Words with Subword Units*. Kaplan et
# al. (2020), *Scaling Laws for Neural Language Models*. Hoffmann et al. (2022), *Training Compute-Optimal Large Language Models*.
# Bavarian et al. (2022), *Efficient Training of Language Models to Fill in the Middle*. Kandpal et al. (2023), *Large Language
# Models Struggle to Learn Long-Tail Knowledge*. Lee et al. (2021), *Deduplicating Training Data Makes Language Models Better*.
