"""`sigkit-runtime`: the OCI runtime's command line, as far as it is there, with argv parsed by hand.

Started as `<absolute python> -I -S cli.py` by the wrapper that `python -m sigkit.runtime.install` writes. Nothing but the answer goes to
stdout; errors go to stderr in one line, because callers read the last one.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

USAGE = """\
usage: sigkit-runtime [--root DIR] COMMAND …

  run [--bundle DIR] [--trace] [--preserve-fds N] ID   start a bundle directory, wait for it, return its exit status
  state ID                                             print what is known of a container, as JSON
  kill ID [SIGNAL]                                     send it a signal (a name or a number; TERM)
  delete [--force] ID                                  remove a stopped container; with --force, end it first
  features                                             print what this runtime can do, as JSON
  --version, --help

exit status: the container's own (128 + n for signal n); 127 no such command in the image, 126 not executable, 1 refused,
2 usage, 3 could not check
"""


class Usage(Exception):
    """The command line makes no sense. Argument: why."""


class _Arguments:
    """What is left of argv."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def options(self, *, values: Sequence[str] = (), flags: Sequence[str] = ()) -> dict[str, str]:
        """Take the options at the front: `--name value`, `--name=value`, or a flag."""
        found: dict[str, str] = {}
        while self._words and self._words[0].startswith("-"):
            word = self._words.pop(0)
            if word == "--":
                break
            name, equals, value = word.partition("=")
            name = {"-b": "--bundle", "-f": "--force"}.get(name, name)
            if name in flags and not equals:
                found[name] = "yes"
            elif name in values and (equals or self._words):
                found[name] = value if equals else self._words.pop(0)
            else:
                raise Usage(f"unknown option or missing value: {word}")
        return found

    def word(self, what: str) -> str:
        """Take the next word."""
        if not self._words:
            raise Usage(f"{what} is missing")
        return self._words.pop(0)

    def optional_word(self, default: str) -> str:
        """Take the next word if there is one."""
        return self._words.pop(0) if self._words else default

    def end(self) -> None:
        """Refuse what is left."""
        if self._words:
            raise Usage(f"unexpected: {self._words[0]}")


def main(argv: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    from sigkit.runtime.create import run_bundle  # light; the rest waits until the launcher has been started

    arguments = _Arguments(argv)
    try:
        options = arguments.options(values=("--root", "--log", "--log-format"), flags=("--version", "--help"))
        if "--help" in options:
            return _print(USAGE)
        if "--version" in options:
            return _version()
        command = arguments.word("a command")
        if command == "run":
            return _run(arguments, options, run_bundle)
        act = _COMMANDS.get(command)
        if act is None:
            raise Usage(f"unknown command: {command}")
        return act(arguments, options)
    except Usage as err:
        sys.stderr.write(f"sigkit-runtime: {err}\n{USAGE}")
        return 2
    except Exception as err:  # noqa: BLE001 (imported late: errors cost a third of a bare interpreter's start)
        return _complain(err, options)


def _print(text: str) -> int:
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def _complain(err: Exception, options: dict[str, str]) -> int:
    from sigkit.errors import SigkitError
    from sigkit.text import escape

    if not isinstance(err, SigkitError):
        raise err
    line = escape(str(err), 4096)
    sys.stderr.write(f"sigkit-runtime: {line}\n")
    if err.remedy:
        sys.stderr.write(f"  next: {escape(err.remedy)}\n")
    if "--log" in options:
        _log(options["--log"], line)
    return err.status()


def _log(path: str, line: str) -> None:
    """Append one line as runc writes it: podman and containerd read the last one."""
    import datetime as dt
    import json

    now = dt.datetime.now(dt.UTC).isoformat()  # noqa: TID251 (a log's time is not judged by anyone)
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, json.dumps({"level": "error", "msg": line, "time": now}).encode() + b"\n")
        finally:
            os.close(file)
    except OSError as err:
        sys.stderr.write(f"sigkit-runtime: the log cannot be written ({err.errno})\n")


