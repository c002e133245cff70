#!/usr/bin/env bash
# FFmpeg 8.1 (PyAV 18.1.0): the end of an HTTP stream and a lost HTTP connection are reported the wrong way round.
#
# Expected (RFC 9112, section 8): a chunked response without its last chunk is incomplete, so reading it ends with an error; a
#   response without Content-Length and Transfer-Encoding is complete when the server closes the connection, so reading it ends
#   without one.
# Seen: the chunked response that is cut off between two chunks ends like a complete one: demux() just stops;
#   the response that ends with its connection is OSError(5, "Input/output error").
# Why it matters: live streams are sent chunked or until the connection closes. A program that reconnects after errors only never
#   reconnects to the one when its server dies, and always reconnects to the other when it has ended.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import socket
import sys
import threading

import av
import numpy as np

with av.open("a.ts", "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width = stream.height = 96
    for level in range(100):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((96, 96, 3), level, np.uint8))))
    container.mux(stream.encode(None))
content = open("a.ts", "rb").read()
parts = [content[i : i + 4096] for i in range(0, len(content), 4096)]
chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n"
chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"


def end_of(response):
    """Serve a response to one client, hang up, and return how reading it ends."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        with server, server.accept()[0] as client:
            client.recv(4096)
            client.sendall(response)

    threading.Thread(target=serve, daemon=True).start()
    with av.open(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=10) as container:
        try:
            for _ in container.demux(video=0):
                pass
        except OSError as error:
            return error.strerror
    return "clean"


seen = {
    "chunked, complete": end_of(chunked + chunks + b"0\r\n\r\n"),
    "chunked, cut off between chunks": end_of(chunked + chunks),
    "with Content-Length, complete": end_of(head + b"Content-Length: %d\r\n\r\n" % len(content) + content),
    "until the connection closes, complete": end_of(head + b"Connection: close\r\n\r\n" + content),
}
for name, end in seen.items():
    print(f"{name}: {end}")
expected = ["clean", "clean", "clean", "Input/output error"]
if list(seen.values()) != expected:
    sys.exit(f"changed: {seen}")
PY
