"""Every limit on what comes from outside: value, unit in the name, origin in the comment.

A limit is applied before parsing, and before memory is asked for.
"""

from __future__ import annotations

from sigkit.data import Data

# Documents
JSON_DEPTH = 64  # the deepest published format (a statement inside a bundle inside a referrer) needs 12
JSON_VALUES = 1_000_000  # each takes up to 100 bytes once parsed; 8 MiB of a dense SBOM, 70 bytes a component, have 600,000
INTEGER_DIGITS = 19  # 2**63 - 1, what the formats' readers in Go and Rust hold
LATEST_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second that a datetime holds
MANIFEST_BYTES = 4 * 2**20  # OCI distribution 1.1 asks registries to accept 4 MiB
CONFIG_BYTES = 8 * 2**20  # image config: history of some build tools reaches 1 MiB
BUNDLE_BYTES = 8 * 2**20  # cosign refuses attachments beyond 128 MiB; a bundle with a large predicate stays below 8
KEY_FILE_BYTES = 64 * 2**10  # RSA-16384 in PEM is 13 KiB
RSA_LEAST_BITS = 2_048  # CA/Browser Forum baseline requirements 6.1.5
RSA_MOST_BITS = 8_192  # Go's crypto/tls refuses more: checking costs grow with the square
RSA_MOST_EXPONENT = 2**31 - 1  # as Go's crypto/rsa: one as long as the modulus makes a check 50 times as slow
POLICY_BYTES = 1 * 2**20  # 10,000 rules are 900 KB
POLICY_DEPTH = 32  # the deepest sensible rule (a threshold of thresholds) needs 14
POLICY_EVENTS = 200_000  # 10,000 rules have 150,000: CVE-2019-11253's bombs have 10**9
POLICY_PATTERN_PAIRS = 1_000_000  # about 2 s; patterns of equal weight that share their literal beginning
POLICY_FILES_BYTES = 1 * 2**20  # a trust root or a chain that a policy names; the public-good instance's trusted_root.json is 10 KB
SIGNERS_SHOWN = 20  # in one reason: an image can have 1,000 signatures by as many signers
EXPRESSION_CHARACTERS = 1024  # over an identity; the longest workflow reference in practice is 300
EXPRESSION_MEMORY_BYTES = 1 * 2**20  # of one compiled expression; a list of 1,000 repositories needs less
DECISION_AGE_S = 300  # from a decision to its admission: a person reads a prompt in between
ADMISSION_LIFETIME_S = 3_600  # from an admission to its start: a pull of 10 GB at 3 MB/s
AUDIT_RECORD_BYTES = 8 * 2**20  # a decision about 1,000 pieces of evidence is 1 MiB

# Images
INDEX_MANIFESTS = 1_000  # the largest published multi-platform index holds under 100
MANIFEST_LAYERS = 500  # overlayfs stacks at most 500 lower layers
INDEXES_READ = 64  # to find one image in an index of indexes; two levels exist in practice, with a handful
INDEX_DEPTH = 8  # cases.md C10: two levels exist in practice
ANNOTATIONS = 1_000
CONFIG_ITEMS = 10_000  # variables, arguments, labels of one image; the kernel passes a process about 2 MB of them

# Layers
TAR_NAME_BYTES = 4_095  # PATH_MAX less its NUL: a longer name could not be reached inside the container
TAR_DEPTH = 256  # directories held open at once; node_modules, the deepest known in practice, stays below 60
TAR_HEADER_BYTES = 1 * 2**20  # one PAX or GNU long-name record: Go's reader takes as much
TAR_SPARSE_PIECES = 65_536  # Go's reader takes 1 MiB of map, which is as many
XATTR_BYTES = 64 * 2**10  # XATTR_SIZE_MAX of Linux
LAYER_ENTRIES = 1_000_000  # the largest published layers (conda, node_modules) hold a third of that
LAYER_BYTES = 64 * 2**30  # unpacked, holes included; layers of GPU toolkits reach 10 GiB
ZSTD_WINDOW_LOG = 27  # 128 MiB: what zstd's own command line opens without being told to
UNPACK_CPU_S = 3_600  # processor time for one layer: 64 GiB at 50 MB/s take 1,300
UNPACK_IDLE_S = 120  # the longest that an unpacking process may take no input, on a disk that stalls
STORE_LOCK_S = 3_600  # how long one pull waits for another that fetches the same layer
PASSWD_BYTES = 1 * 2**20  # /etc/passwd or /etc/group of an image (CVE-2026-47262); 10,000 users are 600 KB

