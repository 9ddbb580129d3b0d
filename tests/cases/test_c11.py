"""C11, immutable tags: a second signature that cannot be listed is said to be so, and the first stays."""

from __future__ import annotations

import pytest

from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release


@pytest.fixture
def reg():
    with MisbehavingRegistry(referrers_api=False, immutable_tags=True) as running:
        yield running


@pytest.fixture
def release(reg, tmp_path):
    return Release.prepare(tmp_path, reg.address)


def test_c11_the_second_signature_is_refused_with_the_cause_and_the_two_ways_out(reg, release):
    assert release.sign("n=1").status == 0
    tags = dict(reg.state.tags)
    done = release.sign("n=2")
    assert done.status == 3, done.said
    assert "TAG_INVALID" in done.said
    assert "referrers API" in done.said
    assert "repository" in done.said
    assert reg.state.tags == tags


def test_c11_the_first_signature_stays_intact(release):
    assert release.sign("n=1").status == 0
    assert release.sign("n=2").status == 3
    assert len(release.tree()["attached"]) == 1
    done = release.verify()
    assert done.status == 0, done.said


def test_c11_with_the_referrers_api_both_succeed_and_no_tag_is_written(reg, release):
    reg.state.referrers_api = True
    tags = dict(reg.state.tags)
    assert [release.sign("n=1").status, release.sign("n=2").status] == [0, 0]
    assert len(release.tree()["attached"]) == 2
    assert reg.state.tags == tags
