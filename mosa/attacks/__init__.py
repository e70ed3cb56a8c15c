"""Attacks, each to measure defences: a module here, a notebook in notebooks/4_attacks/ and one word
in the list `attacks` of params.yaml. The module to look at is `tap`: its `Config`, with the
published values as defaults, its forms and their access, the `attack` itself, a generator, and
`run`, which is each_form of mosa.attacks.drive with these: from one model and its behaviours to
what was found.

    drive        behaviours advance together; access levels are kept, and costs counted
    helpers      what an attacker has beside the target; guildhelper and modelhelper are the two
    campaign     what the notebooks of all attacks share
    stored       what was found once, as a file, and any model under it
    sweep        one attack in shards, in this process or over Ray

A stage attack@<profile>-<attack>-<model> writes `rows`, what the attack returned, and `queries`,
all that it asked; judges read the rows in stages of their own, and tables.ipynb needs of them

    request.attack, goal      the attack's name, and its form: the first form is that of the tables
    request.id, set           pair rows of several models, and tell benchmarks apart
    request.access            what the attacker holds: A0 the prompt, A1 the chat's history, A2 the
                              response canvas, A3 logits or gradients
    request.query             the number of the query, from 0, of this behaviour
    response.search_queries   responses of the model beside this one; search_forwards, helper_calls
                              and judge_calls likewise

Several rows of one attack, goal and id are several tries: one success of them is enough.
"""
