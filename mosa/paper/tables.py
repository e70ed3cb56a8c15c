"""From stored rows to tables: rates by cell, and comparisons paired by request.

    rows = tables.flat(rows, "world")
    measured = tables.rates(rows, ["family", "set"], ["success", "refused"])
    measured["plain", "sealed_a"]["success"]        # a stats.rate
    tables.shown(measured["plain", "sealed_a"])     # {"success": "4.0 [1.6, 9.8] (n=100)", ...}

A field of a row is named by its key or computed by a function of the row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from mosa import stats
from mosa.paper import words

Field = str | Callable[[dict], object]
# what is measured: keys of the rows, or another name for each field
Fields = Sequence[str] | Mapping[str, Field]


def flat(rows: Iterable[dict], judge: str | None = None) -> list[dict]:
    """Rows of {"request", "response", "verdicts"} as flat dicts, with one judge's verdict or none.

    Raises ValueError where a key stands in two of the parts, and where the judge gave no verdict.
    """
    found = []
    for row in rows:
        where, verdicts = f"row {row['request'].get('id')}", row.get("verdicts", {})
        if judge is not None and judge not in verdicts:
            raise ValueError(f"{where}: no verdict of {judge!r}: "
                             f"call mosa.judges.judge(rows, {judge!r}) first")
        one = {}
        for values in (row["request"], row["response"], verdicts.get(judge, {})):
            if twice := sorted(one.keys() & values.keys()):
                raise ValueError(f"{where}: {', '.join(twice)} stands in two of request, response "
                                 "and verdict: rename one of them")
            one |= values
        found.append(one)
    return found


def cells(rows: Iterable[dict], by: Field | Sequence[Field]) -> dict:
    """The rows of each cell, cells in order of first appearance.

    A cell is the value of the field `by`, or the tuple of values of several. A key that some rows
    lack is None for them; one that all rows lack is a KeyError.
    """
    rows, several = list(rows), not (isinstance(by, str) or callable(by))
    fields = by if several else [by]
    for key in fields:
        if rows and not callable(key) and not any(key in row for row in rows):
            raise KeyError(f"no row has {key!r}; they have {', '.join(sorted(rows[0]))}")
    found = {}
    for row in rows:
        cell = tuple(key(row) if callable(key) else row.get(key) for key in fields)
        found.setdefault(cell if several else cell[0], []).append(row)
    return found


def rates(rows: Iterable[dict], by: Field | Sequence[Field], flags: Fields) -> dict:
    """{cell: {flag: stats.rate}}."""
    return _measured(stats.rate, rows, by, flags)


def means(rows: Iterable[dict], by: Field | Sequence[Field], values: Fields) -> dict:
    """{cell: {name: stats.mean}}; values are resampled in the order of the rows."""
    return _measured(stats.mean, rows, by, values)


def outcomes(rows: Iterable[dict], flag: Field, how: Callable = any) -> dict:
    """{id: does the flag hold in any (`how=all`: every) of a request's rows?}, sorted by id."""
    groups = cells(rows, "id")
    return {request: how(_values(groups[request], flag)) for request in sorted(groups)}


def paired(first: Iterable[dict], second: Iterable[dict], flag: Field,
           how: Callable = any) -> dict:
    """dict(difference, low, high, n, p): outcomes of `first` minus those of `second` by request.

    stats.paired_difference with the p of stats.mcnemar. Requests of one side alone are left out.
    """
    pairs = _pairs(outcomes(first, flag, how), outcomes(second, flag, how))
    return stats.paired_difference(*pairs) | {"p": stats.mcnemar(*pairs)["p"]}


def paired_mean(first: Iterable[dict], second: Iterable[dict], value: Field) -> dict:
    """stats.mean of the difference of each request's means in `first` and in `second`.

    For sets of conditions: the rows of one request count as one. Requests of one side alone are
    left out; those that remain are resampled in sorted order.
    """
    pairs = _pairs(outcomes(first, value, _mean), outcomes(second, value, _mean))
    return stats.mean([one - other for one, other in zip(*pairs)])


def numbers(measured: Mapping) -> dict:
    """{cell: {name: value}} as numbers.json has it: {"plain/sealed_a/success": ...}."""
    return {"/".join(map(str, (*(cell if isinstance(cell, tuple) else (cell,)), name))): value
            for cell, values in measured.items() for name, value in values.items()}


def shown(values: Mapping[str, dict]) -> dict[str, str]:
    """Table cells: rates with interval and n, means with interval."""
    return {name: words.rate(value) if "rate" in value else words.mean(value, n=False)
            for name, value in values.items()}


def columns(values: Mapping[str, dict], n: bool = False) -> dict:
    """CSV columns: name, name_low, name_high and, if asked for, name_n of rates or means."""
    return {f"{name}{end}": value[key] for name, value in values.items() for end, key in
            [("", "rate" if "rate" in value else "mean"), ("_low", "low"), ("_high", "high"),
             *([("_n", "n")] if n else [])]}


def _measured(measure, rows, by, fields):
    fields = fields if isinstance(fields, Mapping) else dict(zip(fields, fields))
    return {cell: {name: measure(_values(some, field)) for name, field in fields.items()}
            for cell, some in cells(rows, by).items()}


def _values(rows, field):
    return [field(row) if callable(field) else row[field] for row in rows]


def _mean(values):
    return sum(values) / len(values)


def _pairs(first, second):
    both = [request for request in first if request in second]
    return [first[request] for request in both], [second[request] for request in both]
