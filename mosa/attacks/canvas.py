"""What an attacker with the response canvas does: force phrases, plant tokens, hand over forms.

Position and denoising step are two axes: a draft is taken at any step of a decoding, tokens are
planted at any slot of it, and the decoding goes on. The paper holds that a defender reaches the
middle of a response and an attacker does not; later work finds early denoising steps decisive
(DiffuGuard, arXiv 2509.24296; first-step contamination, arXiv 2510.00565). Everything here is of
access level A2, which the paper's attacker does not have; judges read what the model itself wrote.
"""

import random
from collections.abc import Mapping, Sequence

from mosa.lm.model import DiffusionLM
from mosa.pipeline.sections import Sampler

Spans = Mapping[int, Sequence[int]]  # response slot: token ids from there on


def prefilled(requests: list[dict], kind: str, position: int, phrases: Mapping[str, Sequence[str]],
              seed: int) -> list[dict]:
    """The requests with a phrase of one set forced into the response at `position`.

    One phrase is drawn per request; a kind without phrases ("none") leaves the canvas alone.
    """
    forced = []
    for request in requests:
        rng = random.Random(f"{seed}-{request['id']}-{kind}-{position}")
        phrase = rng.choice(phrases.get(kind, [""]))
        prefill, access = ({str(position): phrase}, "A2") if phrase else ({}, request["access"])
        forced.append(request | {"phrase": kind, "position": position, "prefill": prefill,
                                 "access": access})
    return forced


def draft(row: dict, step: int, mask_id: int) -> list[int]:
    """Response ids of a stored row as they stood before denoising step `step`.

    The row must come from a decoding without stop_at_eos, which leaves every slot's own step.
    """
    response = row["response"]
    return [token if revealed < step else mask_id
            for token, revealed in zip(response["ids"], response["reveal_step"], strict=True)]


def plant(ids: Sequence[int], planted: Spans) -> list[int]:
    """Response ids with spans written over them.

    Raises ValueError where a span leaves the response: judged as it is, it would be a shorter one.
    """
    ids = list(ids)
    for slot, span in planted.items():
        if slot < 0 or slot + len(span) > len(ids):
            raise ValueError(
                f"{len(span)} tokens at slot {slot} leave the {len(ids)} slots of the response: "
                "choose a lower position")
        ids[slot : slot + len(span)] = span
    return ids


def as_prefill(ids: Sequence[int], mask_id: int) -> dict[str, list[int]]:
    """{slot: token ids} of the runs of filled slots: response ids as a request's `prefill`."""
    runs, start = {}, None
    for slot, token in enumerate(ids):
        if token == mask_id:
            start = None
        else:
            start = slot if start is None else start
            runs.setdefault(str(start), []).append(token)
    return runs


def continued(rows: list[dict], step: int, planted: Sequence[Spans], sampler: Sampler,
              mask_id: int) -> tuple[list[dict], Sampler]:
    """Requests that go on from the drafts of `rows` at `step`, each with its own spans planted.

    Returned with the sampler section for the remaining steps, which reveal as many slots a step as
    the whole decoding did; a request's `given` lists the planted slots. Raises ValueError for a
    decoding in several blocks, whose schedule cannot go on in one.
    """
    if sampler.block_length != sampler.length:
        raise ValueError(
            f"a decoding in blocks of {sampler.block_length} cannot be continued from a draft: set "
            f"sampler.block_length to {sampler.length}")
    requests = []
    for row, spans in zip(rows, planted, strict=True):
        ids = plant(draft(row, step, mask_id), spans)
        given = [slot + i for slot, span in spans.items() for i in range(len(span))]
        requests.append(row["request"] | {"prefill": as_prefill(ids, mask_id), "given": given,
                                          "access": "A2"})
    return requests, sampler.model_copy(update={"steps": sampler.steps - step})


def own_words(rows: list[dict], lm: DiffusionLM) -> list[dict]:
    """Stored rows whose text leaves out the slots that the request had `given`, for the judge.

    A full stop stands in their place, so that the words on both sides do not join. `whole` keeps
    the text as the attacker would show it.
    """
    stop, found = lm.encode("."), []
    for row in rows:
        given, response, ids = set(row["request"]["given"]), row["response"], []
        for slot, token in enumerate(response["ids"]):
            if token == lm.eos_id:
                break
            if slot not in given:
                ids.append(token)
            elif slot - 1 not in given:
                ids += stop
        text = lm.tokenizer.decode(ids, skip_special_tokens=True)
        found.append(row | {"response": response | {"whole": response["text"], "text": text}})
    return found


def interleaved(request: dict, lm: DiffusionLM, parts: Sequence[str], gap: int,
                before: int = 0) -> dict:
    """The request with a form to fill in at the end of its user turn: DIJA, arXiv 2507.11097.

    `parts` are the texts of the form, each followed by `gap` masks; `before` masks precede them.
    What the sampler fills is everything from the first mask on, the chat's own tokens after the
    form included as given: the prompt is cut there. `messages` become the prompt's ids, and
    `length` the response slots it needs.
    """
    *head, last = request["messages"]
    prompt = lm.prompt_ids(request["messages"])
    # one word more at the end of the turn shows where the turn ends
    longer = lm.prompt_ids([*head, last | {"content": last["content"] + " ."}])
    end = next(i for i, (a, b) in enumerate(zip(prompt, longer)) if a != b)
    form = [lm.mask_id] * before
    for part in parts:
        form += lm.encode(part) + [lm.mask_id] * gap
    form += prompt[end:]
    start = form.index(lm.mask_id)
    given = [slot for slot, token in enumerate(form[start:]) if token != lm.mask_id]
    return request | {"messages": prompt[:end] + form[:start], "given": given, "access": "A2",
                      "prefill": as_prefill(form[start:], lm.mask_id), "length": len(form) - start}
