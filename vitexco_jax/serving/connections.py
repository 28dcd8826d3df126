"""Connection limits, timeouts, and logging of the web page.

Any client can connect, send half a request, and keep the connection open. The
number of connections is therefore limited, in total and per client, and idle
connections are closed. A bad request gives one line in the log.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from vitexco_jax.errors import UserError

IDLE_SECONDS = 30.0  # Until the next part of a body, or the complete headers.

_MAX_CONNECTIONS = 256
_MAX_PER_CLIENT = 64  # A proxy counts as one client.
_BACKLOG = 128
_LINE = 300  # Maximum length of a log line, in characters.


@contextlib.asynccontextmanager
async def listening(
  app: web.Application, host: str, port: int
) -> AsyncIterator[int]:
  """Serves an application; yields the port, which differs from `port` if 0.

  Raises:
    UserError: the server cannot listen on the address.
  """
  loop = asyncio.get_running_loop()
  loop.set_exception_handler(_log)
  runner = web.AppRunner(
    app,
    access_log=None,
    logger=_logger(),
    keepalive_timeout=IDLE_SECONDS,  # Also for the first headers.
    auto_decompress=False,  # A small body could expand to a large one.
    shutdown_timeout=1.0,
  )
  await runner.setup()
  server = runner.server
  assert server is not None  # Created by `setup`.
  try:
    try:
      listener = await loop.create_server(
        lambda: _ConnectionLimiter(server), host, port, backlog=_BACKLOG
      )
    except (OSError, UnicodeError) as error:  # An invalid name, like a..b.
      reason = getattr(error, 'strerror', 'the host name is invalid')
      raise UserError(
        f'cannot listen on `address={host}:{port}`: {reason}'
      ) from error
    try:
      yield listener.sockets[0].getsockname()[1]
    finally:
      listener.close()
  finally:
    await runner.cleanup()


def is_local(host: str) -> bool:
  """Whether only this machine can reach a host."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'


def client(request: web.Request) -> str:
  """The sender of a request: an IPv4 address or an IPv6 network.

  A proxy on this machine names its client in `X-Forwarded-For`.
  """
  address = _address(request.transport)
  forwarded = request.headers.get('X-Forwarded-For')
  if forwarded and _is_loopback(address):
    address = forwarded.rpartition(',')[2].strip()
  return _network(address)


def _is_loopback(address: str) -> bool:
  try:
    return ipaddress.ip_address(address).is_loopback
  except ValueError:
    return False


def _address(transport: asyncio.BaseTransport | None) -> str:
  peer = transport and transport.get_extra_info('peername')
  return peer[0] if peer else ''


def _network(address: str) -> str:
  """The range of addresses that one client can use."""
  try:
    known = ipaddress.ip_address(address.partition('%')[0])
  except ValueError:
    return address
  if known.version == 4:
    return str(known)
  if known.ipv4_mapped:
    return str(known.ipv4_mapped)
  return str(ipaddress.ip_network((known, 64), strict=False))


class _ConnectionLimiter(asyncio.Protocol):
  """Passes a new connection to the server unless there are too many."""

  def __init__(self, server: web.Server):
    self._server = server

  def connection_made(self, transport: asyncio.BaseTransport) -> None:
    """Hands the connection to the server, or closes it."""
    assert isinstance(transport, asyncio.Transport)
    clients = [
      _network(_address(x.transport)) for x in self._server.connections
    ]
    own = _network(_address(transport))
    if (
      len(clients) >= _MAX_CONNECTIONS or clients.count(own) >= _MAX_PER_CLIENT
    ):
      _logger().warning(f'{own}: too many connections')
      transport.abort()
      return
    if hasattr(socket, 'TCP_USER_TIMEOUT'):  # If a client reads no response.
      transport.get_extra_info('socket').setsockopt(
        socket.IPPROTO_TCP,
        socket.TCP_USER_TIMEOUT,
        round(1000 * IDLE_SECONDS),
      )
    handler = self._server()
    transport.set_protocol(handler)
    handler.connection_made(transport)


class _OneLine(logging.Handler):
  """Prints one line per record: the name of an error, not its traceback."""

  def emit(self, record: logging.LogRecord) -> None:
    error = record.exc_info and record.exc_info[1]
    text = record.getMessage() + (f': {error!r}' if error else '')
    print(' '.join(text.split())[:_LINE], file=sys.stderr, flush=True)


def _logger() -> logging.Logger:
  logger = logging.getLogger(__name__)
  if not logger.handlers:
    logger.addHandler(_OneLine())
    logger.propagate = False
    logger.setLevel(logging.DEBUG)  # Includes requests that are not HTTP.
  return logger


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
  del loop
  error = context.get('exception')
  _logger().error(context['message'], exc_info=error)
