"""What the gate hands to the engine: exactly what may be pulled and started, once, and not for long.

Only `gate.admit` builds an `Admission`; a test over the syntax trees holds that. The engine reads digests from it, never a tag.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit.data import Data

if TYPE_CHECKING:
    from datetime import datetime

    from sigkit.digest import Digest
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.reference import Repository


UNLIMITED: Final = -1


class Network(Enum):
    """The networks that a container may be in."""

    NONE = "none"
    HOST = "host"


class MountAccess(Enum):
    """What a container may do below a bind mount."""

    READ_ONLY = "ro"
    READ_WRITE = "rw"


class BindMount(Data):
    """A path of this host, shown at a path of the container."""

    source: str
    destination: str
    access: MountAccess


class Confinement(Data):
    """How closely a container is held: the rule's grant and what was asked for, whichever is less."""

    network: Network = Network.NONE
    # Names as `CAP_CHOWN`; the set is exact, for root in the container, and empty for any other user.
    capabilities: tuple[str, ...] = ()
    mounts: tuple[BindMount, ...] = ()
    read_only: bool = False
    memory_bytes: int | None = None
    pids: int | None = None  # UNLIMITED where that was asked for and granted; None is the engine's own limit
    cpus: float | None = None
    no_new_privileges: bool = True
    # As `--user` has it: `user[:group]`, names or numbers of the image; None is the image's own.
    user: str | None = None
    working_dir: str | None = None
    hostname: str | None = None


class Admission(Data):
    """Leave to pull one image and start one container from it.

    Single use: redeemed by `containers.create`, or by a pull alone. It is durable in the audit log (as `audit_id`) before it exists.
    """

    nonce: str
    repository: Repository
    top: Digest
    manifest: Digest
    config: Digest
    platform: Platform
    # The arguments that follow the entry point; None is the image's own Cmd.
    command: tuple[str, ...] | None
    # Granted variables and their values, over the image's own.
    environment: tuple[tuple[str, str], ...]
    confinement: Confinement
    policy_name: str
    policy_digest: Digest
    expires_at: datetime
    audit_id: str
    # Display only: what the user typed, and its tag. Nothing is looked up by them.
    reference: str = ""
    tag: str | None = None
    # Replaces the image's Entrypoint and drops its Cmd; None is the image's own.
    entrypoint: tuple[str, ...] | None = None


# Uses up an admission, or raises: AdmissionUsed, AdmissionExpired (POLICY). The gate gives it; it remembers durably.
Redeem: TypeAlias = Callable[[Admission], None]
