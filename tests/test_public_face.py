"""import ganlib: its names, and that torch is loaded with the first of them that needs it."""

import subprocess
import sys

import pytest
from conftest import FIXTURES

import ganlib

PROGRAM = """
import sys
import ganlib
from PIL import Image

size = Image.open(sys.argv[1]).size
assert not {"torch", "ganlib.weights", "ganlib.codec.codec"} & set(sys.modules), "loaded before it is needed"
assert set(ganlib.__all__) <= set(dir(ganlib))
from ganlib import BitstreamError
assert "torch" not in sys.modules
print(size, ganlib.load_codec("tiny").name, "torch" in sys.modules)
"""


def test_what_needs_no_network_does_not_wait_for_torch():
    command = [sys.executable, "-c", PROGRAM, FIXTURES / "golden.gic"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "(81, 95) tiny True\n", done.stderr


@pytest.mark.parametrize("name", ganlib.__all__)
def test_public_names_are_what_they_say(name):
    assert getattr(ganlib, name).__name__ == name
    assert name in vars(ganlib)  # found by Python itself from now on


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'ganlib' has no attribute 'load_codex'"):
        ganlib.load_codex  # noqa: B018
    assert not hasattr(ganlib, "anything")
