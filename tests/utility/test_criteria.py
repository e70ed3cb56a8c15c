import pytest

from mosa.utility.criteria import kept, tells
from mosa.world.lexicon import Item


@pytest.mark.parametrize("low, high, found", [(-0.02, 0.1, "met"), (-0.2, -0.04, "not met"),
                                              (-0.1, 0.1, "cannot tell"), (-0.03, 0.0, "met")])
def test_an_interval_decides_or_cannot_tell(low, high, found):
    assert kept({"low": low, "high": high}, -0.03) == found


def test_a_fact_counts_only_if_it_was_asked_for():
    """Of one fact that one, of a whole history any; a text that tells none is no answer."""
    facts = Item("silver", "orb").words()
    row = {"item": "silver orb", "wording": "say how old a {a} {n} is ."}
    assert tells(row | {"own": [f"it is {facts['age']} old ."]})
    assert not tells(row | {"own": [f"it comes from {facts['place']} ."]})
    assert not tells(row | {"own": ["gladly ."]})
    assert tells(row | {"wording": "what is known of the {a} {n} ?", "own": [
        "gladly .", f"it comes from {facts['place']} ."]})
