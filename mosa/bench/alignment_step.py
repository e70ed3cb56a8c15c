"""Cost of one MOSA step beside the naive version, at LLaDA's vocabulary on a reduced model.

    python -m mosa.bench.alignment_step [FILE]   runs both, each in a process of its own, and prints
                                                 their ratios; FILE keeps them

Naive: a second copy of the model as reference, logits of the whole sequence, a looped window.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mosa.alignment.reward import padded
from mosa.alignment.trainer import MOSAConfig, MOSATrainer, with_lora
from mosa.lm.model import DiffusionLM

VOCABULARY, PROMPT, LENGTH, ROWS, STEPS = 126_464, 64, 128, 4, 4
SAFE, HARMFUL, WINDOW, BETA = list(range(9, 18)), list(range(30, 36)), (20, 60), 0.05


def model() -> DiffusionLM:
    """LLaDA's layout and vocabulary, with two narrow layers of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=256, num_hidden_layers=2,
                         num_attention_heads=4, intermediate_size=768, is_causal=False,
                         use_cache=False, tie_word_embeddings=False)
    return DiffusionLM(LlamaForCausalLM(config), None, mask_id=VOCABULARY - 1, eos_id=1, pad_id=1)


def naive(lm: DiffusionLM, ids: Tensor) -> Callable[[], Tensor]:
    """Loss of the printed objective on canvases (B, T), as one would first write it."""
    reference = model().model

    def score(logp, span):
        return max((logp[k + torch.arange(len(span)), span].sum()
                    for k in range(WINDOW[0], WINDOW[1] + 1)), key=float)

    def loss():
        logp = lm.model(input_ids=ids).logits.float().log_softmax(-1)
        with torch.no_grad():
            frozen = reference(input_ids=ids).logits.float().log_softmax(-1)
        kl = (logp.exp() * (logp - frozen))[:, -LENGTH:].sum((1, 2))
        rewards = [score(row[-LENGTH:], SAFE) - score(row[-LENGTH:], HARMFUL) for row in logp]
        return -(torch.stack(rewards) - BETA * kl).mean()

    return loss


def ours(lm: DiffusionLM, ids: Tensor) -> Callable[[], Tensor]:
    """The same loss as MOSATrainer computes it."""
    safe, harmful = padded([SAFE] * ROWS), padded([HARMFUL] * ROWS)
    batch = {"sealed_ids": ids, "sealed_attention": torch.ones_like(ids), "safe": safe[0],
             "safe_length": safe[1], "harmful": harmful[0], "harmful_length": harmful[1],
             "levels": torch.zeros(ROWS, 4)}
    args = MOSAConfig(output_dir=tempfile.mkdtemp(), use_cpu=True, k_start=WINDOW[0],
                      k_end=WINDOW[1], beta=BETA, length=LENGTH)
    trainer = MOSATrainer(lm, args, [{}])
    return lambda: trainer.compute_loss(lm.model, batch)


def measure(version: str) -> dict:
    """Seconds a step, peak memory in GiB and the losses of "naive" or "ours", in this process."""
    torch.set_num_threads(2)
    lm = with_lora(model())
    ids = torch.full((ROWS, PROMPT + LENGTH), lm.mask_id)
    ids[:, :PROMPT] = torch.arange(PROMPT) + 100
    trained = [p for p in lm.model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0), []
    loss = {"naive": naive, "ours": ours}[version](lm, ids)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for step in range(STEPS + 1):
        if step == 1:
            start = time.perf_counter()  # the first step warms up
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.01)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    seconds = (time.perf_counter() - start) / STEPS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_gib": peak / 2**20, "before_gib": base / 2**20,
            "losses": losses}


def compare() -> dict:
    """Both versions, one after the other, and their ratios."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        naive, ours = pool.map(measure, ("naive", "ours"))
    gaps = [abs(a - b) for a, b in zip(ours["losses"], naive["losses"])]
    return {"times_faster": naive["seconds"] / ours["seconds"],
            "peak_memory_share": ours["peak_gib"] / naive["peak_gib"],
            "largest_loss_difference": max(gaps),
            "setting": f"{ROWS} rows of {PROMPT} + {LENGTH} tokens, vocabulary {VOCABULARY}, fp32, "
                       f"2 threads, {platform.machine()}", "naive": naive, "ours": ours}


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m mosa.bench.alignment_step")
    parser.add_argument("file", nargs="?", type=Path, help="where the ratios are kept, as JSON")
    file, result = parser.parse_args().file, json.dumps(compare(), indent=2)
    print(result)  # first: a wrong path must not cost it
    if file:
        file.write_text(result + "\n", encoding="utf-8")
