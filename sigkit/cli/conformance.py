"""`sigkit-conformance`: the client that sigstore's conformance suite drives.

One command line for each case: a bundle, who must have made it, and a file or its digest. It ends with 0 when sigkit verifies it, and with
another status and the reason when it does not. The decision is the one that every command of sigkit makes about a file.

Source: sigstore/sigstore-conformance docs/cli_protocol.md.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

import click

from sigkit.cli.options import FILE
from sigkit.cli.output import EXITS, Command, Output
from sigkit.errors import EXIT_USAGE, SigkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigkit.policy.flags import Wanted
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.bind import Artifact

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_NO_STAGING: Final = "no trust root of the staging instance is known: give its files with --trusted-root and, to sign, --signing-config."


@click.group(epilog=EXITS)
def group() -> None:
    """Speak the protocol of sigstore's conformance suite."""


@group.command(name="verify-bundle", cls=Command)
@click.option("--staging", is_flag=True, help="Use sigstore's staging instance.")
@click.option("--bundle", "bundle_path", required=True, type=FILE, metavar="FILE", help="The bundle.")
@click.option("--certificate-identity", "identity", default="", metavar="IDENTITY", help="Who must have signed.")
@click.option("--certificate-oidc-issuer", "issuer", default="", metavar="URL", help="Who must have said so.")
@click.option("--key", "key_path", type=FILE, metavar="FILE", help="The public key that must have signed.")
@click.option("--trusted-root", "root_path", type=FILE, metavar="FILE", help="The trusted root; without it, the public-good instance's.")
@click.argument("artifact", metavar="FILE_OR_DIGEST")
@click.pass_obj
def verify_bundle(
    output: Output,
    artifact: str,
    *,
    staging: bool,
    bundle_path: str,
    identity: str,
    issuer: str,
    key_path: str | None,
    root_path: str | None,
) -> int:
    """Verify a bundle about a file, or about its digest."""
    if staging and not root_path:
        raise click.UsageError(_NO_STAGING)
    if bool(key_path) == bool(identity or issuer):
        raise click.UsageError("Give either --key, or --certificate-identity with --certificate-oidc-issuer.")
    root = _root(root_path)
    return _verify(output, bundle_path, _artifact(artifact), root, _wanted(root, identity, issuer, key_path))


@group.command(name="sign-bundle", cls=Command)
@click.option("--staging", is_flag=True, help="Use sigstore's staging instance.")
@click.option("--identity-token", required=True, metavar="TOKEN", help="The identity's token.")
@click.option("--bundle", "bundle_path", required=True, type=FILE, metavar="FILE", help="Write the bundle here.")
@click.option("--trusted-root", "root_path", type=FILE, metavar="FILE", help="The trusted root; without it, the public-good instance's.")
@click.option(
    "--signing-config", "config_path", type=FILE, metavar="FILE", help="The services that sign; without it, the public-good ones."
)
@click.argument("artifact", type=FILE, metavar="FILE")
@click.pass_obj
def sign_bundle(
    output: Output,
    artifact: str,
    *,
    staging: bool,
    identity_token: str,
    bundle_path: str,
    root_path: str | None,
    config_path: str | None,
) -> None:
    """Sign a file with an identity. The suite's identities are public, so nothing is asked."""
    from sigkit import limits
    from sigkit.cli.inputs import read_input
    from sigkit.cli.outputs import check_outputs, write_output
    from sigkit.cli.signatory import open_signatory, prepare
    from sigkit.cli.signing_options import SigningFlags
    from sigkit.clock import SystemClock
    from sigkit.signing.blob import sign_file

    if staging and not (root_path and config_path):
        raise click.UsageError(_NO_STAGING)
    check_outputs({"--bundle": bundle_path}, (artifact, *(path for path in (root_path, config_path) if path)))
    flags = SigningFlags(signing_config=config_path, trusted_root=root_path, identity_token=identity_token, login="never", yes=True)
    content = read_input(artifact, limits.SIGNED_FILE_BYTES)
    with open_signatory(output, prepare(output, flags)) as signatory:
        signed = sign_file(content, signatory, SystemClock())
    write_output(bundle_path, signed.bundle)
    output.answer(["signed"], {"schema": "sigkit.conformance/1", "signed": True})


def run(arguments: Sequence[str]) -> int:
    """Run one command line, without the program's name, and return its exit status."""
    output = Output.from_arguments(arguments)
    try:
        with group.make_context("sigkit-conformance", list(arguments), obj=output) as context:
            return int(group.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as err:
        return output.usage_error(err, EXIT_USAGE)
    except SigkitError as err:
        return output.error(err, err.status())


def main() -> None:
    """Run the command line with this process's arguments, and exit with its status."""
    sys.exit(run(sys.argv[1:]))


def _artifact(text: str) -> Artifact:
    """Take a digest for one only if no file has that name, as the protocol says."""
    from sigkit import limits
    from sigkit.cli.inputs import read_input
    from sigkit.digest import parse_digest
    from sigkit.errors import Place
    from sigkit.verify.bind import Artifact

    if _DIGEST.fullmatch(text) and not os.path.exists(text):
        return Artifact.of(parse_digest(text, Place.operator("FILE_OR_DIGEST")))
    return Artifact.of_content(read_input(text, limits.SIGNED_FILE_BYTES))


def _root(path: str | None) -> TrustedRoot:
    if path:
        from sigkit.trust.files import load_trusted_root

        return load_trusted_root(path)
    from sigkit.trust.bundled import load_public_good

    return load_public_good()


def _wanted(root: TrustedRoot, identity: str, issuer: str, key_path: str | None) -> Wanted:
    from sigkit.policy.flags import Wanted, WantedIdentity, WantedKeys, WantedRoot, WantedText
    from sigkit.policy.model import KEYLESS_DEMANDS

    if key_path:
        from sigkit.keys.load import load_public
        from sigkit.trust.root import TrustedKey

        return Wanted(WantedKeys((TrustedKey(os.path.basename(key_path), load_public(key_path)),)), roots=(WantedRoot(root),))
    signer = WantedIdentity(WantedText("--certificate-identity", identity), WantedText("--certificate-oidc-issuer", issuer))
    return Wanted(signer, KEYLESS_DEMANDS, roots=(WantedRoot(root),))


def _verify(output: Output, bundle_path: str, artifact: Artifact, root: TrustedRoot, wanted: Wanted) -> int:
    from sigkit import limits
    from sigkit.cli.inputs import read_input
    from sigkit.clock import SystemClock
    from sigkit.evidence.form import Found, evidence_of_bundle
    from sigkit.policy.decide import decide_blob
    from sigkit.policy.flags import WantedKeys, requirement_for_flags, roots_with_keys, signed_or_attested
    from sigkit.verify.verify import verify

    now = SystemClock().now()
    require = signed_or_attested(requirement_for_flags(wanted))
    keys = wanted.signer.keys if isinstance(wanted.signer, WantedKeys) else ()
    (trusted,) = roots_with_keys(keys, (root,), "flags")
    evidence = evidence_of_bundle(read_input(bundle_path, limits.BUNDLE_BYTES), Found(bundle_path, None, "file"))
    facts = verify(evidence, artifact, trusted, now, limits.DEFAULT)
    decision = decide_blob((facts,), (), artifact, require, now)
    status = decision.exit_status()
    for reason in decision.reasons:
        output.note(f"{reason.code}  {reason.problem}: expected {reason.expected}, got {reason.got}")
    if not status:
        output.answer(["verified"], {"schema": "sigkit.conformance/1", "verified": True})
    return status
