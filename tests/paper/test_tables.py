import pytest

from mosa import stats
from mosa.paper import tables


def row(i, verdict=None, **request):
    return {"request": {"id": i, **request}, "response": {"ids": [1, 2], "text": "a b"},
            "verdicts": verdict or {"world": {"success": True}, "keywords": {"success": False}}}


def test_flat_rows_have_one_judges_verdict_or_none():
    rows = [row("a-1", set="a")]
    flat = {"id": "a-1", "set": "a", "ids": [1, 2], "text": "a b"}
    assert tables.flat(rows, "world") == [flat | {"success": True}]
    assert tables.flat(rows, "keywords") == [flat | {"success": False}]
    assert tables.flat(rows) == [flat]
    assert rows == [row("a-1", set="a")]


def test_a_key_twice_or_no_verdict_is_one_clear_line():
    with pytest.raises(ValueError, match="row a-1: text stands in two of request, resp"):
        tables.flat([row("a-1", text="asked")], "world")
    with pytest.raises(ValueError, match="row a-1: id stands in two"):
        tables.flat([row("a-1", {"world": {"id": 3}})], "world")
    with pytest.raises(ValueError, match="row a-1: no verdict of 'rubric': call"):
        tables.flat([row("a-1")], "rubric")


ROWS = [
    {"id": "r-2", "cell": "plain", "set": "b", "success": True, "score": 5},
    {"id": "r-10", "cell": "plain", "set": "a", "success": False, "score": 1},
    {"id": "r-2", "cell": "page", "set": "b", "success": False, "score": 2},
    {"id": "r-10", "cell": "page", "set": "a", "success": False, "score": 1},
    {"id": "r-1", "cell": "plain", "set": "b", "success": False, "score": 1, "word": 3},
]


def test_cells_come_in_order_of_first_appearance():
    found = tables.cells(ROWS, ["cell", "set"])
    assert list(found) == [("plain", "b"), ("plain", "a"), ("page", "b"), ("page", "a")]
    assert found["plain", "b"] == [ROWS[0], ROWS[4]]
    assert list(tables.cells(ROWS, "cell")) == ["plain", "page"]
    assert list(tables.cells(ROWS, lambda r: r["set"] == "b")) == [True, False]
    assert list(tables.cells(ROWS, "word")) == [None, 3]  # a key that some rows lack
    with pytest.raises(KeyError, match="no row has 'famly'"):
        tables.cells(ROWS, ["famly"])


def test_rates_and_means_by_cell():
    found = tables.rates(ROWS, ["cell", "set"], ["success"])
    assert found["plain", "b"] == {"success": stats.rate([True, False])}
    renamed = tables.rates(ROWS, "cell", {"harmful": "success", "high": lambda r: r["score"] > 1})
    assert renamed == {"plain": {"harmful": stats.rate([1, 0, 0]), "high": stats.rate([1, 0, 0])},
                       "page": {"harmful": stats.rate([0, 0]), "high": stats.rate([1, 0])}}
    assert tables.means(ROWS, "cell", ["score"])["plain"] == {"score": stats.mean([5, 1, 1])}
    within = tables.means(ROWS, "cell", ["score"], within=(1, 5))["plain"]["score"]
    assert within == stats.mean([5, 1, 1], within=(1, 5)) and within["low"] == 1


def test_an_outcome_is_one_flag_a_request_in_sorted_order():
    assert list(tables.outcomes(ROWS, "success").items()) == [
        ("r-1", False), ("r-10", False), ("r-2", True)]
    assert tables.outcomes(ROWS, "success", all)["r-2"] is False


def test_the_rate_of_outcomes_counts_a_request_once():
    rows = worded(12, ("one", "two"))
    assert tables.outcome_rate(rows, "success")["n"] == 12
    assert tables.outcome_rate(rows, "success") == tables.rates(
        worded(12), "model", ["success"])["one"]["success"]


def test_paired_matches_requests_whatever_their_order():
    first = [{"id": str(i), "success": i < 6} for i in range(10)]
    second = [{"id": str(i), "success": i < 2} for i in reversed(range(12))]
    found = tables.paired(first, second, "success")
    flags = [i < 6 for i in range(10)], [i < 2 for i in range(10)]
    assert found == stats.paired_difference(*flags) | {
        "p": stats.mcnemar(*flags)["p"], "differ": 4}
    assert found["n"] == 10  # what stands on one side alone is left out
    with pytest.raises(ValueError, match="no values"):
        tables.paired(first, [{"id": "x", "success": True}], "success")


def test_paired_mean_counts_a_request_once():
    first = [r for r in ROWS if r["id"] != "r-1"]
    second = [{"id": "r-10", "success": True}, {"id": "r-2", "success": False}]
    wanted = stats.mean([0.5 - 0, 0 - 1], within=(-1, 1))
    assert tables.paired_mean(first, second, "success") == wanted | {
        "p": 1.0, "differ": 2}  # one sign each


