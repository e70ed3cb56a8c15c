"""Nested values with one of them replaced or left out."""

import json

DELETE = object()


def changed(values, *keys_and_value):
    """A copy of `values` in which the place that the keys name holds the value, or is gone."""
    values = json.loads(json.dumps(values))  # what profiles share is taken apart
    *keys, last, value = keys_and_value
    place = values
    for key in keys:
        place = place[key]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    return values
