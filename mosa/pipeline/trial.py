"""A profile run in a copy of the tree, so that the committed one and its records stay as they are.

    python -m mosa.pipeline.trial quick                  in .scratch/trial-quick
    python -m mosa.pipeline.trial quick --into FOLDER    elsewhere
    python -m mosa.pipeline.trial thorough --publish     its adapters then stand in adapters/, too
    python -m mosa.pipeline.trial thorough tables        that stage and what it needs, alone, with
                                                         the shipped adapters in place of trainings

The copy runs this profile alone, with the lists of its section `lists` in place of the file's. A
run that was killed goes on where it stopped. At the end the figures of the stages that ran, with
the hashes of the code and the rows behind them (dvc.lock), are copied to paper_figures/<profile>,
and the executed notebooks back. Neither git nor a DVC repository is needed: an unpacked archive
will do.
"""

import argparse
import os
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from dvc.utils.serialize import dump_yaml, load_yaml
from pathspec import GitIgnoreSpec

from mosa.pipeline import params
from mosa.pipeline.params import LISTS, ParamsError, choice
from mosa.pipeline.repro import check, command, reproduce, stages

MARK = ".trial"  # a file in the copy; a folder without it is somebody else's
# what .gitignore does not name, and what a trial makes itself
LEFT_OUT = [".git", ".dvc/cache", ".dvc/tmp", ".dvc/config.local", "paper_figures/", f"/{MARK}"]


