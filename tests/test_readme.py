from pathlib import Path

import pytest

from mosa import readme

ROOT = Path(__file__).resolve().parents[1]


def test_readme_shows_the_committed_numbers():
    text = (ROOT / "README.md").read_text("utf-8")
    assert readme.rewritten(text, readme.read_numbers()) == text, "run `python -m mosa.readme`"


def test_lost_markers_are_named():
    with pytest.raises(ValueError, match="markers"):
        readme.rewritten("no markers here", {})
