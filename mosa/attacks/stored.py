"""Attacks that were found once, as a file, and any model or defence under them, without attacker.

    python -m mosa.attacks.stored FILE --model models/embedded-0 \\
        --adapter adapters/mosa_r1/embedded-0-0
    python -m mosa.attacks.stored FILE --model GSAI-ML/LLaDA-8B-Instruct --judge strong_reject

FILE is JSON lines: one query a line, with the behaviour, the attack that found it and on which
weights, and the access level that it needs. What was found on one model is a lower bound for
another: an attack that adapts to it finds more. Of the fictional world a file ships with the
project; of real benchmarks it is written locally, and stays there. Lines may be written by hand:
every one is checked before the first is asked, since a misspelt key would leave a weaker attack.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mosa.attacks.access import Access, specials, touches
from mosa.attacks.drive import unseeded
from mosa.judges import panel
from mosa.lm.loading import load
from mosa.lm.model import DiffusionLM
from mosa.lm.sampler import steps_per_block
from mosa.paper import tables, words
from mosa.pipeline import params
from mosa.pipeline.params import Amount, Count, ParamsError, Section, Text, choice
from mosa.pipeline.rows import fingerprint, read_jsonl, write_jsonl
from mosa.pipeline.sections import Sampler
from mosa.target import Target, Weights

BEHAVIOUR = ("id", "set", "category", "wording", "behaviour", "item", "target")  # of a data row
QUERY = ("messages", "prefill", "given", "decode", "access", "attack", "goal")
SAMPLER = Sampler(length=128, steps=64, block_length=128, temperature=0.0, cfg_scale=0.0,
                  remasking="low_confidence", stop_at_eos=True, batch_size=16)  # of `embedded`


class Turn(Section):
    role: Literal["user", "assistant", "system"]
    content: str


class Line(Section):
    """A query of a file."""

    version: Literal[1]  # of what a line holds
    id: Text
    set: Text
    behaviour: Text
    attack: Text
    goal: Text  # the attack's form
    access: Access
    messages: Annotated[list[Turn] | list[Amount], Field(min_length=1)]  # or token ids
    length: Count  # response slots
    prefill: dict[Annotated[str, Field(pattern="^[0-9]+$")], str | list[Amount]] = Field({})
    given: list[Amount] = Field([])  # slots that no judge reads; else those of `prefill`
    decode: dict[str, Any] = Field({})  # what differs from the sampler
    seed: Amount = 0  # where it is left out, the line's number among those asked together
    tokenizer: Text | None = None  # of token ids
    item: str = ""  # of the policy world, for its judges
    category: str = ""
    wording: str = ""
    target: str = ""
    found_on: Text = ""  # weights whose words the turns of the assistant may be
    judge: str = ""


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
        line = {"version": 1, "found_on": row["response"]["weights"], "judge": judge,
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


def checked(lines: Sequence[dict], file: str) -> Sequence[dict]:
    """The lines as they are, if each is a Line that touches no more than it declares.

    Which turns of the assistant the target would write is not known here: they need A1, but for a
    line that says on which weights it was found. Raises ParamsError, naming file and line.
    """
    first: dict[str, int] = {}
    for n, line in enumerate(lines, 1):
        where = f"{file}:{n}"
        _check(Line, line, where)
        _check(Sampler, SAMPLER.model_dump() | line.get("decode", {}), f"{where}: decode")
        said = {turn["content"] for turn in line["messages"] if isinstance(turn, dict)}
        needs, what = touches(line, said if "found_on" in line else set())
        if needs > line["access"]:
            raise ParamsError(f"{where}: access: {what} needs {needs}, and the line declares "
                              f"{line['access']}")
        if (same := first.setdefault(fingerprint(line), n)) < n:
            raise ParamsError(f"{where}: is line {same} again, and would be counted twice: take "
                              "one out")
    return lines


def _check(schema: type[Section], values: Any, where: str) -> None:
    try:
        TypeAdapter(schema).validate_json(json.dumps(values))
    except ValidationError as error:
        # a misspelt key is reported twice, as unknown and as missing: unknown has the cure
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    else:
        return
    # pydantic names the member of a union, too: list[Turn]
    key = "".join(f"{part}: " for part in first["loc"] if "[" not in str(part))
    what = f"{first['msg'].replace('Input should be', 'must be')}; it is {first['input']!r:.60}"
    if first["type"] == "extra_forbidden":
        known = (schema if len(first["loc"]) == 1 else Turn).model_fields  # turns alone lie deeper
        what = f"unknown key{choice(first['loc'][-1], known)}"
    elif first["type"] == "missing":
        what = "missing key"
    raise ParamsError(f"{where}: {key}{what}") from None


def asked(target: Target, lines: Sequence[dict], sampler: Sampler,
          file: str = "attacks.jsonl") -> list[dict]:
    """Rows of the lines that this model can be asked: not those of another tokenizer. Responses
    have as many slots as where the attack was found. `file`: what errors call the lines.

    Raises what checked() raises, and ValueError, naming the line, for a special token beyond the
    line's access, and for what fits neither the model nor the sampler; nothing is asked then.
    """
    own, special, found = tokenizer(target.lm), specials(target.lm), []
    fits = []
    for n, line in enumerate(checked(lines, file), 1):
        if line.get("tokenizer") not in (None, own):
            continue
        try:
            _fit(target, line, _how(line, sampler), special)
        except ValueError as error:
            raise ValueError(f"{file}:{n}: {error}") from None
        fits.append(line)
    for key, some in tables.cells(fits, lambda line: fingerprint(
            line.get("decode", {}), line["length"])).items():
        found += unseeded(target.generate(some, _how(some[0], sampler), f"stored-{key[:8]}"))
    return found


def _how(line: dict, sampler: Sampler) -> Sampler:
    """How a line is decoded."""
    how = {"length": line["length"], **line.get("decode", {})}
    if sampler.block_length == sampler.length and "block_length" not in how:
        how["block_length"] = how["length"]
    return sampler.model_copy(update=how)


def _fit(target: Target, line: dict, how: Sampler, special: dict[str, Access]) -> None:
    """ValueError where a line cannot be asked as it is."""
    texts = [turn["content"] for turn in line["messages"] if isinstance(turn, dict)]
    for name, needs in special.items():
        if needs > line["access"] and any(name in text for text in texts):
            raise ValueError(f"messages: the special token {name!r} needs {needs}, and the line "
                             f"declares {line['access']}: take it out")
    steps_per_block(how.length, how.block_length, how.steps)
    try:
        target.lm.canvas([target.reminded(line)["messages"]], how.length, line.get("prefill"))
    except ValueError as error:
        raise ValueError(str(error).replace("prompts[0]", "messages")) from None


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
        lines = checked(read_jsonl(Path(given.file).resolve()), given.file)
        strange = [n for n, line in enumerate(lines, 1) if not line.get("item")]
        if given.judge in panel.FICTIONAL and strange:
            raise ValueError(f"{given.file}:{strange[0]}: names no `item` of the policy world, of "
                             f"which alone {given.judge} judges: choose another judge with --judge,"
                             " such as strong_reject")
        load(given.model, given.adapter, given.dtype)  # a wrong folder is told before it is needed
        name = fingerprint(str(given.model), str(given.adapter))[:12]
        target = Target(f"stored-{name}", Weights(name, given.model, given.dtype, given.adapter),
                        stage="stored")
        rows = asked(target, lines, SAMPLER.model_copy(update={"steps": given.steps}), given.file)
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
