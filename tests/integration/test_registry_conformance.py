"""The embedded registry passes the OCI distribution conformance suites: the rewritten one whole, and the one of version 1.1."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from sigkit.services.serve import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peers


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    with running_registry(tmp_path / "registry") as running:
        yield running


def run(program, results, *arguments, **variables) -> subprocess.CompletedProcess[str]:
    results.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(results), **variables}
    return subprocess.run([program, *arguments], env=environment, cwd=results, capture_output=True, text=True, timeout=110, check=False)


def test_every_case_of_the_suite_passes(go_peer, address, tmp_path):
    results = tmp_path / "results"
    done = run(
        go_peer("conformance"),
        results,
        OCI_REGISTRY=address,
        OCI_TLS="disabled",
        OCI_REPO1="conformance/one",
        OCI_REPO2="conformance/two",
        OCI_VERSION="1.1",
        OCI_API_BLOBS_UPLOAD_CANCEL="true",
        OCI_RESULTS_DIR=str(results),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    cases = list(ET.parse(results / "junit.xml").iter("testcase"))  # noqa: S314 - written by the suite just now
    # Told by `status`, not by an element: a failure is only there.
    assert {case.get("status") for case in cases} <= {"passed", "skipped"}
    assert len([case for case in cases if case.get("status") == "passed"]) > 600


def test_every_workflow_of_the_older_suite_passes(go_peer, address, tmp_path):
    results = tmp_path / "results"
    done = run(
        go_peer("conformance-v1.1"),
        results,
        "-ginkgo.no-color",
        OCI_ROOT_URL=f"http://{address}",
        OCI_NAMESPACE="conformance/one",
        OCI_CROSSMOUNT_NAMESPACE="conformance/two",
        OCI_TEST_PULL="1",
        OCI_TEST_PUSH="1",
        OCI_TEST_CONTENT_DISCOVERY="1",
        OCI_TEST_CONTENT_MANAGEMENT="1",
        OCI_HIDE_SKIPPED_WORKFLOWS="1",
        OCI_REPORT_DIR=str(results),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert re.search(r"\b0 Failed\b", done.stdout)
    assert re.search(r"\b(6\d|7\d) Passed\b", done.stdout)
