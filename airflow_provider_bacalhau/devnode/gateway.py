"""What results are fetched from: an IPFS gateway over the node's own blocks, and the local publisher's archives."""

from __future__ import annotations

import html
import mimetypes
import re
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from aiohttp import web

from airflow_provider_bacalhau.devnode import unixfs
from airflow_provider_bacalhau.devnode.blocks import BlockStore
from airflow_provider_bacalhau.devnode.publishers import ARCHIVES_PATH
from airflow_provider_bacalhau.devnode.unixfs import Cid

# Results come from programs that nobody vouches for, and the API is on the same origin: no script in them may run.
_CONTENT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
_FOREVER = "public, max-age=29030400, immutable"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_ARCHIVE = re.compile(r"e-[0-9a-f-]{36}\.tar\.gz")
_SNIFFED = 512


class Streamed(web.Response):
    """An answer whose body is made while it is sent.

    :param size: bytes of all chunks.
    """

    def __init__(self, chunks: AsyncIterator[bytes], size: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(body=chunks, status=status, headers={**headers, "Content-Length": str(size)})
        self.chunks = chunks


class Gateway:
    """``/ipfs/<cid>[/path]`` as kubo serves it: files with ranges, folders as listings, no other formats."""

    def __init__(self, blocks: BlockStore) -> None:
        self._blocks = blocks

    def routes(self) -> list[web.AbstractRouteDef]:
        """GET and HEAD."""
        return [web.get("/ipfs/{path:.+}", self._serve)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = request.rel_url.raw_path
        root, *segments = [urllib.parse.unquote_to_bytes(part) for part in raw.removeprefix("/ipfs/").split("/")]
        wants_folder = bool(segments) and segments[-1] == b""
        segments = [segment for segment in segments if segment]
        shown = "/ipfs/" + urllib.parse.unquote(raw.removeprefix("/ipfs/"))
        try:
            cid = Cid.parse(root.decode("utf-8", "replace"))
        except unixfs.InvalidCidError:
            return _text(400, f'invalid path "{shown}": invalid cid: selected encoding not supported\n')
        path_header = {"X-Ipfs-Path": urllib.parse.quote(shown)}
        try:
            trail = unixfs.resolve(self._blocks, cid, segments)
            node = unixfs.load(self._blocks, trail[-1].digest)
        except KeyError as missing:
            name, folder = missing.args
            return _text(404, f'failed to resolve {shown}: no link named "{name}" under {folder}\n', path_header)
        except unixfs.MissingBlockError as error:
            if "only-if-cached" in request.headers.get("Cache-Control", ""):
                return _text(412, f'"{shown}" not in local datastore\n')
            return _text(404, f"failed to resolve {shown}: {error}\n", path_header)
        except unixfs.UnreadableError as error:
            return _text(500, f"failed to read {shown}: {error}\n", path_header)
        headers = {**path_header, "X-Ipfs-Roots": ",".join(step.text for step in trail)}
        if not node.is_directory:
            return self._file(request, trail[-1], node, headers, segments)
        if not wants_folder:
            query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
            location = f"{raw}/{query}"
            body = f'<a href="{html.escape(location)}">Moved Permanently</a>.\n\n'
            return web.Response(
                status=301, text=body, content_type="text/html", headers={**headers, "Location": location}
            )
        return self._listing(trail[-1], node, headers, shown)

    def _file(
        self, request: web.Request, cid: Cid, node: unixfs.Node, headers: dict[str, str], segments: list[bytes]
    ) -> web.StreamResponse:
        size = len(node.data) if node.is_symlink else node.size
        etag = f'"{cid.text}"'
        common = {**headers, **_CONTENT, "Etag": etag, "Cache-Control": _FOREVER, "Accept-Ranges": "bytes"}
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=common)
        start, stop, status = _range(request.headers.get("Range", ""), size)
        if status == 416:
            return _text(416, "invalid range: failed to overlap\n", {**headers, "Content-Range": f"bytes */{size}"})
        if status == 206:
            common["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        common["Content-Type"] = self._content_type(cid, segments[-1] if segments else b"")
        return Streamed(self._chunks(cid, start, stop), stop - start, status, common)

    async def _chunks(self, cid: Cid, start: int, stop: int) -> AsyncIterator[bytes]:
        for chunk in unixfs.read_file(self._blocks, cid.digest, start, stop):
            yield chunk

    def _content_type(self, cid: Cid, name: bytes) -> str:
        guessed, _ = mimetypes.guess_type(name.decode("utf-8", "replace"))
        if guessed is None:
            head = b"".join(unixfs.read_file(self._blocks, cid.digest, 0, _SNIFFED))
            if not head:
                return "text/plain"
            guessed = "application/octet-stream" if _is_binary(head) else "text/plain"
        return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed

    def _listing(self, cid: Cid, node: unixfs.Node, headers: dict[str, str], shown: str) -> web.Response:
        lines = [f"<!doctype html>\n<title>{html.escape(shown)}</title>\n<h1>Index of {html.escape(shown)}</h1>\n<ul>"]
        for link in node.links:
            name = html.escape(link.name.decode("utf-8", "replace"))
            target = urllib.parse.quote(link.name, safe="")
            lines.append(f'<li><a href="./{target}">{name}</a> {Cid.of(link.digest).text} {link.size}</li>')
        lines.append("</ul>\n")
        etag = f'"DirIndex-devnode_CID-{cid.text}"'
        cache = "public, max-age=604800, stale-while-revalidate=2678400"
        return web.Response(
            text="\n".join(lines),
            content_type="text/html",
            headers={**headers, **_CONTENT, "Etag": etag, "Cache-Control": cache},
        )


class Archives:
    """What the local publisher serves: plain HTTP, with ranges and dates, without ETag."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def routes(self) -> list[web.AbstractRouteDef]:
        """GET and HEAD."""
        return [web.get(ARCHIVES_PATH, self._list), web.get(ARCHIVES_PATH + "{name:.*}", self._serve)]

    async def _list(self, _: web.Request) -> web.Response:
        names = sorted(path.name for path in self._folder.iterdir() if _ARCHIVE.fullmatch(path.name))
        lines = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
        text = f'<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n{lines}</pre>\n'
        return web.Response(text=text, content_type="text/html")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = self._folder / name
        if not _ARCHIVE.fullmatch(name) or not path.is_file():
            return _text(404, "404 page not found\n")
        size = path.stat().st_size
        if _range(request.headers.get("Range", ""), size)[2] == 416:
            return _text(416, "invalid range: failed to overlap\n", {"Content-Range": f"bytes */{size}"})
        return web.FileResponse(path, headers={"Content-Type": "application/gzip"})


async def drop_extra_headers(request: web.Request, response: web.StreamResponse) -> None:
    """A signal: aiohttp names itself everywhere and sends an ETag with every file; a node and its archives do not."""
    response.headers.pop("Server", None)
    if request.path.startswith(ARCHIVES_PATH):
        response.headers.pop("ETag", None)


def _range(header: str, size: int) -> tuple[int, int, int]:
    """First byte, byte after the last, and status of the answer. What is no single range is ignored."""
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return 0, size, 200
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    return (start, stop, 206) if start < stop else (0, 0, 416)


def _is_binary(head: bytes) -> bool:
    if any(byte < 0x20 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return True
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start < len(head) - 3  # a character may be cut at the end
    return False


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text, headers={"X-Content-Type-Options": "nosniff", **(headers or {})})