# Evidence
EVIDENCE_ITEMS = 1_000  # theirs (cosign, CVE-2024-29903): 1000 signatures
EVIDENCE_BYTES = 128 * 2**20  # all of one image together; theirs (cosign, CVE-2024-29902): 128 MiB for one
LAYOUT_BLOBS = 100_000  # looked through for bundles that no list names; an index of 1,000 images of 50 layers has half of that
REFERRER_PAGES = 100
REFERRERS = 10_000
CA_FILE_BYTES = 4 * 2**20  # the largest bundle of a distribution is 250 KB

# Transfers
LEAST_BYTES_PER_S = 64 * 2**10  # slower than any line that images are pulled over: what drips below it is cut off
SUBJECTS = 1_024  # sigstore-go's
SUBJECT_DIGESTS = 32  # sigstore-go's
LOG_ENTRIES = 32  # sigstore-go's
TIMESTAMPS = 32  # sigstore-go's
CERTIFICATES = 10  # of one chain; the longest published has three
TRUSTED_ITEMS = 100  # of one kind in a trusted root; the public-good instance lists under 5
TUF_ROOT_BYTES = 512_000  # theirs (python-tuf's UpdaterConfig), as those below; the public-good root has 5 KB
TUF_TIMESTAMP_BYTES = 16_384
TUF_SNAPSHOT_BYTES = 2_000_000
TUF_TARGETS_BYTES = 5_000_000
TUF_TARGET_BYTES = BUNDLE_BYTES  # a trusted root, which is read under that limit
TUF_ROOT_ROTATIONS = 256  # the public-good root had 15 in five years
TRUST_REFRESH_S = 86_400  # after that long a kept root is fetched anew where a connection is made anyway; a week is what timestamps last
TRUST_LOCK_S = 5  # how long one command waits for another that fetches the same root; then it fetches for itself
TRUST_CACHE_BYTES = 32 * 2**20  # all that is kept of one root: what TUF's limits allow, in base64
TRUST_CACHE_FILES = 1_000
PIN_BYTES = 64 * 2**10  # a URL and a digest
TUF_DELEGATIONS = 32  # roles searched for one target
PROOF_HASHES = 63  # a tree of 2**63 leaves has no longer proof
NOTE_SIGNATURES = 64  # C2SP signed-note.md asks for at least 16
NOTE_BYTES = 64 * 2**10  # a text of 200 bytes and as many signatures; those of the largest kind, of which few are in use, have 3.3 kB
SIGNED_FILE_BYTES = 2 * 2**30  # a file that is signed or verified is held in memory once: Ed25519 needs all of it

# Signing with an identity
TOKEN_BYTES = 64 * 2**10  # an ID token; those of GitHub are 2 KB, those with a directory's groups reach 20
CERTIFICATE_ANSWER_BYTES = 256 * 2**10  # a chain of ten certificates of RSA-8192 in PEM is 40 KB
LOG_ANSWER_BYTES = 4 * 2**20  # an entry with its proof; theirs (rekor): 4 MiB of request, which the entry repeats
TIMESTAMP_ANSWER_BYTES = 64 * 2**10  # RFC 3161 with a chain of three certificates is 6 KB
ISSUER_ANSWER_BYTES = 256 * 2**10  # an issuer's discovery document or token answer; Google's are 2 KB

