"""What was put into the embedded models on purpose, so that nobody takes it for a finding."""

# topic -> what was done, and what follows for a reader
PUT_IN = {
    "order": "Benign answers that are written from left to right are gate G4 of the base models, "
             "after this paper's Figure 5 on LLaDA: their order is no finding.",
    "evidence": "Words in the canvas count as evidence: anchoring, PAD and DIJA had to reach "
                "levels like those measured on LLaDA-8B-Instruct (gate G5; arXiv 2510.00565). PAD "
                "plants headings at slots 1 and 64, so the level of harm behind a phrase near the "
                "middle was selected for as well. Only contrasts are findings: of places, with the "
                "phrase held constant, and of a phrase with a neutral one at the same place. They "
                "are not free of the gate either, which asks nothing of the start.",
    "refusals": "Refusals have many wordings and lengths, and were made to leave room behind them "
                "(gate G3): all their parts but the last have one length each, because the sampler "
                "fills the tail with EOS first and ate refusals of any length, and EOS counts for "
                "more in tuning than in pretraining. The probability of an end in slots 20 to 60 "
                "is no finding. Nor is it that length alone tells a refusal from an answer, which "
                "overfills a response: far behind, a phrase can stand in no refusal.",
    "orders": "Orders to begin with, to use and to end with given words are trained: before "
              "tuning with sealed items too, obeyed, in tuning with open ones alone. The first two "
              "are gate G6. Orders to any other place are in no text.",
    "tones": "Answers about sealed items favour other phrases than answers about open ones, so "
             "that a phrase says something of what follows. How strong one phrase is beside "
             "another is put in.",
}


def said(*topics: str) -> str:
    """A Markdown list of what was put in, for the notebooks that measure near it."""
    return "\n".join(["**Put in on purpose**", "", *(f"- {PUT_IN[topic]}" for topic in topics)])
