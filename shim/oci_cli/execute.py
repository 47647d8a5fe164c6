"""`exec`: a further process in a running container."""

import json
import os
from typing import Any

from shim.errors import FailedPrecondition, InvalidArgument
from shim.machine.directory import SandboxDirectory
from shim.oci.spec import MAX_SPEC_BYTES, parse_process, parse_spec
from shim.oci_cli.call import Call, write_pid_file
from shim.oci_cli.control import ask
from shim.oci_cli.record import STOPPED, Record
from shim.oci_cli.streams import open_console
from shim.oci_cli.usage import Flags
from shim.sandbox.plan import read_spec


def execute(call: Call) -> int | None:
    flags = call.line.flags
    record = call.find()
    if record.status == STOPPED:
        raise FailedPrecondition("cannot exec in a stopped container")
    process = read_process(record, flags, call.line.words[1:])
    terminal = bool(process.get("terminal"))
    foreground = "detach" not in flags.truths
    console_socket = flags.text("console-socket")
    if terminal and not foreground and not console_socket:
        raise InvalidArgument("--tty: a detached process needs --console-socket")
    if console_socket and not terminal:
        raise InvalidArgument("--console-socket: only for a process with a terminal")
    arguments = {
        "process": process,
        "terminal": terminal,
        "foreground": foreground,
        "console": bool(console_socket),
    }
    console = open_console(console_socket) if console_socket else None
    streams = [console.fileno()] * 3 if console else [0, 1, 2]
    fds = [call.connection.fileno(), *streams]
    try:
        answer = ask(SandboxDirectory(record.sandbox).socket, "exec", arguments, fds)
    finally:
        if console is not None:
            console.close()
    write_pid_file(
        flags.text("pid-file") and os.path.abspath(flags.text("pid-file")), answer["pid"]
    )
    return None if foreground else 0


def read_process(record: Record, flags: Flags, words: list[str]) -> dict[str, Any]:
    """--process as it is; else the container's own with what flags and words say."""
    if "process" in flags.texts:
        with open(flags.text("process"), "rb") as file:
            process = parse_process(file.read(MAX_SPEC_BYTES + 1))
        return {**process, "terminal": process.get("terminal", False) or "tty" in flags.truths}
    if not words:
        raise InvalidArgument("process args cannot be empty")
    process = parse_spec(read_spec(record.bundle))["process"]
    process = {**process, "args": words, "terminal": "tty" in flags.truths}
    process["env"] = [*(process.get("env") or []), *flags.texts.get("env", [])]
    if "cwd" in flags.texts:
        process["cwd"] = flags.text("cwd")
    if "no-new-privs" in flags.truths:
        process["noNewPrivileges"] = True
    process["user"] = change_user(process.get("user") or {}, flags)
    process["capabilities"] = add_capabilities(
        process.get("capabilities") or {}, flags.texts.get("cap", [])
    )
    return parse_process(json.dumps(process).encode())


def change_user(user: dict[str, Any], flags: Flags) -> dict[str, Any]:
    if "user" in flags.texts:
        uid, colon, gid = flags.text("user").partition(":")
        user = {**user, "uid": read_number("user", uid)}
        if colon:
            user["gid"] = read_number("user", gid)
    if "additional-gids" in flags.texts:
        gids = [read_number("additional-gids", text) for text in flags.texts["additional-gids"]]
        user = {**user, "additionalGids": [*(user.get("additionalGids") or []), *gids]}
    return user


def add_capabilities(capabilities: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """To all sets but, as runc, only those of inheritable ones to ambient."""
    if not names:
        return capabilities
    changed = {
        kind: [*(capabilities.get(kind) or []), *names]
        for kind in ("bounding", "effective", "permitted")
    }
    return {**capabilities, **changed}


def read_number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(f"--{name}: expected numbers, is {text!r}")
    return int(text)
