from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import EXIT_REFUSED, EXIT_USAGE, MalformedReference, Place, SigkitError
from sigkit.oci.reference import Repository, parse_reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "path", "tag", "digest"),
    [
        pytest.param("busybox", "docker.io", "library/busybox", "latest", None, id="one component on docker.io"),
        pytest.param("acme/app:v1", "docker.io", "acme/app", "v1", None, id="two components on docker.io"),
        pytest.param("docker.io/busybox", "docker.io", "library/busybox", "latest", None, id="docker.io written out"),
        pytest.param("index.docker.io/busybox", "docker.io", "library/busybox", "latest", None, id="docker.io's old name"),
        pytest.param("registry-1.docker.io/busybox", "docker.io", "library/busybox", "latest", None, id="docker.io's registry"),
        pytest.param("Index.Docker.io:443/acme/app", "docker.io", "acme/app", "latest", None, id="docker.io's old name with a port"),
        pytest.param("docker.io/acme/app", "docker.io", "acme/app", "latest", None, id="no library/ before two components"),
        pytest.param("test.com:5000", "docker.io", "library/test.com", "5000", None, id="without slash a port is a tag"),
        pytest.param("test:5000/repo", "test:5000", "repo", "latest", None, id="colon makes a registry"),
        pytest.param("test.com/repo:tag", "test.com", "repo", "tag", None, id="dot makes a registry"),
        pytest.param("localhost/x/y:z", "localhost", "x/y", "z", None, id="localhost is a registry"),
        pytest.param("Registry.Example:8443/app", "registry.example:8443", "app", "latest", None, id="host in lower case"),
        pytest.param("registry.example:443/app", "registry.example", "app", "latest", None, id="the port that is asked anyhow"),
        pytest.param("[2001:db8::1]:443/app", "[2001:db8::1]", "app", "latest", None, id="the port of IPv6 that is asked anyhow"),
        pytest.param("localhost:80/app", "localhost", "app", "latest", None, id="the port of loopback that is asked anyhow"),
        pytest.param("localhost:443/app", "localhost:443", "app", "latest", None, id="loopback is asked without TLS"),
        pytest.param("127.0.0.1:443/app", "127.0.0.1:443", "app", "latest", None, id="so are its addresses"),
        pytest.param("registry:443/app", "registry:443", "app", "latest", None, id="without its port it would be no registry"),
        pytest.param("192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", "5050", None, id="IPv4 with port"),
        pytest.param("[2001:DB8:0:0::1]:5000/repo", "[2001:db8::1]:5000", "repo", "latest", None, id="IPv6 in its short form"),
        pytest.param("[::1]/repo:t", "[::1]", "repo", "t", None, id="IPv6 without port"),
        pytest.param("a.b/c__d/e--f/g.h_i", "a.b", "c__d/e--f/g.h_i", "latest", None, id="separators"),
        pytest.param(f"r.x/app@sha256:{HEX}", "r.x", "app", None, f"sha256:{HEX}", id="digest without tag"),
        pytest.param(f"r.x/app:v1@sha256:{HEX}", "r.x", "app", "v1", f"sha256:{HEX}", id="tag and digest"),
        pytest.param(f"r.x/app@sha384:{HEX[:48] * 2}", "r.x", "app", None, f"sha384:{HEX[:48] * 2}", id="sha384"),
        pytest.param(f"r.x/app@sha512:{HEX * 2}", "r.x", "app", None, f"sha512:{HEX * 2}", id="sha512"),
        pytest.param("r.x/" + "a" * 255, "r.x", "a" * 255, "latest", None, id="longest repository"),
        pytest.param("r.x/a:" + "t" * 128, "r.x", "a", "t" * 128, None, id="longest tag"),
    ],
)
def test_reference_has_one_canonical_repository_and_prints_back_unchanged(text, registry, path, tag, digest):
    found = parse_reference(text)
    assert found.repository == Repository(registry, path)
    assert found.tag == tag
    assert (str(found.digest) if found.digest else None) == digest
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(":tag", id="no repository"),
        pytest.param(f"@sha256:{HEX}", id="digest alone"),
        pytest.param(HEX, id="64 hexadecimal digits"),
        pytest.param("r.x/App", id="upper-case repository"),
        pytest.param("App/x", id="upper-case first component is no registry"),
        pytest.param("r.x/a:", id="empty tag"),
        pytest.param("r.x/a:-t", id="tag starts with a dash"),
        pytest.param("r.x/a:" + "t" * 129, id="tag too long"),
        pytest.param("r.x/a:b:c", id="two tags"),
        pytest.param("r.x/a@", id="empty digest"),
        pytest.param("r.x/a@md5:" + "0" * 32, id="algorithm that is not accepted"),
        pytest.param(f"r.x/a@SHA256:{HEX}", id="upper-case algorithm"),
        pytest.param(f"r.x/a@sha256:{HEX}@sha256:{HEX}", id="two digests"),
        pytest.param("r.x/a/../b", id="dots"),
        pytest.param("r.x//a", id="empty component"),
        pytest.param("r.x/a/", id="ends in a slash"),
        pytest.param("r.x/a b", id="space"),
        pytest.param("r.x/a\n", id="newline at the end"),
        pytest.param("r.x/a:t\n", id="newline after the tag"),
        pytest.param("r.x/é", id="not ASCII"),
        pytest.param("r.x/a___b", id="three underscores"),
        pytest.param("r.x/" + "a" * 256, id="repository too long"),
        pytest.param("https://r.x/a", id="scheme"),
        pytest.param("docker://r.x/a", id="another tool's scheme"),
        pytest.param("user:secret@r.x/a", id="user and password"),
        pytest.param("r.x:0/a", id="port zero"),
        pytest.param("r.x:80/a", id="another spelling of plain HTTP's port"),
        pytest.param("r.x:0443/a", id="port with a leading zero"),
        pytest.param("r.x:65536/a", id="port too large"),
        pytest.param("r.x:٣/a", id="digits that are not ASCII"),
        pytest.param("-r.x/a", id="host starts with a dash"),
        pytest.param("r..x/a", id="empty label"),
        pytest.param("[::1/a", id="bracket left open"),
        pytest.param("[:::1]/a", id="malformed IPv6"),
        pytest.param("[fe80::1%eth0]/a", id="IPv6 zone"),
        pytest.param("[::ffff:1.2.3.4]/a", id="IPv4 inside IPv6"),
        pytest.param("r.x/a:" + "t" * 2000, id="too long as a whole"),
    ],
)
def test_what_the_grammar_does_not_allow_is_refused_as_the_operators_mistake(text):
    with pytest.raises(MalformedReference) as caught:
        parse_reference(text)
    assert caught.value.status() == EXIT_USAGE


