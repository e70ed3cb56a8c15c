"""A model that is measured: by its name, loaded when asked, requests in, stored rows out.

    [mosa] = targets(["mosa"], "embedded")          # base or aligned: the same from here on
    rows = mosa.generate(requests, section("embedded", "sampler", Sampler))

Every response is decoded once and kept as a row that judges read later.
"""

import hashlib
import json
import platform
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
import transformers

from mosa.lm import checkpoints, loading
from mosa.lm.fast import batches
from mosa.lm.model import DiffusionLM
from mosa.lm.sampler import denoise
from mosa.pipeline import params
from mosa.pipeline.params import need
from mosa.pipeline.rows import code, fingerprint, resumable_map
from mosa.pipeline.sections import Guard, Sampler
from mosa.pipeline.sections import Target as TargetSection


@dataclass(frozen=True)
class Weights:
    """Files of a model, and the name (with a hash) under which stored rows know them."""

    name: str
    folder: str  # of this project, or a name on the hub
    dtype: str
    adapter: str | None = None  # a folder of this project

    @property
    def card(self) -> dict[str, str]:
        """The base model's part, as alignment takes it."""
        return {"folder": self.folder, "dtype": self.dtype, "weights": self.name}

    def with_adapter(self, folder: str | Path) -> "Weights":
        """The same base model with an adapter, whose hash goes into the name."""
        return replace(self, name=f"{self.name}+{fingerprint(Path(folder))}", adapter=str(folder))


@lru_cache(maxsize=1)  # one model in memory; what follows asks for the same one
def loaded(weights: Weights) -> DiffusionLM:
    """The model, kept until another is asked for: leave it as it is.

    An adapter is merged into its weights, which decodes faster.
    """
    adapter = weights.adapter and params.ROOT / weights.adapter
    lm = loading.load(weights.folder, adapter, weights.dtype)
    if adapter:
        lm.model = lm.model.merge_and_unload()
    return lm


@dataclass
class Target:
    """One measured model. `queries` and `forwards` count what it was asked for so far."""

    name: str  # "original", a method, or a base model
    weights: Weights
    trained: int | None = None  # the training seed of an aligned model
    stage: str = "targets"  # whose finished chunks are kept below .scratch/
    guard: Guard = field(default_factory=Guard)  # a defence without training
    queries: int = field(default=0, compare=False)  # responses generated
    forwards: int = field(default=0, compare=False)  # network forwards they took

    @property
    def lm(self) -> DiffusionLM:
        """The model itself, loaded when first asked for."""
        return loaded(self.weights)

    @property
    def base(self) -> str:
        """The name of the base model's folder."""
        return self.weights.folder.rsplit("/")[-1]

    def reminded(self, request: dict) -> dict:
        """The request as the model is asked it: with the guard's reminder around its last turn,
        once: a request that goes on from a draft has it already. Prompt ids stay."""
        done = request.get("reminded") or not isinstance(request["messages"][0], dict)
        if done or not self.guard.reminder:
            return request
        *head, last = request["messages"]
        content = self.guard.reminder.replace("{request}", last["content"])
        return request | {"messages": [*head, last | {"content": content}], "reminded": True}

    def generate(self, requests: list[dict], sampler: Sampler, part: str = "",
                 seed: int = 0) -> list[dict]:
        """Decode every request: rows {"request", "response", "verdicts"} in the given order.

        A request is a dict with `messages` (chat turns, or prompt ids) and, if the attacker holds
        the canvas, `prefill` ({position: phrase or ids}); all of it is kept in the row. Its seed is
        its own `seed`, or else the i-th of those from `seed` on. The
        response: ids (all response tokens), text (up to the first EOS), own (the runs of it that
        the model wrote itself), tokens (of the text), ended (an EOS was reached), reveal_step,
        forwards, and who answered: model, trained, weights, sampler (its flags), seed,
        environment. `part` names one of several calls of a stage.

        Requests of similar length share a batch, and of a small model on a CPU (mosa.lm.fast) those
        of equal length. On a CPU every thread decodes batches of its own:
        a third faster for a small model than all threads on one batch, with the same rows. Finished
        batches of an interrupted stage are kept under .scratch/ and not decoded again.
        """
        lm, size, requests = self.lm, sampler.batch_size, [self.reminded(r) for r in requests]
        if self.guard.remasking:
            sampler = sampler.model_copy(update={"remasking": self.guard.remasking})
        settings = sampler.model_dump(exclude={"length", "batch_size"})
        lengths = [len(lm.prompt_ids(r["messages"], sampler.length, f"request {r['id']}"))
                   for r in requests]
        chunks = batches(lm.model, lengths, size)
        seeds = [r.get("seed", seed + i) for i, r in enumerate(requests)]
        threads = 1 if lm.device.type == "cuda" else torch.get_num_threads()
        who = {"model": self.name, "base": self.base, "trained": self.trained,
               "weights": self.weights.name,
               "sampler": sampler.model_dump(), "environment": environment()}

        def decode(chunk: list[int]) -> list[dict]:
            if threads > 1:
                torch.set_num_threads(1)  # of this thread
            some = [requests[i] for i in chunk]
            prefill = [{int(k): v for k, v in r.get("prefill", {}).items()} for r in some]
            canvas = lm.canvas([r["messages"] for r in some], sampler.length, prefill)
            out = denoise(lm, canvas, seed=[seeds[i] for i in chunk], **settings)
            written = zip(out.ids.tolist(), out.texts, out.reveal_step.tolist(),
                          out.forwards.tolist(), strict=True)
            return [{"request": r, "response": {
                "ids": ids, "text": text, "own": own(lm, ids, planted(r, steps)),
                "tokens": tokens(ids, lm.eos_id),
                "ended": lm.eos_id in ids, "reveal_step": steps,
                "forwards": forwards, "seed": seeds[i], **who}, "verdicts": {}}
                for i, r, (ids, text, steps, forwards) in zip(chunk, some, written, strict=True)]

        stage = "/".join(filter(None, [self.stage, self.name, f"{self.base}-{self.trained or 0}",
                                       part]))
        files = sorted((params.ROOT / self.weights.folder).glob("*.j*"))  # config, tokenizer
        key = fingerprint(requests, seed, who, self.weights, *files, code("mosa.target"))
        try:
            rows = resumable_map(decode, chunks, stage, key, stage, threads)
        finally:
            torch.set_num_threads(threads)
        by_index = dict(zip(sum(chunks, []), rows, strict=True))
        rows = [by_index[i] for i in range(len(requests))]
        self.queries += len(rows)
        self.forwards += sum(row["response"]["forwards"] for row in rows)
        return rows


