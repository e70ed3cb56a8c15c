"""Statistics in words, one form of each: what tables, captions and verdicts are made of.

Each takes a dict of mosa.stats. Shares and their differences are shown in per cent or points.
"""


def rate(r: dict) -> str:
    """A stats.rate in per cent: "74.5 [70.1, 78.6] (n=520)"."""
    share, low, high = (f"{100 * r[key]:.1f}" for key in ("rate", "low", "high"))
    return f"{share} [{low}, {high}] (n={r['n']})"


def mean(m: dict, n: bool = True) -> str:
    """A stats.mean: "1.20 [1.10, 1.30] (n=12)", or without its n."""
    return f"{m['mean']:.2f} [{m['low']:.2f}, {m['high']:.2f}]" + (f" (n={m['n']})" if n else "")


def difference(d: dict, digits: int = 0, unit: str = "") -> str:
    """A difference of shares in points: "+5 [+1, +9]"; with unit " points" "+5 points [+1, +9]".

    `d` is a stats.paired_difference, or a stats.mean of differences.
    """
    value = d["difference"] if "difference" in d else d["mean"]
    value, low, high = (f"{100 * x:+.{digits}f}" for x in (value, d["low"], d["high"]))
    return f"{value}{unit} [{low}, {high}]"


def verdict(d: dict, more: str = "more", less: str = "less") -> str:
    """What a 95 % interval decides: `more` if it lies above 0, `less` if below, else undecided."""
    return more if d["low"] > 0 else less if d["high"] < 0 else "undecided"
