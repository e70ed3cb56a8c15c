"""DIA asks for the behaviour and its rewrites, each in a made-up history, and returns every row."""


import pytest

from mosa.attacks import dia
from mosa.attacks.drive import each_form, user

LINES = {"greeting": "hello", "agreed": "gladly", "go on": "go on", "puzzle": "riddle : {request}"}
EXAMPLES = [("a {kettle}", "the lid"), ("a pot", "the rim"), ("a jug", "the ear")]


class Target:
    def __init__(self):
        self.waves = []

    def generate(self, requests, sampler, part):
        self.waves.append(requests)
        return [{"request": r, "response": {"text": f"re {r['messages'][-3]['content']}",
                                            "forwards": 4}, "verdicts": {}} for r in requests]


class Helper:
    """Numbers its rewrites; an opening repeats what is asked for."""

    phrases, lines, examples = {"affirmative": ("sure ,", "yes ,")}, LINES, EXAMPLES

    def __init__(self, rewrites=99, openings=1):
        self.most, self.openings, self.seeds = rewrites, openings, []

    def rewrite(self, behaviour, manner, n, seed):
        yield from ()
        self.seeds.append((manner, seed))
        text = behaviour["behaviour"]
        if manner == "begun":
            return [f"of {text}"][: self.openings]
        return [f"{text}{i}" for i in range(min(n, self.most))]

    def score(self, behaviour, texts):
        raise AssertionError("DIA scores nothing")


B = {"id": "b", "behaviour": "x", **user("x")}


def run(helper=None, behaviours=(B,), **values):
    target = Target()
    found = dia.run(target, list(behaviours), helper or Helper(), dia.Config(**values), None)
    return target.waves, found.rows


def test_the_published_setting_asks_ten_times_a_form_and_returns_all():
    waves, rows = run()
    assert [len(wave) for wave in waves] == [10, 10] and len(rows) == 20
    for form, some in (("continue", rows[:10]), ("task", rows[10:])):
        assert {(row["request"]["goal"], row["request"]["access"]) for row in some} == {
            (form, "A1")}
        assert [row["request"]["try"] for row in some] == list(range(10))
        assert {row["response"]["search_queries"] for row in some} == {9}


def test_the_first_try_is_the_behaviour_itself():
    _, rows = run(rewrites=2, forms=["continue"])
    assert [row["response"]["text"] for row in rows] == ["re x", "re x0", "re x1"]
    assert len(run(rewrites=0, forms=["continue"])[1]) == 1


def test_fewer_rewrites_are_fewer_tries():
    assert len(run(Helper(rewrites=3), forms=["task"])[1]) == 4


def test_the_history_of_each_form():
    helper = Helper()
    helper.examples = EXAMPLES[:1]
    [[asked], [task]], _ = run(helper, rewrites=0)
    assert [turn["content"] for turn in asked["messages"]] == [
        "hello", "gladly", "x", "of x", "go on"]
    assert [turn["content"] for turn in task["messages"]] == [
        "hello", "gladly", "riddle : a {kettle}", "the lid", "riddle : x", "of x", "go on"]


SOME = [B | {"id": f"b{i}"} for i in range(60)]


def test_each_behaviour_draws_its_example_and_keeps_it_for_all_tries():
    _, rows = run(behaviours=SOME, forms=["task"], rewrites=2)
    shown = {}
    for row in rows:
        number, turns = row["request"]["example"], row["request"]["messages"]
        question, solved = EXAMPLES[number]
        assert [turn["content"] for turn in turns[2:4]] == [f"riddle : {question}", solved]
        shown.setdefault(row["request"]["id"], set()).add(number)
    assert {len(numbers) for numbers in shown.values()} == {1}
    assert {number for numbers in shown.values() for number in numbers} == {0, 1, 2}


def test_an_example_is_drawn_by_seed_and_behaviour_alone():
    def drawn(some, **values):
        _, rows = run(behaviours=some, rewrites=0, forms=["task"], **values)
        return {row["request"]["id"]: row["request"]["example"] for row in rows}

    assert drawn(SOME) == drawn(SOME[::-1]) != drawn(SOME, seed=1)


def test_who_goes_on_has_seen_no_example():
    _, rows = run(forms=["continue"])
    assert {row["request"]["example"] for row in rows} == {None}


def test_roles_alternate_from_user_to_user():
    for wave in run()[0]:
        for request in wave:
            roles = [turn["role"] for turn in request["messages"]]
            assert set(roles[::2]) == {"user"} and set(roles[1::2]) == {"assistant"}
            assert len(roles) % 2


def test_every_try_has_an_opening_of_its_own_request():
    helper = Helper()
    [wave], _ = run(helper, forms=["continue"], rewrites=2)
    assert [request["messages"][3]["content"] for request in wave] == ["of x", "of x0", "of x1"]
    assert len(set(helper.seeds)) == len(helper.seeds) == 4


def test_an_opening_that_the_helper_does_not_write_is_an_affirmative_phrase():
    [wave], _ = run(Helper(openings=0), forms=["continue"], rewrites=1)
    assert [request["messages"][3]["content"] for request in wave] == ["sure ,"] * 2


def test_rows_keep_the_behaviour_that_judges_read():
    _, rows = run(forms=["continue"])
    assert {row["request"]["behaviour"] for row in rows} == {"x"}


@pytest.mark.parametrize("form", dia.FORMS)
def test_its_history_is_refused_to_an_attacker_of_prompts(form):
    with pytest.raises(PermissionError, match=r"gladly.*needs A1"):
        each_form("dia", dia.attack, {form: "A0"}, Target(), [B], Helper(),
                  dia.Config(forms=[form]), None)
