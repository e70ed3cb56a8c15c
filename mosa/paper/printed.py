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

# Success in per cent by the paper's own judge (a language model, 1 to 5, more than 3) and by
# StrongREJECT, our/SR, of the attacks in the order of ATTACKS: Tables 1 and 2
ATTACKS = ("avatar", "tap", "speakeasy", "aos", "pal", "ept", "dia", "advprefix")
TABLES = {
    "AdvBench": {  # Table 1
        "original": "74.5/65.6 79.1/77.2 69.8/57.4 65.2/62.9 "
                    "72.8/67.1 78.4/72.3 66.7/64.2 79.5/70.1",
        "initial": "23.5/22.5 29.6/28.1 22.4/23.3 32.4/25.9 "
                   "36.4/24.5 28.5/22.0 34.3/28.6 29.8/27.2",
        "mosa": "14.3/12.8 4.5/3.7 8.1/12.9 6.5/5.4 "
                "6.2/4.5 3.8/7.1 4.2/7.7 6.8/3.5",
    },
    "HarmBench": {  # Table 2
        "original": "76.8/73.7 79.2/76.7 70.5/66.3 64.1/61.3 "
                    "73.8/70.8 77.9/75.8 68.6/65.1 79.9/78.4",
        "initial": "25.6/25.1 29.8/27.9 24.5/22.4 31.4/28.3 "
                   "29.2/27.5 32.7/31.8 36.4/32.3 29.9/28.7",
        "mosa": "14.7/8.3 7.5/6.2 14.5/13.2 6.1/5.2 "
                "5.4/6.4 3.6/2.2 8.9/7.2 4.9/4.1",
    },
}
# Of MOSA when an attack's objective is moved to the middle tokens: Table 4. The paper does not say
# on which benchmark
ADAPTIVE = {"tap": "5.1/4.4", "ept": "3.8/4.2", "advprefix": "4.5/5.1"}

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
    "tables": ("Tables 1 and 2", "By the paper's judge 64 to 80 % of eight attacks succeed on the "
               "original model, 22 to 36 % after Initial Alignment, 4 to 15 % after MOSA."),
    "tables/adaptive": ("Table 4", "Attacks that aim at the middle tokens succeed on MOSA in 4 to "
                        "5 %, no more than others."),
    "factorial": ("a re-implementation", "MOSA is level with refusal training from the fully "
                  "masked state (arXiv 2510.00565): is it the place that matters?"),
    "steps": ("motivation of MOSA", "The middle of a response decides, and attackers do not reach "
              "it; later work holds the first denoising steps decisive (arXiv 2510.00565)."),
}
