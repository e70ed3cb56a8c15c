import pytest

from mosa.paper import claims


@pytest.mark.parametrize(("found", "how", "said"), [
    ("more", {}, "as the paper says"), ("less", {}, "against the paper"),
    ("undecided", {}, "undecided"),
    ("no difference of 15 points", {}, "no difference of 15 points"),
    ("less", {"claim": "less", "against": "more", "who": "the later work"},
     "as the later work says")])
def test_a_verdict_that_speaks_for_neither_stays(found, how, said):
    assert claims.bears_out(found, **how) == said


def test_every_claim_has_a_verdict_and_a_sentence(capsys):
    found = claims.told("order", ["one", "two", "three"], ["yes", "no"])
    assert found == {"shows": ["one", "two", "three"], "verdicts": ["yes", "no"]}
    said = capsys.readouterr().out
    assert said.index("here: yes") < said.index("here: no") < said.index("three")
    for shows, verdicts in ((["one", "two"], ["yes"]), (["one"], ["yes", "no"])):
        with pytest.raises(ValueError, match="order has 2 claims"):
            claims.told("order", shows, verdicts)


def test_no_difference_is_said_where_no_model_alone_has_one():
    one = {"low": -0.1, "high": 0.1, "mean": 0, "n": 9, "p": 1, "models": (-0.1, 0.05)}
    assert claims.verdict(one) == "no difference of 15 points"
    assert claims.verdict(one | {"models": (-0.2, 0.1)}) == "undecided"
    assert claims.verdict(one | {"low": 0.05, "p": 0.01, "models": (-0.2, 0.4)}) == "more"