def planted(request: dict, reveal_step: list[int]) -> set[int]:
    """The slots that an attacker wrote: those a request says were `given`, else all prefilled
    ones. A draft that is continued is prefilled too, and yet the model's own."""
    return set(request.get("given", [i for i, step in enumerate(reveal_step) if step < 0]))


def tokens(ids: list[int], eos_id: int) -> int:
    """How many tokens the text of a response's ids has: those before the first EOS."""
    return [*ids, eos_id].index(eos_id)


def own(lm: DiffusionLM, ids: list[int], given: Collection[int]) -> list[str]:
    """The texts between the slots of `given`, up to the first EOS: what judges read."""
    runs = [[]]
    for slot, token in enumerate(ids[: tokens(ids, lm.eos_id)]):
        if slot in given:
            runs.append([])
        else:
            runs[-1].append(token)
    return [lm.decode(torch.tensor([run]))[0] for run in runs if run]


def targets(names: list[str], profile: str, seed: int = 0, stage: str = "targets") -> list[Target]:
    """The named models of a profile, as its stage `models` wrote them.

    Of a model that exists on several base models, the first; seed: which training seed's adapter an
    aligned one takes. Raises FileNotFoundError, with the command that cures it, for a model that is
    not there yet.
    """
    if isinstance(names, str):
        raise TypeError(f"names must be a list of models, such as [{names!r}]")
    found = []
    for name in names:
        some = [t for t in every_run(name, profile, stage) if t.trained in (None, seed)][:1]
        if not some:
            raise ValueError(f"results/{profile}/models/{name} has no adapter of training seed "
                             f"{seed}: set models.seed to one of align.seeds in params.yaml")
        found += some
    return found


def every_run(name: str, profile: str, stage: str = "targets") -> list[Target]:
    """One Target for each base model and, of an aligned model, each training seed."""
    folder = f"results/{profile}/models/{name}"
    card = json.loads(need(f"{folder}/card.json").read_text("utf-8"))
    return [Target(name, Weights(run["weights"], run["folder"], run["dtype"],
                                 run["adapter"] and f"{folder}/{run['adapter']}"),
                   run["trained"], stage, Guard(**card["guard"])) for run in card["runs"]]


def original(profile: str, stage: str = "targets") -> Target:
    """The model that a profile measures and every method aligns (its section `target`)."""
    card = json.loads(need(f"results/{profile}/target/card.json").read_text("utf-8"))
    return Target("original", Weights(card["weights"], card["folder"], card["dtype"]), None, stage)


def base(name: str, dtype: str, stage: str = "targets") -> Target:
    """Another base model: a folder models/<name>, any folder of the project, or a hub name."""
    folder = f"models/{name}" if (params.ROOT / "models" / name).is_dir() else name
    local = params.ROOT / folder
    known = f"{folder}-{fingerprint(local)}" if local.is_dir() else folder
    return Target(name.rsplit("/")[-1], Weights(known, folder, dtype), None, stage)


def prepare(cfg: TargetSection, results: str) -> dict:
    """The card of the model that a section `target` names: its folder, dtype and weights' hash.

    `random_layers` first writes a model of LLaDA's own layout with random weights there. Raises
    ValueError where that is not the folder `checkpoint` of `results`, the stage's own.
    """
    if cfg.random_layers:
        if cfg.model != f"{results}/checkpoint":
            raise ValueError(f"target.model: random weights are written to {results}/checkpoint "
                             f"alone, not over {cfg.model}")
        checkpoints.random_llada(params.ROOT / cfg.model, layers=cfg.random_layers)
    folder = params.ROOT / cfg.model
    files = sorted(folder.glob("*.safetensors"))
    return {"folder": cfg.model, "dtype": cfg.dtype,
            "weights": fingerprint(*files) if folder.exists() else cfg.model}


def environment() -> str:
    """A short hash of what a generation depends on beside its inputs."""
    facts = [platform.machine(), platform.python_version(), torch.__version__,
             transformers.__version__,
             torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
