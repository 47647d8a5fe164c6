"""`sampan-oci FD`: one call of the OCI command line where there is no warm server.

The launcher starts it as a child, and speaks with it as with a process of the warm
server's.
"""

import os
import socket
import sys

from shim.machine.launch import launch_machine
from shim.oci_cli.main import answer_launcher
from shim.warm.request import RequestError, receive_request, take_over


def main() -> None:
    number = int(sys.argv[1])
    os.set_inheritable(number, False)
    with socket.socket(fileno=number) as connection:
        try:
            request = receive_request(connection)
        except RequestError as error:
            raise SystemExit(1) from error
        take_over(request)
        answer_launcher(request.arguments, connection, launch_machine)


if __name__ == "__main__":
    main()
