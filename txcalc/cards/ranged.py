"""Pieces of a file on a server, a bounded number of bytes each, whatever the server sends.

A server that ignores the range is read no further than the range; a token goes to the host that was asked, and to no
other that it redirects to.
"""

from __future__ import annotations

import re
import ssl
from http.client import HTTPMessage
from typing import IO, Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from txcalc.cards.safetensors_header import SafetensorsHeader, header_of, length_of
from txcalc.errors import ModelError

FIRST: Final = 65_536  # most headers are shorter, and come with their length
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_AGENT: Final = "txcalc"


class Remote(NamedTuple):
    """An address and how to read it."""

    url: str
    token: str | None = None
    timeout: float = 10.0


class Piece(NamedTuple):
    """Bytes of a file, and how long the whole file is."""

    content: bytes
    size: int


def safetensors_header(remote: Remote, where: str) -> SafetensorsHeader:
    """The header of a .safetensors file on a server, in one or two reads.

    Raises:
        ModelError: it cannot be read, or does not hold what it says.
    """
    first = piece(remote, 0, FIRST, where)
    length = length_of(first.content, first.size, where)
    text = first.content[8 : 8 + length]
    if len(text) < length:
        text += piece(remote, 8 + len(text), length - len(text), where).content
    if len(text) < length:
        raise ModelError(f"{where}: the server sent {len(text):,} bytes of a header of {length:,}", "try again")
    return header_of(text, first.size, where)


def piece(remote: Remote, start: int, length: int, where: str) -> Piece:
    """``length`` bytes from ``start``, fewer where the file ends before.

    Raises:
        ModelError: the server cannot be reached, or refuses.
    """
    headers = {"Range": f"bytes={start}-{start + length - 1}", "User-Agent": _AGENT, "Accept-Encoding": "identity"}
    request = Request(remote.url, headers=headers)
    if remote.token:
        request.add_unredirected_header("Authorization", f"Bearer {remote.token}")
    try:
        with _opener().open(request, timeout=remote.timeout) as answer:
            return _read(answer, start, length, where)
    except HTTPError as error:
        raise ModelError(f"{where}: the server answers {error.code} {error.reason}", _hint(error.code)) from None
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(f"{where} cannot be read: {reason}", "check the network, HF_ENDPOINT and proxies") from None


def _read(answer: Any, start: int, length: int, where: str) -> Piece:
    found = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    if answer.status == 206 and found and int(found[1]) == start:
        return Piece(answer.read(length), int(found[3]))
    if answer.status == 200 and start + length <= 2 * FIRST:  # the range was ignored: what comes first is enough
        content = answer.read(start + length)[start:]
        return Piece(content, int(answer.headers.get("Content-Length") or start + len(content)))
    raise ModelError(f"{where}: the server gives no part of a file ({answer.status})", "download the file and name it")


def _hint(code: int) -> str:
    if code in (401, 403):
        return "hf auth login, or HF_TOKEN, with an account that has access"
    return "txcalc reads config.json and safetensors files" if code == 404 else "try again later"


class _Redirects(HTTPRedirectHandler):
    """Follows to http and https alone; the token stays behind, being no header of the redirected request.

    One on the same host keeps it: a model that was renamed.
    """

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlparse(newurl).scheme not in ("http", "https"):
            return None
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if made is not None and token and _host(newurl) == _host(req.full_url):
            made.add_unredirected_header("Authorization", token)
        return made


def _host(url: str) -> tuple[str, str]:
    parsed = urlparse(url)
    return parsed.scheme, parsed.netloc


def _opener() -> OpenerDirector:
    """urllib's own, with the certificates that huggingface-hub's client would use."""
    try:
        import certifi
    except ModuleNotFoundError:
        return build_opener(_Redirects)
    context = ssl.create_default_context(cafile=certifi.where())
    return build_opener(_Redirects, HTTPSHandler(context=context))
