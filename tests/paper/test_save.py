import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mosa.paper.save import save_figure, save_table, subplots
from mosa.pipeline import params


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    yield tmp_path
    plt.close("all")


DATA = pd.DataFrame({"position": [0, 1, 2], "rate": [0.1, 1 / 3, 0.9]})


def figure():
    fig, axes = subplots()
    axes.plot(DATA.position, DATA.rate, label="rate")
    axes.set(xlabel="position", ylabel="rate", title="title")
    axes.legend()
    return fig


def saved(fig, path, **more):
    """The PDF's path, after save_figure."""
    pdf = path.with_suffix(".pdf")
    written = save_figure(fig, path, DATA, **more)
    assert written == {pdf, path.with_suffix(".png"), path.with_suffix(".csv")}
    return pdf


def page_width_and_height(pdf):
    """In points, from the PDF's MediaBox."""
    box = re.search(rb"/MediaBox \[ ([\d. ]+) \]", pdf.read_bytes())[1].split()
    return float(box[2]), float(box[3])


def test_figure_comes_as_pdf_png_and_the_numbers_it_draws(root):
    path = saved(figure(), root / "a/b/fig1")  # folders are made
    assert sorted(p.name for p in path.parent.iterdir()) == ["fig1.csv", "fig1.pdf", "fig1.png"]
    text = (path.parent / "fig1.csv").read_bytes()
    assert text == b"position,rate\n0,0.1\n1,0.333333\n2,0.9\n"


def test_figure_is_one_column_wide_and_grows_only_below(root):
    plain = page_width_and_height(saved(figure(), root / "a"))
    assert plain == pytest.approx((3.3 * 72, 2.2 * 72), abs=0.5)
    note = "n = 120 behaviours each; bars are 95 % Wilson intervals; prefills of four tokens."
    noted = page_width_and_height(saved(figure(), root / "b", note=note))
    assert noted[0] == plain[0] and noted[1] > plain[1] + 8


@pytest.mark.parametrize("more", [{}, {"note": "n = 3", "mark": "rehearsal: random weights"}])
def test_figure_has_the_same_bytes_twice(root, more):
    for name in ("a", "b"):
        saved(figure(), root / name, **more)
    for suffix in ("pdf", "png", "csv"):
        assert (root / f"a.{suffix}").read_bytes() == (root / f"b.{suffix}").read_bytes()
    assert b"CreationDate" not in (root / "a.pdf").read_bytes()


def test_figure_embeds_truetype_whatever_style_the_notebook_has(root):
    with plt.style.context("default"):
        fig, axes = plt.subplots()
        axes.set_title("text")
        path = saved(fig, root / "a")
    assert b"/Type3" not in path.read_bytes() and b"/CIDFontType2" in path.read_bytes()


def test_mark_is_drawn_and_the_figure_left_as_it_was(root):
    fig = figure()
    saved(fig, root / "plain")
    saved(fig, root / "marked", note="note", mark="rehearsal: random weights")
    assert fig.texts == []
    saved(fig, root / "again")
    images = {n: plt.imread(root / f"{n}.png") for n in ("plain", "marked", "again")}
    assert np.array_equal(images["plain"], images["again"])
    height = images["plain"].shape[0]
    changed = (images["plain"] != images["marked"][:height]).any(-1)
    assert 0.005 < changed.mean() < 0.3
    assert (images["marked"][height:] < 1).any()  # the note


def test_colours_are_told_apart_in_grey_and_on_white():
    subplots()
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len(set(colours)) == len(colours) == 7
    for colour in colours:
        r, g, b = matplotlib.colors.to_rgb(colour)
        assert 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.75


TABLE = pd.DataFrame(
    {
        "attack & kind": ["pre_fill", "[none]", "50% | \\x"],
        "rate": ["74.5 [70.1, 78.6] (n=520)", "-", "0.0 [0.0, 1.0] (n=2)"],
        "score": [1.2345678, np.nan, 3.0],
        "n": [1, 20, 300],
    }
)


