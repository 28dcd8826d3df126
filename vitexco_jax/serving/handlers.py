"""HTTP handlers of the page: routes, access checks, and size limits.

The browser loads `page/`, which requests JSON and pictures:

  GET    /state                    the session and its progress, once a second
  PUT    /video?name=NAME          the file as the body
  PUT    /reference?name=NAME      the file as the body
  DELETE /reference/NUMBER
  POST   /shots                    finds shots, proposes references
  GET    /shots
  PUT    /shots/NUMBER             {"references": [NUMBER, ...]}, [] for no picture,
                                   "skip" to leave the shot as it is
  POST   /color, /stop, /leave
  GET    /thumbnail/NUMBER, /reference/NUMBER, /before, /after, /result

An HTTP-only cookie identifies the session; there is no other way to its files. An
error is returned as {"error": SENTENCE}.
"""

import asyncio
import concurrent.futures
import contextlib
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
from vitexco_jax.inference import plan
from vitexco_jax.inference.shot_plan import SKIP
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.media import video
from vitexco_jax.serving import bodies, connections, sessions, uploads
from vitexco_jax.serving.disk_quota import DiskQuota
from vitexco_jax.serving.jobs import JobQueue
from vitexco_jax.serving.session_table import SessionTable
from vitexco_jax.serving.sessions import Session

_Result = TypeVar('_Result')

