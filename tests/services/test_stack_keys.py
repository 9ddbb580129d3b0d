"""A stack signs by the keys that belong to its certificates and that its clients were told of, or not at all."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sigkit.clock import SystemClock
from sigkit.errors import ForeignServices, MalformedKey, OtherKeyCertified
from sigkit.services import pki
from sigkit.services.stack.backup import make_backup
from sigkit.services.stack.publish import Old, publish_documents
from sigkit.services.stack.run import running_stack
from sigkit.services.stack.status import is_good, read_status
from tests.simulators import stacks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stack(tmp_path) -> stacks.Stack:
    return stacks.make(tmp_path / "stack")


def put_another(stack: stacks.Stack, name: str, scratch: Path) -> None:
    """Put another key of the same kind in the place of one, or another stack's service in the place of a whole one."""
    path = stack.directory / name
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(stacks.make(scratch / "other").directory / name, path)
    else:
        pki.make_key(str(scratch / "key"), ec.SECP256R1)
        os.replace(scratch / "key", path)


@pytest.mark.attack("a key of another stack")
@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("ca/ca.key", OtherKeyCertified),
        ("tsa/tsa.key", OtherKeyCertified),
        ("ct/ct.key", ForeignServices),
        ("ca", ForeignServices),
        ("tsa", ForeignServices),
        ("ct", ForeignServices),
        ("log", ForeignServices),
    ],
)
def test_what_clients_could_not_verify_is_neither_signed_nor_called_good_nor_copied(stack, tmp_path, name, refusal):
    put_another(stack, name, tmp_path)
    with pytest.raises(refusal) as caught, running_stack(str(stack.directory)):
        pass
    status = read_status(str(stack.directory), SystemClock())
    assert [(type(bad), bad.place) for bad in status.bad_keys] == [(refusal, caught.value.place)]
    assert caught.value.place.source.startswith(str(stack.directory / name))
    assert not is_good(status)
    with pytest.raises(refusal):
        make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())


@pytest.mark.attack("a key of another stack")
def test_a_key_that_tufs_root_does_not_name_is_not_signed_with(stack):
    one, other = sorted((stack.directory / "tuf" / "keys").iterdir())
    one.write_bytes(other.read_bytes())
    with pytest.raises(MalformedKey), running_stack(str(stack.directory)):
        pass
    assert [bad.place.source for bad in read_status(str(stack.directory), SystemClock()).bad_keys] == [str(one)]


def test_a_stack_whose_clients_were_told_of_services_elsewhere_is_served(stack, tmp_path):
    other = stacks.make(tmp_path / "other")
    root, services = (str(other.client(name)) for name in ("trusted_root.json", "signing_config.json"))
    publish_documents(str(stack.directory), str(stack.directory / "offline"), root, services, SystemClock(), Old.DROP)
    with running_stack(str(stack.directory)):
        assert stack.json("GET", "/tuf/2.targets.json")["signed"]["version"] == 2
