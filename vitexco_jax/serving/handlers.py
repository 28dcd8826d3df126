"""HTTP handlers of the page: files, jobs, and results.

The browser loads `page/`, which requests JSON and pictures:

  GET    /state                    the session and its progress, once a second
  PUT    /video?name=NAME          the file as the body
  PUT    /reference?name=NAME      the file as the body
  DELETE /reference/NUMBER
  POST   /sample                   a video and pictures to try
  PUT    /settings                 see `output_settings`
  POST   /color, /stop, /leave
  GET    /reference/NUMBER, /before, /after, /result

`shot_handlers` and `frame_handlers` have the other routes, and `access` decides which
requests are answered.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video
from vitexco_jax.serving import (
  bodies,
  output_settings,
  sample,
  session_jobs,
  uploads,
  views,
)
from vitexco_jax.serving.access import Access
from vitexco_jax.serving.disk_quota import DiskQuota
from vitexco_jax.serving.frame_handlers import FrameHandlers
from vitexco_jax.serving.jobs import JobQueue
from vitexco_jax.serving.sessions import Session
from vitexco_jax.serving.shot_handlers import ShotHandlers

_PAGE = Path(__file__).parent / 'page'
_MAX_PICTURE = 64  # Maximum size of a reference, in MB.


class Site:
  """The page and the requests that it sends.

  Attributes:
    app: the aiohttp application.
    sessions: the open sessions.
  """

  def __init__(
    self,
    colorizer: VideoColorizer,
    embed: plan.Embed,
    folder: Path,
    queue: JobQueue,
    upload_limit: int,
    local: bool,
    quota: DiskQuota | None = None,
  ):
    """Creates `app`.

    Args:
      colorizer: the engine, with its model.
      embed: embeds pictures, such as an `embedding.Embedder`.
      folder: holds the folders of the sessions.
      queue: runs their jobs.
      upload_limit: maximum size of a video, in MB.
      local: see `Access`.
      quota: of `folder`; None: without a limit.
    """
    self._colorizer, self._queue = colorizer, queue
    self._usual = tuple(colorizer.config.use.size)
    self._limits = {'video': upload_limit, 'reference': _MAX_PICTURE}
    self._quota = quota or DiskQuota(folder)
    self._access = access = Access(folder, self._quota, local)
    self.sessions = access.sessions
    self.app = web.Application(middlewares=[access.guard])
    self.app.add_routes(
      [
        web.get('/', self._open_page),
        web.get('/state', self._state),
        web.put('/video', self._put_video),
        web.put('/reference', self._put_reference),
        web.get(f'/reference/{views.NUMBER}', self._get_reference),
        web.delete(f'/reference/{views.NUMBER}', self._delete_reference),
        web.post('/sample', self._sample),
        web.put('/settings', self._set_settings),
        web.post('/color', self._color),
        web.get('/{which:before|after}', self._preview),
        web.get('/result', self._result),
        web.post('/stop', self._stop),
        web.post('/leave', self._leave),
        web.static('/page', _PAGE),
      ]
    )
    self.app.add_routes(ShotHandlers(access, queue, colorizer, embed).routes())
    self.app.add_routes(FrameHandlers(access, queue, colorizer).routes())
    self.app.cleanup_ctx.append(access.at_work)

  @property
  def is_busy(self) -> bool:
    """Whether a file is being read."""
    return self._access.is_busy

  async def _open_page(self, request: web.Request) -> web.StreamResponse:
    response = web.FileResponse(_PAGE / 'index.html')
    self._access.open_session(request, response)
    return response

  async def _state(self, request: web.Request) -> web.StreamResponse:
    session = self._access.session(request)
    state = views.describe(session, self._queue, self._limits)
    own = {
      'prior': self._colorizer.has_prior,
      'sample': bool(sample.photos()),
      'settings': output_settings.describe(session.settings, self._usual),
    }
    return web.json_response(state | own)

  async def _put_video(self, request: web.Request) -> web.StreamResponse:
    async with self._received(request, self._limits['video']) as (
      session,
      path,
    ):
      facts = await self._access.checked(request, uploads.check_video, path)
      session.set_video(path, request.query.get('name', ''), facts)
    return web.json_response({})

  async def _put_reference(self, request: web.Request) -> web.StreamResponse:
    async with self._received(request, _MAX_PICTURE) as (session, path):
      drawing = await self._access.checked(request, uploads.redraw, path)
      session.add_reference(drawing, request.query.get('name', ''))
    return web.json_response({})

  @contextlib.asynccontextmanager
  async def _received(
    self, request: web.Request, limit: int
  ) -> AsyncIterator[tuple[Session, Path]]:
    """Receives a file of at most `limit` MB; removes it later unless moved."""
    session = self._access.session(request)
    if (request.content_length or 0) > limit * 10**6:
      raise _too_large(limit)
    name = uploads.shown(request.query.get('name', ''))
    async with session.upload:  # One at a time, so that the disk stays free.
      path = session.new_path()
      try:
        with session.named({path: name}):
          with video.explained('keep', path), open(path, 'wb') as file:
            self._quota.check(request.content_length or 0)
            while chunk := await bodies.timely(request.content.readany()):
              if file.tell() + len(chunk) > limit * 10**6:
                raise _too_large(limit)
              self._quota.check()
              file.write(chunk)
              session.seen = time.monotonic()
          yield session, path
      finally:
        path.unlink(missing_ok=True)

  async def _get_reference(self, request: web.Request) -> web.StreamResponse:
    references = self._access.session(request).references
    number = int(request.match_info['number'])
    if number not in references:
      raise web.HTTPNotFound
    return views.picture(references[number].thumbnail)

  async def _delete_reference(self, request: web.Request) -> web.StreamResponse:
    session = self._access.session(request)
    session.remove_reference(int(request.match_info['number']))
    return web.json_response({})

  async def _sample(self, request: web.Request) -> web.StreamResponse:
    session = self._access.session(request)
    session.check_idle()
    async with session.upload:
      self._quota.check()
      path = session.folder / sample.NAME
      try:
        drawn = await self._access.checked(request, sample.make, path)
        facts = await self._access.checked(request, uploads.check_video, path)
        session.set_video(path, sample.NAME, facts)
      finally:
        path.unlink(missing_ok=True)
      for name, drawing in drawn.items():
        session.add_reference(drawing, name)
    return web.json_response({})

  async def _set_settings(self, request: web.Request) -> web.StreamResponse:
    body = await bodies.read_json(request)
    settings = output_settings.parse(body, self._usual)
    self._access.session(request).set_settings(settings)
    return web.json_response({})

  async def _color(self, request: web.Request) -> web.StreamResponse:
    session = self._access.session(request)
    session_jobs.color(session, self._queue, self._colorizer)
    return web.json_response({})

  async def _preview(self, request: web.Request) -> web.StreamResponse:
    job = self._access.session(request).job
    if job is None or job.preview is None:
      raise web.HTTPNotFound
    after = request.match_info['which'] == 'after'
    return views.picture(job.preview.after if after else job.preview.before)

  async def _result(self, request: web.Request) -> web.StreamResponse:
    result = self._access.session(request).coloring.result
    if result is None:
      raise web.HTTPNotFound
    return web.FileResponse(result)

  async def _stop(self, request: web.Request) -> web.StreamResponse:
    self._access.session(request).stop()
    return web.json_response({})

  async def _leave(self, request: web.Request) -> web.StreamResponse:
    self._access.end_session(request)
    return web.json_response({})


def _too_large(limit: int) -> UserError:
  return UserError(f'the file is too large: at most {limit} MB are allowed')
