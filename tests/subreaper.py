"""A stand-in for conmon: `subreaper.py REPORT_FD PID_FILE COMMAND…`.

A child subreaper that runs the command with its own standard streams, then waits for the
process that the pid file names.  Two lines on REPORT_FD: the command's status, and
`exit N` or `signal N` for that process.  Closes its streams in between, as it would be
another holder of the container's pipes.
"""

import ctypes
import os
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    report, pid_file, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(int(report), False)
    done = subprocess.run(command, check=False)
    os.write(int(report), f"{done.returncode}\n".encode())
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    if done.returncode:
        return
    with open(pid_file, encoding="ascii") as file:
        pid = int(file.read())
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    os.write(int(report), (f"exit {code}" if code >= 0 else f"signal {-code}").encode() + b"\n")


if __name__ == "__main__":
    main()
