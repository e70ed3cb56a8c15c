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
        parts = {"request": row["request"], "response": row["response"]}
        if judge is not None:
            if judge not in row.get("verdicts", {}):
                raise ValueError(f"row {row['request'].get('id')}: no verdict of {judge!r}: "
                                 f"call mosa.judges.judge(rows, {judge!r}) first")
            parts[judge] = row["verdicts"][judge]
        one = {}
        for part, values in parts.items():
            if twice := sorted(one.keys() & values.keys()):
                raise ValueError(f"row {row['request'].get('id')}: {', '.join(twice)} of {part} "
                                 "stands in another part too: rename one of them")
            one |= values
        found.append(one)
    return found


def cells(rows: Iterable[dict], by: Field | Sequence[Field]) -> dict:
    """The rows of each cell, cells in order of first appearance.

    A cell is the value of the field `by`, or the tuple of values of several. A key that some rows
    lack is None for them; one that all rows lack is a KeyError.
    """
    rows, several = list(rows), not (isinstance(by, str) or callable(by))
    fields = list(by) if several else [by]
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
    return {cell: {name: stats.rate(values) for name, values in _columns(some, flags)}
            for cell, some in cells(rows, by).items()}


def means(rows: Iterable[dict], by: Field | Sequence[Field], values: Fields) -> dict:
    """{cell: {name: stats.mean}}; values are resampled in the order of the rows."""
    return {cell: {name: stats.mean(column) for name, column in _columns(some, values)}
            for cell, some in cells(rows, by).items()}


def outcomes(rows: Iterable[dict], flag: Field, how: Callable = any,
             by: Field | Sequence[Field] = "id") -> dict:
    """{request: does the flag hold in any (`how=all`: every) of its rows?}, sorted by request."""
    groups = cells(rows, by)
    return {request: how(_value(row, flag) for row in groups[request])
            for request in sorted(groups)}


def paired(first: Iterable[dict], second: Iterable[dict], flag: Field, how: Callable = any,
           by: Field | Sequence[Field] = "id") -> dict:
    """dict(difference, low, high, n, p): outcomes of `first` minus those of `second` by request.

    stats.paired_difference with the p of stats.mcnemar. Requests of one side alone are left out.
    """
    pairs = _pairs(outcomes(first, flag, how, by), outcomes(second, flag, how, by))
    return stats.paired_difference(*pairs) | {"p": stats.mcnemar(*pairs)["p"]}


def paired_mean(first: Iterable[dict], second: Iterable[dict], value: Field,
                by: Field | Sequence[Field] = "id") -> dict:
    """stats.mean of the difference of each request's means in `first` and in `second`.

    For sets of conditions: the rows of one request count as one. Requests of one side alone are
    left out; those that remain are resampled in sorted order.
    """
    pairs = _pairs(outcomes(first, value, _mean, by), outcomes(second, value, _mean, by))
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


def _columns(rows, fields):
    """(name, its value in every row) of each field."""
    fields = fields if isinstance(fields, Mapping) else dict(zip(fields, fields))
    return [(name, [_value(row, field) for row in rows]) for name, field in fields.items()]


def _value(row, field):
    return field(row) if callable(field) else row[field]


def _mean(values):
    values = list(values)
    return sum(values) / len(values)


def _pairs(first, second):
    both = [request for request in first if request in second]
    return [first[request] for request in both], [second[request] for request in both]
