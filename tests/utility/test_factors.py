from itertools import product

import numpy as np
import pytest
from scipy import stats as distributions

from mosa.utility.factors import cells, effect, fit, interaction, jointly

FACTORS = {"place": ["start", "middle", "both"], "eos": ["yes", "no"], "state": ["all", "part"]}
ODD = {"place": ["both"], "eos": ["no"], "state": ["part"]}
CLUSTERS = ["run", "noun"]
EVERY = [dict(zip(FACTORS, levels)) for levels in product(*FACTORS.values())]


def rows(some, value, base="a", nouns=6):
    """One row a cell and noun; value(cell, noun) is the outcome."""
    return [cell | {"run": f"{base}{sorted(cell.items())}", "noun": noun, "base": base,
                    "value": value(cell, noun)} for cell in some for noun in range(nouns)]


def mean(rows, **levels):
    return np.mean([r["value"] for r in rows if all(r[k] == v for k, v in levels.items())])


@pytest.fixture(scope="module")
def full():
    """Every combination, each with outcomes of its own: no model with pairs alone fits them."""
    rng = np.random.default_rng(0)
    return rows(EVERY, lambda cell, noun: rng.random())


# --- the cells ---------------------------------------------------------------------------------


def test_halves_are_disjoint_and_complete():
    halves = [cells(FACTORS, ODD, half) for half in (0, 1)]
    assert [len(half) for half in halves] == [6, 6]
    assert sorted(map(str, sum(halves, []))) == sorted(map(str, EVERY))


def test_a_half_has_an_even_number_of_odd_levels_and_the_other_an_odd_one():
    for half in (0, 1):
        for cell in cells(FACTORS, ODD, half):
            assert sum(cell[name] in ODD[name] for name in cell) % 2 == half


def test_without_odd_levels_half_0_is_everything():
    assert cells(FACTORS, {}, 0) == EVERY and cells(FACTORS, {}, 1) == []


@pytest.mark.parametrize(("odd", "message"), [
    ({"eos": ["maybe"]}, "odd: eos has no level 'maybe': use one of yes, no"),
    ({"end": ["no"]}, "odd: end has no level 'no'")])
def test_an_odd_level_that_is_none_is_named(odd, message):
    with pytest.raises(ValueError, match=message):
        cells(FACTORS, odd, 0)


# --- estimates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "here", "there"), [
    ("place", "middle", "start"), ("place", "both", "middle"), ("eos", "no", "yes")])
def test_an_effect_in_a_full_design_is_the_difference_of_means(full, name, here, there):
    for pairs in (True, False):
        found = effect(fit(full, "value", FACTORS, CLUSTERS, pairs=pairs), FACTORS,
                       {name: here}, {name: there})
        assert found["mean"] == pytest.approx(mean(full, **{name: here})
                                              - mean(full, **{name: there}))
        assert found["low"] < found["mean"] < found["high"] and found["n"] == len(full)


@pytest.mark.parametrize(("one", "other"), [
    (("place", "middle", "start"), ("eos", "no", "yes")),
    (("place", "both", "middle"), ("state", "part", "all")),
    (("eos", "no", "yes"), ("state", "all", "part"))])
def test_an_interaction_in_a_full_design_is_the_difference_of_differences(full, one, other):
    (a, here, there), (b, where, elsewhere) = one, other
    expected = (mean(full, **{a: here, b: where}) - mean(full, **{a: there, b: where})
                - mean(full, **{a: here, b: elsewhere}) + mean(full, **{a: there, b: elsewhere}))
    fitted = fit(full, "value", FACTORS, CLUSTERS)
    assert interaction(fitted, FACTORS, one, other)["mean"] == pytest.approx(expected)
    assert interaction(fitted, FACTORS, other, one)["mean"] == pytest.approx(expected)


def test_levels_of_several_factors_are_taken_together(full):
    fitted = fit(full, "value", FACTORS, CLUSTERS)
    found = effect(fitted, FACTORS, {"place": "both", "eos": "no"}, {"place": "start", "eos": "no"})
    assert found["mean"] == pytest.approx(mean(full, place="both", eos="no")
                                          - mean(full, place="start", eos="no"))


def true(cell, noun=0):
    """Main effects and one interaction, which the model holds."""
    return (0.2 + 0.3 * (cell["place"] == "middle") - 0.1 * (cell["place"] == "both")
            + 0.05 * (cell["eos"] == "no") + 0.2 * (cell["state"] == "part")
            + 0.15 * (cell["place"] == "middle") * (cell["eos"] == "no"))


def by_turns(value, bases="abc"):
    """Base models, each of its own level, take the halves in turn."""
    return [row for i, base in enumerate(bases) for row in rows(
        cells(FACTORS, ODD, i % 2), lambda cell, noun, i=i: value(cell, noun) + 0.1 * i, base)]


def test_known_effects_are_recovered_from_halves_that_base_models_take_in_turn():
    fitted = fit(by_turns(true), "value", FACTORS, CLUSTERS, "base")
    for (name, here, there), expected in ((("place", "middle", "start"), 0.3 + 0.15 / 2),
                                          (("place", "both", "start"), -0.1),
                                          (("eos", "no", "yes"), 0.05 + 0.15 / 3),
                                          (("state", "part", "all"), 0.2)):
        found = effect(fitted, FACTORS, {name: here}, {name: there})
        assert found["mean"] == pytest.approx(expected)
    eos = ("eos", "no", "yes")
    for place, expected in (("middle", 0.15), ("both", 0)):
        assert interaction(fitted, FACTORS, ("place", place, "start"), eos)["mean"] == (
            pytest.approx(expected, abs=1e-9))


