"""What is measured of a model in pretraining: loss on held-out blocks, and how it goes on from their first words."""

import math
from typing import Any

from ftlab.train.blocks import Blocks, text_bytes
from ftlab.train.objectives import OBJECTIVES, bits, next_token, summed_loss
from ftlab.train.pretrain_settings import PretrainConfig

SAMPLE_TOKENS, SAMPLES = 40, 2


def block_losses(model: Any, blocks: Any, objective: str, ids: dict[str, int], piece: int = 16) -> Any:
    """Mean loss in nats of each block, an array (n,). What is cut or hidden is the same each time."""
    import numpy as np
    import torch

    make = OBJECTIVES["masked"] if objective == "masked" else next_token
    draw, found = np.random.default_rng(0), []
    with torch.inference_mode():
        for start in range(0, len(blocks), piece):
            batch = make(np.asarray(blocks[start : start + piece], dtype=np.int64), draw, ids)
            losses = summed_loss(model, batch, each=True).sum(1).double().cpu().numpy()
            found.append(losses / (batch.labels >= 0).sum(1))
    return np.concatenate(found)


def held_out_scores(model: Any, blocks: Blocks, config: PretrainConfig, ids: dict[str, int]) -> dict:
    """Loss in nats per token, perplexity, and bits per byte, which compares models of different vocabularies.

    A masked model is asked for the hidden tokens, any other for the next one, whatever else it was trained on; bits per byte count the
    text's own bytes, so they are told for the latter only.
    """
    import numpy as np

    part = np.asarray(blocks.held_out[: config.held_out_blocks])
    losses = block_losses(model, part, config.objective, ids)
    loss = float(losses.mean())
    point = {"loss": loss, "perplexity": math.exp(min(loss, 700))}
    if config.objective != "masked":
        size = text_bytes(blocks.tokenizer)[part[:, 1:]].sum()
        point["bits_per_byte"] = bits(float(losses.sum()) * (config.block_tokens - 1)) / float(size)
    return point


def samples(model: Any, blocks: Blocks, seed: int) -> list[dict]:
    """How the model goes on from the first words of held-out text: {"prompt", "text"}, drawn at temperature 0.8, the same each time."""
    import torch

    found, tokenizer = [], blocks.tokenizer
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        for row in blocks.held_out[:SAMPLES]:
            prompt = torch.tensor([[int(i) for i in row[:8]]], device=model.device)
            ids = model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=SAMPLE_TOKENS, do_sample=True, temperature=0.8,
                top_k=50, pad_token_id=tokenizer.pad_token_id,
            )[0].tolist()  # fmt: skip
            found.append({"prompt": tokenizer.decode(ids[:8]), "text": tokenizer.decode(ids[8:], skip_special_tokens=True)})
    return found
