"""What is optimised: MOSA, Initial Alignment and their rivals, one module each.

An objective is a module here with `loss(policy, reference, batch, args)`. `policy(ids, attention)`
and `reference(ids, attention)` give logits (B, L, V) of the response slots. `batch` comes from
`mosa.alignment.pairs.Collator`; `args` is a MOSAConfig or a Recipe. Returned: one loss per row,
(B,), and a dict of per-row numbers (B,) for the log. A method of params.yaml calls it by the
module's name; it is imported only then, so that a new objective retrains no method of another.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

OBJECTIVES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def objective(name: str) -> Callable:
    """The loss of one of OBJECTIVES."""
    return import_module(f"{__name__}.{name}").loss
