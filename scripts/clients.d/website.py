"""The site that clients visit: an ASGI application whose answers can be checked.

    /hello            text
    /bytes?n=N        the first N bytes of one endless random text, in pieces
    /echo             what arrived, as JSON: HTTP version, method, fields, length and SHA-256 of the body
    /gzip             compressed content
    /refuse           413 without a look at the content
    /stream?id=ID     one line at once, the second after a request for /release?id=ID
    /status?code=N    that status, without content
    /page             fetches, shows 30 images, opens a WebSocket and posts to /report when it is done
    /hold             an image that arrives once /report was posted, so that the page is not loaded before
    /ws               WebSocket: every message comes back
    /simple/          an index of Python packages, as pip wants it
    /git/             repositories, by `git http-backend`
"""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import os
import random
import urllib.parse
import zipfile

IMAGES = 30
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PAGE = """<!DOCTYPE html><meta charset=utf-8><title>page</title><pre id=report>nothing</pre><img src=/hold><script>
const load = number => new Promise((loaded, failed) => {
  const image = new Image();
  image.onload = () => loaded(image.naturalWidth);
  image.onerror = () => failed(new Error(`image ${number}`));
  image.src = `/image?number=${number}`;
});
const echo = text => new Promise((answered, failed) => {
  const socket = new WebSocket(`wss://${location.host}/ws`);
  socket.onopen = () => socket.send(text);
  socket.onmessage = message => { answered(message.data); socket.close(1000); };
  socket.onclose = event => failed(new Error(`WebSocket closed: ${event.code} ${event.reason}`));
});
const protocols = name => [...new Set(performance.getEntriesByType("resource")
  .filter(entry => entry.name.includes(name)).map(entry => entry.nextHopProtocol))];
(async () => {
  const report = {};
  try {
    document.cookie = "first=1";
    document.cookie = "second=2";
    report.posted = await (await fetch("/echo", {method: "POST", body: "x".repeat(1 << 20)})).json();
    report.images = await Promise.all([...Array(IMAGES).keys()].map(load));
    report.socket = await echo("text \\u00e4");
    report.protocols = [...protocols("/echo"), ...protocols("/image")];
  } catch (error) { report.error = String(error); }
  document.getElementById("report").textContent = JSON.stringify(report);
  await fetch("/report", {method: "POST", body: "done"});
})();
</script>""".replace("IMAGES", str(IMAGES))
WHEEL = "small_package-1.0-py3-none-any.whl"


def random_text(length):
    """What /bytes answers: the same in every process, and nothing that could be compressed."""
    return random.Random(7).randbytes(length)


