"""--mode=serve: a local web page that colorizes videos.

`handlers` answers the requests, `uploads` validates uploaded files, and `sessions` does
the work. All files are in one temporary folder, which is removed when the program
ends.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ml_collections
from aiohttp import web

from vitexco_jax.errors import UserError
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.retrieval import embedding
from vitexco_jax.serving import connections
from vitexco_jax.serving.disk_quota import DiskQuota
from vitexco_jax.serving.handlers import Site
from vitexco_jax.serving.jobs import JobQueue

_logger = logging.getLogger(__name__)

_PREFIX = 'vitexco-page-'  # Name prefix of the temporary folder.


def serve(
  colorizer: VideoColorizer,
  config: ml_collections.ConfigDict,
  address: str,
  upload_limit: int,
  disk_limit: int = 20_000,
) -> None:
  """Serves the page until the program is interrupted or its terminal closes.

  Args:
    colorizer: the engine, with its model.
    config: `retrieval` configures how references are compared with shots.
    address: HOST:PORT to listen on; port 0 selects a free port.
    upload_limit: maximum size of a video, in MB.
    disk_limit: maximum size of the files of all sessions together, in MB.

  Raises:
    UserError: the address is invalid, or the server cannot listen on it.
  """
  host, port = parse_address(address)
  # Notes on files are for the command line; the page shows its own.
  logging.getLogger('vitexco_jax.inference').setLevel(logging.WARNING)
  embed = embedding.make_embedder(config)
  with temporary_folder() as folder, JobQueue() as queue:
    site = Site(
      colorizer,
      embed,
      folder,
      queue,
      upload_limit,
      connections.is_local(host),
      DiskQuota(folder, disk_limit * 10**6),
    )
    asyncio.run(_listen(site.app, host, port))
  _logger.info('All uploaded files are removed.')
  if queue.is_busy or site.is_busy:
    os._exit(0)  # Python would wait for a thread that is still computing.


def parse_address(address: str) -> tuple[str, int]:
  """Returns host and port of HOST:PORT; raises UserError."""
  host, colon, port = address.rpartition(':')
  if not (colon and host and port.isdecimal() and int(port) < 2**16):
    raise UserError(
      f'`address={address}` is not HOST:PORT, for example 127.0.0.1:7860'
    )
  return host.strip('[]'), int(port)


async def _listen(app: web.Application, host: str, port: int) -> None:
  async with connections.listening(app, host, port) as port:
    if not connections.is_local(host):
      _logger.info(f'warning: everyone who can reach {host} can use the page')
    name = f'[{host}]' if ':' in host else host
    _logger.info(
      f'Open http://{name}:{port} in a browser. Ctrl-C stops the server '
      'and removes all uploaded files.'
    )
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      if signal.getsignal(number) != signal.SIG_IGN:  # Set by nohup.
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
  """Creates a folder that only this user can open; removes it at exit.

  Also removes folders left by killed processes.
  """
  for path in Path(tempfile.gettempdir()).glob(f'{_PREFIX}*'):
    # It may be in use, or belong to another user.
    with contextlib.suppress(OSError), _locked(path):
      shutil.rmtree(path, ignore_errors=True)
  with contextlib.ExitStack() as stack:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # A job that is still running may write more files: the next start removes
    # them.
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.enter_context(_locked(folder))
    yield folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
  """Locks a folder of this user; OSError if another process holds the lock."""
  handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
  try:
    if os.fstat(handle).st_uid != os.getuid():
      raise PermissionError
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  finally:
    os.close(handle)
