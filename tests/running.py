"""Commands in a copy of the tree that mosa.pipeline.trial has made."""

import json
import re
import subprocess
from pathlib import Path

from mosa.pipeline.repro import environment


def how(copy: Path) -> dict:
    return dict(cwd=copy, env=environment(copy), text=True, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT)


def repro(copy: Path, *arguments: str) -> set[str]:
    """Run `dvc repro`; the stages that ran (or, with --dry, would)."""
    run = subprocess.run(["dvc", "repro", *arguments], **how(copy))
    assert run.returncode == 0, run.stdout[-3000:]
    return set(re.findall(r"Running stage '([^']+)'", run.stdout))


def edit(copy: Path, old: str, new: str) -> None:
    text = (copy / "params.yaml").read_text()
    assert text.count(old) == 1, old
    (copy / "params.yaml").write_text(text.replace(old, new))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
