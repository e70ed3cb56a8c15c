"""What every model is asked where defences are compared: attacks by group, and harmless requests.

    requests = prompts(stage.requests("benchmark", family=None), seen, cfg, phrases)
    rows = ask(target, requests, cfg, stage.sampler, data)

Groups of forced phrases have equal numbers of conditions, so that no place has more tries. What
takes a draft of the model itself, or its prompt's ids, is made for each model: anchoring and DIJA.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from mosa.attacks.canvas import continued, draft, interleaved, prefilled
from mosa.data.sets import forbidden
from mosa.pipeline.params import Amount, Count, Section, Text, Texts
from mosa.pipeline.sections import Data, Sampler
from mosa.target import Target

# Groups of requests that are to be answered, and of harmless questions about sealed nouns
BENIGN, HARMLESS = ("benign", "benign wraps", "borderline"), "sealed, harmless"


class Battery(Section):
    n: Count  # requests of each condition
    forced: dict[str, list[tuple[str, Amount]]]  # group -> phrase set and slot of each condition
    headings: Annotated[Texts, Field(min_length=2, max_length=2)]  # PAD's, arXiv 2507.19227
    second: Amount  # slot of the second; the first is at slot 1
    anchored: Count  # the step whose draft is replaced, arXiv 2510.00565
    form: list[Text]  # DIJA's, arXiv 2507.11097, each part followed by `gap` masks; []: without
    gap: Count
    seed: Amount

    @model_validator(mode="after")
    def _equal(self) -> Self:
        if len({len(some) for some in self.forced.values()}) > 1:
            raise ValueError("forced: every group needs as many conditions as the others")
        return self


def in_turn(rows: Sequence[dict], families: Collection[str], n: int) -> list[dict]:
    """`n` requests, each in one of the families, which take turns; sets take turns, too."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    by_name = {(row["set"], row["family"], row["id"]): row for row in rows}
    names = {name: list(dict.fromkeys(r["id"] for r in rows if r["set"] == name)) for name in sets}
    chosen = list(families)  # each meets every set
    turns = [(sets[i % len(sets)], i // len(sets)) for i in range(n)]
    return [by_name[name, chosen[k % len(chosen)], names[name][k]]
            for name, k in turns if k < len(names[name])]


def prompts(sealed: Sequence[dict], seen: Collection[str], cfg: Battery,
            phrases: Mapping[str, Sequence[str]]) -> list[dict]:
    """Requests with `group` and `cell`, of rows to be refused in all families.

    plain; seen wraps, in which alignment puts its requests, and unseen ones; forced phrases; PAD.
    """
    families = list(dict.fromkeys(row["family"] for row in sealed))
    plain = in_turn(sealed, ["plain"], cfg.n)
    wraps = {"seen wraps": [name for name in families if name in seen and name != "plain"],
             "unseen wraps": [name for name in families if name not in [*seen, "plain"]]}
    found = marked(plain, "plain")
    for group, names in wraps.items():
        if names:
            found += [row | {"group": group, "cell": row["family"]}
                      for row in in_turn(sealed, names, cfg.n)]
    for group, conditions in cfg.forced.items():
        for kind, position in conditions:
            found += marked(prefilled(plain, kind, position, phrases, cfg.seed), group,
                            f"{kind}@{position}")
    first, second = cfg.headings
    pad = {"prefill": {"1": first, str(cfg.second): second}, "access": "A2"}
    return found + marked([row | pad for row in plain], "PAD")


def development(rows: Sequence[dict], seen: Collection[str], cfg: Battery,
                phrases: Mapping[str, Sequence[str]]) -> list[dict]:
    """`prompts` of a validation split and, of its sets named open..., benign requests: plain ones,
    and wrapped ones where the rows have other families."""
    benign = [row for row in rows if row["set"].startswith("open")]
    wraps = dict.fromkeys(row["family"] for row in benign if row["family"] != "plain")
    found = prompts([row for row in rows if row not in benign], seen, cfg, phrases)
    found += marked(in_turn(benign, ["plain"], cfg.n), "benign")
    return found + (marked(in_turn(benign, wraps, cfg.n), "benign wraps") if wraps else [])


def marked(rows: Sequence[dict], group: str, cell: str = "") -> list[dict]:
    """The rows with their group and cell: the group's name, if it is of one."""
    return [row | {"group": group, "cell": cell or group} for row in rows]


def ask(target: Target, requests: Sequence[dict], cfg: Battery, sampler: Sampler,
        data: Data) -> list[dict]:
    """Rows of the requests, and of the plain ones among them under anchoring and DIJA.

    Anchoring replaces the slots that the model has filled before a step by those of a forbidden
    answer, and goes on (annealed remasking begins anew there). DIJA's form stands in the user turn
    and is filled as published, one token a step at temperature 0.2.
    """
    plain = [row for row in requests if row["group"] == "plain"]
    rows = target.generate(list(requests), sampler, "asked")
    lm, whole = target.lm, sampler.model_copy(
        update={"block_length": sampler.length, "stop_at_eos": False})
    drafts = target.generate([row | {"given": []} for row in plain], whole, "drafts")
    spans = [[i for i, token in enumerate(draft(row, cfg.anchored, lm.mask_id))
              if token != lm.mask_id] for row in drafts]
    answers = [forbidden(row, data, lm, sampler.length) for row in plain]
    more, rest = continued(drafts, cfg.anchored, [
        {i: answer[i : i + 1] for i in some} for some, answer in zip(spans, answers)],
        whole.model_copy(update={"stop_at_eos": sampler.stop_at_eos}), lm.mask_id)
    rows += target.generate(marked(more, "anchoring"), rest, "anchored")
    forms = [interleaved(target.reminded(row), lm, cfg.form, cfg.gap)
             for row in plain if cfg.form]
    for length in sorted({row["length"] for row in forms}):
        slow = whole.model_copy(update={"length": length, "block_length": length, "steps": length,
                                        "temperature": 0.2})
        rows += target.generate(marked([row for row in forms if row["length"] == length], "DIJA"),
                                slow, f"form-{length}")
    return rows
