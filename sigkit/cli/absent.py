"""What users of other tools will ask for and sigkit does not have, with what to do instead.

A pipeline that comes from cosign or podman meets these names first. Each is a usage error; none is passed over.
"""

from __future__ import annotations

import click

_SERVICES = "services are named by --signing-config FILE, with the --trusted-root of the same instance."
_NO_LOG = "a transparency log is written where a --signing-config names one; a key without one writes none. Leave it out."
_ATTESTATIONS = "it is `sigkit verify-attestation --type TYPE`."
_BACKGROUND = "running containers in the background is not in this version. `sigkit run` stays until the container ends."
_STREAMS = "a container has the standard streams of `sigkit run` itself. Leave it out."
_TLS = "certificates are always verified. For a private authority there is --registry-cacert FILE, for plain HTTP --allow-http-registry."
_CREDENTIALS = "the credentials that `podman login` or `docker login` stored are used (--authfile names others)."
_IN_THE_BUNDLE = "certificate and timestamp stand in the bundle: --bundle FILE for files; `sigkit inspect --save-bundles DIR` for an image."
_HARDWARE = "keys on hardware and in key services are not in this version; a key is a file."
_LIMITS = "the limits are --memory, --cpus and --pids-limit."
_PID_1 = "the program is process 1, and gets the signals that `sigkit run` gets. Leave it out."

