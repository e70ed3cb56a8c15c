"""Statistics in words, one form of each: what tables, captions and verdicts are made of.

Each takes a dict of mosa.stats. Shares and their differences are shown in per cent or points.
"""

MARGIN = 0.15  # the difference of two shares that matters; fixed before any benchmark was


def rate(r: dict, n: bool = True) -> str:
    """A stats.rate in per cent: "74.5 [70.1, 78.6] (n=520)", or without its n."""
    share, low, high = (f"{100 * r[key]:.1f}" for key in ("rate", "low", "high"))
    return f"{share} [{low}, {high}]" + (f" (n={r['n']})" if n else "")


def mean(m: dict, n: bool = True) -> str:
    """A stats.mean: "1.20 [1.10, 1.30] (n=12)", or without its n."""
    return f"{m['mean']:.2f} {_limits(m, '.2f')}" + (f" (n={m['n']})" if n else "")


def difference(d: dict, digits: int = 0, unit: str = "") -> str:
    """A difference of shares in points: "+5 [+1, +9]"; with unit " points" "+5 points [+1, +9]".

    `d` is a stats.paired_difference, or a stats.mean of differences.
    """
    value = d["difference"] if "difference" in d else d["mean"]
    return f"{_plain(100 * value, f'+.{digits}f')}{unit} {_limits(d, f'+.{digits}f', 100)}"


def verdict(d: dict, more: str = "more", less: str = "less", margin: float = MARGIN) -> str:
    """What a 95 % interval decides: `more` if it lies above 0, `less` if below, else undecided.

    Where `d` has a p, corrected or not, that has to be below 0.05 too. An interval that contains 0
    and nothing beyond `margin` on either side shows that there is no difference of that size. Where
    no request differs at all, its width is a matter of n alone, and that is what is said.
    """
    if d.get("differ") == 0:
        return f"no case in {d['n']}"
    if d["low"] is None:  # all values agree: nothing tells how far the mean may be off
        return "undecided"
    if d["low"] <= 0 <= d["high"] and max(-d["low"], d["high"]) < margin:
        return f"no difference of {100 * margin:.0f} points"
    if d.get("p, Holm", d.get("p", 0)) >= 0.05:
        return "undecided"
    return more if d["low"] > 0 else less if d["high"] < 0 else "undecided"


def _limits(d: dict, form: str, times: int = 1) -> str:
    low, high = ("-" if d[key] is None else _plain(times * d[key], form) for key in ("low", "high"))
    return f"[{low}, {high}]"


def _plain(value, form):
    """The formatted value; what rounds to zero has no sign of its own."""
    text = format(value, form)
    return text if float(text) else format(0.0, form)
