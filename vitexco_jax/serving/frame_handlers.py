"""HTTP handlers of the page: single frames.

GET    /frame/NUMBER/before      as JPEG
GET    /frame/NUMBER/after       the same in color, if it is colorized
GET    /frame/NUMBER/still       as PNG, to color it by hand
POST   /try                      {"frame": NUMBER}, or null for one of each shot
"""

from typing import Any

from aiohttp import web

from vitexco_jax.errors import UserError
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media.sandbox import Sandbox
from vitexco_jax.serving import bodies, session_jobs, views
from vitexco_jax.serving.access import Access
from vitexco_jax.serving.jobs import JobQueue
from vitexco_jax.serving.sessions import Session


class FrameHandlers:
  """Handlers of the routes above."""

  def __init__(
    self, access: Access, queue: JobQueue, colorizer: VideoColorizer
  ):
    """Sets what the handlers use; see `Site`."""
    self._access, self._queue = access, queue
    self._colorizer = colorizer

  def routes(self) -> list[web.RouteDef]:
    """Returns the routes."""
    return [
      web.get(f'/frame/{views.NUMBER}/before', self._before),
      web.get(f'/frame/{views.NUMBER}/after', self._after),
      web.get(f'/frame/{views.NUMBER}/still', self._still),
      web.post('/try', self._try),
    ]

  async def _before(self, request: web.Request) -> web.StreamResponse:
    return views.picture(
      await self._access.checked(request, _read, *self._frame(request))
    )

  async def _after(self, request: web.Request) -> web.StreamResponse:
    session, number = self._frame(request)
    data = await self._access.checked(request, session.read_colored, number)
    if data is None:
      raise web.HTTPNotFound
    return views.picture(data)

  async def _still(self, request: web.Request) -> web.StreamResponse:
    session, number = self._frame(request)
    data = await self._access.checked(request, _read_still, session, number)
    name = f'ref_{number:06d}.png'
    headers = {'Content-Disposition': f'attachment; filename="{name}"'}
    return web.Response(body=data, content_type='image/png', headers=headers)

  async def _try(self, request: web.Request) -> web.StreamResponse:
    body: Any = await bodies.read_json(request)
    number = body.get('frame', '') if isinstance(body, dict) else ''
    if number is not None and type(number) is not int:
      raise UserError('the body must be {"frame": NUMBER or null}')
    session = self._access.session(request)
    session_jobs.try_frames(session, self._queue, self._colorizer, number)
    return web.json_response({})

  def _frame(self, request: web.Request) -> tuple[Session, int]:
    """Returns the session and the frame of a request."""
    session = self._access.session(request)
    if session.plan is None:
      raise web.HTTPNotFound
    return session, int(request.match_info['number'])


def _read(session: Session, number: int) -> bytes:
  assert session.survey is not None  # It has a plan.
  with session.named():
    return session.frames.read(session.survey, number)


def _read_still(session: Session, number: int) -> bytes:
  assert session.survey is not None  # It has a plan.
  with session.named(), Sandbox() as sandbox:
    return session.frames.read_still(session.survey, number, sandbox)
