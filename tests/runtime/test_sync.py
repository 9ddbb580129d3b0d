from __future__ import annotations

import os

import pytest

from sigkit.runtime import sync, syscalls


@pytest.fixture
def pair():
    ours, theirs = syscalls.stream_pair()
    yield ours, theirs
    for descriptor in (ours, theirs):
        try:
            os.close(descriptor)
        except OSError:
            pass


def test_message_arrives_as_it_was_sent(pair):
    sync.send(pair[0], sync.WARN, b"a\0b")
    sync.send(pair[0], sync.EXEC)
    assert sync.receive(pair[1]) == (sync.WARN, b"a\0b")
    assert sync.receive(pair[1]) == (sync.EXEC, b"")


def test_end_of_file_is_no_message(pair):
    os.close(pair[0])
    with pytest.raises(sync.Gone):
        sync.receive(pair[1])


def test_message_cut_in_the_middle_is_no_message(pair):
    os.write(pair[0], b"\x05\0\0\0Wab")
    os.close(pair[0])
    with pytest.raises(sync.Gone):
        sync.receive(pair[1])


def test_length_beyond_reason_is_no_message(pair):
    os.write(pair[0], b"\xff\xff\xff\xffW")
    with pytest.raises(sync.Gone):
        sync.receive(pair[1])


def test_send_to_nobody_is_told(pair):
    os.close(pair[1])
    with pytest.raises(sync.Gone):
        sync.send(pair[0], sync.PLAN, b"x")
