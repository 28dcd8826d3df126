"""The open sessions of the page: limits on their number, and their ends."""

import itertools
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web

from vitexco_jax.serving.disk_quota import DiskQuota
from vitexco_jax.serving.sessions import Session

_MAX_SESSIONS = 100
_MAX_CLIENT_SESSIONS = 10
# Time from the last request, or the end of a job, to the end of a session:
_IDLE_SECONDS = 3600.0
_EMPTY_SECONDS = 300.0  # without any upload,
_ABSENT_SECONDS = 10.0  # if too many are open; a page polls every second.


class SessionTable:
  """The open sessions by their tokens."""

  def __init__(self, folder: Path, quota: DiskQuota):
    """Starts without sessions.

    Args:
      folder: holds the folders of the sessions.
      quota: of the folder.
    """
    self._folder, self._quota = folder, quota
    self._sessions: dict[str, Session] = {}
    self._numbers = itertools.count()

  def __iter__(self) -> Iterator[Session]:
    return iter(self._sessions.values())

  def get(self, token: str) -> Session | None:
    """Returns the session of a token, if it is open."""
    return self._sessions.get(token)

  def open(self, client: str) -> str:
    """Opens a session; returns its secret token.

    Args:
      client: see `connections.client`.

    Raises:
      HTTPServiceUnavailable: there are too many sessions.
    """
    self._make_room(_MAX_SESSIONS)
    self._make_room(_MAX_CLIENT_SESSIONS, client)
    token = secrets.token_urlsafe(32)
    folder = self._folder / str(next(self._numbers))
    self._sessions[token] = Session(folder, client, self._quota)
    return token

  def close(self, token: str) -> None:
    """Ends a session and removes its files."""
    self._sessions.pop(token).leave()

  def end_old(
    self, empty_seconds: float = _EMPTY_SECONDS, client: str | None = None
  ) -> None:
    """Ends abandoned sessions.

    Args:
      empty_seconds: allowed time without requests of a session without uploads.
      client: ends sessions of this client only; None: of all.
    """
    now = time.monotonic()
    for token, session in list(self._sessions.items()):
      if client not in (None, session.client):
        continue
      if session.is_busy:
        session.seen = now
      allowed = empty_seconds if session.is_empty else _IDLE_SECONDS
      if now - session.seen > allowed:
        self.close(token)

  def _make_room(self, limit: int, client: str | None = None) -> None:
    """Ends absent sessions if there are too many, in total or of a client."""

    def is_full() -> bool:
      return limit <= sum(client in (None, session.client) for session in self)

    if is_full():
      self.end_old(_ABSENT_SECONDS, client)
    if is_full():
      raise web.HTTPServiceUnavailable(
        reason='too many sessions: try again later'
      )
