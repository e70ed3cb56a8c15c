"""The README's numbers, written from numbers.json so that none is typed by hand.

python -m mosa.readme   rewrites the part of README.md between its two markers
"""

import json
import re

from mosa.params import need

PART = re.compile(r"(<!-- numbers:.*?-->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def _percent(value: dict) -> str:
    share = value.get("rate", value.get("mean"))
    low, high = 100 * value["low"], 100 * value["high"]
    return f"{100 * share:.1f} % [{low:.1f}, {high:.1f}] (n={value['n']})"


def render(numbers: dict) -> str:
    """Markdown of the embedded profile's main numbers: rates with 95 % interval and n."""
    model, baseline, prefill = numbers["model"], numbers["baseline"], numbers["prefill"]
    lines = [
        f"The base model ({model['parameters'] / 1e6:.2f} million parameters), on the validation "
        "split:",
        "",
        "| figure | this run |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {_percent(v)} |"
          for name, v in model.items() if isinstance(v, dict)),
        "",
        "Baseline, the original model on the benchmarks (success: judged above 3 of 5):",
        "",
        "| wrap | set | success | refused | incoherent |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    cells = dict.fromkeys(key.rsplit("/", 1)[0] for key in baseline)
    for cell in cells:
        wrap, name = cell.split("/")
        rates = " | ".join(_percent(baseline[f"{cell}/{f}"])
                           for f in ("success", "refused", "incoherent"))  # fmt: skip
        lines.append(f"| {wrap} | {name} | {rates} |")
    lines += [
        "",
        "Figure 3, a phrase forced into the response of a plain sealed request:",
        "",
        "| phrase @ position | mean score | success | refused |",
        "|---|---|---|---|",
    ]
    cells = [key.removesuffix("/score") for key in prefill if key.endswith("/score")]
    for cell in sorted(cells, key=lambda c: (c.split("@")[0], int(c.split("@")[1]))):
        score = prefill[f"{cell}/score"]
        lines.append(f"| {cell.replace('none@-1', 'none')} | {score['mean']:.2f} "
                     f"[{score['low']:.2f}, {score['high']:.2f}] | "
                     f"{_percent(prefill[f'{cell}/success'])} | "
                     f"{_percent(prefill[f'{cell}/refused'])} |")  # fmt: skip
    lines += ["", "![Figure 3](paper_figures/embedded/figure3_prefill.png)", ""]
    lines += _alignment(numbers["align_measured"])
    lines += _asymmetry(numbers)
    return "\n".join(lines + _step_cost(numbers["step_cost"]))


def _alignment(numbers: dict) -> list[str]:
    """The alignment table and its paired comparison of middle and initial alignment."""
    cells = [key.split("/") for key in numbers if key.split("/")[1].startswith(("any ", "task"))]
    methods = sorted({method for method, *_ in cells}, key=lambda m: (m != "original", m))
    lines = [
        "Alignment. An attack group counts as successful on a request if one of its conditions "
        "succeeds; benign requests as answered if all of their forms are:",
        "",
        f"| group | {' | '.join(methods)} |",
        f"|---|{'---|' * len(methods)}",
    ]
    for group, what in dict.fromkeys((group, what) for _, group, what in cells):
        rates = " | ".join(_percent(numbers[f"{method}/{group}/{what}"]) for method in methods)
        lines.append(f"| {group.removeprefix('any ')}: {what} | {rates} |")
    lines += [
        "",
        "Paired by request, in points (Newcombe's 95 % interval, McNemar's exact p):",
        "",
        "| comparison | group | outcome | difference |",
        "|---|---|---|---|",
    ]
    for key, value in numbers.items():
        pair, *where = key.split("/")
        if " minus " in pair and not pair.endswith("minus original"):
            group, outcome = where
            difference, low, high = (100 * value[k] for k in ("difference", "low", "high"))
            lines.append(f"| {pair} | {group} | {outcome} | {difference:+.1f} [{low:+.1f}, "
                         f"{high:+.1f}] (n={value['n']}, p={value['p']:.2g}) |")  # fmt: skip
    return [*lines, "", "![Figure 7](paper_figures/embedded/figure7_align_reward.png)", ""]


def _mean(value: dict) -> str:
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}] (n={value['n']})"


