"""The paper's printed numbers (arXiv 2508.12398, on LLaDA-8B-Instruct), and nothing of ours.

Tables show them beside a run's own figures, in a column that says whose they are.
"""

# Success of GCG in per cent of 100 AdvBench questions, (model, goal): Figure 4, and the discussion
# of MOSA. The paper does not say what counts as success.
GCG = {
    ("original", "affirmative at 0"): "33",
    ("original", "procedural at 30"): "2",
    ("mosa", "procedural at 30"): "under 4",
}
