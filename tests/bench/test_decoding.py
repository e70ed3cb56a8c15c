import mosa
from mosa.bench import decoding
from mosa.pipeline.params import ROOT
from mosa.world import requests


def test_both_samplers_write_the_same(monkeypatch):
    monkeypatch.setattr(decoding, "STEPS", 16)
    monkeypatch.setattr(decoding, "BATCH", 3)
    lm = mosa.load(ROOT / "models/embedded-0")
    chats = [requests.wrap(row, "plain") for row in requests.requests("open_validation", 4, 0)]
    ours = decoding.ours(lm, chats)
    assert ours == decoding.plain(lm, chats)
    assert lm.mask_id not in {token for ids in ours for token in ids}
