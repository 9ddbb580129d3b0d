"""What users of other tools will ask for and sigkit does not have, with what to do instead.

A pipeline that comes from cosign or podman meets these names first. Each is a usage error; none is passed over.
"""

from __future__ import annotations

import click

_KEYLESS = "keyless signing and verification (certificates, transparency logs, timestamps) is not in this version. Use --key."
_NO_LOG = "no transparency log is written, and no proof of one is asked for. Leave it out."
_ATTESTATIONS = "attestations are not in this version; signatures by key are."
_BACKGROUND = "running containers in the background is not in this version. `sigkit run` stays until the container ends."
_STREAMS = "a container has the standard streams of `sigkit run` itself. Leave it out."
_TLS = "certificates are always verified. For a private authority there is --registry-cacert FILE, for plain HTTP --allow-http-registry."

_OPTIONS = {
    **dict.fromkeys(
        (
            "--certificate",
            "--certificate-chain",
            "--certificate-identity",
            "--certificate-identity-regexp",
            "--certificate-oidc-issuer",
            "--certificate-oidc-issuer-regexp",
            "--fulcio-url",
            "--identity-token",
            "--oidc-issuer",
            "--rekor-url",
            "--signing-config",
            "--timestamp-server-url",
            "--trusted-root",
            "--use-signed-timestamps",
        ),
        _KEYLESS,
    ),
    **dict.fromkeys(("--tlog-upload", "--insecure-ignore-tlog", "--private-infrastructure"), _NO_LOG),
    **dict.fromkeys(("--yes", "-y"), "nothing is asked before signing. Leave it out."),
    **dict.fromkeys(("--allow-insecure-registry", "--tls-verify"), _TLS),
}
_OPTIONS_OF_VERIFY = {"--type": _ATTESTATIONS}
_OPTIONS_OF_RUN = {
    **dict.fromkeys(("-d", "--detach"), _BACKGROUND),
    **dict.fromkeys(("-i", "--interactive", "-t", "--tty"), _STREAMS),
    **dict.fromkeys(("-p", "--publish"), "a container has no network, or the host's with --network host; there are no ports to publish."),
    "--privileged": "there is no such switch. The policy's rule grants each thing by name, under `run:`.",
    "--mount": "write it as -v SOURCE:TARGET[:ro].",
}
_COMMANDS = {
    **dict.fromkeys(("verify-attestation", "attach"), _ATTESTATIONS),
    **dict.fromkeys(("ps", "exec", "stop", "kill", "logs", "rm"), _BACKGROUND),
    **dict.fromkeys(
        ("login", "logout"), "the credentials that `podman login` or `docker login` stored are used (--authfile names others)."
    ),
    "generate-key-pair": "it is `sigkit key generate`.",
    "public-key": "it is `sigkit key public`.",
    "push": "it is `sigkit copy oci:DIR IMAGE`.",
    "version": "it is `sigkit --version`.",
    "help": "it is `sigkit --help`, or --help after a command.",
}


def explain_option(err: click.NoSuchOption) -> click.UsageError:
    """Return the error with what to do instead, where the option is one that others have."""
    command = err.ctx.info_name if err.ctx else ""
    own = {"run": _OPTIONS_OF_RUN, "verify": _OPTIONS_OF_VERIFY}.get(command or "", {})
    instead = own.get(err.option_name) or _OPTIONS.get(err.option_name)
    return click.UsageError(f"There is no {err.option_name} here: {instead}", err.ctx) if instead else err


def explain_command(name: str) -> str:
    """Return what to do instead of a command that others have, or nothing."""
    return _COMMANDS.get(name, "")