def test_table_in_three_forms(root):
    path = root / "a/b/tab1"
    written = save_table(TABLE, path, caption="Rates in %")
    assert written == {*path.parent.iterdir()} and len(written) == 3
    assert path.with_suffix(".csv").read_text() == (
        "attack & kind,rate,score,n\n"
        'pre_fill,"74.5 [70.1, 78.6] (n=520)",1.23457,1\n'
        "[none],-,,20\n"
        '50% | \\x,"0.0 [0.0, 1.0] (n=2)",3,300\n'
    )
    assert path.with_suffix(".md").read_text("utf-8") == (
        "Rates in %\n"
        "\n"
        "| attack & kind | rate | score | n |\n"
        "| --- | --- | ---: | ---: |\n"
        "| pre_fill | 74.5 [70.1, 78.6] (n=520) | 1.2 | 1 |\n"
        "| [none] | - | – | 20 |\n"
        "| 50% \\| \\x | 0.0 [0.0, 1.0] (n=2) | 3.0 | 300 |\n"
    )
    assert path.with_suffix(".tex").read_text("utf-8") == (
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{Rates in \\%}\n"
        "\\label{tab:tab1}\n"
        "\\begin{tabular}{llrr}\n"
        "\\toprule\n"
        "attack \\& kind & rate & score & n \\\\\n"
        "\\midrule\n"
        "pre\\_fill & 74.5 [70.1, 78.6] (n=520) & 1.2 & 1 \\\\\n"
        "{}[none] & - & – & 20 \\\\\n"
        "50\\% | \\textbackslash{}x & 0.0 [0.0, 1.0] (n=2) & 3.0 & 300 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


def test_no_percent_sign_is_bare_in_latex(root):
    frame = pd.DataFrame({"a %": ["1%", "%"], "b": ["~^{}$#_&", "x"]})
    save_table(frame, root / "t", caption="100%")
    text = (root / "t.tex").read_text()
    assert not re.search(r"(?<!\\)%", text)
    assert r"\textasciitilde{}\textasciicircum{}\{\}\$\#\_\&" in text


def test_digits_and_mark(root):
    frame = pd.DataFrame({"x": [0.12345]})
    save_table(frame, root / "t", digits=3, mark="rehearsal: random weights")
    assert "| 0.123 |" in (root / "t.md").read_text()
    assert (root / "t.md").read_text().startswith("[rehearsal: random weights]\n")
    assert "{}[rehearsal: random weights]" in (root / "t.tex").read_text()
    save_table(frame, root / "plain")
    assert "caption" not in (root / "plain.tex").read_text()


def test_table_leaves_the_frame_as_it_was(root):
    before = TABLE.copy()
    save_table(TABLE, root / "t")
    pd.testing.assert_frame_equal(TABLE, before)


@pytest.mark.parametrize(
    ("frame", "name", "message"),
    [
        (TABLE, "a b", "no file name"),
        (TABLE, "tab1.csv", "no suffix"),
        (TABLE.set_index("n"), "t", "reset_index"),
        (TABLE.iloc[:0], "t", "at least one row"),
        (TABLE.to_dict(), "t", "needs a DataFrame"),
        (pd.concat([TABLE, TABLE], axis=1), "t", "different column names"),
        (pd.concat({"a": TABLE}, axis=1), "t", "join the levels"),
    ],
)
def test_what_would_be_lost_or_misplaced_is_refused(root, frame, name, message):
    for save in (
        lambda: save_table(frame, root / name),
        lambda: save_figure(plt.figure(), root / name, frame),
    ):
        with pytest.raises(ValueError, match=message):
            save()
    assert not list(root.iterdir())


def test_relative_paths_are_the_projects(root, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    save_table(TABLE, "paper_figures/x/t")
    assert (root / "paper_figures/x/t.csv").exists()


# what users have in a matplotlibrc of their own: other bytes, or, with TeX, no figure at all
SETTINGS = {
    "colours": "savefig.facecolor: lightgray\naxes.titleweight: bold\naxes.edgecolor: red\n"
               "legend.fancybox: False\nsavefig.bbox: tight\nfont.family: serif\n",
    "tex": "text.usetex: True\n",
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_users_matplotlibrc_changes_no_byte(root, settings):
    saved(figure(), root / "plain")
    (root / "matplotlibrc").write_text(SETTINGS[settings])
    with matplotlib.rc_context(fname=root / "matplotlibrc"):
        backend = matplotlib.get_backend()
        saved(figure(), root / "user")
        assert matplotlib.get_backend() == backend
    for suffix in ("pdf", "png"):
        assert (root / f"plain.{suffix}").read_bytes() == (root / f"user.{suffix}").read_bytes()
