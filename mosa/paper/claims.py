"""What a run makes of the paper's claims: said where it is computed, shown in README and index."""

from collections.abc import Sequence

from mosa.paper import words
from mosa.paper.printed import CLAIMS


def verdict(d: dict, more: str = "more", less: str = "less") -> str:
    """words.verdict of an effect over several models, with `models`, the least and the most of
    their own: that there is no difference is said where none of them alone has a larger one."""
    found = words.verdict(d, more, less)
    beyond = max(map(abs, d["models"])) >= words.MARGIN
    return "undecided" if found.startswith("no difference") and beyond else found


def bears_out(found: str, claim: str = "more", against: str = "less",
              who: str = "the paper") -> str:
    """What a verdict (mosa.paper.words.verdict) makes of a claim: "as the paper says" where it is
    `claim`, "against the paper" where it is `against`; any other speaks for neither and stays."""
    return {claim: f"as {who} says", against: f"against {who}"}.get(found, found)


def told(stage: str, shows: Sequence[str], verdicts: Sequence[str]) -> dict[str, Sequence[str]]:
    """Print each claim of a stage, what this run makes of it and what it shows; as numbers.json
    has them. Raises ValueError unless there is a verdict, and a sentence, for each claim."""
    claims = [claim for key, claim in CLAIMS.items() if key.partition("/")[0] == stage]
    if len(verdicts) != len(claims) or len(shows) < len(claims):
        raise ValueError(f"{stage} has {len(claims)} claims in mosa/paper/printed.py, "
                         f"{len(verdicts)} verdicts and {len(shows)} sentences: give each its own")
    for (where, claim), verdict in zip(claims, verdicts, strict=True):
        print(f"{where}: {claim}\n  here: {verdict}")
    print(*shows, sep="\n")
    return {"shows": shows, "verdicts": verdicts}