def prepare(profile: str, folder: str | Path, trained: bool = True) -> Path:
    """Make `folder` a copy of the tree that runs `profile`, or bring an earlier copy up to date.

    trained: whether it trains its methods, or measures their shipped adapters. Results, figures and
    DVC's records of an earlier trial stay. Returns the folder, resolved. Raises ParamsError for an
    unknown profile or list, ValueError for a folder of another kind.
    """
    text = _with_lists(lists(profile) | ({} if trained else {"methods": []}))
    copy = Path(folder).resolve()
    if copy == params.ROOT or copy in params.ROOT.parents:
        raise ValueError(f"{folder} holds the project itself: name an empty folder")
    mark = copy / MARK
    if not (mark.is_file() and mark.read_text("utf-8") == profile):
        if copy.exists() and any(copy.iterdir()):
            raise ValueError(f"{folder} is no copy for the profile {profile}: name an empty folder")
        copy.mkdir(parents=True, exist_ok=True)
        mark.write_text(profile, encoding="utf-8")

    files, records = _files(params.ROOT, copy), Path("dvc.lock")
    for stale in _files(copy) - files - {records}:
        (copy / stale).unlink()
    for file in files:
        if file != records or not (copy / file).exists():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(params.ROOT / file, copy / file)
    (copy / "params.yaml").write_text(text, encoding="utf-8", newline="\n")
    if not trained:  # DVC wants to see what no stage makes then
        (copy / "results" / profile / "align").mkdir(parents=True, exist_ok=True)
    lock = copy / ".dvc/tmp/rwlock"
    if lock.exists() and not lock.read_bytes().strip():  # cut short by a kill: DVC cannot read it
        lock.unlink()
    # whatever repository the folder lies in is not meant
    (copy / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return copy


def run(profile: str, folder: str | Path, only: Sequence[str] = (), publish: bool = False) -> None:
    """Prepare the copy, run the pipeline there, and copy figures, dvc.lock and executed notebooks
    back; if they are to be published, also the adapters of the methods that it trained.

    only: stages which run alone, with what they need; the figures and records of all others stay.
    Raises as prepare() and reproduce() do, and ParamsError where what is to be published is none.
    """
    check(only, params.lists() | lists(profile) | {"methods": []})
    mark = params.read()[profile]["judge"]["mark"] if publish and profile in params.read() else ""
    if mark:
        raise ParamsError(f"params.yaml: {profile}.judge.mark: {mark!r} is not published")
    copy = prepare(profile, folder, trained=not only)
    reproduce(copy, only)
    _fetch(copy, profile, stages(copy, only) if only else None)
    for notebook in (copy / "executed").glob("*.ipynb"):
        shutil.copy2(notebook, params.ROOT / "executed")
    if publish:
        _publish(copy / "results" / profile,
                 lists(profile).get("methods", params.lists()["methods"]))
    print(f"paper_figures/{profile} and executed/ hold what the trial made")


def _fetch(copy: Path, profile: str, ran: Collection[str] | None) -> None:
    """Figures and records from the copy, of all stages or of those that `ran`."""
    made, figures = copy / "paper_figures" / profile, params.ROOT / "paper_figures" / profile
    if ran is None:
        shutil.rmtree(figures, ignore_errors=True)
        shutil.copytree(made, figures)
        shutil.copy2(copy / "dvc.lock", figures)
        return
    for name in {stage.partition("@")[0] for stage in ran}:
        if (made / name).is_dir():
            shutil.rmtree(figures / name, ignore_errors=True)
            shutil.copytree(made / name, figures / name)
    records = figures / "dvc.lock"
    kept = load_yaml(records)["stages"] if records.exists() else {}
    new = load_yaml(copy / "dvc.lock")
    new["stages"] = kept | {name: value for name, value in new["stages"].items() if name in ran}
    dump_yaml(records, new)


def _publish(results: Path, methods: list[str]) -> None:
    """Adapters of the methods to adapters/, each with the name and hash of its base model."""
    there = params.ROOT / "adapters"
    for method in methods:
        shutil.rmtree(there / method, ignore_errors=True)
        for adapter in (results / "align" / method).glob("*/"):
            shutil.copytree(adapter, there / method / adapter.name)


def lists(profile: str) -> dict[str, list[str]]:
    """The lists that a trial of the profile runs with, as far as they differ from the file's: those
    of its section `lists`, and no profile or search but its own."""
    known = params.profiles()
    if profile not in known:
        raise ParamsError(f"params.yaml: no profile {profile!r}{choice(profile, known)}")
    own = params.read()[profile].get("lists", {})
    if not isinstance(own, dict) or {*own} - {*LISTS}:
        raise ParamsError(f"params.yaml: {profile}.lists: must be a mapping of {', '.join(LISTS)}")
    own = {"searches": [], **own, "profiles": [profile]}
    return {key: params.names(key, value) for key, value in own.items()}


def _with_lists(lists: dict[str, list[str]]) -> str:
    """The text of params.yaml with other lists at its top; the rest as it is, comments too."""
    text = (params.ROOT / "params.yaml").read_text("utf-8")
    for name, words in lists.items():
        text, n = re.subn(rf"^{name}:[ \t]*\[[^\]]*\]", f"{name}: [{', '.join(words)}]", text,
                          count=1, flags=re.M)
        if not n:
            raise ParamsError(f"params.yaml: {name}: write it in brackets, such as {name}: [a, b]")
    return text


def _files(root: Path, other: Path | None = None) -> set[Path]:
    """What .gitignore and LEFT_OUT leave of a tree, without the folder `other`."""
    lines = (params.ROOT / ".gitignore").read_text("utf-8").splitlines()
    ignored = GitIgnoreSpec.from_lines([*lines, *LEFT_OUT])
    found = set()
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if Path(folder, name) != other
                      and not ignored.match_file(f"{(place / name).as_posix()}/")]
        found |= {place / name for name in files
                  if not ignored.match_file((place / name).as_posix())}
    return found


def _main() -> None:
    parser = argparse.ArgumentParser("python -m mosa.pipeline.trial", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", help="a block of params.yaml, such as quick")
    parser.add_argument("stages", nargs="*", help="names of stages, such as tables; all")
    parser.add_argument("--into", help="the folder of the copy; .scratch/trial-<profile>")
    parser.add_argument("--publish", action="store_true", help="copy its adapters to adapters/")
    options = parser.parse_args()
    if options.publish and options.stages:
        parser.error("--publish: stages alone are run with the shipped adapters")
    name = "-".join(["trial", options.profile, *options.stages])
    run(options.profile, options.into or params.ROOT / ".scratch" / name, options.stages,
        options.publish)


if __name__ == "__main__":
    command(_main)
