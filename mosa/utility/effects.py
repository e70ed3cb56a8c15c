"""Effects of a place on harm, by request: how large, and does one model, noun or phrase carry it?

    effect(here, there, "success", {"noun": "category"})   # a tables.paired_mean, and its ranges
    slopes(rows, "success", per=20)                        # a row a request, to be averaged
"""

from collections.abc import Iterable, Mapping
from statistics import linear_regression

from mosa.paper import tables


def effect(first: Iterable[dict], second: Iterable[dict], value: tables.Field,
           carriers: Mapping[str, str]) -> dict:
    """tables.paired_mean of `value`, a request counted once for each model, and two ranges:

    models: (least, most) of the models' own mean differences.
    without: {name: (least, most)} of the mean when the rows of any one value of a key are left out;
    carriers: {name: key}. Where one value carries an effect, one end of the range is near 0.
    """
    first, second = tables.by_model(first), tables.by_model(second)
    rows = tables.differences(first, second, value)
    own = [sum(row["difference"] for row in some) / len(some)
           for some in tables.cells(rows, "model").values()]
    return tables.paired_mean(first, second, value) | {
        "models": (min(own), max(own)),
        "without": {name: tables.left_out(rows, lambda row, key=key: row.get(key), "difference")
                    for name, key in carriers.items()}}


def slopes(rows: Iterable[dict], value: str, per: float) -> list[dict]:
    """One row a request and model, the first of its rows, with `slope` added: the least-squares
    slope of `value` over `position`, for `per` slots. Raises StatisticsError where a request has
    one position alone."""
    return [some[0] | {"slope": per * linear_regression(
        [row["position"] for row in some], [row[value] for row in some]).slope}
        for some in tables.cells(tables.by_model(rows), "id").values()]
