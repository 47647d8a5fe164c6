"""The beginning of small scripts that stand in for a vmm: they receive, and say what they like."""

CONTROL = """\
import json, os, signal, socket, sys, time
control = socket.socket(fileno=3)
def receive():
    packet, fds, _, _ = socket.recv_fds(control, 65536, 8)
    if not packet: sys.exit(0)
    return json.loads(packet), fds
def send(**message): control.send(json.dumps(message).encode())
"""

ENTER = """\
from proto.control import JailMode
from shim.vmm.jail.jail import Jail
def enter(arguments, fds):
    jail = Jail(JailMode.ON, False)
    jail.enter(fds[-1], arguments["image_path"], arguments["root_path"])
"""
"""The shares become the process's root, as a vmm's: what it has not imported by then it
never can."""