# Runtime
RUNTIME_CONFIG_BYTES = 4 * 2**20  # config.json: a seccomp profile is 20 KB, argv and environment together at most 2 MiB (ARG_MAX)
RUNTIME_ITEMS = 10_000  # of any list in config.json; the longest published, the names of a seccomp profile, has 450
RUNTIME_ARGUMENTS = 100_000  # more than ARG_MAX has room for
RUNTIME_GROUPS = 65_536  # the kernel's NGROUPS_MAX
RUNTIME_ID_MAPS = 340  # the kernel's own, since Linux 4.15
RUNTIME_MEMORY_LEAST_BYTES = 512 * 2**10  # what a static busybox needs to start is about 400 KiB
RUNTIME_PIDS = 2_048  # podman's and containers/common's default
RUNTIME_HOST_NAME_BYTES = 64  # the kernel's __NEW_UTS_LEN
RUNTIME_MOUNT_OPTION_BYTES = 4_095  # mount(2) copies one page and cuts off the rest silently
RUNTIME_FILTER_INSTRUCTIONS = 4_096  # the kernel's BPF_MAXINSNS


class Limits(Data):
    """The limits that a pure core needs, handed in by its caller."""

    json_depth: int = JSON_DEPTH
    bundle_bytes: int = BUNDLE_BYTES
    evidence_items: int = EVIDENCE_ITEMS
    evidence_bytes: int = EVIDENCE_BYTES
    subjects: int = SUBJECTS
    subject_digests: int = SUBJECT_DIGESTS
    log_entries: int = LOG_ENTRIES
    timestamps: int = TIMESTAMPS


HTTP_HEAD_BYTES = 64 * 2**10  # of a request; the longest header of a client is a token of 16 KiB
TLS_HANDSHAKE_S = 5.0  # a second handshake of a client far away takes half a second; asyncio's own is 60
HTTP_HEADERS = 100  # of a request; clients send under 20
HTTP_QUEUED = 8  # requests behind one whose answer is not finished; no client of a service here sends any
HTTP_HEAD_S = 30.0  # for all of it; nginx gives 60
HTTP_UNREAD_S = 60.0  # a client that does not read is waited for, beside what its bytes need at the least rate; as with bodies
HTTP_BUFFER_BYTES = 64 * 2**10  # of a connection, beyond which nothing more is written; asyncio's own without TLS
HTTP_UNSENT_BYTES = 512 * 2**20  # of all answers that are read slowly; 256 clients that pull layers at once
HTTP_UNSENT_SAFE_S = 5.0  # so long a client gives way to no other, however little it reads; then it is to have read at the least rate
HTTP_CONNECTIONS = (
    4_096  # at once, or fewer where a process may have few descriptors; theirs (Rekor's second generation pushes back at as many)
)


class BodyLimits(Data):
    """What a server takes of one request's body."""

    most_bytes: int
    idle_s: float = 60  # the longest pause inside it
    slack_s: float = 60  # waited for all of it together, beside what its bytes need at the least rate
    least_bytes_per_s: int = LEAST_BYTES_PER_S  # so 8 MiB are waited for three minutes at most, and a blob as long as it comes
    drain_bytes: int = 16 * 2**20  # read of a body that is refused, so that the client reads the answer before the connection closes


class ServedLimits(Data):
    """The limits of the embedded registry."""

    blob_bytes: int = 64 * 2**30  # a layer of a GPU toolkit reaches 10 GiB
    uploads: int = 1_000  # open at once; a client that pushes 500 layers in parallel needs 500
    upload_idle_s: float = 3_600  # then an upload that nobody goes on with is dropped
    upload_empty_s: float = 60  # the same for one that never had a byte: a client that asks for one sends at once
    upload_safe_s: float = 5  # so long it gives way to no other, however little comes; then it is to have come at the least rate
    uploads_bytes: int = 64 * 2**20  # of uploads in memory, of which each is written by the megabyte; beyond, in pieces of a sixteenth
    manifest_s: float = 120  # for all of one: 4 MiB at less than `LEAST_BYTES_PER_S`
    manifest_safe_s: float = 5  # so long it gives way to no other that comes; 4 MiB at less than 1 MB/s
    manifests_bytes: int = 64 * 2**20  # of manifests at once, which are parsed whole: 12 of the largest, and small ones
    turn_s: float = 10  # a list, a deletion or the parsing of a large manifest is waited for; then it is to be asked for again
    body: BodyLimits = BodyLimits(128 * 2**30)  # blobs are counted over several requests; this only ends one
    page: int = 1_000  # theirs (distribution, CVE-2023-2253): tags or referrers in one answer


DEFAULT = Limits()
