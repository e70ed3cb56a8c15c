import matplotlib.pyplot as plt
from tiny_model import tokenizer_of_the_world

from mosa.paper import writing

TEXT = "first , heat the copper . <eos> then , bend the iron ."


def test_pieces_are_the_text():
    tokenizer = tokenizer_of_the_world()
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    found = writing.pieces(tokenizer, ids)
    assert "".join(found) == tokenizer.decode(ids) and len(found) == len(ids)
    assert found[:3] == ["first", " ,", " heat"]


def test_lines_hold_their_columns_and_a_word_is_not_split():
    words = ["first", " ,", " heat", " the", " copper"]
    assert writing.places(words, 7) == [(0, 0), (0, 6), (1, 0), (2, 0), (3, 0)]
    assert writing.height(words, 7) == 4 and writing.height(words) == 1
    # parts of words, as byte-level tokenizers have them
    assert writing.places(["un", "told", " $x"], 9) == [(0, 0), (0, 2), (0, 7)]


def test_words_are_seen_on_their_grounds():
    fig, panel = plt.subplots()
    writing.written(panel, ["a", " $b", " c"], ["black", "0.9", (1, 1, 1, 1)])
    fig.canvas.draw()  # a lone $ would be a broken formula
    assert [text.get_color() for text in panel.texts] == ["white", "black", "black"]
    assert [text.get_text() for text in panel.texts] == ["a", "$b", "c"]
    assert [patch.get_x() for patch in panel.patches] == [0, 1, 4]
    plt.close(fig)
