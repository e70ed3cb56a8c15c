import pytest
from pydantic import ValidationError

from mosa.alignment.method import Factorial, Method, Recipe, Search
from mosa.alignment.objectives import OBJECTIVES


def test_the_defaults_are_mosa_as_printed():
    method = Method()
    assert (method.objective, method.learning_rate, method.max_grad_norm) == ("mosa", 5e-5, 0.01)
    assert (method.lora_r, method.lora_alpha, method.batch_size, method.beta) == (32, 64, 4, 0.05)
    assert (method.k_start, method.k_end, method.bounds, method.eos) == (20, 60, "start", True)
    assert (method.contrast, method.bound, method.revealed, method.benign_kl) == (1.0, 0, 0, 0)
    assert method.weight_decay == 0


def test_every_objective_is_a_choice_and_nothing_else_is():
    for name in OBJECTIVES:
        assert Method(objective=name).objective == name
    with pytest.raises(ValidationError, match="'a2d', 'mosa', 'recovery' or 'refusal_sft'"):
        Method(objective="rlhf")


@pytest.mark.parametrize("wrong", [{"k_start": 61}, {"k_start": 5, "k_end": 4}, {"beta": -1.0},
                                   {"benign_full": 1.5}, {"rows": 0}, {"safe": []},
                                   {"contrast": float("inf")}, {"rate": 1.0},
                                   {"weight_decay": -0.1}])
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        Method(**wrong)


def test_every_value_of_a_recipe_has_a_default_and_says_what_it_is():
    for name, info in Recipe.model_fields.items():
        assert info.default is not None and info.description, name


PAIRS = {"sealed": "align", "benign": "open", "families": ["plain"], "safe": ["no"], "rows": 8,
         "seed": 0, "workers": 1}


def test_a_search_tries_every_setting_of_every_candidate():
    search = Search(**PAIRS, settings={"slow": {"learning_rate": 1e-5}, "none": {}},
                    candidates={"mosa": {"beta": 0.1}, "a2d": {"objective": "a2d"}})
    assert search.grid() == {
        ("mosa", "slow"): Method(beta=0.1, learning_rate=1e-5), ("mosa", "none"): Method(beta=0.1),
        ("a2d", "slow"): Method(objective="a2d", learning_rate=1e-5),
        ("a2d", "none"): Method(objective="a2d")}


def test_a_setting_that_no_recipe_has_is_refused():
    with pytest.raises(ValidationError, match="rate: Extra inputs"):
        Search(**PAIRS, settings={"high": {"rate": 1.0}}, candidates={"mosa": {}})


def factorial(odd=None, deciding=None, **factors):
    every = {name: list(levels) for name, levels in factors.items()}
    return Factorial(**PAIRS, bases=1, recipe={"lora_r": 1, "k_end": 30}, factors=factors,
                     odd=odd or {}, deciding=deciding or every)


def test_a_cell_of_a_factorial_is_the_recipe_with_its_levels_changes():
    some = factorial(refusal={"start": {"refuse_at": "start"}, "middle": {}},
                     window={"wide": {"k_end": 90}, "narrow": {}})
    assert some.method({"refusal": "start", "window": "wide"}) == Method(
        lora_r=1, k_end=90, refuse_at="start")
    assert some.method({"refusal": "middle", "window": "narrow"}) == Method(lora_r=1, k_end=30)


def test_a_level_that_changes_what_no_recipe_has_is_refused():
    with pytest.raises(ValidationError, match="rate: Extra inputs"):
        factorial(rate={"high": {"rate": 1.0}})


@pytest.mark.parametrize(("wrong", "message"), [
    ({"odd": {"window": ["wid"]}}, "odd: window has no level 'wid'"),
    ({"odd": {"windw": ["wide"]}}, "odd: windw has no level 'wide'"),
    ({"deciding": {"window": ["wid"]}}, "deciding: window has no level 'wid'")])
def test_levels_that_no_factor_has_are_named(wrong, message):
    with pytest.raises(ValidationError, match=message):
        factorial(window={"wide": {"k_end": 90}, "narrow": {}}, **wrong)


def test_the_cells_that_decide_name_a_level_of_every_factor():
    with pytest.raises(ValidationError, match="deciding: must name levels of eos, too"):
        factorial(window={"wide": {}}, eos={"yes": {}}, deciding={"window": ["wide"]})
