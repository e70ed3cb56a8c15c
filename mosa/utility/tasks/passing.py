"""HumanEval as the harness has it, but for its scoring, which runs what a model wrote.

The harness's own file cannot be included: reading it downloads and imports a metric that runs
programs in a process like this one. Its prompt, stop strings and form are taken; completions run in
a sandbox or not at all.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml


def checker() -> Callable[[Mapping[str, str], str], bool]:
    """What tells whether a completion passes the tests of a row (prompt, test, entry_point), which
    it runs, contained. Raises ValueError where there is no such thing."""
    raise ValueError("HumanEval is scored by running what the model wrote, and there is no sandbox "
                     "for that: store the answers unscored, with --predict_only")


class HumanEval(ConfigurableTask):
    """A task file whose key `harness` names one of the harness's HumanEval tasks: what it does not
    say is said there. The sandbox must be there before anything is generated."""

    def __init__(self, config: dict):
        mine = {key: value for key, value in config.items() if key not in ("class", "harness")}
        source = Path(lm_eval.tasks.__file__).with_name("humaneval") / config["harness"]
        super().__init__(config=load_yaml(source, resolve_func=False) | mine)

    def build_all_requests(self, **kwargs) -> None:
        if "bypass" not in self._metric_fn_list:  # the metric that --predict_only puts there
            checker()
        super().build_all_requests(**kwargs)


def passed(doc: dict, results: list[str]) -> dict[str, float]:
    """pass@1 of one completion."""
    return {"pass@1": float(checker()(doc, results[0]))}


def fenced(resps: list[list[str]], docs: list[dict]) -> list[list[str]]:
    """Completions of answers in chat form, which end where the block of code does."""
    return [[text.partition("```")[0] for text in texts] for texts in resps]
