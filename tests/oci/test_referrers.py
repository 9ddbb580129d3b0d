"""The list of referrers as a tag: read, and written by several at once. Time is a number here; nothing waits."""

from __future__ import annotations

import json
import random

import pytest

from sigkit.digest import Digest
from sigkit.errors import (
    AccessDenied,
    Kind,
    ManifestRefused,
    Place,
    ReferrerLost,
    ReferrersImmutable,
    ServerFailed,
    SigkitError,
    TimedOut,
    TooMany,
    Unreachable,
    WrongShape,
)
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.reference import Repository
from sigkit.oci.referrers import Pacing, add_referrer, fallback_tag, read_fallback_index

APP = Repository("registry.example", "t/app")
SUBJECT = Digest.of(b"subject")
INDEX = "application/vnd.oci.image.index.v1+json"


def entry(name):
    return Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(name.encode()), 5, {"name": name}, "a/b")


class Tags:
    """Of the Registry port what the list needs. `after_read` and `after_write` are moments for somebody else to act."""

    def __init__(self):
        self.tags = {}
        self.writes = 0
        self.now = 0.0
        self.read_s = self.write_s = 0.01
        self.after_read = self.after_write = self.after_refusal = lambda: None
        self.refuse = None

    def fetch_manifest(self, repository, what):
        assert repository == APP
        self.now += self.read_s
        raw = self.tags.get(what)
        self.after_read()
        return raw

    def push_manifest(self, repository, what, raw, media_type):
        assert (repository, media_type) == (APP, INDEX)
        self.now += self.write_s
        if self.refuse and what in self.tags:
            refusal = self.refuse
            self.after_refusal()
            raise refusal
        self.tags[what] = raw
        self.writes += 1
        self.after_write()

    def write(self, *names, **members):
        top = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(name).encode() for name in names], **members}
        self.tags[fallback_tag(SUBJECT)] = json.dumps(top).encode()

    @property
    def names(self):
        listed = json.loads(self.tags[fallback_tag(SUBJECT)])["manifests"]
        return [item["annotations"]["name"] for item in listed]

    def pacing(self, seed=1):
        chance = random.Random(seed)  # noqa: S311 # repeatable

        def sleep(seconds):
            self.now += seconds

        return Pacing(lambda: self.now, sleep, chance.random)


@pytest.fixture
def tags():
    return Tags()


def test_the_tag_is_the_specifications():
    assert fallback_tag(SUBJECT) == f"sha256-{SUBJECT.hex}"
    assert fallback_tag(Digest.of(b"x", "sha512")) == f"sha512-{Digest.of(b'x', 'sha512').hex[:64]}"


def test_no_tag_is_none(tags):
    assert read_fallback_index(tags, APP, SUBJECT) is None


def test_a_manifest_in_place_of_the_list_is_refused(tags):
    config = entry("config").encode()
    tags.tags[fallback_tag(SUBJECT)] = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
    with pytest.raises(WrongShape):
        read_fallback_index(tags, APP, SUBJECT)
    with pytest.raises(SigkitError):
        add_referrer(tags, APP, SUBJECT, entry("a"), tags.pacing())
    assert tags.writes == 0


def test_the_first_entry_makes_the_list(tags):
    add_referrer(tags, APP, SUBJECT, entry("a"), tags.pacing())
    index = read_fallback_index(tags, APP, SUBJECT)
    assert index is not None
    assert index.manifests == (entry("a"),)


def test_entries_of_others_stay_as_they_are_even_what_sigkit_does_not_know(tags):
    tags.write("theirs", annotations={"theirs": "too"}, unknown=[1])
    before = json.loads(tags.tags[fallback_tag(SUBJECT)])
    before["manifests"][0]["x-unknown"] = {"kept": True}
    tags.tags[fallback_tag(SUBJECT)] = json.dumps(before).encode()
    add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    after = json.loads(tags.tags[fallback_tag(SUBJECT)])
    assert after == {**before, "manifests": [*before["manifests"], entry("ours").encode()]}


def test_an_entry_that_is_there_is_not_written_again(tags):
    tags.write("a", "b")
    add_referrer(tags, APP, SUBJECT, entry("a"), tags.pacing())
    assert tags.writes == 0


def test_entries_that_are_there_twice_are_listed_once(tags):
    tags.write("a", "a")
    add_referrer(tags, APP, SUBJECT, entry("b"), tags.pacing())
    assert tags.names == ["a", "b"]


def test_an_entry_that_is_overwritten_at_once_is_written_again(tags):
    def overwrite():
        tags.after_write = lambda: None
        tags.write("theirs")

    tags.after_write = overwrite
    add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.names == ["theirs", "ours"]


def test_an_entry_that_is_overwritten_after_it_was_seen_is_written_again(tags):
    reads = iter(range(100))

    def overwrite():
        if next(reads) == 1:  # the look right after the write saw it; during the pause somebody writes an older list
            tags.write("theirs")

    tags.after_read = overwrite
    add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.names == ["theirs", "ours"]


def test_an_old_list_is_never_written(tags):
    def slow_once():
        tags.after_read = lambda: None
        tags.now += 60  # suspended between reading and writing
        tags.write("theirs")

    tags.after_read = slow_once
    tags.write()
    add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.names == ["theirs", "ours"]


def test_the_pause_is_longer_where_the_registry_is_slower(tags):
    tags.read_s = tags.write_s = 1.0
    began = tags.now
    add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.now - began > 4


def test_who_loses_for_ever_is_told_so(tags):
    tags.after_write = lambda: tags.write("theirs")
    with pytest.raises(ReferrerLost) as refused:
        add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert (refused.value.kind, refused.value.status(), tags.names) == (Kind.UNAVAIL, 3, ["theirs"])


@pytest.mark.parametrize("error", [Unreachable, TimedOut, ServerFailed])
def test_after_a_write_that_failed_the_list_is_read_again_before_the_next(tags, error):
    tags.write("theirs")

    def fail_once():
        tags.refuse = None
        tags.write("theirs", "late")

    tags.refuse = error("503", place=Place("x"))
    tags.after_refusal = fail_once
    add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.names == ["theirs", "late", "ours"]


def test_a_registry_that_keeps_failing_ends_in_its_own_error(tags):
    tags.write("theirs")
    tags.refuse = ServerFailed("503", place=Place("x"))
    with pytest.raises(ServerFailed):
        add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.names == ["theirs"]


@pytest.mark.parametrize("error", [ManifestRefused, AccessDenied])
def test_a_tag_that_may_not_be_written_again_is_named_with_the_two_ways_out(tags, error):
    tags.write("theirs")
    tags.refuse = error("TAG_INVALID", place=Place("x"))
    with pytest.raises(ReferrersImmutable) as refused:
        add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert (refused.value.status(), tags.names) == (3, ["theirs"])
    assert "referrers API" in refused.value.remedy
    assert "repository" in refused.value.remedy


def test_a_tag_made_by_another_in_the_meantime_counts_as_there(tags):
    tags.refuse = ManifestRefused("TAG_INVALID", place=Place("x"))
    tags.after_read = lambda: tags.write("theirs") if not tags.tags else None
    with pytest.raises(ReferrersImmutable):
        add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.names == ["theirs"]


def test_a_full_list_is_not_made_longer(tags):
    tags.write(*(str(number) for number in range(1000)))
    with pytest.raises(TooMany):
        add_referrer(tags, APP, SUBJECT, entry("ours"), tags.pacing())
    assert tags.writes == 0
