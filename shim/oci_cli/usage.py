"""What a command line of `sampan` says: global flags, the verb, its flags, its words.

Pure.  As runc's: `sampan [global flags] VERB [flags] WORDS…`, a flag with one dash or two,
its value as the next word or after `=`.  A flag of runc's that sampan does not have is
refused by name; none is ignored that would change what the container is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shim.errors import InvalidArgument, Unimplemented

SHORT: Final = {
    "a": "all",
    "b": "bundle",
    "c": "cap",
    "d": "detach",
    "e": "env",
    "g": "additional-gids",
    "p": "process",
    "q": "quiet",
    "r": "resources",
    "t": "tty",
    "u": "user",
}
GLOBAL_TEXTS: Final = frozenset(("root", "log", "log-format", "rootless", "criu"))
GLOBAL_TRUTHS: Final = frozenset(("debug", "systemd-cgroup"))
REFUSED: Final = frozenset(
    """
    apparmor cgroup process-label l3-cache-schema mem-bw-schema blkio-weight cpu-rt-period
    cpu-rt-runtime cpuset-cpus cpuset-mems kernel-memory kernel-memory-tcp
    """.split()
)
"""Flags of runc's that have no meaning here."""
STDIO: Final = frozenset(("console-socket", "pid-file", "preserve-fds"))
IGNORED: Final = frozenset(("no-pivot", "no-new-keyring", "no-subreaper"))
"""They concern how runc works on the host: a guest has a kernel of its own."""


class Verb(NamedTuple):
    texts: frozenset[str] = frozenset()
    truths: frozenset[str] = frozenset()
    words: int = 1
    """At least so many; all are given to the verb."""
    most_words: int | None = 1


RESOURCE_TEXTS: Final = frozenset(
    """
    cpu-period cpu-quota cpu-burst cpu-share cpu-idle memory memory-reservation memory-swap
    pids-limit
    """.split()
)
VERBS: Final = {
    "create": Verb(frozenset(("bundle", *STDIO)), IGNORED),
    "run": Verb(frozenset(("bundle", *STDIO)), frozenset(("detach", "keep", *IGNORED))),
    "start": Verb(),
    "state": Verb(),
    "kill": Verb(frozenset(), frozenset(("all",)), 1, 2),
    "delete": Verb(frozenset(), frozenset(("force",))),
    "exec": Verb(
        frozenset(("cwd", "env", "user", "additional-gids", "process", "cap", *STDIO)),
        frozenset(("tty", "detach", "no-new-privs", "ignore-paused")),
        1,
        None,
    ),
    "list": Verb(frozenset(("format",)), frozenset(("quiet",)), 0, 0),
    "pause": Verb(),
    "resume": Verb(),
    "update": Verb(frozenset(("resources", *RESOURCE_TEXTS))),
    "events": Verb(frozenset(("interval",)), frozenset(("stats",))),
    "features": Verb(words=0, most_words=0),
}
UNSUPPORTED_VERBS: Final = ("checkpoint", "restore", "spec", "ps")
ASKS_VERSION: Final = frozenset(("-v", "--version"))
ASKS_HELP: Final = frozenset(("-h", "--help", "help"))
USAGE: Final = f"""\
usage: sampan [global flags] VERB [flags] ID

An OCI runtime: each container in a microVM of its own.
  verbs         {" ".join(VERBS)}
  global flags  --root DIR --log FILE --log-format text|json --debug --systemd-cgroup
also: sampan image|check|ps|console|counters|template|version, each with --help
"""


@dataclass(frozen=True, slots=True)
class Flags:
    """Texts by name, in their order; truths."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    truths: set[str] = field(default_factory=set)

    def text(self, name: str, default: str = "") -> str:
        return self.texts[name][-1] if name in self.texts else default


@dataclass(frozen=True, slots=True)
class CommandLine:
    general: Flags
    verb: str
    flags: Flags
    words: list[str]


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    general, flags = Flags(), Flags()
    rest = read_flags(arguments, GLOBAL_TEXTS, GLOBAL_TRUTHS, general)
    if not rest:
        raise InvalidArgument("expected a verb; `sampan --help` lists them")
    name, rest = rest[0], rest[1:]
    if name in UNSUPPORTED_VERBS:
        raise Unimplemented(f"{name}: sampan does not support it")
    verb = VERBS.get(name)
    if verb is None:
        raise InvalidArgument(f"{name!r}: no such verb; `sampan --help` lists them")
    rest = read_flags(rest, verb.texts, verb.truths, flags)
    words, rest = rest[:1], rest[1:]
    while name != "exec" and rest:  # runc takes flags behind words, but for exec's program
        following = read_flags(rest, verb.texts, verb.truths, flags)
        words, rest = [*words, *following[:1]], following[1:]
    words += rest
    if len(words) < verb.words:
        raise InvalidArgument(f"{name}: expected the container's id")
    if verb.most_words is not None and len(words) > verb.most_words:
        raise InvalidArgument(f"{name}: unexpected word {words[verb.most_words]!r}")
    check_fixed(general, flags)
    return CommandLine(general, name, flags, words)


def read_flags(
    words: Sequence[str], texts: frozenset[str], truths: frozenset[str], into: Flags
) -> list[str]:
    """What follows the flags."""
    iterator = iter(words)
    for word in iterator:
        if word == "--":
            return list(iterator)
        if not word.startswith("-") or word == "-":
            return [word, *iterator]
        name, equals, value = word.lstrip("-").partition("=")
        read_flag(SHORT.get(name, name), value if equals else None, iterator, texts, truths, into)
    return []


def read_flag(
    name: str,
    value: str | None,
    following: Iterator[str],
    texts: frozenset[str],
    truths: frozenset[str],
    into: Flags,
) -> None:
    if name == "f":
        name = "force" if "force" in truths else "format"
    if name in truths:
        if value in (None, "true", "1"):
            into.truths.add(name)
        return
    if name in REFUSED:
        raise Unimplemented(f"--{name}: sampan does not support it")
    if name not in texts:
        raise InvalidArgument(f"flag provided but not defined: -{name}")
    value = next(following, None) if value is None else value
    if value is None:
        raise InvalidArgument(f"flag needs an argument: -{name}")
    into.texts.setdefault(name, []).append(value)


def check_fixed(general: Flags, flags: Flags) -> None:
    """Flags of which only one value can be kept."""
    if flags.text("preserve-fds", "0") != "0":
        raise Unimplemented(
            f"--preserve-fds: {flags.text('preserve-fds')}: a descriptor of the host has no "
            "meaning in a guest"
        )
    if general.text("rootless", "false") not in ("auto", "false"):
        raise Unimplemented("--rootless: sampan needs root")
    if general.text("log-format", "text") not in ("text", "json"):
        raise InvalidArgument(
            f"--log-format: expected text or json, is {general.text('log-format')!r}"
        )