def test_reference_from_elsewhere_is_not_the_operators_mistake():
    with pytest.raises(MalformedReference) as caught:
        parse_reference("r.x/A", Place("some.json", "$.image"))
    assert caught.value.status() == EXIT_REFUSED
    assert caught.value.place == Place("some.json", "$.image")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        pytest.param(f"app:sha256:{HEX}", f"app@sha256:{HEX}", id="colon before a digest"),
        pytest.param(f"r.x:5/t/app:sha256:{HEX}", f"r.x:5/t/app@sha256:{HEX}", id="with a registry"),
        pytest.param("https://r.x/app:v1", "r.x/app:v1", id="scheme"),
        pytest.param("r.x/App", "r.x/app", id="upper case"),
    ],
)
def test_refusal_suggests_a_reference_that_parses(text, meant):
    with pytest.raises(MalformedReference) as caught:
        parse_reference(text)
    assert f"did you mean {meant} ?" in caught.value.remedy
    parse_reference(meant)


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text):
    try:
        found = parse_reference(text)
    except SigkitError:
        return
    again = parse_reference(f"{found.repository}{f':{found.tag}' if found.tag else ''}{f'@{found.digest}' if found.digest else ''}")
    assert (again.repository, again.tag, again.digest) == (found.repository, found.tag, found.digest)


@given(
    st.from_regex(
        r"([a-zA-Z0-9]{1,3}(\.[a-z]{1,3})?(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,4}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,4})?(:[\w.-]{1,8})?",
        fullmatch=True,
    )
)
def test_canonical_name_of_a_canonical_name_is_itself(text):
    try:
        found = parse_reference(text)
    except MalformedReference:
        return
    assert parse_reference(str(found.repository)).repository == found.repository
