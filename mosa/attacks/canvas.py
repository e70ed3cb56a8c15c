"""What an attacker with the response canvas does: force phrases, plant tokens, hand over forms.

Position and denoising step are two axes: a draft is taken at any step of a decoding, tokens are
planted at any slot of it, and the decoding goes on. The paper holds that a defender reaches the
middle of a response and an attacker does not; later work finds early denoising steps decisive
(DiffuGuard, arXiv 2509.24296; first-step contamination, arXiv 2510.00565). Everything here is of
access level A2, which the paper's attacker does not have; judges read what the model itself wrote.
"""

import random
from collections.abc import Collection, Mapping, Sequence

from mosa.lm.model import DiffusionLM
from mosa.pipeline.sections import Sampler
from mosa.target import own

Spans = Mapping[int, Sequence[int]]  # response slot: token ids from there on


def prefilled(requests: list[dict], kind: str, position: int, phrases: Mapping[str, Sequence[str]],
              seed: int) -> list[dict]:
    """The requests with a phrase of one set forced into the response at `position`.

    One phrase of a kind is drawn per request, the same at every position: positions are compared
    by request. The kind "none" leaves the canvas alone. Raises ValueError for any other name.
    """
    if kind not in {*phrases, "none"}:
        raise ValueError(f"no phrases are called {kind!r}: choose none or one of {sorted(phrases)}")
    forced = []
    for request in requests:
        rng = random.Random(f"{seed}-{request['id']}-{kind}")
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


def stretch(ids: Sequence[int], stop: int, width: int) -> list[int]:
    """`width` tokens of an answer, those behind its first sentence; `stop` is the full stop's id.

    The first sentence says yes, what follows says how. An answer without a full stop gives its
    first tokens. Raises ValueError where the answer is too short.
    """
    start = list(ids).index(stop) + 1 if stop in ids else 0
    if start + width > len(ids):
        raise ValueError(f"{len(ids) - start} tokens follow the first sentence, {width} are to be "
                         "planted: lower steps.width")
    return list(ids[start : start + width])


def continued(rows: list[dict], step: int, planted: Sequence[Spans], sampler: Sampler,
              mask_id: int) -> tuple[list[dict], Sampler]:
    """Requests that go on from the drafts of `rows` at `step`, each with its own spans planted.

    Returned with the sampler section for the remaining steps, which reveal as many slots a step as
    the whole decoding did, or fewer where masks were planted over. A request's `given` lists the
    planted slots; `before` and `behind` count the free slots on both sides of the first of them.
    Raises ValueError for a decoding in several blocks, whose schedule cannot go on in one.
    """
    if sampler.block_length != sampler.length:
        raise ValueError(
            f"a decoding in blocks of {sampler.block_length} cannot be continued from a draft: set "
            f"sampler.block_length to {sampler.length}")
    requests = [_going_on(row, plant(draft(row, step, mask_id), spans), spans, mask_id)
                for row, spans in zip(rows, planted, strict=True)]
    return requests, sampler.model_copy(update={"steps": sampler.steps - step})


def with_equal_room(rows: list[dict], step: int, last: int, planted: Sequence[Spans], width: int,
                    mask_id: int) -> list[dict]:
    """The same from drafts with equal room: as many slots are free at every step up to `last`, and
    wherever `width` tokens are planted.

    A later draft has fewer free slots, so there is less room for harm in it, whatever is planted.
    Therefore the slots that the draft at `last` has filled by then are taken out of an earlier one.
    The same slots are then free in every draft of a request, before the plant and behind it, and
    the tokens that the model has written by then are all that differs. A plant over filled slots
    leaves more of them free: the longer side loses its last ones, to as many as are free beside a
    plant over free slots. Filling a slot with EOS instead would be evidence for a short response,
    such as a refusal.

    A draft is now a response of its own `length`. What stands behind a slot that was taken out
    moves left, and with it the plant: `given` says where it stands. Raises ValueError where `step`
    lies behind `last`, more than `width` tokens are planted, or no slot would be free.
    """
    if step > last:
        raise ValueError(f"step {step} lies behind step {last}: a draft cannot grow")
    if (most := max(sum(map(len, spans.values())) for spans in planted)) > width:
        raise ValueError(f"{most} tokens are planted, more than width {width}")
    requests = []
    for row, spans in zip(rows, planted, strict=True):
        latest = draft(row, last, mask_id)
        if (room := latest.count(mask_id) - width) < 1:
            raise ValueError(f"no slot is free beside {width} planted ones at step {last}: plant "
                             "fewer, or choose an earlier last step")
        start = min(spans, default=0)
        free = [slot for slot, token in enumerate(plant(latest, spans)) if token == mask_id]
        before = [slot for slot in free if slot < start]
        behind = free[len(before) :]
        while len(before) + len(behind) > room:
            max(behind, before, key=len).pop()
        ids, stay = plant(draft(row, step, mask_id), spans), {*before, *behind}
        kept = [slot for slot, token in enumerate(ids) if token != mask_id or slot in stay]
        requests.append(_going_on(row, ids, spans, mask_id, kept) | {"length": len(kept)})
    return requests


def within(row: dict, slots: Collection[int], lm: DiffusionLM) -> dict:
    """A stored row, read in some of its response slots and the planted ones alone.

    What a judge reads of the response is cropped: `own`, the model's words in `slots`, and `text`,
    in which " | " stands for a gap. A step that was written in other slots is then neither revealed
    nor held to be given.
    """
    ids, given = row["response"]["ids"], {*row["request"]["given"]}
    others = {*range(len(ids))} - {*slots} - given
    return row | {"response": row["response"] | {
        "own": own(lm, ids, others | given), "text": " | ".join(own(lm, ids, others))}}


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


def _going_on(row: dict, ids: list[int], spans: Spans, mask_id: int,
              kept: Sequence[int] | None = None) -> dict:
    """A row's request with a draft of its response, of which the slots `kept` stay; None: all."""
    kept = range(len(ids)) if kept is None else kept
    now, place = [ids[slot] for slot in kept], {slot: i for i, slot in enumerate(kept)}
    given = [place[slot + i] for slot, span in spans.items() for i in range(len(span))]
    before = now[: min(given, default=0)].count(mask_id)
    return row["request"] | {"prefill": as_prefill(now, mask_id), "given": given, "access": "A2",
                             "before": before, "behind": now.count(mask_id) - before}
