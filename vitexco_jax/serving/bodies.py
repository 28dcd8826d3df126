"""Bodies of requests: timeouts, and JSON."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from vitexco_jax.errors import UserError
from vitexco_jax.serving import connections

_Part = TypeVar('_Part')


async def timely(arriving: Awaitable[_Part]) -> _Part:
  """Awaits the next part of a body.

  Raises:
    HTTPRequestTimeout: the client sends nothing for `connections.IDLE_SECONDS`.
  """
  try:
    async with asyncio.timeout(connections.IDLE_SECONDS):
      return await arriving
  except TimeoutError as error:
    raise web.HTTPRequestTimeout(
      reason='the upload stopped: send it again'
    ) from error


async def read_json(request: web.Request) -> object:
  """Returns the JSON value of a body.

  Raises:
    UserError: the body is not JSON.
    HTTPRequestTimeout: as of `timely`.
  """
  try:
    return await timely(request.json())
  # Invalid JSON; an unknown encoding; brackets nested too deeply.
  except (ValueError, LookupError, RecursionError) as error:
    raise UserError('the body is not JSON') from error
