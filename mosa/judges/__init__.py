"""Judges read stored rows and write verdicts; they never generate."""

from collections.abc import Callable

from mosa.judges import exact, keywords
from mosa.judges.verdict import Verdict
from mosa.pipeline.params import choice

# name in the section `judge` of params.yaml -> the verdict on a request and its response
JUDGES: dict[str, Callable[[dict, dict], Verdict]] = {
    "world": exact.judge, "keywords": keywords.judge}


def judge(rows: list[dict], name: str) -> list[dict]:
    """The rows with this judge's verdict in their `verdicts`; those of other judges are kept.

    Raises ValueError for an unknown judge.
    """
    if name not in JUDGES:
        raise ValueError(f"params.yaml: judge.name: no judge {name!r}{choice(name, JUDGES)}")
    return [row | {"verdicts": row.get("verdicts", {}) | {
        name: JUDGES[name](row["request"], row["response"])}} for row in rows]
