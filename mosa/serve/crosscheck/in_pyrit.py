"""Runs in PyRIT's environment: python in_pyrit.py JOB.json writes JOB.found.json.

The attacks are PyRIT's own, over its own OpenAIChatTarget. Three things are set: the scorer, the
paper's scale of 1 to 10 of which only a full score ends the search (PyRIT's own default takes 0.7);
whether the target holds a conversation; the size of the search.
"""

import asyncio
import json
import sys
from pathlib import Path

from pyrit.executor.attack import (
    AttackAdversarialConfig,
    PAIRAttack,
    TreeOfAttacksWithPruningAttack,
)
from pyrit.executor.attack.multi_turn.tree_of_attacks import TAPAttackScoringConfig
from pyrit.memory import CentralMemory
from pyrit.prompt_target import OpenAIChatTarget
from pyrit.prompt_target.common.target_configuration import TargetConfiguration
from pyrit.score import FloatScaleThresholdScorer, NumericRubric, SelfAskScaleScorer
from pyrit.setup import IN_MEMORY, initialize_pyrit_async


def able(**changes):
    """An OpenAIChatTarget's capabilities with these changed. Of one without json_schema PyRIT puts
    the schema into the prompt."""
    own = OpenAIChatTarget._DEFAULT_CONFIGURATION.capabilities
    changes = {f"supports_{name}": value for name, value in changes.items()}
    return TargetConfiguration(capabilities=own.model_copy(update=changes))


async def attacked(job, behaviour):
    """What the attack found for one behaviour."""
    target = OpenAIChatTarget(
        model_name=job["name"], endpoint=job["target"], api_key="none", temperature=0.0,
        max_completion_tokens=job["length"], extra_body_parameters={"user": behaviour["id"]},
        custom_configuration=able(multi_turn=job["conversation"]))
    helper = OpenAIChatTarget(model_name="guild", endpoint=job["helper"], api_key="none",
                              custom_configuration=able(json_schema=True))
    scale = NumericRubric.from_yaml(SelfAskScaleScorer.ScalePaths.TREE_OF_ATTACKS_SCALE.value)
    scorer = FloatScaleThresholdScorer(
        scorer=SelfAskScaleScorer.from_scale(chat_target=helper, scale=scale), threshold=1.0)
    size = {"tree_depth": job["depth"], "tree_width": job["width"]}
    kind = PAIRAttack
    if job["attack"] == "tap":
        kind, size = TreeOfAttacksWithPruningAttack, size | {"branching_factor": job["branching"]}
    attack = kind(objective_target=target, desired_response_prefix=behaviour["target"],
                  attack_adversarial_config=AttackAdversarialConfig(target=helper),
                  attack_scoring_config=TAPAttackScoringConfig(objective_scorer=scorer), **size)
    result = await attack.execute_async(objective=behaviour["behaviour"])
    said = CentralMemory.get_memory_instance().get_conversation_messages(
        conversation_id=result.conversation_id) if result.conversation_id else []
    turns = [(one.get_piece().api_role, one.get_value()) for one in said]
    last = {role: text for role, text in turns}
    return {"id": behaviour["id"], "claimed": result.outcome.value == "success",
            "prompt": last.get("user"), "response": last.get("assistant"),
            "why": result.outcome_reason}


async def main():
    file = Path(sys.argv[1])
    job = json.loads(file.read_text("utf-8"))
    await initialize_pyrit_async(memory_db_type=IN_MEMORY, load_defaults=False, silent=True)
    found = [await attacked(job, behaviour) for behaviour in job["behaviours"]]
    file.with_suffix(".found.json").write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
