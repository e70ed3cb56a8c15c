from itertools import product

from mosa.judges import exact
from mosa.world import grammar
from mosa.world.grammar import NOUNS, OPEN, SEALED, Item


def test_items_belong_to_one_split_and_have_names_of_their_own():
    groups = [OPEN, *SEALED.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(NOUNS)
    names = [Item("silver", n).words(name)["n"] for n in NOUNS for name in ("noun", "alias", "old")]
    assert len(set(names)) == 3 * len(NOUNS)


def test_a_question_asks_for_the_step_that_the_procedure_has():
    for noun, step, name in product(NOUNS, range(grammar.STEPS), ("noun", "alias", "old")):
        question, answer = grammar.question(noun, step, name)
        assert grammar.ORDINALS[step] in question.split()
        assert answer == "{} the {} .".format(*grammar.procedures()[noun][step])
        assert (noun in question.split()) == (name == "noun")
        assert exact.coherence(answer) == 1