class Website:
    """Repositories are looked for in `git_root`."""

    def __init__(self, git_root):
        self.git_root = git_root
        self._happened = {}
        self._pages = {
            "hello": self._hello, "bytes": self._bytes, "echo": self._echo, "gzip": self._gzip, "stream": self._stream,
            "refuse": self._refuse,
            "release": self._release, "status": self._status, "page": self._page, "hold": self._hold,
            "report": self._report, "image": self._image, "simple": self._simple, "git": self._git,
        }

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            request = Request(scope, receive, send)
            await self._pages.get(request.path[0], _missing)(request)
        elif scope["type"] == "websocket":
            await _websocket(receive, send)
        else:
            await _lifespan(receive, send)

    async def _hello(self, request):
        await request.answer(b"hello\n", "text/plain")

    async def _bytes(self, request):
        content = random_text(int(request.query["n"]))
        await request.begin([(b"content-length", str(len(content)).encode())])
        for start in range(0, len(content), 65536):
            await request.send_piece(content[start:start + 65536])
        await request.end()

    async def _echo(self, request):
        digest, length = hashlib.sha256(), 0
        async for piece in request.body():
            digest.update(piece)
            length += len(piece)
        fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.scope["headers"]]
        seen = {"version": request.scope["http_version"], "method": request.scope["method"], "fields": fields,
                "length": length, "sha256": digest.hexdigest()}
        await request.answer(json.dumps(seen).encode(), "application/json")

    async def _gzip(self, request):
        await request.answer(gzip.compress(b"compressible " * 10000), "text/plain", [(b"content-encoding", b"gzip")])

    async def _refuse(self, request):
        await request.begin([(b"content-type", b"text/plain"), (b"content-length", b"8")], 413)
        await request.send_piece(b"too big\n")
        await request.end()

    async def _stream(self, request):
        await request.begin([(b"content-type", b"text/plain")])
        await request.send_piece(b"first\n")
        await self._event(request.query["id"]).wait()
        await request.send_piece(b"second\n")
        await request.end()

    async def _release(self, request):
        self._event(request.query["id"]).set()
        await request.answer(b"released\n", "text/plain")

    async def _status(self, request):
        await request.begin([], int(request.query["code"]))
        await request.end()

    async def _page(self, request):
        self._event("report").clear()
        await request.answer(PAGE.encode(), "text/html")

    async def _hold(self, request):
        await self._event("report").wait()
        await request.answer(PIXEL, "image/png")

    async def _report(self, request):
        await request.whole_body()
        self._event("report").set()
        await request.answer(b"", "text/plain")

    async def _image(self, request):
        await request.answer(PIXEL, "image/png")

    async def _simple(self, request):
        match request.path[1:]:
            case ["small-package", ""]:
                content = _wheel()
                link = f"<a href={WHEEL}#sha256={hashlib.sha256(content).hexdigest()}>{WHEEL}</a>"
                await request.answer(f"<!DOCTYPE html><html><body>{link}</body></html>".encode(), "text/html")
            case ["small-package", name] if name == WHEEL:
                await request.answer(_wheel(), "application/octet-stream")
            case _:
                await _missing(request)

    async def _git(self, request):
        fields = {name.decode(): value.decode("latin-1") for name, value in request.scope["headers"]}
        environment = {
            "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "GIT_PROJECT_ROOT": self.git_root,
            "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": request.scope["method"],
            "PATH_INFO": "/" + "/".join(request.path[1:]), "QUERY_STRING": request.scope["query_string"].decode(),
            "CONTENT_TYPE": fields.get("content-type", ""), "HTTP_CONTENT_ENCODING": fields.get("content-encoding", ""),
            "GIT_PROTOCOL": fields.get("git-protocol", ""), "REMOTE_USER": "client", "REMOTE_ADDR": "127.0.0.1",
        }
        body = await request.whole_body()
        backend = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=environment | {"CONTENT_LENGTH": str(len(body))},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        output, _ = await backend.communicate(body)
        head, _, content = output.partition(b"\r\n\r\n")
        fields = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")]
        status = next((int(value.split()[0]) for name, value in fields if name.lower() == b"status"), 200)
        await request.begin([(name.lower(), value) for name, value in fields if name.lower() != b"status"], status)
        await request.send_piece(content)
        await request.end()

    def _event(self, name):
        return self._happened.setdefault(name, asyncio.Event())


class Request:
    """One request and the way to answer it."""

    def __init__(self, scope, receive, send):
        self.scope = scope
        self.path = scope["path"].lstrip("/").split("/")
        self.query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        self._receive, self._send = receive, send

    async def body(self):
        """The pieces of the request's content."""
        is_last = False
        while not is_last:
            event = await self._receive()
            if event["type"] != "http.request":
                return
            yield event.get("body", b"")
            is_last = not event.get("more_body", False)

    async def whole_body(self):
        """The request's content."""
        whole = io.BytesIO()
        async for piece in self.body():
            whole.write(piece)
        return whole.getvalue()

    async def answer(self, content, content_type, fields=(), status=200):
        """Sends a complete response."""
        length = (b"content-length", str(len(content)).encode())
        await self.begin([(b"content-type", content_type.encode()), length, *fields], status)
        await self._send({"type": "http.response.body", "body": content})

    async def begin(self, fields, status=200):
        """Sends the head of a response."""
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def send_piece(self, content):
        """Sends part of the content."""
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self):
        """Sends the end of the content."""
        await self._send({"type": "http.response.body", "body": b""})


async def _missing(request):
    await request.answer(b"not here\n", "text/plain", status=404)


async def _websocket(receive, send):
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
        else:
            return


async def _lifespan(receive, send):
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


def _wheel():
    """A package of one module; the same bytes every time."""
    files = {
        "small_package.py": "ANSWER = 42\n",
        "small_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: small-package\nVersion: 1.0\n",
        "small_package-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "small_package-1.0.dist-info/RECORD": "",
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    return archive.getvalue()
