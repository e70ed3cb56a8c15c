"""Attacks, each to measure defences: a module here, a notebook in notebooks/4_attacks/ and one word
in the list `attacks` of params.yaml. The module to look at is `gcg` (its stage is one of Figure 4):
Config, with the published values as defaults, and `run`, from one model and its requests to rows.

A stage attack@<profile>-<attack>-<model> writes rows.jsonl; notebooks/4_attacks/tables.ipynb
compares the models, and needs of a row no more than

    request.attack            the attack's name; "none": the request as it was, decoded beside it
    request.id                pairs the two
    request.access            what the attacker holds: A0 the prompt, A1 the chat's history, A2 the
                              response canvas, A3 logits or gradients
    request.goal              where an attack has several forms: its form, a line of its own
    response.search_queries   responses of the model that it took to find the request, 0 if absent
    response.search_forwards  and forwards of the network beside those of the response itself

Several rows of one attack, id and goal are several tries: one success of them is enough.
"""
