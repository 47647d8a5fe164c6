"""What `make run` shows: one container in a microVM, with the proof that it was in one.

Runs where containerd has the runtime and a busybox image: in the test host, or
on this machine.  The boot id is the kernel's own: a container that shared this
kernel would print this kernel's.
"""

import subprocess
import sys
import time
from pathlib import Path

RUNTIME = "io.containerd.sampan.v2"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SCRIPT = f"""\
echo "Hello from container $(hostname)."
echo "My kernel is $(uname -r), up for $(cut -d' ' -f1 /proc/uptime) s, boot $(cat {BOOT_ID})."
"""


def find_image() -> str:
    listed = subprocess.run(
        ["ctr", "image", "ls", "-q"], capture_output=True, text=True, check=True
    )
    names = [name for name in listed.stdout.split() if "busybox" in name]
    if not names:
        sys.exit("demo: containerd has no busybox image")
    return names[0]


def run_container(image: str) -> tuple[subprocess.CompletedProcess[str], float]:
    command = ["ctr", "run", "--rm", "--runtime", RUNTIME, image, "sampan-demo", "sh", "-c", SCRIPT]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done, time.monotonic() - started


def main() -> int:
    done, taken_s = run_container(find_image())
    print(done.stdout, end="")
    if done.returncode != 0:
        print(f"demo: ctr run ended with {done.returncode}", file=sys.stderr)
        return done.returncode
    host_boot = BOOT_ID.read_text().strip()
    kernel = done.stdout.partition("My kernel is ")[2].partition(",")[0]
    if not kernel or host_boot in done.stdout:
        print(
            f"demo: the container ran on this host's own kernel, boot {host_boot}", file=sys.stderr
        )
        return 1
    print(
        f"proof: guest kernel {kernel}, not this host's boot {host_boot};"
        f" {taken_s:.1f} s from `ctr run` to its end"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
