"""Cohen's kappa: its value, its interval's coverage, and when there is none."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from mosa import stats
from mosa.judges.agreement import _effective, agreement

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40)


def flags(both, only_first, only_second, neither):
    counts = both, only_first, only_second, neither
    first, second = (sum(([value] * n for value, n in zip(values, counts)), [])
                     for values in ((True, True, False, False), (True, False, True, False)))
    return first, second


def drawn(rng, groups, size, kappa, positive, alike):
    """Flags of two judges with that kappa, and the group of each row; of a group's rows, a share
    `alike` copies one verdict pair."""
    same = positive**2 + kappa * positive * (1 - positive)
    other = (1 - positive) ** 2 + kappa * positive * (1 - positive)
    chances = [other, (1 - same - other) / 2, (1 - same - other) / 2, same]
    group = np.repeat(np.arange(groups), size)
    own, shared = rng.choice(4, group.size, p=chances), rng.choice(4, groups, p=chances)
    cells = np.where(rng.random(group.size) < alike, shared[group], own)
    return (cells // 2 == 1).tolist(), (cells % 2 == 1).tolist(), group.tolist()


@given(PAIRS)
@settings(deadline=None)
def test_kappa_is_statsmodels_and_symmetric(pairs):
    first, second = map(list, zip(*pairs))
    assume(len({*first}) == len({*second}) == 2)
    found, turned = agreement(first, second), agreement(second, first)
    table = [[found["neither"], found["only_second"]], [found["only_first"], found["both"]]]
    assert found["kappa"] == pytest.approx(cohens_kappa(table, return_results=False))
    assert turned["kappa"] == pytest.approx(found["kappa"])
    assert (turned["only_first"], turned["both"]) == (found["only_second"], found["both"])
    assert -1 <= found["low"] <= found["kappa"] <= found["high"] <= 1
    assert found["low"] < found["high"]


@given(st.lists(st.booleans(), min_size=2, max_size=60))
@settings(deadline=None)
def test_judges_that_always_agree_have_1_with_room_below(values):
    assume(len({*values}) == 2)
    found = agreement(values, values)
    assert found["kappa"] == found["high"] == 1 > found["low"]
    assert found["agree"]["rate"] == 1


def test_more_rows_leave_less_room():
    lows = [agreement(*flags(n, 0, 0, n))["low"] for n in (4, 16, 64, 256)]
    assert lows == sorted(lows) and lows[0] < 0.5 and lows[-1] > 0.95
    assert agreement(*flags(16, 0, 0, 16), draws=8)["low"] < lows[1]


def test_independent_judges_have_about_0():
    rng = np.random.default_rng(0)
    found = agreement((rng.random(4000) < 0.3).tolist(), (rng.random(4000) < 0.6).tolist())
    assert abs(found["kappa"]) < 0.05 and found["low"] < 0 < found["high"]


def test_in_many_rows_the_interval_is_the_large_sample_one():
    first, second = flags(300, 60, 40, 600)
    found = agreement(first, second)
    known = cohens_kappa([[600, 40], [60, 300]])
    assert found["low"] == pytest.approx(known.kappa_low, abs=0.005)
    assert found["high"] == pytest.approx(known.kappa_upp, abs=0.005)


def test_copies_of_rows_say_no_more_when_their_clusters_are_known():
    first, second = flags(12, 4, 3, 21)
    alone = agreement(first, second)
    copied = agreement(first * 5, second * 5, [[*range(40)] * 5])
    blind = agreement(first * 5, second * 5)
    assert copied["kappa"] == blind["kappa"] == pytest.approx(alone["kappa"])
    widths = [found["high"] - found["low"] for found in (alone, copied, blind)]
    assert widths[1] == pytest.approx(widths[0], abs=0.06) and widths[2] < 0.6 * widths[0]


def jackknife(cells, groups):
    """Variance of kappa, from what it is without each of the groups."""
    kept = [np.bincount(cells[groups != group], minlength=4) for group in np.unique(groups)]
    without = [cohens_kappa(table.reshape(2, 2), return_results=False) for table in kept]
    return np.var(without) * (len(without) - 1)


@pytest.mark.parametrize("together", range(4))
def test_rows_in_clusters_count_as_many_as_the_jackknife_says(together):
    cells = np.repeat(range(4), (240, 160, 240, 320))
    rows = np.arange(cells.size)  # those of one cell of the table hang together by fours
    groups = np.where(cells == together, -1 - rows // 4, rows)
    alone, found = (_effective(cells, np.bincount(cells), [way.tolist()], None)
                    for way in (rows, groups))
    assert alone / found > 1.2
    assert alone / found == pytest.approx(jackknife(cells, groups) / jackknife(cells, rows),
                                          rel=0.03)


def test_few_clusters_have_students_quantile():
    first, second = flags(4, 1, 1, 4)
    wide, narrow = (agreement(first, second, way) for way in ([range(10)], []))
    assert wide["high"] - wide["low"] > 1.03 * (narrow["high"] - narrow["low"])


@pytest.mark.parametrize(("groups", "size", "kappa", "positive", "alike"), [
    (20, 1, 0.5, 0.5, 0), (60, 1, 0.9, 0.3, 0), (60, 1, 0.0, 0.2, 0), (25, 4, 0.6, 0.4, 0.6)])
def test_the_interval_covers(groups, size, kappa, positive, alike):
    rng, covered, blind, n = np.random.default_rng(7), 0, 0, 0
    for _ in range(120):
        first, second, group = drawn(rng, groups, size, kappa, positive, alike)
        found = agreement(first, second, [group] if size > 1 else [])
        if found["kappa"] is not None:
            n += 1
            covered += found["low"] <= kappa <= found["high"]
            without = agreement(first, second) if size > 1 else found
            blind += without["low"] <= kappa <= without["high"]
    assert n > 110 and 0.89 <= covered / n <= 0.995
    assert size == 1 or blind / n < 0.87  # as if rows were independent


@pytest.mark.parametrize(("first", "second", "why"), [
    ([], [], "no row"), ([None, True], [True, None], "no row"),
    ([False] * 5, [False] * 5, "the first judge has one verdict"),
    ([True, True, True], [True, False, True], "the first judge has one verdict"),
    ([True, False, True], [False] * 3, "the second judge has one verdict"),
    ([True, False, None], [True, True, False], "the second judge has one verdict")])
def test_where_there_is_no_kappa_it_is_none_and_says_why(first, second, why):
    found = agreement(first, second)
    assert found["kappa"] is found["low"] is found["high"] is None
    assert why in found["why"]
    json.dumps(found, allow_nan=False)


def test_rows_that_one_judge_could_not_read_are_counted_and_left_out():
    first, second = flags(8, 2, 3, 9)
    groups = [*range(11)] * 2
    whole = agreement(first, second, [groups])
    found = agreement([*first, None, None, True], [*second, True, None, None], [[*groups, 1, 2, 3]])
    assert (found["unread_first"], found["unread_second"]) == (2, 2)
    assert found == whole | {"unread_first": 2, "unread_second": 2}
    assert (found["n"], found["both"], found["only_first"], found["only_second"],
            found["neither"]) == (22, 8, 2, 3, 9)
    assert found["agree"] == stats.rate([True] * 17 + [False] * 5, [
        [g for g, a, b in zip(groups, first, second) if a == b]
        + [g for g, a, b in zip(groups, first, second) if a != b]])


def test_scores_and_other_lengths_are_refused():
    with pytest.raises(ValueError, match="threshold the scores first"):
        agreement([5, 1], [True, False])
    with pytest.raises(ValueError, match="one flag and one label a row"):
        agreement([True, False], [True])
    with pytest.raises(ValueError, match="one flag and one label a row"):
        agreement([True, False], [True, False], [[0]])