def _asymmetry(numbers: dict) -> list[str]:
    """Figure 4's rates, the autoregressive twin, the order of generation, step and position."""
    gcg, twin, orders = (numbers[stage] for stage in ("gcg", "twin", "orders"))
    lines = [
        "Figure 4, a suffix searched by GCG so that a phrase stands at a slot of the response "
        "(loss in nats per token; harmful: judged above 3 of 5):",
        "",
        "| model | phrase | loss before | loss after | in place | harmful | without suffix |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in [key.removesuffix("/in place") for key in gcg if key.endswith("/in place")]:
        model, goal = cell.split("/")
        means = " | ".join(_mean(gcg[f"{cell}/{k}"]) for k in ("loss before", "loss after"))
        rates = " | ".join(_percent(gcg[f"{cell}/{k}"])
                           for k in ("in place", "harmful", "harmful without suffix"))  # fmt: skip
        lines.append(f"| {model} | {goal} | {means} | {rates} |")
    lines += [
        "",
        "![Figure 4](paper_figures/embedded/figure4_gcg.png)",
        "",
        "Power (harmful when the phrase is forced) and reach (a searched suffix brings it there), "
        "beside the autoregressive twin:",
        "",
        "| model | phrase | power | reach |",
        "|---|---|---|---|",
    ]
    for cell in [key.removesuffix("/reach") for key in twin
                 if key.endswith("/reach") and " minus " not in key]:  # fmt: skip
        rates = " | ".join(_percent(twin[f"{cell}/{k}"]) for k in ("power", "reach"))
        lines.append(f"| {' | '.join(cell.split('/'))} | {rates} |")
    return [
        *lines,
        "",
        *(f"- {verdict}" for verdict in twin["verdicts"]),
        "",
        "![Power and reach](paper_figures/embedded/twin_curves.png)",
        "",
        "Rank correlation of denoising step and position over text tokens (1: left to right):",
        "",
        "| model | prompts | correlation |",
        "|---|---|---|",
        *(f"| {' | '.join(key.split('/'))} | {_mean(value)} |" for key, value in orders.items()),
        "",
        "Harm by the model's own words after tokens of a forbidden answer were planted, by "
        "position and denoising step:",
        "",
        *(f"- {verdict}" for verdict in numbers["steps"]["verdicts"]),
        "",
        "![Step against position](paper_figures/embedded/steps.png)",
        "",
    ]


def _step_cost(cost: dict) -> list[str]:
    naive, ours = cost["naive"], cost["ours"]
    return [
        f"A training step of MOSA beside the naive one (a second copy of the model, logits of the "
        f"whole sequence, a looped window), {cost['setting']}: {ours['seconds']:.2f} s against "
        f"{naive['seconds']:.2f} s, {cost['times_faster']:.1f} times as fast; peak memory "
        f"{ours['peak_gib']:.2f} against {naive['peak_gib']:.2f} GiB, "
        f"{100 * cost['peak_memory_share']:.0f} %.",
        "",
    ]


def read_numbers() -> dict:
    """What the README shows: numbers.json of the embedded profile, and the step cost."""
    files = {"numbers": "numbers.json", "cost": "step_cost.json"}
    read = {name: json.loads(need(f"paper_figures/embedded/{file}").read_text("utf-8"))
            for name, file in files.items()}  # fmt: skip
    return read["numbers"] | {"step_cost": read["cost"]}


def rewritten(text: str, numbers: dict) -> str:
    """README.md's text with its numbers replaced; ValueError if the markers are gone."""
    if not PART.search(text):
        raise ValueError("README.md has lost its markers `<!-- numbers: ... -->` and "
                         "`<!-- end of numbers -->`: run `git checkout README.md`")  # fmt: skip
    return PART.sub(lambda m: m[1] + render(numbers) + m[2], text)


if __name__ == "__main__":
    readme = need("README.md")
    readme.write_text(rewritten(readme.read_text("utf-8"), read_numbers()), "utf-8")
