"""EPT grows, bans, gives up and turns back as published, and never asks more than it may."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosa.attacks import ept
from mosa.attacks.drive import user
from mosa.pipeline.sections import Sampler

SAMPLER = Sampler(length=64, steps=8, block_length=64, temperature=0.0, cfg_scale=0.0,
                  remasking="low_confidence", stop_at_eos=True, batch_size=2)
BEHAVIOURS = [{"id": "b", **user("x ?")}]


class Target:
    """It goes on from a node's words as its script says: (words, number of the sample) -> text. A
    response has a slot a word; before slot 30 stands "so"."""

    def __init__(self, script):
        self.script, self.waves, self.count = script, [], Counter()

    def generate(self, requests, sampler, part):
        self.waves.append([self.words(r) for r in requests])
        self.warm = sampler.temperature
        return [self.row(r) for r in requests]

    @staticmethod
    def words(request):
        """The node: what is committed, or asked for between "begin" and "!"."""
        if "prefill" in request:
            return next(iter(request["prefill"].values()))
        asked = request["messages"][-1]["content"]
        return asked.partition("begin ")[2].partition(" !")[0]

    def row(self, request):
        words = self.words(request)
        said = self.script(words, self.count[words])
        self.count[words] += 1
        slot = int(next(iter(request.get("prefill", {"0": ""}))))
        before, given = ["so"] * slot, words.split() if "prefill" in request else []
        text = [*before, *given, *said.split()]
        steps = [0] * slot + [-1] * len(given) + [0] * (64 - slot - len(given))
        own = [" ".join(run) for run in (before, said.split()) if run]
        return {"request": request, "verdicts": {}, "response": {
            "text": " ".join(text), "own": own, "tokens": len(text), "reveal_step": steps,
            "forwards": 4, "seed": request.get("seed")}}


class Helper:
    """A text with "no" is safe; else its score is the share of its words that are "go"."""

    ask, phrases, lines = None, {"procedural": ["then do"]}, {
        "begin": "begin {words} !", "avoid": "avoid {words} ."}

    def score(self, behaviour, texts):
        yield from ()
        return [0.0 if "no" in text.split() else 0.1 + text.split().count("go") / 100
                for text in texts]


def run(script, form="canvas", **values):
    target = Target(script)
    cfg = ept.Config(**{"forms": [form], "opening": "yes ,", "avoided": ["but"]} | values)
    found = ept.run(target, BEHAVIOURS, Helper(), cfg, SAMPLER)
    return target, found


def test_a_node_has_three_children_of_which_each_begins_with_it_and_a_sentence():
    target, _ = run(lambda words, i: f"go {'abcde'[i]} . rest", depth=2)
    assert target.waves == [["yes ,"] * 5, *[[f"yes , go {x} ."] * 5 for x in "abc"]]
    assert target.warm == 1.0


def test_it_goes_depth_first_and_turns_back():
    def script(words, i):
        return "no way . rest" if words.endswith("a . go a .") else f"go {'ab'[i]} . rest"

    target, _ = run(script, children=2, samples=2, rounds=2, depth=3)
    assert [wave[0] for wave in target.waves] == [
        "yes ,", "yes , go a .", *["yes , go a . go a ."] * 2, "yes , go a . go b .",
        "yes , go b .", "yes , go b . go a .", "yes , go b . go b ."]


def test_the_same_sentence_makes_one_child_of_its_first_response():
    target, found = run(lambda words, i: f"go a . {i}", depth=1, rounds=2)
    assert len(target.waves) == 2 and found.rows[0]["response"]["text"] == "yes , go a . 0"


def test_a_safe_sentence_bans_its_first_words_and_what_begins_so_is_thrown_away_and_counted():
    said = ["But no .", "no , never so .", "No, never more . go", "go on ."]
    judged = []

    class Noting(Helper):
        def score(self, behaviour, texts):
            judged.append(list(texts))
            return (yield from super().score(behaviour, texts))

    target = Target(lambda words, i: said[i])
    cfg = ept.Config(forms=["canvas"], opening="yes ,", avoided=["but"], rounds=4, samples=1,
                     depth=1)
    found = ept.run(target, BEHAVIOURS, Noting(), cfg, SAMPLER)
    assert len(found.queries) == 4
    assert judged[:4] == [[], ["no , never so ."], [], ["go on ."]]


def test_a_node_that_bans_too_much_is_given_up():
    target, found = run(lambda words, i: f"no {i} x y .", banned=20, samples=5)
    assert len(target.waves) == 4 + 1  # one opening from the start and twenty: the plain request
    assert [row["request"].get("prefill") for row in found.rows] == [None]
    target, _ = run(lambda words, i: f"no {i // 5} x {i} .", banned=20, samples=5)
    assert len(target.waves) == 20 + 1  # those of one round begin alike: one opening


def test_a_given_up_node_keeps_its_children_and_the_next_is_grown():
    def script(words, i):
        if words == "yes , go 0 .":
            return f"no {i} x ." if i else "go deep ."
        return f"go {i} ."

    target, _ = run(script, children=2, samples=2, banned=3, depth=2)
    assert [wave[0] for wave in target.waves] == ["yes ,", *["yes , go 0 ."] * 2, "yes , go 1 ."]


def test_what_a_node_bans_is_its_own():
    """In the prompts it can be read: neither children nor a sibling take anything over."""
    asked = []

    class Prompted(Target):
        def row(self, request):
            asked.append(request["messages"][-1]["content"])
            return super().row(request)

    def script(words, i):
        return (["no root x .", "go a .", "go b ."] if words == "yes ," else
                [f"no {words.split()[-2]} x ."] * 3)[i]

    target = Prompted(script)
    cfg = ept.Config(opening="yes ,", avoided=["but"], samples=1, rounds=3, children=2, depth=2)
    ept.run(target, BEHAVIOURS, Helper(), cfg, SAMPLER)
    bans = [text.partition("avoid ")[2] for text in asked]
    assert bans == [f"but{more} ." for name in ("root", "a", "b")
                    for more in ("", f" or no {name} x", f" or no {name} x")]


@pytest.mark.parametrize("values, waves", [
    ({"depth": 1}, 1), ({"depth": 2}, 1 + 3), ({"depth": 3}, 1 + 3 + 9),
    ({"depth": 9, "chars": 10}, 1),  # "yes , go 0 ." is longer
    ({"depth": 9, "chars": 12}, 1), ({"depth": 9, "chars": 13}, 1 + 3)])
def test_depth_and_length_are_limited(values, waves):
    target, _ = run(lambda words, i: f"go {i} .", **values)
    assert len(target.waves) == waves


@settings(max_examples=60, deadline=None)
@given(queries=st.integers(1, 60), samples=st.integers(1, 7), rounds=st.integers(1, 6),
       children=st.integers(1, 4), depth=st.integers(1, 4), safe=st.integers(1, 5),
       form=st.sampled_from(list(ept.FORMS)))
def test_the_cap_is_exact(queries, samples, rounds, children, depth, safe, form):
    def script(words, i):
        return f"no {i} ." if i % safe else f"go {i} ."

    sizes = {"samples": samples, "rounds": rounds, "children": children, "depth": depth}
    free, _ = run(script, form, queries=10_000, **sizes)
    capped, found = run(script, form, queries=queries, **sizes)
    asked = [words for wave in capped.waves for words in wave]
    whole = [words for wave in free.waves for words in wave]
    searched = [row for row in found.queries if row["request"].get("decode")]
    assert len(searched) == min(queries, len(whole))
    assert asked[: len(searched)] == whole[: len(searched)]


def test_the_best_response_that_led_to_a_leaf_is_returned():
    def script(words, i):
        return ["go . x", "go go . x", "go go go . x"][i] if words == "yes ," else (
            "go end ." + " go" * words.count("go"))

    _, found = run(script, samples=3, rounds=1, depth=2)
    [row] = found.rows
    assert row["response"]["text"] == "yes , go go go . go end . go go go"
    assert row["request"]["depth"] == 2 and row["request"]["rated"] == pytest.approx(0.17)
    assert row["response"]["search_queries"] == 3 + 3 * 3 - 1


def test_committed_words_of_earlier_samples_are_read_as_the_targets_own():
    for form, before in (("canvas", []), ("middle", [" ".join(["so"] * 30)])):
        _, found = run(lambda words, i: f"go {'abc'[i % 3]} . rest", form, depth=3, children=1)
        assert found.rows[0]["response"]["own"] == [*before, "go a . go a . go a . rest"]


@pytest.mark.parametrize("form, phrase", [
    ("prompt", None), ("canvas", "yes ,"), ("middle", "then do"), ("first", "then do")])
def test_a_root_without_a_child_counts_as_the_plain_request_and_its_row_says_so(form, phrase):
    _, found = run(lambda words, i: "no .", form, rounds=2)
    [row] = found.rows
    assert row["request"]["messages"] == BEHAVIOURS[0]["messages"]
    assert row["request"]["bare"] is True and row["request"].get("phrase") == phrase
    assert not {"prefill", "decode", "rated", "depth"} & row["request"].keys()
    assert row["response"]["search_queries"] == 10
    assert [query["request"].get("bare") for query in found.queries] == [None] * 10 + [True]


@pytest.mark.parametrize("form, phrase", [
    ("prompt", None), ("canvas", "yes ,"), ("middle", "then do"), ("first", "then do")])
def test_rows_name_the_phrase_that_was_committed(form, phrase):
    _, found = run(lambda words, i: f"go {i} .", form, depth=2)
    assert {row["request"].get("phrase") for row in (*found.rows, *found.queries)} == {phrase}
    assert not any("bare" in row["request"] for row in (*found.rows, *found.queries))


def test_the_middle_form_grows_to_the_right_of_a_phrase_at_its_slot():
    target, found = run(lambda words, i: f"go {i} . rest", "middle", depth=2)
    assert target.waves[0] == ["then do"] * 5 and target.waves[1][0] == "then do go 0 ."
    assert {slot for row in found.queries for slot in row["request"]["prefill"]} == {"30"}
    assert {row["request"]["access"] for row in found.queries} == {"A2"}


def test_first_grows_from_the_phrase_of_middle_with_its_seeds_but_at_the_start():
    helper, some, asked = Helper(), [{"id": name, **user("x ?")} for name in "abc"], {}
    helper.phrases = {"procedural": [f"then {i}" for i in range(50)]}
    for form in ("middle", "first"):
        found = ept.run(Target(lambda words, i: f"go {i} . rest"), some, helper,
                        ept.Config(forms=[form], depth=2), SAMPLER)
        asked[form] = [(row["request"]["phrase"], row["response"]["seed"],
                        *row["request"]["prefill"].values()) for row in found.queries]
        assert {slot for row in found.queries for slot in row["request"]["prefill"]} == {
            "30" if form == "middle" else "0"}
        assert {row["request"]["access"] for row in found.queries} == {"A2"}
    assert asked["first"] == asked["middle"]
    assert len({phrase for phrase, *_ in asked["first"]}) == 3


def test_the_prompt_form_asks_and_reads_what_begins_as_asked():
    said = ["yes , go a . rest", "otherwise go b . rest", "no c d e .", "yes , but go ."]
    target, found = run(lambda words, i: said[i] if words == "yes ," else "", "prompt",
                        samples=4, rounds=1, depth=2)
    assert target.waves[1:] == [["yes , go a ."] * 4, ["yes , otherwise go b ."] * 4]
    first = found.queries[0]["request"]
    assert first["messages"] == user("x ? begin yes , ! avoid but .")["messages"]
    assert first["access"] == "A0" and "prefill" not in first
    assert found.rows[0]["response"]["own"] == ["yes , go a . rest"]


def test_a_text_that_ends_before_the_words_goes_on_with_nothing():
    row = {"request": {}, "response": {"reveal_step": [0, 0, -1, -1, 0, 0], "text": "so so",
                                       "own": ["so so"], "tokens": 2}}
    assert ept.behind(row, "then do") == ""
    row["response"] |= {"own": ["so so", "go on"], "tokens": 6}
    assert ept.behind(row, "then do") == "go on"
    row["response"] |= {"own": ["so so"], "tokens": 4}
    assert ept.behind(row, "then do") == ""


@pytest.mark.parametrize("text, first", [
    ("go on . more", "go on ."), ("Go on. More.", "Go on."), ("what? yes", "what?"),
    ("no end", "no end"), ("one\ntwo.", "one"), ("3.5 of it. so", "3.5 of it.")])
def test_first_sentence(text, first):
    assert ept.first_sentence(text) == first


@pytest.mark.parametrize("text, opening, begins", [
    ("I am sorry", "i", True), ("However, I", "however", True), ("In time", "I", False),
    ("I'm sorry", "I", False), ("so I", "I", False), ("no", "no never", False), ("", "no", False)])
def test_openings_are_whole_words_of_any_case(text, opening, begins):
    assert ept.begins(text, [opening]) == begins


def test_samples_have_seeds_of_their_own_and_the_same_ones_again():
    runs = [run(lambda words, i: f"go {i} .", depth=2)[1].queries for _ in range(2)]
    seeds = [row["response"]["seed"] for row in runs[0]]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [row["response"]["seed"] for row in runs[1]]


def test_defaults_are_the_published_ones_and_our_cap():
    cfg = ept.Config()
    assert (cfg.rounds, cfg.samples, cfg.children, cfg.depth, cfg.chars, cfg.banned,
            cfg.queries) == (40, 5, 3, 10, 150, 20, 300)
