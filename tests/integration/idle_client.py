"""`python -m tests.integration.idle_client AGENT EVENTS CONTAINER`: the shim's client in a
process of its own, whose threads can be counted.

Waits for the container's end.  Says "idle" once its channel is closed, then, for each
line that it reads, what the container's guest answers; at the end the exit status and
whether the channel is closed still.
"""

import asyncio
import sys

from shim.guest.client import AgentClient
from shim.guest.values import ProcessName


async def main(agent: str, events: str, container: str) -> None:
    client = AgentClient(agent, events)
    await client.wait_info()
    waiting = asyncio.create_task(client.wait_process(ProcessName(container)))
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
    calling = asyncio.create_task(answer(client, lines))
    await until_idle(client)
    status = await waiting
    calling.cancel()
    print(status, "open" if client.is_open else "closed", flush=True)
    await client.close()


async def answer(client: AgentClient, lines: "asyncio.Queue[str]") -> None:
    while True:
        await lines.get()
        assert await client.read_clock() is not None
        print("answered", flush=True)
        await until_idle(client)


async def until_idle(client: AgentClient) -> None:
    while client.is_open:
        await asyncio.sleep(0.05)
    print("idle", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
