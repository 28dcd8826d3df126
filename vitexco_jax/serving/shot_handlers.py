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
from vitexco_jax.media.sandbox import Sandbox
from vitexco_jax.serving import bodies, session_jobs, storyboard, views
from vitexco_jax.serving.access import Access
from vitexco_jax.serving.jobs import JobQueue
from vitexco_jax.serving.sessions import Session
from vitexco_jax.serving.storyboard import Look


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
      web.post(f'/shots/{views.NUMBER}/join', self._join),
      web.post('/divide', self._divide),
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

  async def _join(self, request: web.Request) -> web.StreamResponse:
    session = self._access.session(request)
    session.join(int(request.match_info['number']))
    return web.json_response({})

  async def _divide(self, request: web.Request) -> web.StreamResponse:
    body: Any = await bodies.read_json(request)
    frame = body.get('frame') if isinstance(body, dict) else None
    if type(frame) is not int:
      raise UserError('the body must be {"frame": NUMBER}')
    session = self._access.session(request)
    shot = session.rows[session.divisible(frame)].shot
    looks = await self._access.checked(request, _look, session, shot, frame)
    session.divide(frame, looks)
    return web.json_response({})

  async def _thumbnail(self, request: web.Request) -> web.StreamResponse:
    rows = self._access.session(request).rows
    number = int(request.match_info['number'])
    if number >= len(rows):
      raise web.HTTPNotFound
    return views.picture(rows[number].thumbnail)


def _look(session: Session, shot: plan.Shot, frame: int) -> list[Look]:
  """Reads a frame of each part of a divided shot."""
  assert session.survey is not None  # It has shots.
  with session.named(), Sandbox() as sandbox:
    return [
      storyboard.look(
        session.frames.read_still(session.survey, number, sandbox),
        shot.borders,
      )
      for number in storyboard.middles(shot, frame)
    ]
