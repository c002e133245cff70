#!/usr/bin/env bash
# gradio 6.31.0: a mounted page that nobody uses wakes its process up about 1,000 times a second, on Linux and macOS.
#
# Expected: a queue that waits for its next event, as asyncio.Queue does; an idle server then wakes a few times a second.
# Seen: the queue looks for events every 1 ms and for progress every 10 ms, for as long as the server runs. 5 s idle with a page of
#   one button: about 4,400 switches of the process, against about 50 of the same uvicorn without the page. On Windows the
#   queue's own values are 50 and 100 ms. No option of queue(), launch() or mount_gradio_app() changes them; the attributes
#   `sleep_when_free` and `progress_update_sleep_when_free` of `blocks._queue` do.
# Why it matters: about 7% of a core on a small machine that serves a network, and a processor that never sleeps deeply.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check gradio==6.31.0 fastapi==0.165.0 uvicorn==0.54.0
cd "$work"
cat >serve.py <<'PY'
import asyncio
import resource
import sys

import gradio as gr
import uvicorn
from fastapi import FastAPI

with gr.Blocks() as page:
    text = gr.Textbox()
    gr.Button("upper case").click(str.upper, text, text)
kind = sys.argv[1]
app = FastAPI()
if kind != "no page":
    gr.mount_gradio_app(app, page, path="/")
if kind == "slower":
    page._queue.sleep_when_free, page._queue.progress_update_sleep_when_free = 0.05, 0.1


async def main() -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.1)
    port = server.servers[0].sockets[0].getsockname()[1]
    if kind != "no page":  # the first request starts the queue
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /gradio_api/startup-events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()
    await asyncio.sleep(3)
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_nvcsw - before.ru_nvcsw)
    print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "s of the CPU", file=sys.stderr)
    server.should_exit = True
    await running


asyncio.run(main())
PY
export GRADIO_ANALYTICS_ENABLED=False
none=$("$work/venv/bin/python" serve.py "no page")
page=$("$work/venv/bin/python" serve.py page)
slower=$("$work/venv/bin/python" serve.py slower)
echo "switches of an idle process in 5 s: $none without the page, $page with it, $slower with the values for Windows"
if [ "$page" -lt 2000 ] || [ "$none" -gt 500 ] || [ "$slower" -gt 1000 ]; then
    echo "changed" >&2
    exit 1
fi
