"""From stored rows to tables: rates by cell, and comparisons paired by request.

    rows = tables.flat(rows, "world")
    measured = tables.rates(rows, ["family", "set"], ["success", "refused"])
    measured["plain", "sealed_a"]["success"]        # a stats.rate
    tables.shown(measured["plain", "sealed_a"])     # {"success": "4.0 [1.6, 9.8] (n=100)", ...}

A field of a row is named by its key or computed by a function of the row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from mosa import stats
from mosa.paper import words

# What rows that are no independent draws share: a noun or topic, and a wording. A training seed, a
# phrase and a wrap's template are none: three or four say too little of the next, so an interval
# holds for those that were measured, and the value of each, or without each, stands beside it.
CLUSTERS = ("category", "wording")
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


def clusters(rows: Sequence[dict]) -> list[list]:
    """For each of CLUSTERS in which the rows differ, one label a row: what intervals respect.

    Where they differ in none of them, their requests, if several rows are of one.
    """
    labels = [[row.get(key) for row in rows] for key in CLUSTERS]
    found = [some for some in labels if len(set(some)) > 1]
    if not found and draws(rows) < len(rows):  # rows of public files may share nothing else
        return [[_request(row, i) for i, row in enumerate(rows)]]
    return found


def draws(rows: Iterable[dict]) -> int:
    """How many different requests the rows are of; a request asked of three models is one."""
    return len({_request(row, i) for i, row in enumerate(rows)})


def rate(rows: Sequence[dict], flag: Field) -> dict:
    """stats.rate of all rows, clustered."""
    return stats.rate(_values(rows, flag), clusters(rows), draws(rows))


def rates(rows: Iterable[dict], by: Field | Sequence[Field], flags: Fields) -> dict:
    """{cell: {flag: stats.rate}}, clustered."""
    return _measured(stats.rate, rows, by, flags)


def means(rows: Iterable[dict], by: Field | Sequence[Field], values: Fields,
          within: tuple[float, float] | None = None) -> dict:
    """{cell: {name: stats.mean}}, clustered; all values lie `within`."""
    return _measured(partial(stats.mean, within=within), rows, by, values)


def outcomes(rows: Iterable[dict], flag: Field, how: Callable = any) -> dict:
    """{id: does the flag hold in any (`how=all`: every) of a request's rows?}, sorted by id."""
    groups = cells(rows, "id")
    return {request: how(_values(groups[request], flag)) for request in sorted(groups)}


def outcome_rate(rows: Iterable[dict], flag: Field, how: Callable = any) -> dict:
    """stats.rate of outcomes(): each request once, clustered."""
    rows = list(rows)
    found = outcomes(rows, flag, how)
    some = _of(rows, found)
    return stats.rate([*found.values()], clusters(some), draws(some))


def paired(first: Iterable[dict], second: Iterable[dict], flag: Field,
           how: Callable = any) -> dict:
    """dict(difference, low, high, n, p, differ): outcomes of `first` minus those of `second` by
    request; differ: how many requests differ at all.

    stats.paired_difference with the p of stats.mcnemar, clustered. Requests of one side alone are
    left out.
    """
    first = list(first)
    one, other = outcomes(first, flag, how), outcomes(second, flag, how)
    pairs, some = _pairs(one, other), _of(first, sorted(one.keys() & other.keys()))
    return (stats.paired_difference(*pairs, clusters(some), draws(some))
            | {"p": stats.mcnemar(*pairs, clusters(some))["p"],
               "differ": sum(a != b for a, b in zip(*pairs))})


def differences(first: Iterable[dict], second: Iterable[dict], value: Field) -> list[dict]:
    """One row a request: the first of its rows in `first`, with `difference` added, the mean of
    `value` in `first` minus that in `second`. Requests of one side alone are left out."""
    first = list(first)
    one, other = outcomes(first, value, _mean), outcomes(second, value, _mean)
    rows = {row["id"]: row for row in reversed(first)}
    return [rows[request] | {"difference": one[request] - other[request]}
            for request in one if request in other]


def paired_mean(first: Iterable[dict], second: Iterable[dict], value: Field,
                within: tuple[float, float] = (-1, 1)) -> dict:
    """mean_difference() of differences(): for sets of conditions, where a request counts as one.
    `value` is a flag or a share, or its differences lie `within` other limits."""
    return mean_difference(differences(first, second, value), within)


def mean_difference(rows: Sequence[dict], within: tuple[float, float] = (-1, 1)) -> dict:
    """stats.mean of the rows' `difference`, clustered, and `differ`, how many are not 0.

    No limit is nearer than stats.rare() of the requests allows, one value each. p is Student's or
    that of the requests' signs, whichever is larger: the first is too small where nearly all agree.
    """
    values = _values(rows, "difference")
    by_request = [*outcomes((row | {"id": _request(row, i)} for i, row in enumerate(rows)),
                            "difference", _mean).values()]
    found = stats.mean(values, clusters(rows), within, draws(rows))
    low, high = stats.rare(by_request, within)
    return found | {"low": min(found["low"], low), "high": max(found["high"], high),
                    "p": max(found["p"], stats.sign_test(by_request)),
                    "differ": sum(value != 0 for value in values)}


def by_model(rows: Iterable[dict]) -> list[dict]:
    """The rows with ids that tell the model too: a request then counts once for each."""
    return [row | {"id": f"{row['id']}/{row['model']}"} for row in rows]


def left_out(rows: Sequence[dict], key: Field, value: Field) -> tuple[float, float]:
    """The least and the largest mean of `value` when the rows of one value of `key` are left out:
    does one wording, noun or model carry it? Of one value alone nothing is left: the mean itself.
    """
    some = cells(rows, key)
    if len(some) < 2:
        return (_mean(_values(rows, value)),) * 2
    found = [_mean([v for other in some if other != one for v in _values(some[other], value)])
             for one in some]
    return min(found), max(found)


def corrected(rows: list[dict]) -> list[dict]:
    """The same rows, each with its `p` corrected for their number as "p, Holm": one family."""
    for row, p in zip(rows, stats.holm([row["p"] for row in rows]), strict=True):
        row["p, Holm"] = p
    return rows


def numbers(measured: Mapping) -> dict:
    """{cell: {name: value}} as numbers.json has it: {"plain/sealed_a/success": ...}."""
    return {"/".join(map(str, (*(cell if isinstance(cell, tuple) else (cell,)), name))): value
            for cell, values in measured.items() for name, value in values.items()}


def shown(values: Mapping[str, dict], n: bool = True) -> dict[str, str]:
    """Table cells: rates with interval and, if asked for, n; means with interval."""
    return {name: words.rate(value, n) if "rate" in value else words.mean(value, n=False)
            for name, value in values.items()}


def columns(values: Mapping[str, dict], n: bool = False) -> dict:
    """CSV columns: name, name_low, name_high and, if asked for, name_n of rates or means."""
    return {f"{name}{end}": value[key] for name, value in values.items() for end, key in
            [("", "rate" if "rate" in value else "mean"), ("_low", "low"), ("_high", "high"),
             *([("_n", "n")] if n else [])]}


def _measured(measure, rows, by, fields):
    fields = fields if isinstance(fields, Mapping) else dict(zip(fields, fields))
    return {cell: {name: measure(_values(some, field), clusters(some), draws=draws(some))
                   for name, field in fields.items()} for cell, some in cells(rows, by).items()}


def _request(row, i):
    return str(row.get("id", i)).partition("/")[0]


def _values(rows, field):
    return [field(row) if callable(field) else row[field] for row in rows]


def _of(rows, ids):
    """One row of each request."""
    of = {row["id"]: row for row in rows}
    return [of[request] for request in ids]


def _mean(values):
    return sum(values) / len(values)


def _pairs(first, second):
    both = [request for request in first if request in second]
    return [first[request] for request in both], [second[request] for request in both]
