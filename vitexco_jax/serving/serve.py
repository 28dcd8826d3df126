"""--mode=serve: a local page on which videos are colored.

Here is HTTP: who may ask what, and how large it may be. `uploads` looks at what
comes, `sessions` does the work; `page/` is what the browser gets, which asks for JSON
and pictures:

  GET    /state                    what there is and how far it is, once a second
  PUT    /video?name=NAME          the file as the body
  PUT    /reference?name=NAME      likewise
  DELETE /reference/NUMBER
  POST   /shots                    finds shots, proposes references
  GET    /shots
  PUT    /shots/NUMBER             {"references": [NUMBER, ...]}, [] for no picture
  POST   /color, /stop, /leave
  GET    /thumbnail/NUMBER, /reference/NUMBER, /before, /after, /result

A cookie, which no script can read, says whose session it is; there is no other way to
a session's files. All of them lie in one temporary folder, which goes when the
program ends. What is refused comes back as {"error": SENTENCE}.
"""

import asyncio
import concurrent.futures
import contextlib
import fcntl
import ipaddress
import itertools
import os
import secrets
import shutil
import signal
import tempfile
import time
import traceback
import weakref
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import ml_collections
from aiohttp import web

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan
from vitexco_jax.media import video
from vitexco_jax.retrieval import embedding
from vitexco_jax.serving import connections, sessions, uploads
from vitexco_jax.serving.disk_quota import DiskQuota
from vitexco_jax.serving.sessions import JobQueue, Session

_PAGE = Path(__file__).parent / 'page'
_PREFIX = 'vitexco-page-'  # Of the temporary folder.
_MAX_SESSIONS = 100
_MAX_CLIENT_SESSIONS = 10
_CHECKS = 2  # Uploads that are looked at at a time, of different clients.
_MAX_PICTURE = 64  # MB that a reference may have.
_KEPT_SECONDS = 3600.0  # After a visitor was last seen and the work was done,
_EMPTY_SECONDS = 300.0  # or if nothing came,
_ABSENT_SECONDS = (
  10.0  # or less where there is no room: pages ask every second.
)
_SWEEP_SECONDS = 30.0
_NUMBER = r'{number:\d{1,9}}'  # In a path.
_HEADERS = {
  # No script or picture of elsewhere, and no page around this one.
  'Content-Security-Policy': "default-src 'self'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
}


def serve(
  colorizer: Any,
  config: ml_collections.ConfigDict,
  address: str,
  upload_limit: int,
  disk_limit: int = 20_000,
) -> None:
  """Serves the page until the program is interrupted, or its terminal closed.

  Args:
    colorizer: a `colorize.VideoColorizer`.
    config: its `retrieval` says how references are compared with shots.
    address: HOST:PORT to listen on; port 0 takes a free one.
    upload_limit: MB that a video may have.
    disk_limit: MB that the files of all visitors may have together.

  Raises:
    UserError: the address is none, or cannot be listened on.
  """
  host, port = parse_address(address)
  embed = embedding.make_embedder(config)
  with temporary_folder() as folder, JobQueue() as queue:
    quota = DiskQuota(folder, disk_limit * 10**6)
    site = Site(
      *(colorizer, embed, folder, queue, upload_limit, _is_local(host)), quota
    )
    asyncio.run(_listen(site.app, host, port))
  print('All that was uploaded is removed.', flush=True)
  if queue.is_busy or site.is_busy:
    os._exit(0)  # Python would wait for a thread that computes.


def parse_address(address: str) -> tuple[str, int]:
  """Returns host and port of HOST:PORT; raises UserError."""
  host, colon, port = address.rpartition(':')
  if not (colon and host and port.isdecimal() and int(port) < 2**16):
    raise UserError(
      f'--address={address} is no HOST:PORT, as in 127.0.0.1:7860'
    )
  return host.strip('[]'), int(port)