def _root(options: dict[str, str]) -> str:
    if "--root" in options:
        return os.path.abspath(options["--root"])
    from sigkit.runtime.spawn import default_state_root

    return default_state_root()


def _run(arguments: _Arguments, options: dict[str, str], run_bundle: Callable[..., int]) -> int:
    own = arguments.options(values=("--bundle", "--preserve-fds"), flags=("--trace",))
    container_id = arguments.word("the container's id")
    arguments.end()
    preserved = own.get("--preserve-fds", "0")
    if not (preserved.isascii() and preserved.isdigit() and len(preserved) < 4):
        raise Usage("--preserve-fds takes a number")
    return run_bundle(
        own.get("--bundle", "."),
        container_id,
        state_root=_root(options),
        trace_fd=2 if "--trace" in own else None,
        preserve_fds=int(preserved),
        warn=_warn,
    )


def _warn(text: str) -> None:
    from sigkit.text import escape

    sys.stderr.write(f"sigkit-runtime: warning: {escape(text)}\n")


def _state(arguments: _Arguments, options: dict[str, str]) -> int:
    from sigkit.runtime import state
    from sigkit.strict import encode_json

    container_id = arguments.word("the container's id")
    arguments.end()
    found = state.load(_root(options), container_id)
    return _print(encode_json(found.report()).decode() + "\n")


def _kill(arguments: _Arguments, options: dict[str, str]) -> int:
    import signal

    from sigkit.errors import Place, WrongState
    from sigkit.runtime import state

    container_id = arguments.word("the container's id")
    number = _signal_number(arguments.optional_word("TERM"))
    arguments.end()
    found = state.load(_root(options), container_id)
    # By descriptor, opened before the start time is compared: the number may be another process's by now.
    target = os.pidfd_open(found.pid) if found.alive() else -1
    try:
        if target < 0 or not found.alive():
            raise WrongState("the container is not running", place=Place(container_id), got=found.status)
        signal.pidfd_send_signal(target, number)
    except ProcessLookupError as err:
        raise WrongState("the container is not running", place=Place(container_id), got="stopped") from err
    finally:
        if target >= 0:
            os.close(target)
    return 0


def _signal_number(word: str) -> int:
    import signal

    if word.isascii() and word.isdigit() and int(word) in signal.valid_signals():
        return int(word)
    name = word.upper()
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(found, signal.Signals):
        raise Usage(f"unknown signal: {word}")
    return int(found)


def _delete(arguments: _Arguments, options: dict[str, str]) -> int:
    from sigkit.errors import NoSuchContainer
    from sigkit.runtime import removal, state

    own = arguments.options(flags=("--force",))
    container_id = arguments.word("the container's id")
    arguments.end()
    root = _root(options)
    try:
        found = state.load(root, container_id)
    except NoSuchContainer:
        if "--force" in own:
            return 0  # what the caller wanted; crun and runc answer so too
        raise
    if "--force" in own:
        removal.end(found)
    removal.remove(root, found)
    return 0


def _features(arguments: _Arguments, options: dict[str, str]) -> int:
    from sigkit.runtime.features import features
    from sigkit.strict import encode_json

    del options
    arguments.end()
    return _print(encode_json(features()).decode() + "\n")


def _version() -> int:
    import sigkit

    return _print(f"sigkit-runtime version {sigkit.__version__}\nspec: 1.2.1\n")


_COMMANDS: dict[str, Callable[[_Arguments, dict[str, str]], int]] = {
    "state": _state,
    "kill": _kill,
    "delete": _delete,
    "features": _features,
}


def run() -> NoReturn:
    """Run as a program."""
    gc.disable()  # nothing here lives long enough to be collected
    status = 3
    try:
        status = main(sys.argv[1:])
    except BaseException as err:  # noqa: BLE001 (the outermost frame: a bug is told, and is no success)
        sys.excepthook(type(err), err, err.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a millisecond less than tearing an interpreter down that has nothing to tear down


if __name__ == "__main__":
    sys.path.append(__file__.rpartition("/sigkit/")[0])
    run()
