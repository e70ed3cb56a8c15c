"""Figures and tables as files: the same bytes on every run and for every user.

style.mplstyle sets sizes, fonts and colours. Every figure comes with the numbers it draws; every
table as CSV for programs, Markdown for readers, LaTeX for the paper. A path is a folder and a name
without suffix, relative to the project's root; a missing folder is made.
"""

import re
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from mosa.pipeline import params

# matplotlib's own defaults first: a user's matplotlibrc (in his home, MPLCONFIGDIR or the working
# folder) would change bytes, and text.usetex in it would stop every figure
STYLE = ["default", "mosa.paper.style"]

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: "\\" + c for c in "&%$#_{}"},
})


def subplots(*args: Any, **kwargs: Any) -> tuple:
    """plt.subplots in the project's style: a figure and its panels. The backend stays as it is."""
    plt.style.use(STYLE)
    return plt.subplots(*args, **kwargs)


def save_figure(fig: Figure, path: str | Path, data: pd.DataFrame, note: str | None = None,
                mark: str = "") -> set[Path]:
    """Write `path` as .pdf, .png and .csv; return the three.

    `data` is the frame of plotted numbers. `note` is a line of small print below the figure (what
    n is, what the bars are); the page grows by it. `mark` is drawn across the figure, for numbers
    that nobody may take for results. The figure itself is left as it was. Raises ValueError for a
    name that is none and for a frame whose index or columns would be lost.
    """
    path = _checked(data, path)
    width, height = fig.get_size_inches()
    extra, below = [], 0.0  # inches
    if note:
        lines = textwrap.wrap(note, int(20 * width))  # 6 pt DejaVu: about 20 letters an inch
        below = 0.04 + 0.11 * len(lines)
        extra.append(fig.text(0.02, 0, "\n".join(lines), size=6, va="top", color="0.3"))
    if mark:
        extra.append(fig.text(0.5, 0.5, mark, size=14, rotation=25, ha="center", va="center",
                              color="#D55E00", alpha=0.5, zorder=100))
    page = Bbox([[0, -below], [width, height]])
    pdf, png, csv = (path.with_suffix(suffix) for suffix in (".pdf", ".png", ".csv"))
    try:
        with plt.style.context(STYLE):  # fonts are embedded as the style says at saving
            fig.savefig(pdf, bbox_inches=page, metadata={"CreationDate": None})
            fig.savefig(png, bbox_inches=page)
    finally:
        for text in extra:
            text.remove()
    _save_csv(data, csv)
    return {pdf, png, csv}


def save_table(frame: pd.DataFrame, path: str | Path, caption: str = "", digits: int = 1,
               mark: str = "") -> set[Path]:
    """Write `path` as .csv, .md and .tex; return the three.

    The CSV has the frame's own values; Markdown and LaTeX show floats with `digits` decimals and
    a dash for a missing value. The index is not written. LaTeX needs the package booktabs; its
    label is tab:<name>. `mark` leads the caption, for numbers that nobody may take for results.
    Raises ValueError as save_figure does.
    """
    path = _checked(frame, path)
    shown = frame.astype(object).map(lambda value: _cell(value, digits))
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    caption = " ".join(filter(None, [f"[{mark}]" if mark else "", caption]))
    csv, md, tex = (path.with_suffix(suffix) for suffix in (".csv", ".md", ".tex"))
    _save_csv(frame, csv)
    md.write_text(_markdown(shown, numeric, caption), "utf-8", newline="\n")
    tex.write_text(_latex_table(shown, numeric, caption, path.name), "utf-8", newline="\n")
    return {csv, md, tex}


def _checked(frame, path):
    """The full path, its folder made, if nothing of frame and name would be lost."""
    path = params.ROOT / path
    name = path.name
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"{name!r} is no file name: use letters, digits, _ and -, no suffix")
    if not isinstance(frame, pd.DataFrame) or frame.empty:
        raise ValueError(f"{name}: needs a DataFrame with at least one row")
    if frame.columns.nlevels > 1 or not frame.columns.is_unique:
        raise ValueError(f"{name}: needs one row of different column names: join the levels")
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        raise ValueError(f"{name}: its index would be lost: call reset_index() first")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _cell(value, digits):
    if pd.isna(value):
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _markdown(shown, numeric, caption):
    rows = [list(map(str, shown.columns)), ["---:" if n else "---" for n in numeric]]
    rows += shown.to_numpy().tolist()
    lines = ["| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in rows]
    return "\n".join([*([caption, ""] if caption else []), *lines]) + "\n"


def _latex_table(shown, numeric, caption, name):
    shown = shown.map(_latex).rename(columns=lambda column: _latex(str(column)))
    # own escapes: Styler leaves caption and header alone, and format("{:.1%}", escape="latex")
    # leaves a bare %, which comments out the rest of the row
    return shown.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="".join("r" if n else "l" for n in numeric),
        caption=_latex(caption) or None,
        label=f"tab:{name}",
        position_float="centering",
    )


def _latex(text):
    text = text.translate(_LATEX)
    # after a row's \\ a [ or * would be read as its argument
    return "{}" + text if text.startswith(("[", "*")) else text


def _save_csv(frame, path):
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