def _is_local(host: str) -> bool:
  """Whether nothing but this machine reaches a host."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'


async def _listen(app: web.Application, host: str, port: int) -> None:
  async with connections.listening(app, host, port) as port:
    if not _is_local(host):
      print(f'warning: all who reach {host} can use the page', flush=True)
    name = f'[{host}]' if ':' in host else host
    print(
      f'Open http://{name}:{port} in a browser. Ctrl-C ends it '
      'and removes all that was uploaded.',
      flush=True,
    )
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      if signal.getsignal(number) != signal.SIG_IGN:  # As nohup has it.
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
  """A folder that only this user may open, and that is removed in the end.

  Folders left by killed processes are removed now.
  """
  for path in Path(tempfile.gettempdir()).glob(f'{_PREFIX}*'):
    # One may be in use, or of another user.
    with contextlib.suppress(OSError), _locked(path):
      shutil.rmtree(path, ignore_errors=True)
  with contextlib.ExitStack() as stack:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # A job that is not waited for may still write: what it leaves, the next
    # start removes.
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.enter_context(_locked(folder))
    yield folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
  """Holds the lock of a folder of this user; OSError if another holds it."""
  handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
  try:
    if os.fstat(handle).st_uid != os.getuid():
      raise PermissionError
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  finally:
    os.close(handle)


class Site:
  """The page and what it asks for.

  Attributes:
    app: for aiohttp to serve.
  """

  def __init__(
    self,
    colorizer: Any,
    embed: Any,
    folder: Path,
    queue: JobQueue,
    upload_limit: int,
    local: bool,
    quota: DiskQuota | None = None,
  ):
    """Makes `app`.

    Args:
      colorizer: a `colorize.VideoColorizer`.
      embed: a `retrieval.Embedder`.
      folder: for sessions' folders.
      queue: for their work.
      upload_limit: MB that a video may have.
      local: whether only names of this machine are answered to, lest a page of
        elsewhere gives its own name this address.
      quota: of `folder`; None: without a limit.
    """
    self._colorizer, self._embed = colorizer, embed
    self._folder, self._queue = folder, queue
    self._upload_limit = upload_limit
    self._local = local
    self._quota = quota or DiskQuota(folder)
    self._checks = set()  # Of uploads, in threads.
    self._turns = weakref.WeakValueDictionary()  # A lock for each client.
    self._sessions: dict[str, Session] = {}
    self._numbers = itertools.count()
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

  async def _at_work(self, _):
    # Few uploads are looked at at a time, which bounds the memory that takes.
    self._checker = concurrent.futures.ThreadPoolExecutor(_CHECKS, 'check')
    sweeping = asyncio.create_task(self._sweep())
    yield
    sweeping.cancel()
    self._checker.shutdown(wait=False, cancel_futures=True)

  @property
  def is_busy(self) -> bool:
    """Whether an upload is being looked at."""
    return any(not check.done() for check in self._checks)

  async def _sweep(self):
    """Ends sessions that nobody comes back to."""
    while True:
      await asyncio.sleep(_SWEEP_SECONDS)
      self._end_old()

  def _end_old(self, empty_seconds=_EMPTY_SECONDS, client=None):
    now = time.monotonic()
    for token, session in list(self._sessions.items()):
      if client not in (None, session.client):
        continue
      if session.is_busy:
        session.seen = now
      kept = empty_seconds if session.is_empty else _KEPT_SECONDS
      if now - session.seen > kept:
        self._sessions.pop(token).leave()

  @web.middleware
  async def _guard(self, request, handler):
    """Turns strangers away, and all errors into sentences."""
    try:
      self._check_source(request)
      response = await handler(request)
    except UserError as error:
      response = web.json_response({'error': str(error)}, status=400)
    except web.HTTPException as error:
      response = web.json_response({'error': error.reason}, status=error.status)
    except web.RequestPayloadError:
      response = web.json_response(
        {'error': 'what was sent came damaged: send it again'}, status=400
      )
    except (asyncio.CancelledError, ConnectionError):
      raise  # The browser has gone.
    except Exception:
      traceback.print_exc()
      response = web.json_response(
        {'error': 'this failed for a reason that the terminal tells'},
        status=500,
      )
    response.headers.update(_HEADERS)
    return response

  def _check_source(self, request):
    try:
      host = request.url.host or ''
    except ValueError as error:
      raise web.HTTPBadRequest(reason='Host is no host') from error
    if self._local and not _is_local(host):
      raise web.HTTPForbidden(reason=f'this is not {host}')
    origin = request.headers.get('Origin')
    if origin and origin.partition('://')[2] != request.host:
      raise web.HTTPForbidden(reason='another page may not ask for this')

  def _session(self, request) -> Session:
    session = self._sessions.get(request.cookies.get(self._cookie, ''))
    if session is None:
      raise web.HTTPGone(reason='this session has ended: reload the page')
    session.seen = time.monotonic()
    return session

  async def _open_page(self, request):
    response = web.FileResponse(_PAGE / 'index.html')
    if request.cookies.get(self._cookie) in self._sessions:
      return response
    client = connections.client(request)
    self._make_place(_MAX_SESSIONS)
    self._make_place(_MAX_CLIENT_SESSIONS, client)
    token = secrets.token_urlsafe(32)
    self._sessions[token] = Session(
      self._folder / str(next(self._numbers)), client, self._quota
    )
    # Lax: who comes back by a link is not to lose the session.
    response.set_cookie(self._cookie, token, httponly=True, samesite='Lax')
    return response

  def _make_place(self, limit, client=None):
    """Ends absent sessions where there are too many, of all or of a client."""

    def is_full():
      return limit <= sum(
        client in (None, session.client) for session in self._sessions.values()
      )

    if is_full():
      self._end_old(_ABSENT_SECONDS, client)
    if is_full():
      raise web.HTTPServiceUnavailable(reason='too many visitors: come later')

  async def _state(self, request):
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
        'result': session.result and session.result_name,
      }
    )

  async def _put_video(self, request):
    async with self._received(request, self._upload_limit) as (session, path):
      await self._checked(request, uploads.check_video, path)
      session.set_video(path, request.query.get('name', ''))
    return web.json_response({})

  async def _put_reference(self, request):
    async with self._received(request, _MAX_PICTURE) as (session, path):
      drawing = await self._checked(request, uploads.redraw, path)
      session.add_reference(drawing, request.query.get('name', ''))
    return web.json_response({})

  @contextlib.asynccontextmanager
  async def _received(self, request, limit):
    """Takes a file of at most `limit` MB in; it goes in the end unless moved."""
    session = self._session(request)
    if (request.content_length or 0) > limit * 10**6:
      raise _too_large(limit)
    name = uploads.shown(request.query.get('name', ''))
    async with session.upload:  # One at a time, lest they fill the disk.
      path = session.new_path()
      try:
        with session.named({path: name}):
          with video.explained('keep', path), open(path, 'wb') as file:
            self._quota.check(request.content_length or 0)
            while chunk := await _timely(request.content.readany()):
              if file.tell() + len(chunk) > limit * 10**6:
                raise _too_large(limit)
              self._quota.check()
              file.write(chunk)
              session.seen = time.monotonic()
          yield session, path
      finally:
        path.unlink(missing_ok=True)

  async def _checked(self, request, check, path):
    client = self._session(request).client
    turn = self._turns.setdefault(client, asyncio.Lock())
    async with turn:  # Who sends what takes long keeps nobody else waiting.
      future = self._checker.submit(check, path)
      self._checks = {x for x in self._checks if not x.done()} | {future}
      found = await asyncio.wrap_future(future)
    self._session(request)  # It may have ended meanwhile.
    return found

  async def _get_reference(self, request):
    references = self._session(request).references
    number = int(request.match_info['number'])
    if number not in references:
      raise web.HTTPNotFound
    return _picture(references[number].thumbnail)

  async def _delete_reference(self, request):
    self._session(request).remove_reference(int(request.match_info['number']))
    return web.json_response({})

  async def _find_shots(self, request):
    self._session(request).find_shots(
      self._queue, self._embed, self._colorizer.has_prior
    )
    return web.json_response({})

  async def _get_shots(self, request):
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
          'references': []
          if shot.by_prior
          else [session.number_of(x) for x in shot.references],
        }
        for shot, scored in zip(session.plan.shots, session.scored, strict=True)
      ]
    )

  async def _choose(self, request):
    body = await _json(request)
    numbers = body.get('references') if isinstance(body, dict) else None
    if not isinstance(numbers, list) or any(
      type(x) is not int for x in numbers
    ):
      raise UserError('{"references": [NUMBER, ...]} is wanted')
    self._session(request).choose(
      int(request.match_info['number']), numbers, self._colorizer.has_prior
    )
    return web.json_response({})

  async def _thumbnail(self, request):
    session = self._session(request)
    number = int(request.match_info['number'])
    if session.plan is None or number >= len(session.plan.shots):
      raise web.HTTPNotFound
    return _picture(session.thumbnail(number))

  async def _color(self, request):
    self._session(request).color(self._queue, self._colorizer)
    return web.json_response({})

  async def _preview(self, request):
    job = self._session(request).job
    if job is None or job.preview is None:
      raise web.HTTPNotFound
    return _picture(getattr(job.preview, request.match_info['which']))

  async def _result(self, request):
    session = self._session(request)
    if session.result is None:
      raise web.HTTPNotFound
    return web.FileResponse(session.result)

  async def _stop(self, request):
    self._session(request).stop()
    return web.json_response({})

  async def _leave(self, request):
    self._session(request)
    self._sessions.pop(request.cookies[self._cookie]).leave()
    return web.json_response({})


def _picture(data: bytes) -> web.Response:
  return web.Response(body=data, content_type='image/jpeg')


def _too_large(limit: int) -> UserError:
  return UserError(f'the file is too large: {limit} MB are taken')


async def _timely(arriving: Awaitable) -> Any:
  """What comes of a request's body; HTTPException if nothing does."""
  try:
    async with asyncio.timeout(connections.IDLE_SECONDS):
      return await arriving
  except TimeoutError as error:
    raise web.HTTPRequestTimeout(
      reason='what was sent stopped coming: send it again'
    ) from error


async def _json(request: web.Request) -> Any:
  try:
    return await _timely(request.json())
  # No JSON; an encoding that nobody knows; brackets in brackets in brackets.
  except (ValueError, LookupError, RecursionError) as error:
    raise UserError('the body is no JSON') from error
