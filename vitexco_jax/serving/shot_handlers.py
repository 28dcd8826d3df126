"""HTTP handlers of the page: the shots and their references.

POST   /shots                    finds shots, proposes references
GET    /shots
PUT    /shots/NUMBER             {"references": [NUMBER, ...]}, [] for no picture,
                                 or {"skip": true or false}
GET    /thumbnail/NUMBER
"""

from typing import Any

from aiohttp import web

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.serving import bodies, session_jobs, views
from vitexco_jax.serving.access import Access
from vitexco_jax.serving.jobs import JobQueue


class ShotHandlers:
  """Handlers of the routes above."""

  def __init__(
    self,
    access: Access,
    queue: JobQueue,
    colorizer: VideoColorizer,
    embed: plan.Embed,
  ):
    """Sets what the handlers use; see `Site`."""
    self._access, self._queue = access, queue
    self._colorizer, self._embed = colorizer, embed

  def routes(self) -> list[web.RouteDef]:
    """Returns the routes."""
    return [
      web.post('/shots', self._find_shots),
      web.get('/shots', self._get_shots),
      web.put(f'/shots/{views.NUMBER}', self._choose),
      web.get(f'/thumbnail/{views.NUMBER}', self._thumbnail),
    ]

  async def _find_shots(self, request: web.Request) -> web.StreamResponse:
    session = self._access.session(request)
    session_jobs.find_shots(session, self._queue, self._embed, self._colorizer)
    return web.json_response({})

  async def _get_shots(self, request: web.Request) -> web.StreamResponse:
    session = self._access.session(request)
    if session.plan is None:
      raise web.HTTPNotFound
    return web.json_response(views.describe_shots(session))

  async def _choose(self, request: web.Request) -> web.StreamResponse:
    body: Any = await bodies.read_json(request)
    session = self._access.session(request)
    shot = int(request.match_info['number'])
    match body:
      case {'skip': bool(skipped)}:
        session.skip(shot, skipped)
      case {'references': [*numbers]} if all(type(x) is int for x in numbers):
        session.choose(shot, numbers, self._colorizer.has_prior)
      case _:
        raise UserError(
          'the body must be {"references": [NUMBER, ...]}, or {"skip": true}'
        )
    return web.json_response({})

  async def _thumbnail(self, request: web.Request) -> web.StreamResponse:
    rows = self._access.session(request).rows
    number = int(request.match_info['number'])
    if number >= len(rows):
      raise web.HTTPNotFound
    return views.picture(rows[number].thumbnail)
