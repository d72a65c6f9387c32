# A web server on aiohttp. It says its port, and a line for each request that it
# executes, with what it was told of the client.
import asyncio, sys
from aiohttp import web

async def execute(request):
    h = request.headers
    line = "executed %s %s verdict=%s subject=%s\n" % (
        request.method, request.path, h.get("X-Client-Verdict", ""), h.get("X-Client-Subject", ""))
    sys.stdout.write(line)
    sys.stdout.flush()
    return web.Response(text=line)

async def main():
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", execute)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("port", site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
