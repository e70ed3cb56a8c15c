"""An attack on many behaviours of one target, in this process, in several, or over Ray.

    helper = partial(make_helper, "attacker")     # each shard makes its own
    found = sweep("tap", target, behaviours, helper, cfg, sampler, compute)

Behaviours are cut into shards, and those of one shard advance together (mosa.attacks.drive). Shards
do not depend on who works on them, and so rows do not. Shards of another size are other batches:
the shipped model's log-likelihoods differ by up to 1.4e-5 nats then, its responses not at all, if
each request has a seed of its own (else a seed says which request of its batches it is).
A finished shard is kept in .scratch/<stage>/shard-<i>/, and beside it what an unfinished one has
asked so far, for whoever goes on with it, until mosa.pipeline.rows.done(stage).
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, Literal

import torch
from tqdm import tqdm

from mosa.attacks.drive import Found
from mosa.attacks.helpers import Helper
from mosa.pipeline import params
from mosa.pipeline.params import Count, Section
from mosa.pipeline.rows import code, fingerprint, resumable_map
from mosa.pipeline.sections import Sampler
from mosa.pipeline.workers import J, R, side_by_side
from mosa.target import Target, environment

RETRIES = 3  # of a job whose Ray worker was lost


class Compute(Section):
    executor: Literal["local", "ray"] = "local"
    workers: Count = 1  # of one thread each; 1 of "local" is this process, with all its threads
    shard: Count = 16  # behaviours that advance together


def sweep(module: str, target: Target, behaviours: Sequence[dict], helper_spec: partial[Helper],
          cfg: Section, sampler: Sampler, compute: Compute, **more: partial) -> Found:
    """mosa.attacks.<module>.run(target, behaviours, helper, cfg, sampler), shard by shard: rows and
    queries in the order of the behaviours, those of one behaviour in the order of its forms. The
    target counts what was asked of it in all shards.

    helper_spec: a partial of an importable function or class of mosa, over values that have a
    fingerprint (mosa.pipeline.rows). So is each of `more`: what else `run` takes, such as a model.

    Over Ray a shard is a task of one CPU, and of one GPU where the cluster has any. RAY_ADDRESS
    names a cluster that runs, whose nodes see this project under the same path; else one starts
    here with `workers` CPUs, and stays until this process ends.

    Raises what `run` raises; ValueError for two behaviours of one id, and for rows that bear
    another attack's name; ImportError without Ray; RuntimeError for a shard that has lost 1 +
    RETRIES workers.
    """
    place = {behaviour["id"]: i for i, behaviour in enumerate(behaviours)}
    if len(place) < len(behaviours):
        raise ValueError("two behaviours have one id: attack each once")
    made = {"helper": helper_spec} | more
    attack = partial(_attacked, module=module, made=made, cfg=cfg, sampler=sampler,
                     key=_key(module, target, made, cfg, sampler))
    shards = [(replace(target, stage=f"{target.stage}/shard-{n:03d}", queries=0, forwards=0),
               list(behaviours[i : i + compute.shard]))
              for n, i in enumerate(range(0, len(behaviours), compute.shard))]
    if compute.executor == "ray":
        done = over_ray(attack, shards, compute.workers, target.stage)
    elif compute.workers > 1:
        done = side_by_side(attack, shards, compute.workers, target.stage)
    else:
        done = [attack(shard) for shard in shards]
    target.queries += sum(one["asked"] for one in done)
    target.forwards += sum(one["forwards"] for one in done)
    rows, queries = (sorted((row for one in done for row in one[kind]),
                            key=lambda row: place[row["request"]["id"]])
                     for kind in ("rows", "queries"))
    return Found(rows, queries, added(line for one in done for line in one["tally"]))


def added(lines: Iterable[dict]) -> list[dict]:
    """Tallies of several shards as one: counts added by task."""
    found: dict[str, dict] = {}
    for line in lines:
        one = found.setdefault(line["task"], dict.fromkeys(line, 0) | {"task": line["task"]})
        for key in line.keys() - {"task"}:
            one[key] += line[key]
    return list(found.values())


def over_ray(function: Callable[[J], R], jobs: Sequence[J], workers: int, label: str) -> list[R]:
    """[function(job) for job in jobs] by up to `workers` tasks of Ray at once, one thread each,
    with a progress bar; see mosa.pipeline.workers.side_by_side. What runs at the first error runs
    on, and keeps what it finishes."""
    try:
        import ray
    except ImportError:
        raise ImportError("params.yaml: attack.compute.executor: ray needs Ray: `pip install ray`, "
                          "or set it to local") from None

    def alone(job: J) -> R:
        torch.set_num_threads(1)
        return function(job)

    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
        own = {} if "RAY_ADDRESS" in os.environ else {
            "address": "local", "num_cpus": workers, "include_dashboard": False,
            "object_store_memory": 2**27}  # jobs and results are text
        ray.init(**own, log_to_driver=False, logging_level=logging.WARNING)
    task = ray.remote(num_cpus=1, num_gpus=min(1, ray.cluster_resources().get("GPU", 0)),
                      max_retries=RETRIES)(alone)
    todo, running, found = iter(enumerate(jobs)), {}, {}
    try:
        with tqdm(total=len(jobs), desc=label, mininterval=10, delay=10, file=sys.stderr) as bar:
            while len(found) < len(jobs):
                some = islice(todo, workers - len(running))
                running |= {task.remote(job): i for i, job in some}
                [ref], _ = ray.wait(list(running))
                found[running.pop(ref)] = ray.get(ref)
                bar.update()
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # the worker's traceback
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"{label}: a job has lost {1 + RETRIES} workers "
                           f"({type(error).__name__}): see to their memory and run again, what is "
                           "finished is kept") from None
    return [found[i] for i in range(len(jobs))]


def _attacked(shard: tuple[Target, list[dict]], module: str, made: dict[str, partial], cfg: Section,
              sampler: Sampler, key: str) -> dict[str, Any]:
    """What was found of a shard, and what it cost: `asked`, responses, and `forwards`."""
    target, behaviours = shard

    def fresh(some: list[dict]) -> list[dict]:
        found = import_module(f"mosa.attacks.{module}").run(
            target, some, cfg=cfg, sampler=sampler, **{name: make() for name, make in made.items()})
        for row in found.rows + found.queries:
            if (name := row["request"].get("attack")) != module:
                raise ValueError(f"mosa.attacks.{module}: its rows bear the name {name!r}, and "
                                 f"would count as that attack's: write each_form({module!r}, ...)")
        return [vars(found) | {"asked": target.queries, "forwards": target.forwards}]

    [one] = resumable_map(fresh, [behaviours], target.stage, key, target.stage)
    return one


def _key(module: str, target: Target, made: dict[str, partial], *how: Section) -> str:
    """The fingerprint of all that rows depend on beside the behaviours."""
    recipes = {name: [make.func.__module__, make.func.__qualname__, make.args, make.keywords]
               for name, make in made.items()}
    # which model an endpoint asks is said by the environment
    asked = {k: v for k, v in os.environ.items() if k.startswith("MOSA_") and k.endswith("_MODEL")}
    files = sorted((params.ROOT / target.weights.folder).glob("*.j*"))  # config, tokenizer
    return fingerprint(recipes, asked, target.name, target.trained, target.weights, target.guard,
                       files, how, environment(),
                       code(f"mosa.attacks.{module}", *(recipe[0] for recipe in recipes.values())))
