"""A profile run in a copy of the tree, so that the committed one and its records stay as they are.

    python -m mosa.pipeline.trial quick                  in .scratch/trial-quick
    python -m mosa.pipeline.trial quick --into FOLDER    elsewhere

The copy's lists say what the profile's section `lists` says, and otherwise name the profile. A run
that was killed goes on where it stopped. At the end paper_figures/<profile> and the executed
notebooks are copied back. Neither git nor a DVC repository is needed: an unpacked archive will do.
"""

import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

from mosa.pipeline import params
from mosa.pipeline.params import LISTS, ParamsError, choice

MARK = ".trial"  # a file in the copy; a folder without it is somebody else's
# what .gitignore does not name, and what a trial makes itself
LEFT_OUT = [".git", ".dvc/cache", ".dvc/tmp", ".dvc/config.local", "paper_figures/", f"/{MARK}"]


def prepare(profile: str, folder: str | Path) -> Path:
    """Make `folder` a copy of the tree that runs `profile`, or bring an earlier copy up to date.

    Results, figures and DVC's records of an earlier trial stay. Returns the folder, resolved.
    Raises ParamsError for an unknown profile or list, ValueError for a folder of another kind.
    """
    lists, copy = _lists(profile), Path(folder).resolve()
    if copy == params.ROOT or copy in params.ROOT.parents:
        raise ValueError(f"{folder} holds the project itself: name an empty folder")
    mark = copy / MARK
    if copy.exists() and any(copy.iterdir()) and not (
            mark.is_file() and mark.read_text("utf-8") == profile):
        raise ValueError(f"{folder} is no copy for the profile {profile}: name an empty folder")
    copy.mkdir(parents=True, exist_ok=True)
    mark.write_text(profile, encoding="utf-8")

    files = {path.relative_to(params.ROOT) for path in _files(params.ROOT, copy)}
    for stale in {path.relative_to(copy) for path in _files(copy)} - files - {Path("dvc.lock")}:
        (copy / stale).unlink()
    for file in files:
        source, target = params.ROOT / file, copy / file
        text = None if file != Path("params.yaml") else _with_lists(source, lists)
        if file == Path("dvc.lock") and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            target.write_text(text, encoding="utf-8", newline="\n")
        elif not (target.exists() and filecmp.cmp(source, target, shallow=False)):
            shutil.copy2(source, target)
    (copy / "executed").mkdir(exist_ok=True)  # papermill does not make it
    local = copy / ".dvc/config.local"  # whatever repository the folder lies in is not meant
    local.parent.mkdir(exist_ok=True)
    local.write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return copy


def environment(copy: Path) -> dict[str, str]:
    """The environment in which commands run in a copy: this Python, the copy's mosa."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(copy), "DVC_NO_ANALYTICS": "1"}


def run(profile: str, folder: str | Path) -> None:
    """Prepare the copy, run the pipeline there, and copy figures and executed notebooks back.

    Raises RuntimeError, in one line, if the pipeline stops; see prepare() for the rest.
    """
    copy = prepare(profile, folder)
    dvc = shutil.which("dvc", path=environment(copy)["PATH"])
    if not dvc:
        raise RuntimeError("dvc is not installed: run `make`, or `pip install -e .`")
    if subprocess.run([dvc, "repro"], cwd=copy, env=environment(copy)).returncode:
        raise RuntimeError(f"the trial of {profile} stopped (see above; notebooks: "
                           f"{copy / 'executed'}): mend that and run it again, it goes on there")
    figures = params.ROOT / "paper_figures" / profile
    shutil.rmtree(figures, ignore_errors=True)
    shutil.copytree(copy / "paper_figures" / profile, figures)
    for notebook in (copy / "executed").glob("*.ipynb"):
        shutil.copy2(notebook, params.ROOT / "executed" / notebook.name)
    print(f"paper_figures/{profile} and executed/ hold what the trial made")


def _lists(profile: str) -> dict[str, list[str]]:
    """The lists that a trial of the profile runs with, as far as they differ from the file's."""
    values = params.read()
    if profile not in params.blocks(values) or profile.startswith("base-"):
        known = [name for name in params.blocks(values) if not name.startswith("base-")]
        raise ParamsError(f"params.yaml: no profile {profile!r}{choice(profile, known)}")
    lists = values[profile].get("lists", {}) if isinstance(values[profile], dict) else {}
    if not isinstance(lists, dict) or {*lists} - {*LISTS}:
        raise ParamsError(f"params.yaml: {profile}.lists: must be a mapping of {', '.join(LISTS)}")
    return {key: params.names(key, value) for key, value in
            {"profiles": [profile], **lists}.items()}


def _with_lists(path: Path, lists: dict[str, list[str]]) -> str:
    """The text of params.yaml with other lists at its top; the rest as it is, comments too."""
    text = path.read_text("utf-8")
    for name, words in lists.items():
        text, n = re.subn(rf"^{name}:[ \t]*\[[^\]]*\]", f"{name}: [{', '.join(words)}]", text,
                          count=1, flags=re.M)
        if not n:
            raise ParamsError(f"params.yaml: {name}: write it in brackets, such as {name}: [a, b]")
    return text


def _files(root: Path, other: Path | None = None) -> Iterator[Path]:
    """What .gitignore and LEFT_OUT leave of a tree, without the folder `other`."""
    ignore = root / ".gitignore"
    lines = ignore.read_text("utf-8").splitlines() if ignore.exists() else []
    ignored = GitIgnoreSpec.from_lines([*lines, *LEFT_OUT])
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if Path(folder, name) != other
                      and not ignored.match_file(f"{(place / name).as_posix()}/")]
        for name in files:
            if not ignored.match_file((place / name).as_posix()):
                yield Path(folder, name)


def _main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m mosa.pipeline.trial", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", help="a block of params.yaml, such as quick")
    parser.add_argument("--into", help="the folder of the copy; .scratch/trial-<profile>")
    options = parser.parse_args(arguments)
    run(options.profile, options.into or params.ROOT / ".scratch" / f"trial-{options.profile}")


if __name__ == "__main__":
    try:
        _main()
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))
