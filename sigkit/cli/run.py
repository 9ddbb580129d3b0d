"""`sigkit run`: start an image that a policy admits."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from sigkit.cli.connect import parse_image
from sigkit.cli.decisions import choose_host_policy, decision_lines
from sigkit.cli.options import Number, grouped, is_utf8, platform_option, policy_options, registry_options, store_option
from sigkit.cli.output import EXITS_OF_RUN, Command, Output, tell

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags, PolicyFlags
    from sigkit.engine.admission import Admission, Redeem
    from sigkit.engine.pull import PulledImage
    from sigkit.gate.admit import Judgement
    from sigkit.gate.confine import Asked, AskedMount
    from sigkit.gate.run import Engine
    from sigkit.oci.registry import Registry

SIZE_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30}


class ContainerFlags(NamedTuple):
    """What is asked for the container, as podman's flags have it."""

    entrypoint: str | None
    env: tuple[str, ...]
    volume: tuple[str, ...]
    network: str
    user: str | None
    workdir: str | None
    hostname: str | None
    read_only: bool
    memory: str | None
    cpus: float | None
    pids_limit: int | None
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]


container_options = grouped(
    "container",
    ContainerFlags,
    click.option("--entrypoint", metavar="PROGRAM", help="Run this instead of the image's entry point; drops the image's Cmd too."),
    click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable. NAME alone copies it from here."),
    click.option("-v", "--volume", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Show a path of this host in the container."),
    click.option("--network", type=click.Choice(["none", "host"]), default="none", show_default=True, help="The container's network."),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user of the image."),
    click.option("-w", "--workdir", metavar="DIR", help="The working directory."),
    click.option("--hostname", metavar="NAME", help="The host name inside."),
    click.option("--read-only", is_flag=True, help="Make the root file system read-only."),
    click.option("-m", "--memory", metavar="SIZE", help="Memory limit, such as 512m."),
    click.option("--cpus", type=Number(0.01, 4096), metavar="NUMBER", help="Processor limit."),
    click.option(
        "--pids-limit", type=click.IntRange(-1, 2**22), metavar="NUMBER", help="Limit of processes: 2048 if left out, none with 0 or -1."
    ),
    click.option("--cap-add", multiple=True, metavar="CAPABILITY", help="Add a capability that the rule grants."),
    click.option("--cap-drop", multiple=True, metavar="CAPABILITY", help="Drop a capability, or all."),
)


@click.command(
    cls=Command,
    name="run",
    epilog=EXITS_OF_RUN,
    context_settings={"allow_interspersed_args": False},
    examples="""
    sigkit run --policy policy.yaml registry.example/acme/app:1.0
    sigkit run --key release.pub --memory 256m --read-only registry.example/acme/app:1.0
    sigkit run --policy policy.yaml -v /srv/data:/data:ro registry.example/acme/app@sha256:… serve --port 80
    """,
)
@click.argument("image")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@policy_options
@container_options
@click.option("--rm", is_flag=True, help="As podman has it; a container is always removed at its end.")
@click.option("--trace", is_flag=True, help="Print each kernel step, why it is taken, and the shell line that does the same.")
@platform_option
@store_option
@registry_options
@click.pass_obj
def command(  # noqa: PLR0913, PLR0917 - click hands over one value for each option
    output: Output,
    image: str,
    arguments: tuple[str, ...],
    wanted: PolicyFlags,
    container: ContainerFlags,
    rm: bool,  # noqa: FBT001 - click's signature
    trace: bool,  # noqa: FBT001
    platform_text: str | None,
    store_root: str | None,
    connection: ConnectionFlags,
) -> int:
    """Judge IMAGE by a policy, and if it is allowed, pull exactly the judged digest, start it, and wait for its end.

    ARGUMENTS follow the image's entry point, in the place of its Cmd. What the rule does not grant (another command, variables, mounts,
    the host's network) is refused, not left out.
    """
    del rm
    from sigkit.cli.host import opened_host, teller
    from sigkit.gate.run import run
    from sigkit.oci.descriptor import host_platform, parse_platform
    from sigkit.policy.decision import Deny, encode_decision

    policy = choose_host_policy(output, wanted)
    reference = parse_image(image)
    platform = parse_platform(platform_text) if platform_text else host_platform()
    asked = _asked(container, arguments)
    tell_allowed = teller(output)

    def tell_judgement(judgement: Judgement) -> None:
        tell_allowed(judgement)
        if isinstance(judgement.decision, Deny):
            if output.json:
                output.answer((), encode_decision(judgement.decision))
            else:
                tell("\n".join(decision_lines(output, judgement.decision, sys.stderr, "allowed")))

    sys.stdout.flush()
    trace_fd = sys.stderr.fileno() if trace else None
    with opened_host(output, store_root, connection, reference, trace_fd, lambda host: host.standing_by()) as (ports, engine):
        return run(reference, platform, policy, asked, ports, _Handover(engine, output), tell_judgement)


class _Handover:
    """An engine whose containers own stdout from the moment at which they are started."""

    def __init__(self, engine: Engine, output: Output) -> None:
        self._engine = engine
        self._output = output

    def pull(self, admission: Admission, registry: Registry) -> PulledImage:
        return self._engine.pull(admission, registry)

    def start(self, admission: Admission, image: PulledImage, redeem: Redeem) -> int:
        self._output.leave_stdout()
        return self._engine.start(admission, image, redeem)


def _asked(flags: ContainerFlags, arguments: tuple[str, ...]) -> Asked:
    from sigkit.gate.confine import Asked
    from sigkit.policy.model import Access, Network

    return Asked(
        command=arguments or None,
        entrypoint=None if flags.entrypoint is None else (flags.entrypoint,),
        environment=tuple(_variable(text) for text in flags.env),
        mounts=tuple(_mount(text) for text in flags.volume),
        network=Network(flags.network),
        add_capabilities=tuple(_capability(text, "--cap-add") for text in flags.cap_add),
        drop_capabilities=tuple("ALL" if text.upper() == "ALL" else _capability(text, "--cap-drop") for text in flags.cap_drop),
        user=flags.user,
        working_dir=flags.workdir,
        hostname=flags.hostname,
        root=Access.READ_ONLY if flags.read_only else Access.READ_WRITE,
        memory_bytes=None if flags.memory is None else _size(flags.memory),
        pids=flags.pids_limit,
        cpus=flags.cpus,
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE or NAME.", param_hint="--env")
    if not equals and name not in os.environ:
        raise click.BadParameter(f"{name!r} is not set here; give NAME=VALUE.", param_hint="--env")
    if not equals and not is_utf8(os.environ[name]):
        raise click.BadParameter(f"the value of {name!r} here is not UTF-8.", param_hint="--env")
    return name, value if equals else os.environ[name]


def _mount(text: str) -> AskedMount:
    from sigkit.gate.confine import AskedMount
    from sigkit.policy.model import Access

    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not (source.startswith("/") and target.startswith("/")) or options not in {"", "ro", "rw"}:
        raise click.BadParameter(f"{text!r} is not SOURCE:TARGET or SOURCE:TARGET:ro, both absolute.", param_hint="--volume")
    return AskedMount(source, target, Access.READ_ONLY if options == "ro" else Access.READ_WRITE)


def _capability(text: str, option: str) -> str:
    from sigkit.policy.model import CAPABILITIES

    name = f"CAP_{text.upper().removeprefix('CAP_')}"
    if name not in CAPABILITIES:
        raise click.BadParameter(f"{text!r} is no capability; one is NET_BIND_SERVICE.", param_hint=option)
    return name


def _size(text: str) -> int:
    from sigkit.limits import RUNTIME_MEMORY_LEAST_BYTES

    number, unit = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "b")
    if not (number.isascii() and number.isdecimal() and len(number) <= 12) or unit not in SIZE_UNITS:
        raise click.BadParameter(f"{text!r} is not a size such as 512m.", param_hint="--memory")
    if not int(number):
        raise click.BadParameter(
            f"{text!r} leaves no memory to run in; without --memory there is no limit but the rule's.", param_hint="--memory"
        )
    size = int(number) * SIZE_UNITS[unit]
    if size < RUNTIME_MEMORY_LEAST_BYTES:
        raise click.BadParameter(
            f"{text!r} is too little to start in; the least is {RUNTIME_MEMORY_LEAST_BYTES // 2**10}k.", param_hint="--memory"
        )
    return size
