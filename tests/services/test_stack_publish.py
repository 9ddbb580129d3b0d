"""Documents that a stack hands to clients: whatever happens to a publication, the next is held to what clients have had."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from sigkit import durable
from sigkit.clock import SystemClock
from sigkit.errors import FileUnwritable, ForeignServices, OldEvidenceDropped
from sigkit.services.stack.clients import open_repository
from sigkit.services.stack.publish import Old, publish_documents
from sigkit.services.stack.run import running_stack
from tests.simulators import stacks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stack(tmp_path) -> stacks.Stack:
    return stacks.make(tmp_path / "stack")


def both(stack: stacks.Stack, other: stacks.Stack, into: Path) -> str:
    """Write a trust root that lists the services of two stacks."""
    one, two = (json.loads(item.client("trusted_root.json").read_bytes()) for item in (stack, other))
    for kind in ("tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"):
        one[kind] += two[kind]
    into.write_text(json.dumps(one))
    return str(into)


def publish(stack: stacks.Stack, root: str, services: stacks.Stack) -> None:
    signing_config = str(services.client("signing_config.json"))
    publish_documents(str(stack.directory), str(stack.directory / "offline"), root, signing_config, SystemClock())


def told(stack: stacks.Stack) -> bytes:
    """Return the trust root that clients get by TUF."""
    return open_repository(str(stack.directory)).read_target("trusted_root.json")[0]


@pytest.mark.attack("evidence dropped without a word")
def test_after_a_publication_that_reached_clients_by_tuf_only_the_next_is_held_to_it(stack, tmp_path, monkeypatch):
    one, two = stacks.make(tmp_path / "one"), stacks.make(tmp_path / "two")
    with monkeypatch.context() as armed:
        armed.setattr(durable, "_passages", {})
        armed.setenv("SIGKIT_FAILPOINTS", "durable.write.rename=1*enospc")  # of the first file in `clients/`
        with pytest.raises(FileUnwritable):
            publish(stack, both(stack, one, tmp_path / "one.json"), one)
    assert one.url.encode() in told(stack)
    with pytest.raises(OldEvidenceDropped):
        publish(stack, both(stack, two, tmp_path / "two.json"), two)
    publish(stack, str(tmp_path / "one.json"), one)  # run again, it is finished
    assert stack.client("trusted_root.json").read_bytes() == told(stack)


@pytest.mark.attack("evidence dropped without a word")
def test_a_log_under_another_address_whose_checkpoints_would_have_another_name_is_told_as_left_out(stack, tmp_path):
    root = json.loads(stack.client("trusted_root.json").read_bytes())
    root["tlogs"][0]["baseUrl"] = "http://elsewhere.example:8080"
    (tmp_path / "root.json").write_text(json.dumps(root))
    with pytest.raises(OldEvidenceDropped, match="left out"):
        publish(stack, str(tmp_path / "root.json"), stack)


def test_a_root_with_other_keys_under_the_stacks_own_url_is_not_published(stack, tmp_path):
    other = stacks.make(tmp_path / "other", url=stack.url)
    root, services = (str(other.client(name)) for name in ("trusted_root.json", "signing_config.json"))
    with pytest.raises(ForeignServices, match="another key under this stack's URL"):
        publish_documents(str(stack.directory), str(stack.directory / "offline"), root, services, SystemClock(), Old.DROP)
    with running_stack(str(stack.directory)):
        assert stack.json("GET", "/tuf/timestamp.json")["signed"]["version"] == 1


@pytest.mark.attack("evidence dropped without a word")
def test_of_two_publications_at_once_the_later_is_held_to_the_earlier(stack, tmp_path):
    others = stacks.make(tmp_path / "one"), stacks.make(tmp_path / "two")
    roots = [both(stack, other, tmp_path / f"{other.directory.name}.json") for other in others]
    together = threading.Barrier(2)
    refused: list[OldEvidenceDropped] = []

    def publish_together(root: str, services: stacks.Stack) -> None:
        together.wait(20)
        try:
            publish(stack, root, services)
        except OldEvidenceDropped as err:
            refused.append(err)

    threads = [threading.Thread(target=publish_together, args=pair) for pair in zip(roots, others, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert stack.client("trusted_root.json").read_bytes() == told(stack)
