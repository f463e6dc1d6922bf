"""A server of chat completions that is as fast as it is told to be: so many answers at once, each after so long.

`python paced_server.py SLOTS SECONDS` prints its port. What it can do is known, SLOTS / SECONDS answers a second, so a
client that gets less is what is slow.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

ANSWER = {
    "object": "chat.completion",
    "model": "paced",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}


async def serve(slots: int, seconds: float) -> None:
    free = asyncio.Semaphore(slots)

    async def complete(request: web.Request) -> web.Response:
        await request.read()
        async with free:
            await asyncio.sleep(seconds)
        return web.json_response(ANSWER)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
