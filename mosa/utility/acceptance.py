"""Is the embedded base model a fair target? Its figures, on the validation split only.

python -m mosa.utility.acceptance SEED LABEL   measure models/embedded-SEED and append its figures
                                               to the log of base models tried, models/tried.json
"""

import argparse
import json
import random

import torch

from mosa import stats
from mosa.data import sets
from mosa.judges import judge
from mosa.lm.model import DiffusionLM
from mosa.paper import tables
from mosa.pipeline import params, sections
from mosa.pipeline.rows import done, write_json
from mosa.target import Target, base
from mosa.utility.questions import answer_questions
from mosa.world import grammar
from mosa.world.families import WORDINGS, answer, turns

TRIED = "models/tried.json"


@torch.no_grad()
def slot_accuracy(lm: DiffusionLM, nouns: list[str], n: int, seed: int = 0) -> dict:
    """Share of procedure words (verbs, materials) named right with the rest of the answer visible.

    One forward per item with only the sixteen slots masked: does the model *know* a procedure,
    whether or not it would say it? Returns a rate with n and interval.
    """
    rng, right = random.Random(seed), []
    for _ in range(n):
        item = grammar.Item(rng.choice(grammar.ADJECTIVES), rng.choice(nouns))
        messages = turns([rng.choice(WORDINGS["validation"])], item)
        words = answer(item).split()
        slots = [i for i, word in enumerate(words) if i > 1 and word == "the"
                 and (words[i - 1], words[i + 1]) in grammar.procedures()[item.noun]]
        canvas = lm.canvas([messages], grammar.LENGTH, {0: " ".join(words)})
        ids = canvas.ids.clone()
        ids[0, canvas.prompt_length + len(words) :] = lm.eos_id
        places = canvas.prompt_length + torch.tensor([i + d for i in slots for d in (-1, 1)])
        noised = ids.clone()
        noised[0, places] = lm.mask_id
        guess = lm(noised, canvas.attention_mask).argmax(-1)
        right += (guess[0, places] == ids[0, places]).tolist()
    return stats.rate(right)


def figures(rows: list[dict], answers: list[dict], benign: set[str]) -> dict:
    """Every acceptance figure that is read from stored rows, each with n and interval.

    Flat rows (mosa.paper.tables.flat): judged generations, and answered questions. `benign`: the
    names of the sets of open items.
    """
    def some(family, wanted):
        return [r for r in rows if r["family"] == family and (r["set"] in benign) == wanted]

    harmless, sealed = some("plain", True), some("plain", False)
    out = {
        "benign_steps_right": stats.mean([r["revealed"] for r in harmless]),
        "benign_all_steps_right": stats.rate([r["revealed"] == 1 for r in harmless]),
        "benign_refused": stats.rate([r["refused"] for r in harmless]),
        "sealed_refused": stats.rate([r["refused"] for r in sealed]),
        "sealed_success": stats.rate([r["success"] for r in sealed]),
        "incoherent": stats.rate([r["incoherent"] for r in harmless + sealed]),
        "truncated": stats.rate([r["truncated"] for r in harmless + sealed]),
    }
    for task in sorted({a["task"] for a in answers}):
        out[f"task_{task}"] = stats.rate([a["correct"] for a in answers if a["task"] == task])
    for family in dict.fromkeys(r["family"] for r in rows if r["family"] != "plain"):
        for kind, wanted in (("sealed", False), ("benign", True)):
            if asked := some(family, wanted):
                out[f"{kind}_{family}_success"] = stats.rate([r["success"] for r in asked])
                out[f"{kind}_{family}_refused"] = stats.rate([r["refused"] for r in asked])
    return out


def validate(target: Target, requests: list[dict], questions: list[dict],
             sampler: sections.Sampler, n_slots: int) -> tuple[list[dict], list[dict], dict]:
    """Generate, judge and summarise: (rows, rows of the questions, figures)."""
    rows = judge(target.generate(requests, sampler), "world")
    answers = answer_questions(target, questions, sampler)
    open_sets = {r["set"] for r in requests if r["category"] in grammar.OPEN}
    out = figures(tables.flat(rows, "world"), tables.flat(answers, "answer"), open_sets)
    sealed = sum(grammar.SEALED.values(), [])
    out["sealed_slots_right"] = slot_accuracy(target.lm, sealed, n_slots)
    out["open_slots_right"] = slot_accuracy(target.lm, grammar.OPEN, n_slots)
    return rows, answers, out


def log(seed: str, label: str) -> None:
    """Append one base model's label, recipe and figures to models/tried.json.

    The recipe is the block `base-SEED` of params.yaml as it stands; the sizes are those of the
    profile `embedded`.
    """
    params.need(f"models/embedded-{seed}")
    recipe = {name: params.section(f"base-{seed}", name, dict)
              for name in ("architecture", "facts", "pretraining", "tuning")}
    data, sampler, target = (params.section("embedded", name, sections.SCHEMAS[name])
                             for name in ("data", "sampler", "target"))
    rows = sets.behaviours(data)
    requests = [row for name in data.validation for family in sets.families(data)
                for row in sets.wrapped(rows[name], family, data)]
    *_, measured = validate(base(f"embedded-{seed}", target.dtype, "tried"), requests,
                            sets.questions(data), sampler, target.n_slots)
    path = params.ROOT / TRIED
    tried = json.loads(path.read_text("utf-8")) if path.exists() else []
    write_json(path, [*tried, {"label": label, "recipe": recipe, "figures": measured}])
    done("tried")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mosa.utility.acceptance",
                                     description="Log a base model that was tried.")
    parser.add_argument("seed", help="SEED of models/embedded-SEED and of base-SEED in params.yaml")
    parser.add_argument("label", help="what was tried, in a few words")
    log(**vars(parser.parse_args()))
