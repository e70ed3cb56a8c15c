"""Attacks that were found once, as a file, and any model or defence under them, without attacker.

    python -m mosa.attacks.stored FILE --model models/embedded-0 \\
        --adapter adapters/mosa_r1/embedded-0-0
    python -m mosa.attacks.stored FILE --model GSAI-ML/LLaDA-8B-Instruct --judge strong_reject

FILE is JSON lines: one query a line, with the behaviour, the attack that found it and on which
weights, and the access level that it needs. What was found on one model is a lower bound for
another: an attack that adapts to it finds more. Of the fictional world a file ships with the
project; of real benchmarks it is written locally, and stays there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mosa.attacks.drive import unseeded
from mosa.judges import panel
from mosa.lm.loading import load
from mosa.lm.model import DiffusionLM
from mosa.paper import tables, words
from mosa.pipeline import params
from mosa.pipeline.params import choice
from mosa.pipeline.rows import fingerprint, read_jsonl, write_jsonl
from mosa.pipeline.sections import Sampler
from mosa.target import Target, Weights

VERSION = 1
BEHAVIOUR = ("id", "set", "category", "wording", "behaviour", "item", "target")  # of a data row
QUERY = ("messages", "prefill", "given", "decode", "access", "attack", "goal")
SAMPLER = Sampler(length=128, steps=64, block_length=128, temperature=0.0, cfg_scale=0.0,
                  remasking="low_confidence", stop_at_eos=True, batch_size=16)  # of `embedded`


def collected(rows: Sequence[dict], lm: DiffusionLM, judge: str) -> list[dict]:
    """The queries of stored rows that this judge calls a success, as lines of a file; the first of
    several of one attack, form and behaviour.

    Prompts that are token ids (forms to fill in) hold for one tokenizer: `tokenizer` says which.
    Answers that were put together of several responses (Speakeasy's) are no single query: left out.
    """
    lines, own = {}, tokenizer(lm)
    for row in rows:
        if not row["verdicts"][judge]["success"] or "parts" in row["request"]:
            continue
        asked = row["request"]
        line = {"version": VERSION, "found_on": row["response"]["weights"], "judge": judge,
                "length": row["response"]["sampler"]["length"], "seed": row["response"]["seed"],
                **{key: asked[key] for key in (*BEHAVIOUR, *QUERY) if key in asked}}
        if not isinstance(asked["messages"][0], dict) or has_ids(asked):
            line["tokenizer"] = own
        lines.setdefault((asked["attack"], asked["goal"], asked["id"]), line)
    return list(lines.values())


def has_ids(query: dict) -> bool:
    """Whether a query's canvas holds token ids."""
    return any(not isinstance(words, str) for words in query.get("prefill", {}).values())


def tokenizer(lm: DiffusionLM) -> str:
    """A short hash of a model's vocabulary."""
    return fingerprint(sorted(lm.tokenizer.get_vocab().items()))[:12]


def asked(target: Target, lines: Sequence[dict], sampler: Sampler) -> list[dict]:
    """Rows of the lines that this model can be asked: not those of another tokenizer. Responses
    have as many slots as where the attack was found.

    Raises ValueError for a line of another version or without a key, naming it.
    """
    own, found = tokenizer(target.lm), []
    for i, line in enumerate(lines):
        if line.get("version") != VERSION:
            raise ValueError(f"line {i + 1} is of version {line.get('version')!r}, not {VERSION}")
        if lost := [key for key in ("id", "set", "behaviour", "messages", "access", "attack",
                                    "goal", "length") if key not in line]:
            raise ValueError(f"line {i + 1} lacks {lost[0]!r}")
    fits = [line for line in lines if line.get("tokenizer") in (None, own)]
    for key, some in tables.cells(fits, lambda line: fingerprint(
            line.get("decode", {}), line["length"])).items():
        how = {"length": some[0]["length"], **some[0].get("decode", {})}
        if sampler.block_length == sampler.length and "block_length" not in how:
            how["block_length"] = how["length"]
        how = sampler.model_copy(update=how)
        found += unseeded(target.generate(some, how, f"stored-{key[:8]}"))
    return found


def main() -> None:
    """Ask one model all of a file, judge the responses, and print success by attack."""
    parser = argparse.ArgumentParser("python -m mosa.attacks.stored", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="JSON lines, as the stage `static` writes them")
    parser.add_argument("--model", required=True, help="a folder, or a Hub name")
    parser.add_argument("--adapter", help="a folder with a PEFT adapter of that model")
    parser.add_argument("--dtype", default="float32", help="of the weights: float32 or bfloat16")
    parser.add_argument("--steps", type=int, default=SAMPLER.steps, help="denoising steps")
    parser.add_argument("--judge", default="world", help=f"one of {', '.join(panel.PANEL)}")
    parser.add_argument("--out", default="stored.jsonl", help="where the judged rows go")
    given = parser.parse_args()
    try:
        if given.judge not in panel.PANEL:
            raise ValueError(f"--judge: no judge {given.judge!r}{choice(given.judge, panel.PANEL)}")
        load(given.model, given.adapter, given.dtype)  # a wrong folder is told before anything else
        lines = read_jsonl(Path(given.file).resolve())
        name = fingerprint(str(given.model), str(given.adapter))[:12]
        target = Target(f"stored-{name}", Weights(name, given.model, given.dtype, given.adapter),
                        stage="stored")
        rows = asked(target, lines, SAMPLER.model_copy(update={"steps": given.steps}))
        rows = panel.read(rows, given.judge)
    except (ValueError, OSError) as error:
        sys.exit(f"{error}")
    write_jsonl(params.ROOT / Path(given.out).resolve(), rows)
    print(f"{len(rows)} of {len(lines)} asked; the others are of another tokenizer" if
          len(rows) < len(lines) else f"{len(rows)} asked")
    for (attack, form), some in tables.cells(tables.flat(rows, given.judge),
                                             ["attack", "goal"]).items():
        print(f"{attack:>10} {form:<14} {some[0]['access']}  {words.rate(rate(some))}")


def rate(some: Sequence[dict]) -> dict:
    """Success of what the judge could read."""
    return tables.outcome_rate([row for row in some if row["success"] is not None], "success")


if __name__ == "__main__":
    main()
