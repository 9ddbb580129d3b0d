"""Lists that are kept: as much as there is room for, and nothing that has changed."""

from __future__ import annotations

import pytest

from sigkit.digest import Digest
from sigkit.services.listed import Listings, Referrer

SAID = b"x" * 600
MOST = 10_000  # ten of them, with what holds them


class Read:
    """Asks for lists, and keeps what had to be read for it."""

    def __init__(self) -> None:
        self.listings = Listings(MOST)
        self.read: list[str] = []
        self.meanwhile: str | None = None  # what is read when the list changes, once

    def ask(self, subject: str, count: int) -> list[Referrer | None]:
        listing = self.listings.open("a/b", subject)
        entries = self.listings.entries(listing, lambda: self.names(subject, count))
        return [self.listings.referrer(listing, entry, self.said) for entry in entries]

    def names(self, subject: str, count: int) -> list[str]:
        self.note(subject, subject)
        return [f"{subject}{number}" for number in range(count)]

    def said(self, entry: str) -> Referrer | None:
        self.note(entry[0], entry)
        return Referrer(Digest.of(entry.encode()), "a/b", SAID)

    def note(self, subject: str, read: str) -> None:
        self.read.append(read)
        if read == self.meanwhile:
            self.meanwhile = None
            self.listings.change("a/b", subject, f"{subject}1")


@pytest.fixture
def lists():
    return Read()


@pytest.mark.attack("lists of one client")
def test_the_list_goes_that_nobody_asked_for_longest(lists):
    first = lists.ask("a", 4)
    lists.ask("b", 4)
    assert lists.ask("a", 4) == first
    lists.ask("c", 4)
    lists.read.clear()
    assert lists.ask("a", 4) == first
    assert lists.read == []
    lists.ask("b", 4)
    assert lists.read[0] == "b"


@pytest.mark.attack("lists of one client")
def test_a_list_for_which_there_is_no_room_is_read_whole_each_time_and_costs_others_nothing_later(lists):
    assert lists.ask("large", 30) == [lists.said(f"large{number}") for number in sorted(range(30), key=str)]
    small = lists.ask("small", 4)
    lists.read.clear()
    assert lists.ask("small", 4) == small
    assert lists.read == []


@pytest.mark.attack("lists of one client")
def test_changes_take_back_the_room_of_what_they_make_forget(lists):
    for number in range(2):
        lists.ask("a", 4)
        lists.listings.change("a/b", "a", f"a{number}")
    lists.ask("a", 4)
    lists.ask("b", 4)
    lists.read.clear()
    lists.ask("a", 4)
    assert lists.read == []


@pytest.mark.attack("lists of one client")
def test_subjects_that_nothing_refers_to_push_out_no_list(lists):
    lists.ask("a", 4)
    for number in range(100):
        lists.ask(f"absent{number}", 0)
    lists.read.clear()
    lists.ask("a", 4)
    assert lists.read == []


@pytest.mark.parametrize("read", ["a", "a1"])
def test_what_is_read_while_the_list_changes_is_not_kept(lists, read):
    lists.meanwhile = read
    lists.ask("a", 2)
    lists.read.clear()
    lists.ask("a", 2)
    assert read in lists.read
