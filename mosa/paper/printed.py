"""Printed numbers and claims of others on LLaDA-8B-Instruct: the paper's (arXiv 2508.12398), and
of one study of attacks on the canvas (arXiv 2510.00565). Nothing of ours.

Tables show them beside a run's own figures, in a column that says whose they are.
"""

# Success of GCG in per cent of 100 AdvBench questions, (model, goal): Figure 4, and the discussion
# of MOSA. The paper does not say what counts as success.
GCG = {
    ("original", "affirmative at 0"): "33",
    ("original", "procedural at 30"): "2",
    ("mosa", "procedural at 30"): "under 4",
}

# Success in per cent on JailbreakBench, one token a step (arXiv 2510.00565): of plain requests,
# with a share of the slots (in per cent) anchored, and under PAD and DIJA.
CANVAS = {"plain": "2", "anchoring": {3: "44", 12.5: "89", 25: "97"}, "PAD": "67", "DIJA": "92"}

ITERATIONS = 100  # of GCG, on 100 questions

REWARD = (15, 18)  # nats, where the reward of MOSA stays after 500 steps: Figure 7

# stage, or stage/second sentence -> where the paper says it, and what it says; a stage that is not
# here is of no claim of the paper's
CLAIMS = {
    "prefill": ("Figure 3", "Harm grows with the place of a forced phrase, from an affirmative one "
                "at token 0 to a procedural one at 160; 100 AdvBench questions, numbers only in "
                "the plot."),
    "reach": ("Figure 4", "A searched suffix succeeds in 33 % of 100 questions for an affirmative "
              "phrase at token 0, in 2 % for a procedural one at token 30."),
    "control": ("black-box control", "A prompt that orders a phrase to the n-th word does not "
                "place it; no number."),
    "order": ("Figure 5", "The mean position of newly revealed tokens grows nearly linearly with "
              "the step, for adversarial and benign prompts alike; no number."),
    "order/tasks": ("order elsewhere", "The same bias from left to right on prompts of mathematics "
                    "and code, and on Dream and MMaDA; no number."),
    "twin": ("introduction", "In an autoregressive model attacker and defender meet at the first "
             "tokens; in a diffusion model the decisive tokens stand in the middle."),
    "reward": ("Figure 7", f"The reward rises within 500 steps and stays at {REWARD[0]} to "
               f"{REWARD[1]} nats."),
    "defences": ("Tables 1 to 3", "MOSA lets fewer attacks through than Initial Alignment, and "
                 "both keep the model's use."),
    "factorial": ("a re-implementation", "MOSA is level with refusal training from the fully "
                  "masked state (arXiv 2510.00565): is it the place that matters?"),
    "steps": ("motivation of MOSA", "The middle of a response decides, and attackers do not reach "
              "it; later work holds the first denoising steps decisive (arXiv 2510.00565)."),
}
