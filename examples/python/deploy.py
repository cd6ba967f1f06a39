"""Moves traffic from one backend to another in steps, while a session stays where it has begun.

    deploy.py CLUSTER OLD NEW URL

The sidecar's control API is at OUTRIGGER_CONTROL, by default 127.0.0.1:9911; URL is what its listener for the cluster
answers. All orders end with this process: whoever is content with the deploy takes OLD out of discovery before that.
"""

import asyncio
import sys
from collections import Counter

import httpx
from outrigger import Client, Lease, OutriggerError, affinity_headers

SESSION = "session-42"


async def main(cluster: str, old: str, new: str, url: str) -> None:
    async with Client() as client, client.lease("deploy") as lease, httpx.AsyncClient() as http:
        await lease.set_affinity(cluster, SESSION, old)
        for percent in (10, 50, 100):
            await shift(lease, cluster, old, new, percent)
            answers = Counter([await ask(http, url) for _ in range(100)])
            session = await ask(http, url, affinity_headers(SESSION))
            print(f"{percent} % at {new}: {answers[new]} of 100 requests, session at {session}")

        # The session moves before its backend is to finish.
        await lease.set_affinity(cluster, SESSION, new)
        await lease.drain(cluster, old, timeout=30)
        await client.wait_drained(cluster, old)
        session = await ask(http, url, affinity_headers(SESSION))
        print(f"{old} has finished, session at {session}")


async def shift(lease: Lease, cluster: str, old: str, new: str, percent: int) -> None:
    # The new one first: if the second order fails, the old one still has its share.
    await lease.set_weight(cluster, new, percent)
    await lease.set_weight(cluster, old, 100 - percent)


async def ask(http: httpx.AsyncClient, url: str, headers: dict[str, str] | None = None) -> str:
    """The backends of this example answer with their names."""
    answer = await http.get(url, headers=headers)
    return answer.raise_for_status().text


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except OutriggerError as error:
        sys.exit(f"the deploy is called off: {error}")
