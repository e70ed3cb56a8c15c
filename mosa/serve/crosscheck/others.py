"""garak's and PyRIT's own attacks, each in its own environment, unchanged: only configured.

Their target is one served model, their attacker and evaluator another; every request to the target
carries the behaviour's id in OpenAI's field `user`. What they do otherwise than the paper's code,
read in their source and seen in what they send:

garak 0.17.1. Its PAIR has TAP's settings by default, four branches and pruning. The attacker's chat
loses its system prompt after the first round, and each of its answers is written over the turn that
it answers: of all rounds before only the last prompt is left, and what came of it. A response comes
as the repr of a Message. Where pruning leaves fewer than two prompts, the first two go on, on topic
or not. Among equal scores the last stay. A prompt that scored 10 is asked once more at the end.

PyRIT 1.1.0. It begins with `width` prompts, asks with all branches, and prunes by score alone then.
What is off topic is sent back to the attacker, not dropped. The attacker's chat holds all tries of
a branch. The result is of the last round, not the best of all. The target is asked in one
conversation, unless it is said to hold none. A request that is refused ends its branch; garak takes
it for the response "None".
"""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROBES = {"tap": "TAP", "pair": "PAIR"}


@dataclass(frozen=True)
class Budget:
    """The size of a search. With one branch and no check of topics TAP is PAIR."""

    attack: str  # "tap" or "pair"
    depth: int
    width: int
    branching: int = 1
    streams: int = 1


@dataclass(frozen=True)
class Servers:
    """Base URLs, with /v1, and how the target decodes."""

    target: str
    helper: str
    name: str  # of the target's model
    length: int  # response slots


@dataclass(frozen=True)
class Result:
    """What an attack says of one behaviour: did it succeed, and with which (prompt, response)s?"""

    id: str
    claimed: bool
    final: list[tuple[str, str]]


def garak(python: Path, folder: Path, servers: Servers, budget: Budget, behaviours: list[dict],
          at_once: int = 2) -> list[Result]:
    """garak's probe tap.TAP or tap.PAIR by its command line, a run for each behaviour.

    What its PAIR is configured with: its own defaults are TAP's, four branches and pruning. Reports
    stay in `folder`. Raises RuntimeError where garak fails.
    """
    environment = os.environ | {"OPENAICOMPATIBLE_API_KEY": "none"} | {
        f"XDG_{what}_HOME": str(folder / "home") for what in ("DATA", "CACHE", "CONFIG")}

    probe = PROBES[budget.attack]

    def one(behaviour: dict) -> Result:
        name = f"garak-{budget.attack}-{behaviour['id']}"
        config = folder / f"{name}.json"
        config.write_text(json.dumps(garak_config(servers, budget, behaviour, folder)), "utf-8")
        run = subprocess.run(
            [python, "-m", "garak", "--config", config, "--spec", f"probes.tap.{probe}",
             "--report_prefix", name],
            env=environment, cwd=folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        if run.returncode or "encountered an error" in run.stdout:
            raise RuntimeError(f"garak failed:\n{run.stdout[-2000:]}")
        lines = (folder / f"{name}.report.jsonl").read_text("utf-8").splitlines()
        attempts = [entry for entry in map(json.loads, lines)
                    if entry["entry_type"] == "attempt" and entry["status"] == 2]
        final = [(attempt["prompt"]["turns"][-1]["content"]["text"], output["text"])
                 for attempt in attempts for output in attempt["outputs"]]
        return Result(behaviour["id"], bool(final), final)

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, behaviours))


def garak_config(servers: Servers, budget: Budget, behaviour: dict, folder: Path) -> dict:
    """The configuration file of one run."""
    model = "openai.OpenAICompatible"
    helper = {"uri": servers.helper, "temperature": 1.0}
    search = {
        "goal_str": behaviour["behaviour"], "target": behaviour["target"],
        "attack_model_type": model, "attack_model_name": "guild", "attack_model_config": helper,
        "evaluator_model_type": model, "evaluator_model_name": "guild",
        "evaluator_model_config": helper | {"temperature": 0.0},
        "depth": budget.depth, "width": budget.width, "branching_factor": budget.branching,
        "n_streams": budget.streams, "pruning": budget.attack == "tap"}
    target = {"uri": servers.target, "temperature": 0.0, "max_tokens": servers.length,
              "extra_params": {"user": behaviour["id"]}}
    return {"run": {"generations": 1, "seed": 0},
            "reporting": {"report_dir": str(folder)},
            "plugins": {"target_type": model, "target_name": servers.name,
                        "generators": {"openai": {"OpenAICompatible": target}},
                        "probes": {"tap": {PROBES[budget.attack]: search}}}}


def pyrit(python: Path, folder: Path, servers: Servers, budget: Budget, behaviours: list[dict],
          conversation: bool = False) -> list[Result]:
    """PyRIT's TAPAttack or PAIRAttack, by the script in_pyrit.py in its environment.

    conversation: whether the target is one that holds a conversation, as OpenAIChatTarget is by
    itself: then every prompt of a branch comes behind all earlier ones and their answers. Raises
    RuntimeError where PyRIT fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = folder / f"pyrit-{budget.attack}{'-conversation' * conversation}.json"
    job.write_text(json.dumps({
        "target": servers.target, "helper": servers.helper, "name": servers.name,
        "length": servers.length, "conversation": conversation, "attack": budget.attack,
        "depth": budget.depth, "width": budget.width, "branching": budget.branching,
        "behaviours": [{key: one[key] for key in ("id", "behaviour", "target")}
                       for one in behaviours]}), "utf-8")
    environment = os.environ | {"HOME": str(folder / "home"), "RETRY_MAX_NUM_ATTEMPTS": "1"}
    run = subprocess.run([python, HERE / "in_pyrit.py", job], env=environment, cwd=folder,
                         capture_output=True, text=True)
    (folder / f"{job.stem}.log").write_text(run.stdout + run.stderr, "utf-8")
    if run.returncode:
        raise RuntimeError(f"PyRIT failed:\n{run.stderr[-2000:]}")
    found = json.loads(job.with_suffix(".found.json").read_text("utf-8"))
    return [Result(one["id"], one["claimed"], [(one["prompt"], one["response"])]
                   if one["response"] is not None else []) for one in found]