def test_the_level_of_a_base_model_is_no_effect():
    """The halves of two base models are one apart: without `fixed` that is an interaction."""
    some = [row | {"value": float(row["base"] == "b")} for row in by_turns(true, "ab")]
    three = ("place", "both", "start"), ("eos", "no", "yes")
    assert interaction(fit(some, "value", FACTORS, CLUSTERS, "base"), FACTORS, *three)["mean"] == (
        pytest.approx(0, abs=1e-9))


def test_what_the_cells_do_not_tell_apart_is_refused():
    two = {"place": FACTORS["place"][:2], "eos": FACTORS["eos"]}
    odd = {"place": ["middle"], "eos": ["no"]}
    half = rows(cells(two, odd, 0), lambda cell, noun: 1.0 * (cell["eos"] == "no"))
    for pairs in (True, False):  # the place is the end
        with pytest.raises(ValueError, match="do not tell all terms of the model apart"):
            fit(half, "value", two, CLUSTERS, pairs=pairs)
    three = {**two, "state": FACTORS["state"]}
    half = rows(cells(three, odd | {"state": ["part"]}, 0), true)
    with pytest.raises(ValueError, match="another half too, or leave the pairs out"):
        fit(half, "value", three, CLUSTERS)
    found = effect(fit(half, "value", three, CLUSTERS, pairs=False), three, {"state": "part"},
                   {"state": "all"})
    assert found["n"] == len(half)


def test_a_level_that_nobody_ran_is_refused():
    some = [row for row in rows(EVERY, true) if row["place"] != "both"]
    with pytest.raises(ValueError, match="do not tell all terms"):
        fit(some, "value", FACTORS, CLUSTERS)


# --- intervals ---------------------------------------------------------------------------------


def naive(some, contrast):
    """Width of the 95 % interval of a difference of two means of rows taken as independent."""
    one, other = ([r["value"] for r in some if r["place"] == place] for place in contrast)
    error = (np.var(one, ddof=1) / len(one) + np.var(other, ddof=1) / len(other)) ** 0.5
    return distributions.norm.ppf(0.975) * error


def drawn(rng, seeds, run, noun):
    """Halves that three base models take in turn, with as many trainings a cell; the standard
    deviations of what a training and what a noun, by the place, have of their own luck."""
    some, leaning = [], {(i, place): rng.normal(0, noun) for i in range(12)
                         for place in FACTORS["place"]}
    for i, seed in product(range(3), range(seeds)):
        for cell in cells(FACTORS, ODD, i % 2):
            luck = 0.1 * i + rng.normal(0, run)
            some += rows([cell], lambda cell, noun, luck=luck: (
                true(cell) + luck + leaning[noun, cell["place"]] + rng.normal(0, 0.1)),
                f"{i}", nouns=12)
            for row in some[-12:]:
                row["run"] += f"/{seed}"
    return some


@pytest.mark.parametrize(("seeds", "run", "noun"), [  # 18 and 36 runs, for 12 terms
    (1, 0.1, 0.0), (2, 0.1, 0.0), (2, 0.1, 0.1), (2, 0.0, 0.1)])
def test_the_interval_covers_the_truth_and_one_without_clusters_does_not(seeds, run, noun):
    rng, times, covered, independent = np.random.default_rng(0), 200, 0, 0
    expected = 0.3 + 0.15 / 2
    for _ in range(times):
        some = drawn(rng, seeds, run, noun)
        found = effect(fit(some, "value", FACTORS, CLUSTERS, "base"), FACTORS,
                       {"place": "middle"}, {"place": "start"})
        covered += found["low"] <= expected <= found["high"]
        independent += abs(found["mean"] - expected) <= naive(some, ("middle", "start"))
    assert covered / times >= 0.9
    assert independent / times < 0.9


def test_all_terms_of_an_interaction_at_once_find_it_where_it_is_and_seldom_where_it_is_not():
    rng, times, found, false = np.random.default_rng(1), 100, 0, 0
    for _ in range(times):
        fitted = fit(drawn(rng, 2, 0.05, 0.05), "value", FACTORS, CLUSTERS, "base")
        found += jointly(fitted, "place", "eos")["p"] < 0.05
        false += jointly(fitted, "state", "place")["p"] < 0.05
    assert found / times > 0.8 and false / times <= 0.1
    assert jointly(fitted, "place", "eos") == jointly(fitted, "eos", "place")
    assert jointly(fitted, "place", "eos")["terms"] == 2


def test_outcomes_that_never_differ_interact_nowhere():
    fitted = fit(rows(EVERY, lambda cell, noun: 0.0), "value", FACTORS, CLUSTERS)
    assert jointly(fitted, "place", "eos") == {"F": None, "terms": 2, "p": 1.0}


def test_p_is_below_5_percent_where_the_interval_leaves_out_0(full):
    fitted = fit(full, "value", FACTORS, CLUSTERS)
    for name, levels in FACTORS.items():
        for here in levels[1:]:
            found = effect(fitted, FACTORS, {name: here}, {name: levels[0]})
            assert (found["p"] < 0.05) == (found["low"] > 0 or found["high"] < 0)


def test_outcomes_that_never_differ_have_no_effect_and_no_interval():
    found = effect(fit(rows(EVERY, lambda cell, noun: 0.0), "value", FACTORS, CLUSTERS), FACTORS,
                   {"eos": "no"}, {"eos": "yes"})
    assert found == {"mean": 0, "low": None, "high": None, "p": 1.0, "n": 72}
