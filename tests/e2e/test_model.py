"""The model-based tester (tests/model): short here, long by tests/model/run."""
import glob
import os
import sys
import time

import pytest

import harness

MODEL = os.path.join(os.path.dirname(harness.HERE), "model")
sys.path.insert(0, MODEL)
import model  # noqa: E402

SECONDS = float(os.environ.get("COFFER_MODEL_SECONDS", 5))
SEED = int(os.environ.get("COFFER_MODEL_SEED", 1))
MOUNTS = os.environ.get("COFFER_MODEL_MOUNTS", "own")
REPLAYS = [os.environ["COFFER_MODEL_REPLAY"]] if "COFFER_MODEL_REPLAY" in os.environ else sorted(glob.glob(MODEL + "/replays/*.jsonl"))
LEFT = os.path.join(harness.BUILD, "results")


@pytest.fixture
def stage(acme):
    s = model.Stage(acme, MOUNTS)
    yield s
    s.close()


def short_or_fail(stage, ops, failure, seed):
    ops, failure = model.shrink(stage, ops, failure, limit=40 if "COFFER_MODEL_SEED" not in os.environ else 240)
    os.makedirs(LEFT, exist_ok=True)
    path = f"{LEFT}/model-{seed}.jsonl"
    model.save(path, ops)
    pytest.fail(f"seed {seed}, {len(ops)} operations left in {path}:\n" + "".join(f"  {op}\n" for op in ops[-25:]) + str(failure))


def test_random(stage, limited):
    """Until the time is up: one seed after another, each in a new directory, now and then a new mount or a killed worker."""
    seed, count = SEED, 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        ops = model.sequence(seed, 400, seldom=0.002 if SECONDS > 30 else 0.0)
        failure = stage.run(ops)
        if failure:
            short_or_fail(stage, ops, failure, seed)
        seed, count = seed + 1, count + len(ops)
    print(f"seeds {SEED} to {seed - 1}, {count} operations")
    assert count > 0


@pytest.fixture
def limited(request):
    """A long run may take as long as it was told."""
    import faulthandler
    import signal
    if SECONDS > 30:
        signal.alarm(int(SECONDS) + 400)
        faulthandler.cancel_dump_traceback_later()


def test_random_with_killed_workers(stage):
    """Every written byte is there after kill -9 of the worker, every name too."""
    ops = model.sequence(7, 200)
    ops[70:70], ops[150:150] = [{"op": "kill"}], [{"op": "remount", "s": 1}]
    failure = stage.run([*ops, {"op": "kill"}])
    if failure:
        short_or_fail(stage, ops, failure, 7)


@pytest.mark.parametrize("kind", ["exclusive", "shared", "shared-exclusive"])
def test_sessions_in_one_mount(acme, kind):
    """One kernel for all players; in a shared one alice and bob as themselves, with a mount made anew in between."""
    stage = model.Stage(acme, kind)
    try:
        ops = model.sequence(7, 400)
        ops[150:150] = [{"op": "kill"}]  # an exclusive mount is only unmounted: its kernel may still have what was written
        failure = stage.run(ops)
        assert failure is None, str(failure)
    finally:
        stage.close()


def test_replay(stage):
    """What was found once: all of it is played again, in one stage."""
    assert REPLAYS
    for path in REPLAYS:
        failure = stage.run(model.load(path))
        assert failure is None, f"{os.path.basename(path)}: {failure}"
