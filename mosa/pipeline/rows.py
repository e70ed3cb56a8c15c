"""What a stage writes: rows, numbers, and the finished chunks of an unfinished run.

DVC starts a stage from nothing. A stage that was killed therefore keeps its finished chunks in
.scratch/<stage>/<key>.jsonl, outside DVC's outs, where `key` is the fingerprint of everything the
rows depend on: parameters, inputs, model and code. The stage's out is written at the end.

Relative paths are relative to the project's root, wherever the kernel runs.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import BaseModel
from tqdm import tqdm

from mosa.pipeline import params
from mosa.pipeline.closure import reached
from mosa.pipeline.params import cure, need


def fingerprint(*parts: Any) -> str:
    """sha256 (32 hex digits of it) over the parts, in order.

    A Path stands for the bytes of its file, or for the names and bytes of all files below its
    folder; a typed section or a dataclass for its values; all else for itself as JSON.
    """
    text = json.dumps(parts, sort_keys=True, allow_nan=False, default=_content)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def resumable_map(function: Callable[[Any], list[dict]], chunks: Sequence[Any], stage: str,
                  key: str, label: str, workers: int = 1) -> list[dict]:
    """All rows of `function(chunk) -> list[dict]` over the chunks, in order, each chunk once.

    A chunk finished by an earlier, killed run with the same stage and key is read back if it is
    the same one: a changed batch size computes its chunks afresh. For the same rows with and
    without a kill, `function` must use nothing but its chunk: seeds belong in the chunk, not in a
    generator that runs on. Chunks are JSON-able; rows come back as JSON gives them (a tuple is a
    list). `workers` threads take chunks side by side; rows are kept in order, a chunk at a time.
    """
    path = params.ROOT / ".scratch" / stage / f"{key}.jsonl"
    prints = [fingerprint(chunk) for chunk in chunks]
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")
    with file:
        finished = _finished(file, prints)
        rows, n = sum(finished, []), len(finished)
        if n:
            print(f"{label}: {n} of {len(chunks)} already done")
        # every refresh is a line of the executed notebook; what takes less than `delay` has none
        progress = tqdm(total=len(chunks), initial=n, desc=label, mininterval=10, delay=10,
                        file=sys.stderr)
        with progress, ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(function, chunk) for chunk in chunks[n:]]
            try:
                for chunk, future in zip(prints[n:], futures, strict=True):
                    line = _chunk(chunk, future.result())
                    with _one_line(path):
                        file.write(line)
                        file.flush()
                        os.fsync(file.fileno())
                    rows += json.loads(line)["rows"]
                    progress.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)  # else the chunks after an error go on
                raise
    return rows


def done(stage: str) -> None:
    """Forget the stage's finished chunks, once its outs are written: a forced rerun repeats all."""
    shutil.rmtree(params.ROOT / ".scratch" / stage, ignore_errors=True)


def write_jsonl(path: str | Path, rows: list[dict]) -> Path:
    """One row a line, keys sorted, no NaN; whole or not at all. Returns the full path."""
    lines = [json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False) for row in rows]
    return _write(path, "".join(f"{line}\n" for line in lines))


def read_jsonl(path: str | Path) -> list[dict]:
    """The rows of a JSON lines file; a missing file is need()'s error."""
    rows = []
    with open(need(path), encoding="utf-8") as file:
        try:
            for line in file:
                rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"{path}:{len(rows) + 1}: is not JSON ({error}): {cure(path)}") from None
    return rows


def write_json(path: str | Path, value: Any) -> Path:
    """Indented JSON, keys sorted, no NaN; whole or not at all. Returns the full path."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return _write(path, text + "\n")


def rounded(value: Any, key: str) -> Any:
    """The value with floats of six significant digits: the last bits differ from CPU to CPU.

    Nested dicts and lists, numpy scalars among them; NaN is a ValueError that names its key, which
    begins with `key`.
    """
    if isinstance(value, dict):
        return {str(k): rounded(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v, f"{key}.{i}") for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}: a number must be finite; write None if undefined")
        return float(f"{value:.6g}")
    return value


def code(*modules: str) -> str:
    """A hash over the named modules and every module of mosa that they may import.

    code("mosa.lm.sampler") is a part of the fingerprint of rows that the sampler made: a mended
    line anywhere below it computes them afresh. Raises ValueError for a module that is not there.
    """
    return fingerprint(reached(modules))


def _finished(file: BinaryIO, prints: list[str]) -> list[list[dict]]:
    """The rows of the stored chunks whose fingerprints begin `prints`.

    What follows the first torn line or the first other chunk is cut off.
    """
    file.seek(0)
    found, good = [], 0
    for line, chunk in zip(file, prints, strict=False):
        try:
            stored = json.loads(line)
        except ValueError:  # torn: the run was killed while it wrote
            break
        if not line.endswith(b"\n") or stored["chunk"] != chunk:
            break
        found.append(stored["rows"])
        good += len(line)
    file.truncate(good)
    return found


def _chunk(chunk: str, rows: list[dict]) -> bytes:
    """The line that keeps a finished chunk."""
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ValueError(f"a chunk's result must be a list of dict rows; it is {rows!r:.60}")
    return json.dumps({"chunk": chunk, "rows": rows}, allow_nan=False).encode() + b"\n"


def _content(part: Any) -> Any:
    if isinstance(part, Path):
        part = need(part)
        if part.is_dir():
            files = sorted(p for p in part.rglob("*") if p.is_file())
            return {file.relative_to(part).as_posix(): _content(file) for file in files}
        with open(part, "rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    if isinstance(part, BaseModel):
        return part.model_dump()
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return dataclasses.asdict(part)
    raise TypeError(f"no fingerprint for {type(part).__name__}: give numbers, text, rows or a Path")


def _write(path: str | Path, text: str) -> Path:
    path = params.ROOT / path
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """An OSError on the way to `path` becomes one line with the path and the cure."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"cannot write {path} ({error.strerror}): make its folder writable, with space left"
        ) from None
