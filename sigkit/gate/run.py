"""From a reference to a container: judge, admit, pull exactly that digest, start. And the same without the start.

Everything that goes wrong ends with an error or a refusal, a line in the audit log, and no admission left to use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sigkit.data import Data
from sigkit.errors import EXIT_RUN_REFUSED, EXIT_RUN_UNCHECKED, EXIT_UNCHECKED, SigkitError
from sigkit.gate.admit import Covers, admit, judge, record_denial, record_failure, redeemer, withdraw
from sigkit.gate.confine import Asked
from sigkit.policy.decision import Deny, Reason, encode_reason, record_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.clock import Clock
    from sigkit.engine.admission import Admission, Redeem
    from sigkit.engine.containers import LocalEngine
    from sigkit.engine.pull import Progress, PulledImage
    from sigkit.gate.admit import Judgement, Ports
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import Registry
    from sigkit.policy.model import Policy


class Engine(Protocol):
    """What brings admitted images to this host and starts them."""

    def pull(self, admission: Admission, registry: Registry) -> PulledImage:
        """Bring exactly the admitted image, every byte checked."""
        ...

    def start(self, admission: Admission, image: PulledImage, redeem: Redeem) -> int:
        """Use the admission up, start its container, wait for it, remove it, and return its status."""
        ...


def local_engine(
    root: str, clock: Clock, progress: Progress, warn: Callable[[str], None], *, trace_fd: int | None = None, preserve_fds: int = 0
) -> LocalEngine:
    """Return the engine of this host, whose store lies at `root`.

    Raises:
        FileUnwritable: (UNAVAIL) there can be no store.
    """
    from sigkit.engine.containers import LocalEngine, Options

    return LocalEngine(Options(root, trace_fd, preserve_fds), clock, progress, warn)


class Pulled(Data):
    """An image that was admitted and is here."""

    judgement: Judgement
    image: PulledImage


def run(
    reference: Reference,
    platform: Platform,
    policy: Policy,
    asked: Asked,
    ports: Ports,
    engine: Engine,
    tell: Callable[[Judgement], None],
) -> int:
    """Start what `reference` names now, if the policy allows it, and wait for its end.

    Args:
        asked: what to run, and with what; all of it must be within the rule's grant.
        tell: is told the judgement before anything is pulled.

    Returns:
        The container's status; 122 when it was refused, 123 when that could not be found out. Nothing was started then.

    Raises:
        SigkitError: it could not be judged, pulled or started, or more is asked for than is granted. Nothing is left behind.
    """
    judgement = _judge(reference, platform, policy, ports)
    tell(judgement)
    if isinstance(judgement.decision, Deny):
        return EXIT_RUN_UNCHECKED if record_of(judgement.decision).exit_status() == EXIT_UNCHECKED else EXIT_RUN_REFUSED
    admission = admit(judgement, asked, ports)
    try:
        image = engine.pull(admission, ports.registry)
        status = engine.start(admission, image, redeemer(ports.state, ports.clock))
    except BaseException as err:  # an interrupt and a bug end it too
        record_failure(admission.audit_id, err, ports)
        raise
    finally:
        withdraw(admission, ports.state)
    ports.audit.append("ended", {"admission": admission.audit_id, "status": status})
    return status


def pull(
    reference: Reference, platform: Platform, policy: Policy, ports: Ports, engine: Engine, tell: Callable[[Judgement], None]
) -> Pulled | Deny:
    """Bring what `reference` names now to this host, if the policy allows it. The admission is used up by this alone.

    Raises:
        SigkitError: it could not be judged or pulled. Nothing is left behind.
    """
    judgement = _judge(reference, platform, policy, ports)
    tell(judgement)
    if isinstance(judgement.decision, Deny):
        return judgement.decision
    admission = admit(judgement, Asked(), ports)
    try:
        redeemer(ports.state, ports.clock)(admission)
        image = engine.pull(admission, ports.registry)
    except BaseException as err:  # an interrupt and a bug end it too
        record_failure(admission.audit_id, err, ports)
        raise
    finally:
        withdraw(admission, ports.state)
    ports.audit.append("pulled", {"admission": admission.audit_id})
    return Pulled(judgement, image)


def _judge(reference: Reference, platform: Platform, policy: Policy, ports: Ports) -> Judgement:
    try:
        judgement = judge(reference, platform, policy, ports.registry, ports.clock, ports.limits, Covers.IMAGE)
    except SigkitError as err:
        ports.audit.append("unjudged", {"reference": reference.text, "reason": encode_reason(Reason.of_error(err))})
        raise
    if isinstance(judgement.decision, Deny):
        record_denial(judgement.decision, ports)  # before anybody is told: that can fail, and must not hide it
    return judgement
