"""What one forward of a base model says, and the exact predictor's word on the same."""

import random
from collections.abc import Sequence

import numpy as np
import torch

from mosa import stats
from mosa.lm.diffusion import response_logits
from mosa.lm.model import DiffusionLM
from mosa.paper import tables
from mosa.world import grammar, lexicon, requests
from mosa.world.exact import MASKED, Exact
from mosa.world.requests import written

SHOWN = 32  # slots of an answer that are shown; the next bin has eight
PROFILES = ("p(EOS)", "largest probability")  # by slot, of a wholly masked response


@torch.no_grad()
def profiles(lm: DiffusionLM, prompts: Sequence[list[dict]], length: int,
             batch: int = 16) -> dict[str, np.ndarray]:
    """PROFILES of wholly masked responses, each (n, length): what the first step sees of where a
    text ends, and how sure it is of any word at all."""
    found = {name: [] for name in PROFILES}
    for first in range(0, len(prompts), batch):
        blank = lm.canvas(prompts[first : first + batch], length)
        p = response_logits(lm, blank.ids, blank.attention_mask, length).float().softmax(-1)
        for name, values in zip(PROFILES, (p[..., lm.eos_id], p.amax(-1)), strict=True):
            found[name].append(values.cpu().numpy())
    return {name: np.concatenate(values) for name, values in found.items()}


def exact_profiles(requests: Sequence[dict], kind: str, length: int) -> dict[str, np.ndarray]:
    """The same of the exact predictor, for the world's requests; kind: "answer" or "refusal"."""
    found = {name: [] for name in PROFILES}
    for request in requests:
        item = lexicon.Item(*request["item"].split())
        exact = Exact(written(kind, item), length, item.words())
        [p] = exact.posterior(np.full((1, length), MASKED))
        for name, values in zip(PROFILES, (p[:, 0], p.max(1)), strict=True):
            found[name].append(values)
    return {name: np.array(values) for name, values in found.items()}


@torch.no_grad()
def figures(lm: DiffusionLM, seed: int = 0) -> dict[str, dict]:
    """Procedure words with the rest of an answer visible, the EOS profile of a wholly masked
    response to a sealed request, and confidence next to what is shown and far from it."""
    found = {}
    for kind, nouns in (("sealed", sum(lexicon.SEALED.values(), [])),
                        ("open", lexicon.OPEN + lexicon.OPEN_HELD_OUT)):
        found[f"{kind} slots right"] = slots_right(lm, nouns, seed)
    rows = requests.requests("validation", 48, seed)
    eos = profiles(lm, [requests.wrap(row, "plain") for row in rows], lexicon.LENGTH)["p(EOS)"]
    found["p(EOS) in slots 20 to 60"] = stats.mean(eos[:, 20:61].mean(1), tables.clusters(rows))
    rows = requests.requests("open_validation", 48, seed)
    answers = [requests.answer(random.Random(row["id"]), lexicon.Item(*row["item"].split()))
               for row in rows]
    shown = lm.canvas([requests.wrap(row, "plain") for row in rows], lexicon.LENGTH,
                      [{0: " ".join(text.split()[:SHOWN])} for text in answers])
    sure = response_logits(lm, shown.ids, shown.attention_mask, lexicon.LENGTH).softmax(-1)
    sure = sure.amax(-1)  # (B, L)
    near, far = sure[:, SHOWN : SHOWN + 8].mean(1), sure[:, 2 * SHOWN :].mean(1)
    found["confidence, next bin over far"] = stats.mean((near / far).cpu(), tables.clusters(rows))
    return found


@torch.no_grad()
def slots_right(lm: DiffusionLM, nouns: list[str], seed: int) -> dict:
    """Share of procedure words (verbs, materials) named right with the rest of an answer visible:
    does the model know a procedure, whether or not it would say it?

    Every second step is asked for at a time: without its neighbours a step's number would have to
    be counted, which no decoding from left to right asks for.
    """
    rng, right, whose = random.Random(seed), [], []
    for noun in nouns:
        item = lexicon.Item(rng.choice(lexicon.ADJECTIVES), noun)
        drawn = grammar.draw(written("answer", item), rng).split()[: lexicon.LENGTH]
        words = [word.format(**item.words()) for word in drawn]
        steps = [(int(word[2]), i) for i, word in enumerate(drawn)
                 if word.startswith(("{v", "{m"))]
        wording = rng.choice(requests.wordings()["validation"])
        full = lm.canvas([requests.turns(["{request}"], wording, item)], lexicon.LENGTH,
                         {0: " ".join(words)})
        for half in (0, 1):
            ids, at = full.ids.clone(), full.prompt_length + torch.tensor(
                [i for k, i in steps if k % 2 == half])
            ids[0, full.prompt_length + len(words) :] = lm.eos_id
            ids[0, at] = lm.mask_id
            right += (lm(ids)[0, at].argmax(-1) == full.ids[0, at]).tolist()
            whose += [noun] * len(at)
    return stats.rate(right, [whose])


def ceiling() -> dict[str, float]:
    """The same of the exact predictor, where it is defined: what the grammar itself has of G3, G4.

    Texts are those of two adjectives; `order ...` comes from decoding at the paper's 32 steps.
    """
    orders, every, ratios, eos = [], [], [], []
    blank = np.full((1, lexicon.LENGTH), MASKED)
    for adjective in lexicon.ADJECTIVES[:2]:
        item = lexicon.Item(adjective, lexicon.OPEN[0])  # benign answers are what G4 is about
        exact = Exact(written("answer", item), lexicon.LENGTH, item.words())
        [ids], [when] = exact.decode(blank, 32)
        end = len(exact.text(ids).split())
        orders.append(stats.spearman(range(end), when[:end])["rho"])
        every.append(stats.spearman(range(lexicon.LENGTH), when)["rho"])
        shown = blank.copy()
        text = requests.answer(random.Random(f"0-{adjective}"), item)
        shown[0, :SHOWN] = exact.numbers(text)[:SHOWN]
        [sure] = exact.posterior(shown).max(2)
        ratios.append(sure[SHOWN : SHOWN + 8].mean() / sure[2 * SHOWN :].mean())
        item = lexicon.Item(adjective, lexicon.SEALED["validation"][0])
        refusal = Exact(written("refusal", item), lexicon.LENGTH, item.words())
        eos.append(refusal.posterior(blank)[0, 20:61, 0].mean())
    return {name: float(np.mean(values)) for name, values in (
        ("order of the text", orders), ("order of all slots", every),
        ("confidence, next bin over far", ratios), ("p(EOS) in slots 20 to 60", eos))}
