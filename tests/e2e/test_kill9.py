"""kill -9 of worker, fsd and keyd at random moments under load.  The long version: tests/stress/kill9."""
import os
import sys

import pytest

from storm import Storm
from test_durability import policy, write


LONG = "COFFER_STORM_SECONDS" in os.environ  # tests/stress/kill9


@pytest.mark.limit(120)
def test_storm_of_kills(vault):
    storm = Storm(vault, seed=20)
    storm.run(rounds=6, seconds=15)
    assert storm.rounds >= 1 and storm.opens > 20


if LONG:
    @pytest.mark.limit(int(os.environ["COFFER_STORM_SECONDS"]) + 120)
    def test_long_storm(make_vault):
        e = os.environ
        v = make_vault(up=False)
        v.up("--policy", write(v, "policy.yaml", policy("installation", e.get("COFFER_STORM_DURABILITY", "process"))))
        storm = Storm(v, int(e["COFFER_STORM_SEED"]), lambda text: print(text, file=sys.stderr, flush=True))
        storm.run(int(e["COFFER_STORM_ROUNDS"]), int(e["COFFER_STORM_SECONDS"]))
        assert storm.rounds
