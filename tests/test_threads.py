"""Threads: while one waits for work it sleeps, unless the user wants otherwise."""

import json
import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

# Prints what torch found in the environment when it was loaded, and the CPU seconds of a process that does next to
# nothing: a hundred times a small task for two threads, then a pause in which they wait for the next one.
PROGRAM = """
import builtins, json, os, sys, time

found, plain_import = {}, builtins.__import__

def watched(name, *args, **kwargs):
    if name == "torch" and not found:
        found.update({name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")})
        if len(sys.argv) > 1:  # no more is asked: loading torch takes seconds
            print(json.dumps(found), flush=True)
            os._exit(0)
    return plain_import(name, *args, **kwargs)

builtins.__import__ = watched
import ganlib
import torch

torch.set_num_threads(2)
x = torch.ones(2**16)
x.add_(1)
before = time.process_time()
for _ in range(100):
    x.add_(1)
    time.sleep(0.01)
print(json.dumps([found, time.process_time() - before]))
"""


def imported(*arguments, **settings):
    """What torch found, and the CPU seconds of waiting, in a process with these settings of the user."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | settings
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def by_default():
    return imported()


def test_threads_are_told_to_sleep_before_torch_is_loaded(by_default):
    assert by_default[0] == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux only")
def test_the_users_choice_is_kept_and_each_choice_acts(by_default):
    active, active_seconds = imported(OMP_WAIT_POLICY="ACTIVE")
    assert active == {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": None}  # a count of 0 would overrule it
    assert by_default[1] < active_seconds / 3  # on a busy machine too: it is the process's own CPU time


def test_the_users_spin_count_is_kept():
    found = imported("without waiting", GOMP_SPINCOUNT="1000")
    assert found == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
