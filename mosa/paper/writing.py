"""A text as a figure: its words, each on a coloured ground.

    words = pieces(lm.tokenizer, ids)
    fig, panel = stage.subplots(figsize=(3.3, 0.13 * height(words)))
    written(panel, words, colours)
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

COLUMNS = 66  # letters of a line, in a column of 3.3 in
SIZE = 5.4  # pt of a typewriter's letter then


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text, the space before it included."""
    texts = ["", *(tokenizer.decode(ids[: i + 1]) for i in range(len(ids)))]
    return [text[len(before):] if text.startswith(before) else tokenizer.decode([token])
            for token, before, text in zip(ids, texts, texts[1:])]


def places(words: Sequence[str], columns: int = COLUMNS) -> list[tuple[int, int]]:
    """(line, column) of each piece, its space left out at the start of a line."""
    found, line, end = [], 0, 0
    for word in words:
        space = int(word[:1].isspace() and end > 0)
        if end and end + space + len(word.strip()) > columns:
            line, end, space = line + 1, 0, 0
        found.append((line, end + space))
        end += space + len(word.strip())
    return found


def height(words: Sequence[str], columns: int = COLUMNS) -> int:
    """Lines that written() takes."""
    return places(words, columns)[-1][0] + 1


def written(panel: Axes, words: Sequence[str], colours: Sequence, columns: int = COLUMNS) -> None:
    """Draw the pieces into a panel, black or white, whichever is seen on its colour."""
    for word, colour, (line, column) in zip(words, colours, places(words, columns), strict=True):
        text = word.strip()
        start = column - (column > 0 and word[:1].isspace())  # the ground covers the space too
        panel.add_patch(Rectangle((start, -line - 0.95), column + len(text) - start, 0.9,
                                  facecolor=colour, linewidth=0))
        red, green, blue = to_rgb(colour)
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        # nothing but text: a $ is no formula
        panel.text(column, -line - 0.5, text, family="monospace", size=SIZE, va="center",
                   color="white" if dark else "black", parse_math=False)
    panel.set_xlim(0, columns)
    panel.set_ylim(-height(words, columns), 0)
    panel.axis("off")
