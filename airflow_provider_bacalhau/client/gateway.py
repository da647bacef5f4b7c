"""Reading IPFS content through an HTTP gateway (kubo's, or the embedded node's).

Source: kubo 0.43 as asked on a real node. The gateway is not the Bacalhau server: it is told no credentials, and it may
redirect once to another path on its own host (a folder's address without its last slash does).
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, urljoin, urlsplit

from airflow_provider_bacalhau.client.cid import normalise_cid
from airflow_provider_bacalhau.client.effects import Failure, Request, Response, TransportError
from airflow_provider_bacalhau.client.errors import ConfigurationError, ResultUnavailable, Unreachable
from airflow_provider_bacalhau.client.reading import clean

_SECONDS = 60.0
_ENCODED = "%:/?#[]@!$&'()*+,;=~"
"""What an address that is encoded already may hold besides letters, digits, ``-``, ``.`` and ``_``."""


class Gateway:
    """An IPFS gateway.

    :param url: its address, such as ``http://127.0.0.1:8080``; empty when the connection names none.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    @property
    def is_set(self) -> bool:
        """Whether the connection names one."""
        return bool(self._url)

    async def resolve(self, cid: str, path: str) -> str:
        """The CID of what lies at a path below a CID. Compute nodes take bare CIDs only.

        :param path: relative path, such as ``outputs``.
        :returns: the last element of the answer's ``X-Ipfs-Roots``.
        :raises ConfigurationError: when no gateway is set.
        :raises ResultUnavailable: when there is nothing at that path, or the gateway does not say what.
        """
        response = await self._fetch("HEAD", cid, path, max_bytes=0)
        root = response.headers.get("x-ipfs-roots", "").rpartition(",")[2].strip()
        try:
            return normalise_cid(root)
        except ValueError:
            raise ResultUnavailable(
                f"The IPFS gateway does not say which CID lies at {cid}/{path}.",
                hint="Use a gateway that sends X-Ipfs-Roots, or name that folder's own CID.",
            ) from None

    async def read(self, cid: str, path: str, *, max_bytes: int) -> bytes:
        """The bytes of a small file below a CID.

        :param path: relative path, such as ``outputs/count.txt``.
        :param max_bytes: bound on its size.
        :raises ConfigurationError: when no gateway is set.
        :raises ResultUnavailable: when there is no such file, or it is larger.
        """
        return (await self._fetch("GET", cid, path, max_bytes=max_bytes, folders=False)).body

    async def _fetch(self, method: str, cid: str, path: str, *, max_bytes: int, folders: bool = True) -> Response:
        if not self._url:
            raise ConfigurationError(
                f"Reading {cid}/{path} needs an IPFS gateway, and the connection names none.",
                hint="Set ipfs_gateway on the connection, such as http://127.0.0.1:8080.",
            )
        request = Request(
            method,
            f"{self._url}/ipfs/{quote(cid, safe='')}/{quote(path.strip('/'))}",
            headers={"Accept": "*/*"},
            timeout=_SECONDS,
            max_bytes=max_bytes,
        )
        response = await self._exchange(request)
        if response.status in {301, 302, 307, 308}:
            target = self._redirected(request, response)
            if not folders and urlsplit(target).path.endswith("/"):
                raise ResultUnavailable(
                    f"{cid}/{path} is a folder.", hint="Name a file in it, or give its CID to the next job."
                )
            response = await self._exchange(replace(request, target=target))
        if not response.ok:
            said = clean(response.text(), 200)
            raise ResultUnavailable(
                f"The IPFS gateway has nothing at {cid}/{path}: HTTP {response.status} {said}".rstrip(),
                hint="Check the path; a result of a job holds stdout, stderr, exitCode and its result paths by name.",
            )
        return response

    @staticmethod
    async def _exchange(request: Request) -> Response:
        try:
            return await request
        except TransportError as error:
            if error.failure is Failure.TOO_LARGE:
                raise ResultUnavailable(
                    f"The file is larger than the {request.max_bytes:,} bytes that can be handed on as text.",
                    hint="Give its CID to the next job instead, or download it.",
                ) from None
            raise Unreachable(
                f"No answer from the IPFS gateway at {urlsplit(request.target).netloc}: {error.failure.value}.",
                hint="Check ipfs_gateway on the connection.",
                method=request.method,
                path=request.path,
            ) from None

    def _redirected(self, request: Request, response: Response) -> str:
        try:
            target = quote(urljoin(request.target, response.headers.get("location", "")), safe=_ENCODED)
            is_elsewhere = urlsplit(target)[:2] != urlsplit(self._url)[:2]
        except ValueError:
            target, is_elsewhere = "", True
        if is_elsewhere:
            raise ResultUnavailable(
                "The IPFS gateway redirects to another host, which is not followed.",
                hint="Set ipfs_gateway to the address that really serves; kubo redirects localhost, but not 127.0.0.1.",
            )
        return target
