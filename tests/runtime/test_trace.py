from __future__ import annotations

import os
import subprocess

import pytest

from sigkit.runtime.trace import Trace, quote


@pytest.mark.parametrize("word", [b"", b"plain", b"two words", b"it's", b'"', b"a\nb", b"\xff\x00x"[:1], b"$HOME `id`", b"\\", b"\x1b[2J"])
def test_quoted_word_is_read_back_by_a_shell_as_it_was(word):
    done = subprocess.run(["bash", "-c", f"printf %s {quote(word)}"], capture_output=True, check=True)
    assert done.stdout == word


@pytest.mark.parametrize("word", [b"\x1b[2J", b"a\nb", "é".encode()])
def test_quoted_word_holds_nothing_that_a_terminal_obeys(word):
    assert quote(word).isascii()
    assert quote(word).isprintable()


def test_step_is_three_lines():
    reader, writer = os.pipe()
    Trace("who", writer).step("what", "why", "how")
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"who: what\n    why  why\n    sh   how\n"


def test_trace_without_descriptor_only_remembers():
    trace = Trace("who", -1)
    trace.step("what", "why", "how")
    assert trace.current == "what"