_PAGE = Path(__file__).parent / 'page'
_CHECKS = 2  # Uploads checked at the same time, from different clients.
_MAX_PICTURE = 64  # Maximum size of a reference, in MB.
_SWEEP_SECONDS = 30.0
_NUMBER = r'{number:\d{1,9}}'  # As part of a route.
_HEADERS = {
  # No foreign scripts or pictures, and no embedding in another page.
  'Content-Security-Policy': "default-src 'self'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
}


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
      local: whether to accept only host names of this machine, which prevents DNS
        rebinding.
      quota: of `folder`; None: without a limit.
    """
    self._colorizer, self._embed = colorizer, embed
    self._queue = queue
    self._upload_limit = upload_limit
    self._local = local
    self._quota = quota or DiskQuota(folder)
    # Checks of uploads, in threads.
    self._checks: set[concurrent.futures.Future[Any]] = set()
    # A lock for each client.
    self._turns: weakref.WeakValueDictionary[str, asyncio.Lock]
    self._turns = weakref.WeakValueDictionary()
    self.sessions = SessionTable(folder, self._quota)
    # Another program on this machine, at another port, has the same cookies.
    self._cookie = f'session-{secrets.token_hex(4)}'
    self.app = web.Application(middlewares=[self._guard])
    self.app.add_routes(
      [
        web.get('/', self._open_page),
        web.get('/state', self._state),
        web.put('/video', self._put_video),
        web.put('/reference', self._put_reference),
        web.get(f'/reference/{_NUMBER}', self._get_reference),
        web.delete(f'/reference/{_NUMBER}', self._delete_reference),
        web.post('/shots', self._find_shots),
        web.get('/shots', self._get_shots),
        web.put(f'/shots/{_NUMBER}', self._choose),
        web.get(f'/thumbnail/{_NUMBER}', self._thumbnail),
        web.post('/color', self._color),
        web.get('/{which:before|after}', self._preview),
        web.get('/result', self._result),
        web.post('/stop', self._stop),
        web.post('/leave', self._leave),
        web.static('/page', _PAGE),
      ]
    )
    self.app.cleanup_ctx.append(self._at_work)

  async def _at_work(self, _: web.Application) -> AsyncIterator[None]:
    # Check few uploads at a time, to bound the memory.
    self._checker = concurrent.futures.ThreadPoolExecutor(_CHECKS, 'check')
    sweeping = asyncio.create_task(self._sweep())
    yield
    sweeping.cancel()
    self._checker.shutdown(wait=False, cancel_futures=True)

  @property
  def is_busy(self) -> bool:
    """Whether an upload is being checked."""
    return any(not check.done() for check in self._checks)

  async def _sweep(self) -> None:
    """Ends abandoned sessions."""
    while True:
      await asyncio.sleep(_SWEEP_SECONDS)
      self.sessions.end_old()

  @web.middleware
  async def _guard(
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

  def _session(self, request: web.Request) -> Session:
    session = self.sessions.get(request.cookies.get(self._cookie, ''))
    if session is None:
      raise web.HTTPGone(reason='this session has ended: reload the page')
    session.seen = time.monotonic()
    return session

  async def _open_page(self, request: web.Request) -> web.StreamResponse:
    response = web.FileResponse(_PAGE / 'index.html')
    if self.sessions.get(request.cookies.get(self._cookie, '')):
      return response
    token = self.sessions.open(connections.client(request))
    # Lax: a user who follows a link to the page keeps the session.
    response.set_cookie(self._cookie, token, httponly=True, samesite='Lax')
    return response

  async def _state(self, request: web.Request) -> web.StreamResponse:
    session = self._session(request)
    job = session.job
    return web.json_response(
      {
        'limits': {
          'video': self._upload_limit,
          'reference': _MAX_PICTURE,
          'references': sessions.MAX_REFERENCES,
        },
        'video': session.video_name,
        'facts': session.facts and session.facts._asdict(),
        'references': [
          {'number': number, 'name': x.name, 'frame': x.choice.frame}
          for number, x in session.references.items()
        ],
        'prior': self._colorizer.has_prior,
        'planned': session.plan is not None,
        'busy': session.is_busy,
        'job': job
        and {
          'kind': job.kind,
          'state': job.state,
          'stopping': job.stopping,
          'ahead': self._queue.ahead(job),
          'done': job.done,
          'total': job.total,
          'rate': job.rate,
          'message': job.message,
          'frame': job.preview and job.preview.number,
        },
        'warnings': session.warnings,
        'result': session.result_name,
      }
    )

  async def _put_video(self, request: web.Request) -> web.StreamResponse:
    async with self._received(request, self._upload_limit) as (session, path):
      facts = await self._checked(request, uploads.check_video, path)
      session.set_video(path, request.query.get('name', ''), facts)
    return web.json_response({})

  async def _put_reference(self, request: web.Request) -> web.StreamResponse:
    async with self._received(request, _MAX_PICTURE) as (session, path):
      drawing = await self._checked(request, uploads.redraw, path)
      session.add_reference(drawing, request.query.get('name', ''))
    return web.json_response({})

  @contextlib.asynccontextmanager
  async def _received(
    self, request: web.Request, limit: int
  ) -> AsyncIterator[tuple[Session, Path]]:
    """Receives a file of at most `limit` MB; removes it later unless moved."""
    session = self._session(request)
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

  async def _checked(
    self, request: web.Request, check: Callable[[Path], _Result], path: Path
  ) -> _Result:
    """Checks an upload in a thread; returns the result of the check."""
    client = self._session(request).client
    turn = self._turns.setdefault(client, asyncio.Lock())
    async with turn:  # A client with slow uploads does not delay others.
      future = self._checker.submit(check, path)
      self._checks = {x for x in self._checks if not x.done()} | {future}
      result = await asyncio.wrap_future(future)
    self._session(request)  # The session may have ended meanwhile.
    return result

  async def _get_reference(self, request: web.Request) -> web.StreamResponse:
    references = self._session(request).references
    number = int(request.match_info['number'])
    if number not in references:
      raise web.HTTPNotFound
    return _picture(references[number].thumbnail)

  async def _delete_reference(self, request: web.Request) -> web.StreamResponse:
    self._session(request).remove_reference(int(request.match_info['number']))
    return web.json_response({})

  async def _find_shots(self, request: web.Request) -> web.StreamResponse:
    self._session(request).find_shots(self._queue, self._embed, self._colorizer)
    return web.json_response({})

  async def _get_shots(self, request: web.Request) -> web.StreamResponse:
    session = self._session(request)
    if session.plan is None:
      raise web.HTTPNotFound
    rate = session.plan.frame_rate
    return web.json_response(
      [
        {
          'start': shot.start,
          'stop': shot.stop,
          'from': plan.clock(shot.start / rate),
          'scores': [choice.score for choice in scored],
          'verdicts': [choice.verdict for choice in scored],
          'coverages': [choice.coverage for choice in scored],
          'skipped': shot.skipped,
          'references': []
          if shot.by_prior
          else [session.number_of(x) for x in shot.references],
        }
        for shot, scored in zip(session.plan.shots, session.scored, strict=True)
      ]
    )

  async def _choose(self, request: web.Request) -> web.StreamResponse:
    body = await bodies.read_json(request)
    numbers = body.get('references') if isinstance(body, dict) else None
    if numbers == SKIP:
      numbers = None
    elif not isinstance(numbers, list) or any(
      type(x) is not int for x in numbers
    ):
      raise UserError(
        'the body must be {"references": [NUMBER, ...]}, or "skip" for the list'
      )
    self._session(request).choose(
      int(request.match_info['number']), numbers, self._colorizer.has_prior
    )
    return web.json_response({})

  async def _thumbnail(self, request: web.Request) -> web.StreamResponse:
    session = self._session(request)
    number = int(request.match_info['number'])
    if session.plan is None or number >= len(session.plan.shots):
      raise web.HTTPNotFound
    return _picture(session.thumbnail(number))

  async def _color(self, request: web.Request) -> web.StreamResponse:
    self._session(request).color(self._queue, self._colorizer)
    return web.json_response({})

  async def _preview(self, request: web.Request) -> web.StreamResponse:
    job = self._session(request).job
    if job is None or job.preview is None:
      raise web.HTTPNotFound
    after = request.match_info['which'] == 'after'
    return _picture(job.preview.after if after else job.preview.before)

  async def _result(self, request: web.Request) -> web.StreamResponse:
    session = self._session(request)
    if session.result is None:
      raise web.HTTPNotFound
    return web.FileResponse(session.result)

  async def _stop(self, request: web.Request) -> web.StreamResponse:
    self._session(request).stop()
    return web.json_response({})

  async def _leave(self, request: web.Request) -> web.StreamResponse:
    self._session(request)
    self.sessions.close(request.cookies[self._cookie])
    return web.json_response({})


def _picture(data: bytes) -> web.Response:
  return web.Response(body=data, content_type='image/jpeg')


def _too_large(limit: int) -> UserError:
  return UserError(f'the file is too large: at most {limit} MB are allowed')
