"""Figures and tables as files: paper_figures/<profile>/<name>.*, the same bytes on every run.

`plt.style.use("mosa.paper")` sets sizes, fonts and colours (paper.mplstyle). Every figure comes
with the numbers it draws; every table as CSV for programs, Markdown for readers, LaTeX for the
paper.
"""

import re
import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.transforms import Bbox

from mosa import params
from mosa.resume import merge_numbers, save_numbers

# The numbers' own home is mosa.resume: a measuring stage that imports them from there does not
# depend on this file, and a new figure style does not rerun it.
__all__ = ["format_rate", "merge_numbers", "save_figure", "save_numbers", "save_table"]

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: "\\" + c for c in "&%$#_{}"},
})  # fmt: skip


def save_figure(fig, name, profile, data, note=None, mark=None):
    """Write <name>.pdf, .png and .csv; return the PDF's path.

    `data` is the frame of plotted numbers. `note` is a line of small print below the figure (what
    n is, what the bars are); the page grows by it. `mark` is drawn across the figure, for numbers
    that nobody may take for results. The figure itself is left as it was.
    """
    _check(data, name)
    folder = _folder(profile)
    width, height = fig.get_size_inches()
    extra = []
    below = 0.0  # inches
    if note:
        lines = textwrap.wrap(note, int(20 * width))  # 6 pt DejaVu: about 20 letters an inch
        below = 0.04 + 0.11 * len(lines)
        extra.append(fig.text(0.02, 0, "\n".join(lines), size=6, va="top", color="0.3"))
    if mark:
        extra.append(
            fig.text(0.5, 0.5, mark, size=14, rotation=25, ha="center", va="center",
                     color="#D55E00", alpha=0.5, zorder=100)
        )  # fmt: skip
    page = Bbox([[0, -below], [width, height]])
    try:
        with plt.style.context("mosa.paper"):  # fonts are embedded as the style says at saving
            fig.savefig(folder / f"{name}.pdf", bbox_inches=page, metadata={"CreationDate": None})
            fig.savefig(folder / f"{name}.png", bbox_inches=page)
    finally:
        for text in extra:
            text.remove()
    _save_csv(data, folder / f"{name}.csv")
    return folder / f"{name}.pdf"


def save_table(frame, name, profile, caption="", digits=1, mark=None):
    """Write <name>.csv, .md and .tex; return the CSV's path.

    The CSV has the frame's own values; Markdown and LaTeX show floats with `digits` decimals and
    a dash for a missing value. The index is not written. LaTeX needs the package booktabs. `mark`
    leads the caption, for numbers that nobody may take for results.
    """
    _check(frame, name)
    folder = _folder(profile)
    shown = frame.astype(object).map(lambda value: _cell(value, digits))
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    caption = " ".join(filter(None, [f"[{mark}]" if mark else "", caption]))
    _save_csv(frame, folder / f"{name}.csv")
    _save(_markdown(shown, numeric, caption), folder / f"{name}.md")
    _save(_latex_table(shown, numeric, caption, name), folder / f"{name}.tex")
    return folder / f"{name}.csv"


def format_rate(rate):
    """A row of stats.rate as text in per cent: "74.5 [70.1, 78.6] (n=520)"."""
    share, low, high = (f"{100 * rate[key]:.1f}" for key in ("rate", "low", "high"))
    return f"{share} [{low}, {high}] (n={rate['n']})"


def _check(frame, name):
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"{name!r} is no file name: use letters, digits, _ and -, no suffix")
    if not isinstance(frame, pd.DataFrame) or frame.empty:
        raise ValueError(f"{name}: needs a DataFrame with at least one row")
    if frame.columns.nlevels > 1 or not frame.columns.is_unique:
        raise ValueError(f"{name}: needs one row of different column names: join the levels")
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        raise ValueError(f"{name}: its index would be lost: call reset_index() first")


def _folder(profile):
    folder = params.ROOT / "paper_figures" / profile
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def _save(text, path):
    path.write_text(text, encoding="utf-8", newline="\n")
