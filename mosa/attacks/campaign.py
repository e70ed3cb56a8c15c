"""What the notebooks of all attacks share: who is attacked with what, and success by queries.

    cfg, shared = stage.section("tap", tap.Config), stage.section("attack", Campaign)
    behaviours = chosen(stage.requests("benchmark"), shared.n)
    cfg, spec = forms(cfg, shared, model), partial(helper, shared, data)
    found = sweep("tap", target, behaviours, spec, cfg, sampler, shared.compute)
    rows, queries = stage.judged(found.rows), stage.judged(light(found.queries))
    summary(stage.flat(rows), stage.flat(queries))
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

from mosa.attacks.guildhelper import GuildHelper
from mosa.attacks.helpers import Helper
from mosa.attacks.modelhelper import ModelHelper
from mosa.attacks.sweep import Compute
from mosa.data import sets
from mosa.endpoint import Endpoint
from mosa.paper import tables
from mosa.pipeline.params import Count, Distinct, Section
from mosa.pipeline.sections import Data

C = TypeVar("C", bound=Section)
ADAPTIVE = "middle"  # the form of an attack whose goal is moved to the middle: Table 4
EQUAL = "canvas"  # the form that it is compared with, where it writes into the response


class Campaign(Section):
    n: Count  # behaviours of each benchmark
    helper: Literal["world", "endpoint"]
    adaptive: Distinct[str]  # models of `attacked` on which the forms of Table 4 are run, too
    compute: Compute


def chosen(requests: Sequence[dict], n: int) -> list[dict]:
    """The first `n` plain requests of every benchmark.

    Raises ValueError, naming the key, for a benchmark that has fewer.
    """
    found = []
    for name, some in tables.cells(requests, "set").items():
        if len(some) < n:
            raise ValueError(f"params.yaml: attack.n: asks for {n} behaviours of {name}, which has "
                             f"{len(some)}: lower it, or raise data.n_benchmark")
        found += some[:n]
    return found


def forms(cfg: C, shared: Campaign, model: str) -> C:
    """The Config of an attack with the forms that this model is attacked in.

    Raises ValueError, naming the key, where the first form is none that every model is attacked in.
    """
    if set(cfg.forms[:1]) <= {ADAPTIVE, EQUAL}:  # nor is there one without forms
        attack = type(cfg).__module__.rpartition(".")[2]
        raise ValueError(f"params.yaml: {attack}.forms: {cfg.forms}: the first form is the one of "
                         f"Tables 1 and 2, and {ADAPTIVE!r} and {EQUAL!r} are run on the models of "
                         "attack.adaptive alone: begin with another")
    some = [form for form in cfg.forms
            if form not in (ADAPTIVE, EQUAL) or model in shared.adaptive]
    return cfg.model_copy(update={"forms": some})


def helper(shared: Campaign, data: Data) -> Helper:
    """The helper that the section `attack` names; raises ValueError where its endpoint is not set
    (MOSA_HELPER_URL, _MODEL, _KEY)."""
    if shared.helper == "world":
        return GuildHelper()
    return ModelHelper(Endpoint("helper"), sets.phrases(data))


def light(queries: Sequence[dict]) -> list[dict]:
    """Rows without what only a decoding's analysis needs: most are never looked at alone."""
    return [row | {"response": {key: value for key, value in row["response"].items()
                                if key not in ("ids", "reveal_step")}} for row in queries]


def summary(rows: Sequence[dict], queries: Sequence[dict]) -> dict[str, dict]:
    """Form -> success of what the attack returned, and of any query; means of what a behaviour
    cost, in responses, forwards, and texts that the helper made and read."""
    found = {}
    for form, some in tables.cells(rows, "goal").items():
        asked, n = [q for q in queries if q["goal"] == form], len({row["id"] for row in some})
        first = list({row["id"]: row for row in reversed(some)}.values())  # one of several tries
        found[form] = {
            "success": tables.outcome_rate(some, "success"),
            "any query": tables.outcome_rate(asked, "success"),
            "responses": len(asked) / n,
            "forwards": sum(row["search_forwards"] + row["forwards"] for row in first) / n,
            "helper's texts": sum(row["helper_calls"] for row in first) / n,
            "texts read": sum(row["judge_calls"] for row in first) / n}
    return found


def by_budget(queries: Sequence[dict], budgets: Sequence[int]) -> dict[int, dict]:
    """Budget -> stats.rate of behaviours of which any of the first so many queries succeeds.

    queries: flat rows of every response that the attack asked for, with verdicts. It is what an
    attacker reaches who can tell success: what the attack itself returns may be less.
    """
    return {budget: tables.outcome_rate(
        [row | {"success": row["success"] and row["query"] < budget} for row in queries],
        "success") for budget in budgets}


def known(rows: Sequence[dict]) -> list[dict]:
    """Flat rows that their judge could read."""
    return [row for row in rows if row["success"] is not None]


def main_forms(rows: Sequence[dict]) -> list[dict]:
    """Flat rows of the form of each attack that Tables 1 and 2 show: its first. DIA is two
    attackers, and the paper does not say which was run: success of either counts, and the queries
    of the second are numbered on from those of the first."""
    found = []
    for attack, some in tables.cells(rows, "attack").items():
        forms = [*tables.cells(some, "goal").values()]
        if attack != "dia":
            found += forms[0]
            continue
        behind = 0
        for form in forms:
            found += [row | {"goal": "either", "query": row["query"] + behind} for row in form]
            behind += 1 + max(row["query"] for row in form)
    return found


def won(rows: Sequence[dict]) -> list[dict]:
    """One flat row of each attack, form, model and behaviour: `success` of any of its tries."""
    cells = tables.cells(rows, ["attack", "goal", "model", "id"])
    return [some[0] | {"success": any(row["success"] for row in some)} for some in cells.values()]


def told(row: dict) -> str:
    """A flat row as it was asked and answered, for a reader."""
    turns = [f"  {turn['role']}: {turn['content']}" for turn in row["messages"]
             if isinstance(turn, dict)]
    written = [f"  in slot {slot}: {words}" for slot, words in row.get("prefill", {}).items()
               if isinstance(words, str)]
    return "\n".join([f"[{row['goal']}, {row['id']}, score {row['score']}]", *turns, *written,
                      f"  -> {row['text'][:300]}\n"])