def worded(n, models=("one",)):
    """Rows of n requests to each model: 4 nouns, 3 wordings."""
    return [{"id": f"r-{i}", "model": m, "category": i % 4, "wording": i % 3, "success": i % 4 == 0}
            for m in models for i in range(n)]


def differing(values):
    return tables.mean_difference([{"id": f"r-{i}", "difference": v} for i, v in enumerate(values)])


def test_few_requests_that_differ_leave_room_for_more():
    one = differing([1] + [0] * 23)
    assert one["high"] == pytest.approx(0.2112, abs=1e-4)  # Clopper and Pearson of 1 of 24
    assert one["low"] == pytest.approx(-0.1425 + (1 - 0.1425) / 24, abs=1e-4)
    none, little = differing([0] * 24), differing([0.01] + [0] * 23)
    assert none["high"] == pytest.approx(0.1425, abs=1e-4)  # of 0 of 24
    assert little["low"] < 0.9 * none["low"] and little["high"] > none["high"]
    for many in ([1] * 8 + [-1] * 8 + [0] * 8, [0.05, 0.06, 0.07] * 8):
        assert differing(many)["high"] == pytest.approx(stats.mean(many)["high"])


def test_three_models_that_agree_are_one_sign_a_request():
    rows = [{"id": f"r-{i}/{m}", "difference": int(i < 4)} for i in range(24) for m in "abc"]
    assert tables.mean_difference(rows)["p"] == 2 * 0.5**4
    alone = [row for row in rows if row["id"].endswith("a")]
    assert tables.mean_difference(alone)["p"] == 2 * 0.5**4


def test_intervals_respect_nouns_and_wordings():
    rows = worded(48)  # one noun carries it all
    assert tables.clusters(rows) == [[r["category"] for r in rows], [r["wording"] for r in rows]]
    found = tables.rates(rows, "model", ["success"])["one"]["success"]
    plain = stats.rate([r["success"] for r in rows])
    assert found["high"] - found["low"] > 2 * (plain["high"] - plain["low"])
    assert tables.means(rows, "model", ["success"])["one"]["success"]["high"] > plain["high"]
    none = [r | {"success": False} for r in rows]
    difference = tables.paired(rows, none, "success")
    assert difference["low"] < 0 < stats.paired_difference(
        [r["success"] for r in rows], [0] * 48)["low"]
    assert tables.paired_mean(rows, none, "success")["low"] < 0


def test_a_request_to_three_models_is_one_draw():
    rows = tables.by_model(worded(24, ("one", "two", "three")))
    assert len({r["id"] for r in rows}) == 72 and tables.draws(rows) == 24
    none = [r | {"success": False, "category": 0, "wording": 0} for r in rows]
    [found] = tables.rates(none, lambda r: 0, ["success"]).values()
    assert found["success"]["high"] == stats.rate([0] * 24)["high"]
    assert len(set(tables.clusters(none)[0])) == 24  # no noun, no wording: the request


def test_differences_and_what_carries_them():
    rows, none = worded(24), [r | {"success": False} for r in worded(30)]
    found = tables.differences(rows, none, "success")
    assert {r["id"]: r["difference"] for r in found} == {r["id"]: r["success"] for r in rows}
    assert tables.left_out(found, "category", "difference") == (0, 1 / 3)
    least, most = tables.left_out(found, "wording", "difference")
    assert least == most == 0.25
    assert tables.left_out(found, "model", "difference") == (0.25, 0.25)


def test_correction_is_over_the_whole_table():
    rows = [{"p": 0.01}, {"p": 0.04}, {"p": 0.03}]
    assert [r["p, Holm"] for r in tables.corrected(rows)] == pytest.approx([0.03, 0.06, 0.06])
    assert tables.corrected([]) == []


def test_numbers_table_cells_and_columns():
    measured = tables.rates(ROWS, ["cell", "set"], ["success"])
    assert list(tables.numbers(measured))[:2] == ["plain/b/success", "plain/a/success"]
    assert list(tables.numbers(tables.rates(ROWS, "cell", ["success"]))) == [
        "plain/success", "page/success"]
    one = measured["plain", "b"] | {"loss": {"mean": 1.5, "low": 1, "high": 2, "n": 2}}
    assert tables.shown(one) == {"success": "50.0 [9.5, 90.5] (n=2)", "loss": "1.50 [1.00, 2.00]"}
    assert list(tables.columns(measured["plain", "b"])) == ["success", "success_low",
                                                            "success_high"]
    assert tables.columns({"loss": one["loss"]}, n=True) == {
        "loss": 1.5, "loss_low": 1, "loss_high": 2, "loss_n": 2}
