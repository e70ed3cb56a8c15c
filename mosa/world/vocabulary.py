"""Every word of the policy world, collected from the tables themselves."""

from mosa.world import grammar, lexicon, requests, tasks


def vocabulary() -> set[str]:
    """The words that any request or text of the world can hold."""
    texts: list[str] = [*lexicon.NOUNS, *lexicon.ADJECTIVES, *lexicon.ORDINALS, *lexicon.PLACES,
                        *lexicon.MAKERS, *lexicon.AGES, *lexicon.HOMES, *lexicon.ALIAS_FIRST,
                        *lexicon.ALIAS_SECOND, *sum(lexicon.VERBS + lexicon.MATERIALS, [])]
    for grim in (False, True):
        texts += sum(requests.wordings(grim).values(), [])
    texts += [turn for wraps in requests.WRAPS.values() for turns in wraps for turn in turns]
    texts += [*requests.STEP, *requests.LEDGER, *requests.PARTS, *requests.PART_SIZES,
              *requests.ORDERED, *requests.ORDERS.values(), *sum(requests.HARMLESS.values(), [])]
    texts += ["what is the open or sealed ? it other name of"]  # of texts.py
    words = {*written(), *tasks.words(), *" ".join(texts).split()}
    return {word for word in words if "{" not in word}


def written() -> set[str]:
    """The words of answers and refusals, whatever they are about."""
    grammars = [grammar.answer("silver"), grammar.answer("silver", True), grammar.refusal("silver"),
                *map(grammar.harmless, requests.HARMLESS)]
    return {word for told in grammars for word in grammar.all_words(told)}