_OPTIONS = {
    **dict.fromkeys(
        ("--fulcio-url", "--rekor-url", "--timestamp-server-url", "--use-signing-config"),
        _SERVICES,
    ),
    **dict.fromkeys(("--registry-username", "--registry-password", "--registry-token"), _CREDENTIALS),
    "--new-bundle-format": "there is no other form to choose: bundles are written and read. Leave it out.",
    "--k8s-keychain": _CREDENTIALS,
    **dict.fromkeys(("--tlog-upload", "--private-infrastructure"), _NO_LOG),
    **dict.fromkeys(("--sk", "--slot"), _HARDWARE),
    "-y": "it is for the commands that sign, as --yes.",
    "--fulcio-auth-flow": "it is --login browser or --login device.",
    **dict.fromkeys(("--rfc3161-timestamp", "--output-certificate", "--issue-certificate"), _IN_THE_BUNDLE),
    **dict.fromkeys(("--oidc-client-secret-file", "--oidc-redirect-url"), "a login needs no secret, and ends on a free port of its own."),
    "--oidc-disable-ambient-providers": "a token that is given with --identity-token FILE comes before the CI job's own.",
    "--registry-referrers-mode": "the referrers API is used where the registry has it, else the tag of the specification.",
    "--record-creation-timestamp": "a signature says its time by its log or timestamp, and the same one is the same bytes. Leave it out.",
    "--sign-container-identity": "the repository's name is always signed. Leave it out.",
    "--replace": "what is attached stays; a policy asks for what must be there. Leave it out.",
    "--statement": "give its predicate with --predicate FILE and its type with --type; the subject is made from the artifact.",
    "--b64": "signatures are written in base64. Leave it out.",
    "--oidc-provider": "the CI job's own token is found by itself; any other is given with --identity-token FILE.",
    **dict.fromkeys(("--allow-insecure-registry", "--tls-verify"), _TLS),
}
_OPTIONS_OF_SIGN = {
    **dict.fromkeys(
        ("-r", "--recursive"), "an index is signed as an index, which covers its images. Sign an image that is started alone by its digest."
    ),
    **dict.fromkeys(
        ("--upload", "--bundle", "--payload", "--output-signature"), "a signature is always attached to the image in its registry."
    ),
}
_OPTIONS_OF_VERIFY = {
    "--type": _ATTESTATIONS,
    **dict.fromkeys(
        ("--rekor-url", "--timestamp-server-url"), "evidence brings its proofs along, which are checked offline by --trusted-root."
    ),
    **dict.fromkeys(
        ("--certificate-chain", "--ca-roots", "--ca-intermediates", "--certificate", "--timestamp-certificate-chain", "--sct"),
        "whose authorities count is said by --trusted-root FILE (`sigkit trust create` makes one of certificates), or by a policy.",
    ),
    "--max-workers": "eight images are verified at a time. Leave it out.",
    "--attachment": "only signatures and attestations are read.",
    "--signature-digest-algorithm": "the key says the algorithm. Leave it out.",
    **dict.fromkeys(("--sk", "--slot"), _HARDWARE),
    "--check-claims": "the digest and the name that were signed are always compared.",
    **dict.fromkeys(("--signature", "--payload"), "evidence about an image is read from its registry, or from --bundle FILE."),
    "--local-image": "it is --layout DIR.",
    "--experimental-oci11": "the referrers of an image are always read. Leave it out.",
}
_OPTIONS_OF_VERIFY_ATTESTATION = {"--policy": "a policy says in its rules what must be attested: `sigkit verify --policy`."}
_OPTIONS_OF_FILES = {
    **_OPTIONS_OF_VERIFY,
    "--type": "it is `sigkit verify-blob-attestation --type TYPE`.",
    "--offline": "nothing is ever connected to for a file. Leave it out.",
    "--policy": "a policy is about images; a file's signer is --key FILE or an identity.",
    "--name": "it is about images; no repository is signed with a file.",
}
_OPTIONS_OF_RUN = {
    **dict.fromkeys(("-d", "--detach"), _BACKGROUND),
    **dict.fromkeys(("-i", "--interactive", "-t", "--tty"), _STREAMS),
    **dict.fromkeys(
        ("-p", "--publish", "-P", "--publish-all", "--expose"),
        "a container has no network, or the host's with --network host; there are no ports to publish.",
    ),
    "--net": "it is --network.",
    **dict.fromkeys(("--dns", "--dns-search", "--add-host"), "names are resolved as on this host, with --network host."),
    **dict.fromkeys(("--userns", "--pid", "--ipc", "--uts", "--cgroupns"), "each container has namespaces of its own."),
    **dict.fromkeys(("--device", "--gpus"), "no device of this host is shown in a container."),
    **dict.fromkeys(("--security-opt", "--seccomp-policy"), "the seccomp filter and no_new_privs are always on."),
    **dict.fromkeys(
        ("--tmpfs", "--shm-size"), "one is mounted for shared memory; the root file system itself is writable, but for --read-only."
    ),
    **dict.fromkeys(("--health-cmd", "--no-healthcheck", "-l", "--label"), "labels and health checks act on nothing. Leave it out."),
    **dict.fromkeys(("--arch", "--os", "--variant"), "it is --platform OS/ARCH[/VARIANT]."),
    **dict.fromkeys(
        ("--memory-swap", "--memory-reservation", "--cpu-shares", "-c", "--cpuset-cpus", "--ulimit", "--blkio-weight"), _LIMITS
    ),
    **dict.fromkeys(("--init", "--stop-timeout", "--stop-signal", "--sig-proxy"), _PID_1),
    **dict.fromkeys(("--restart", "--replace"), _BACKGROUND),
    "--pull": "the registry is always asked first, and bytes that are in the store are not fetched again. Leave it out.",
    "--group-add": "the groups are those of the user in the image; --user USER:GROUP names one.",
    "--env-file": "give each variable with -e NAME=VALUE.",
    "--signature-policy": "it is --policy.",
    "-h": "the host name is --hostname NAME, the help --help.",
    "--privileged": "there is no such switch. The policy's rule grants each thing by name, under `run:`.",
    "--mount": "write it as -v SOURCE:TARGET[:ro].",
}
_OPTIONS_OF_SEARCH = {
    "--email": "it is --identity.",
    "--artifact": "it is --sha256 HEX.",
}
_OPTIONS_OF = {
    "search": _OPTIONS_OF_SEARCH,
    "run": _OPTIONS_OF_RUN,
    "sign": _OPTIONS_OF_SIGN,
    "verify": _OPTIONS_OF_VERIFY,
    "verify-attestation": {**_OPTIONS_OF_VERIFY, **_OPTIONS_OF_VERIFY_ATTESTATION},
    "verify-blob": _OPTIONS_OF_FILES,
    "verify-blob-attestation": _OPTIONS_OF_FILES,
}
_COMMANDS = {
    **dict.fromkeys(("attach",), "evidence that exists is carried by `sigkit copy`; new evidence by `sigkit sign` and `sigkit attest`."),
    **dict.fromkeys(("ps", "exec", "stop", "kill", "logs", "rm"), _BACKGROUND),
    **dict.fromkeys(("login", "logout"), _CREDENTIALS),
    **dict.fromkeys(("save", "load"), "it is `sigkit copy`, with oci:DIR as one of the two sides."),
    "triangulate": "`sigkit tree IMAGE` lists what is attached, and where.",
    "download": "`sigkit inspect IMAGE` shows the evidence, `sigkit copy IMAGE oci:DIR` fetches it.",
    "clean": "signatures are deleted with the registry's own tools.",
    "generate-key-pair": "it is `sigkit key generate`.",
    "public-key": "it is `sigkit key public`.",
    "initialize": "it is `sigkit trust init NAME --mirror URL --root FILE`.",
    **dict.fromkeys(("trusted-root", "signing-config"), "it is `sigkit trust create`, which writes both files."),
    "push": "it is `sigkit copy oci:DIR IMAGE`.",
    "import-key-pair": "a private key in PKCS#8, or of cosign's own kind, is used as it is: --key FILE.",
    "bundle": "bundles are read of any version; `sigkit inspect` shows one, and `sigkit inspect --save-bundles` writes an image's.",
    "env": "`sigkit COMMAND --help` names the variables beside their options.",
    **dict.fromkeys(("manifest", "dockerfile"), "`sigkit verify -f FILE` takes a list of images."),
    "version": "it is `sigkit --version`.",
    "help": "it is `sigkit --help`, or --help after a command.",
}


def explain_option(err: click.NoSuchOption) -> click.UsageError:
    """Return the error with what to do instead, where the option is one that others have."""
    command = err.ctx.info_name if err.ctx else ""
    own = _OPTIONS_OF.get(command or "", {})
    instead = own.get(err.option_name) or _OPTIONS.get(err.option_name)
    return click.UsageError(f"There is no {err.option_name} here: {instead}", err.ctx) if instead else err


def explain_command(name: str) -> str:
    """Return what to do instead of a command that others have, or nothing."""
    return _COMMANDS.get(name, "")
