"""The stack's authorities, for the tests of each."""

import contextlib
import shutil
import subprocess

import pytest

from sigkit.services.tls import Tls
from tests.simulators.authorities import Authorities, make_authorities


@pytest.fixture(scope="session")
def made_authorities(tmp_path_factory):
    """Return a directory in which they were made, to be copied: making them syncs thirty files."""
    root = tmp_path_factory.mktemp("authorities") / "made"
    make_authorities(root)
    return root


@pytest.fixture
def open_authorities(tmp_path, made_authorities):
    """Return a function that opens them, with more issuers if given."""
    with contextlib.ExitStack() as closing:

        def opened(*issuers):
            found = Authorities(shutil.copytree(made_authorities, tmp_path / "stack"), issuers)
            closing.callback(found.close)
            return found

        yield opened


@pytest.fixture
def authorities(open_authorities):
    return open_authorities()


@pytest.fixture(scope="session")
def tls(tmp_path_factory) -> Tls:
    """A certificate for 127.0.0.1, signed by its own key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=registry"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return Tls(str(certificate), str(key))
