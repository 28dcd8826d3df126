"""Access to the page: sources of requests, sessions, and checks of files.

An HTTP-only cookie identifies the session; there is no other way to its files. An
error is returned as {"error": SENTENCE}.
"""

import asyncio
import concurrent.futures
import secrets
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from vitexco_jax.errors import UserError
from vitexco_jax.serving import connections
from vitexco_jax.serving.disk_quota import DiskQuota
from vitexco_jax.serving.session_table import SessionTable
from vitexco_jax.serving.sessions import Session

_Result = TypeVar('_Result')

_CHECKS = 2  # Files read at the same time, of different clients.
_SWEEP_SECONDS = 30.0
_HEADERS = {
  # No foreign scripts or pictures, and no embedding in another page.
  'Content-Security-Policy': "default-src 'self'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
}


class Access:
  """Decides which requests are answered, and from which session.

  Attributes:
    sessions: the open sessions.
  """

  def __init__(self, folder: Path, quota: DiskQuota, local: bool):
    """Opens no session yet.

    Args:
      folder: holds the folders of the sessions.
      quota: of `folder`.
      local: whether to accept only host names of this machine, which prevents DNS
        rebinding.
    """
    self._local = local
    # Reading of files, in threads.
    self._checks: set[concurrent.futures.Future[Any]] = set()
    # A lock for each client.
    self._turns: weakref.WeakValueDictionary[str, asyncio.Lock]
    self._turns = weakref.WeakValueDictionary()
    self.sessions = SessionTable(folder, quota)
    # Another program on this machine, at another port, has the same cookies.
    self._cookie = f'session-{secrets.token_hex(4)}'

  async def at_work(self, _: web.Application) -> AsyncIterator[None]:
    """Runs what the requests need until the server stops."""
    # Read few files at a time, to bound the memory.
    self._checker = concurrent.futures.ThreadPoolExecutor(_CHECKS, 'check')
    sweeping = asyncio.create_task(self._sweep())
    yield
    sweeping.cancel()
    self._checker.shutdown(wait=False, cancel_futures=True)

  @property
  def is_busy(self) -> bool:
    """Whether a file is being read."""
    return any(not check.done() for check in self._checks)

  async def _sweep(self) -> None:
    """Ends abandoned sessions."""
    while True:
      await asyncio.sleep(_SWEEP_SECONDS)
      self.sessions.end_old()

  @web.middleware
  async def guard(
    self, request: web.Request, handler: Handler
  ) -> web.StreamResponse:
    """Refuses foreign requests and turns all errors into sentences."""
    try:
      self._check_source(request)
      response = await handler(request)
    except UserError as error:
      response = web.json_response({'error': str(error)}, status=400)
    except web.HTTPException as error:
      response = web.json_response({'error': error.reason}, status=error.status)
    except web.RequestPayloadError:
      response = web.json_response(
        {'error': 'the upload arrived damaged: send it again'}, status=400
      )
    except (asyncio.CancelledError, ConnectionError):
      raise  # The browser disconnected.
    except Exception:
      traceback.print_exc()
      response = web.json_response(
        {'error': 'internal error: see the terminal for details'},
        status=500,
      )
    response.headers.update(_HEADERS)
    return response

  def _check_source(self, request: web.Request) -> None:
    try:
      host = request.url.host or ''
    except ValueError as error:
      raise web.HTTPBadRequest(reason='the Host header is invalid') from error
    if self._local and not connections.is_local(host):
      raise web.HTTPForbidden(reason=f'this is not {host}')
    origin = request.headers.get('Origin')
    if origin and origin.partition('://')[2] != request.host:
      raise web.HTTPForbidden(reason='requests from other pages are refused')

  def session(self, request: web.Request) -> Session:
    """Returns the session of a request; HTTPGone if it has ended."""
    session = self.sessions.get(self._token(request))
    if session is None:
      raise web.HTTPGone(reason='this session has ended: reload the page')
    session.seen = time.monotonic()
    return session

  def open_session(
    self, request: web.Request, response: web.StreamResponse
  ) -> None:
    """Opens a session, and sets its cookie, unless the client has one."""
    if self.sessions.get(self._token(request)):
      return
    token = self.sessions.open(connections.client(request))
    # Lax: a user who follows a link to the page keeps the session.
    response.set_cookie(self._cookie, token, httponly=True, samesite='Lax')

  def end_session(self, request: web.Request) -> None:
    """Ends the session of a request; HTTPGone if it has ended."""
    self.session(request)
    self.sessions.close(self._token(request))

  def _token(self, request: web.Request) -> str:
    return request.cookies.get(self._cookie, '')

  async def checked(
    self,
    request: web.Request,
    check: Callable[..., _Result],
    *arguments: object,
  ) -> _Result:
    """Calls a function that reads a file in a thread; returns its result."""
    client = self.session(request).client
    turn = self._turns.setdefault(client, asyncio.Lock())
    async with turn:  # A client with slow files does not delay others.
      future = self._checker.submit(check, *arguments)
      self._checks = {x for x in self._checks if not x.done()} | {future}
      result = await asyncio.wrap_future(future)
    self.session(request)  # The session may have ended meanwhile.
    return result
