"""The paper's printed numbers and claims (arXiv 2508.12398, on LLaDA-8B-Instruct), nothing of ours.

Tables show them beside a run's own figures, in a column that says whose they are.
"""

# Success of GCG in per cent of 100 AdvBench questions, (model, goal): Figure 4, and the discussion
# of MOSA. The paper does not say what counts as success.
GCG = {
    ("original", "affirmative at 0"): "33",
    ("original", "procedural at 30"): "2",
    ("mosa", "procedural at 30"): "under 4",
}

# stage -> where the paper says it, and what; a stage that is not here is of no claim of the paper's
CLAIMS = {
    "prefill": ("Figure 3", "Harm grows with the place of a forced phrase, from an affirmative one "
                "at token 0 to a procedural one at 160; 100 AdvBench questions, numbers only in "
                "the plot."),
    "reach": ("Figure 4", "A searched suffix succeeds in 33 % of 100 questions for an affirmative "
              "phrase at token 0, in 2 % for a procedural one at token 30."),
    "control": ("black-box control", "A prompt that orders a phrase to the n-th word does not "
                "place it; no number."),
    "order": ("Figure 5", "The mean position of newly revealed tokens grows nearly linearly with "
              "the step, for adversarial and benign prompts alike; the same on Dream, MMaDA, "
              "mathematics and code; no number."),
    "twin": ("introduction", "In an autoregressive model attacker and defender meet at the first "
             "tokens; in a diffusion model the decisive tokens stand in the middle."),
    "steps": ("motivation of MOSA", "The middle of a response decides, and attackers do not reach "
              "it; later work holds the first denoising steps decisive (arXiv 2510.00565)."),
}
