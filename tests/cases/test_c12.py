"""C12, twenty at once: exit status 0 is never given for a signature that is not listed."""

from __future__ import annotations

import pytest

from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release

AT_ONCE = 20


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("round_number", range(3))
def test_c12_who_reports_success_is_listed_and_who_lost_is_not(tmp_path, round_number):
    with MisbehavingRegistry(referrers_api=False) as reg:
        release = Release.prepare(tmp_path, reg.address)
        before = len(reg.state.manifests)
        started = [release.start("sign", "--key", "K.key", "-a", f"n={n}", release.reference) for n in range(AT_ONCE)]
        ended = [(process.communicate(timeout=250), process.returncode) for process in started]
        statuses = [status for _, status in ended]
        assert set(statuses) <= {0, 3}, [said for said, status in ended if status not in {0, 3}]
        assert len(release.tree()["attached"]) == statuses.count(0)
        assert len(reg.state.manifests) > before
        assert 0 in statuses
