"""The judges of attacks, by name: each reads stored rows in a stage of its own, as often as one
likes, and nothing is generated again."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from mosa.judges import exact, harmbench, keywords, rubric, strong_reject
from mosa.judges.rubric import Reading
from mosa.judges.verdict import Verdict
from mosa.pipeline.params import choice

# what a judge reads nothing of, and the attack's own rows keep
LEFT_OUT = {"ids", "reveal_step"}


def each(judge: Callable[[dict, dict], Verdict], rows: list[dict]) -> list[Reading]:
    """A judge of mosa.judges as a member of the panel: it reads whatever a row says."""
    return [judge(row["request"], row["response"]) | {"parsed": True, "reason": ""}
            for row in rows]


# name in the list `judges` of params.yaml -> the verdicts on rows, in their order
PANEL: dict[str, Callable[[list[dict]], list[Reading]]] = {
    "world": partial(each, exact.judge), "world_strong_reject": strong_reject.world,
    "keywords": partial(each, keywords.judge), "rubric": rubric.judge,
    "strong_reject": strong_reject.judge, "harmbench": harmbench.judge}
FICTIONAL = {"world", "world_strong_reject"}  # they judge rows of the policy world alone


def read(rows: list[dict], name: str) -> list[dict]:
    """The rows with this judge's verdict in their `verdicts`; those of other judges are kept, token
    ids of the response and their steps are not.

    Raises ValueError for an unknown judge, for one of the policy world on other rows, and what the
    judge itself raises.
    """
    if name not in PANEL:
        raise ValueError(f"params.yaml: judges: no judge {name!r}{choice(name, PANEL)}")
    strange = [row["request"].get("id") for row in rows if not row["request"].get("item")]
    if name in FICTIONAL and strange:
        raise ValueError(f"params.yaml: judges: {name} judges the policy world alone, and row "
                         f"{strange[0]} names no item of it: take it off the list")
    return [
        {"request": row["request"], "verdicts": row.get("verdicts", {}) | {name: verdict},
         "response": {key: value for key, value in row["response"].items() if key not in LEFT_OUT}}
        for row, verdict in zip(rows, PANEL[name](rows), strict=True)]


def unparsed(rows: list[dict], name: str) -> Counter[str]:
    """Why this judge has no verdict on some rows, and on how many: shown beside every rate."""
    return Counter(row["verdicts"][name]["reason"] for row in rows
                   if not row["verdicts"][name]["parsed"])
