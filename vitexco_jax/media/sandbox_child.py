"""The child process of a sandbox, which opens untrusted files within limits.

It reads requests of a function, its arguments, and a time in seconds, and answers
with the kind of the outcome and the result; see `sandbox`.
"""

import math
import os
import pickle
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vitexco_jax.errors import UserError
from vitexco_jax.media import containers
from vitexco_jax.media.frames import Frame
from vitexco_jax.media.reader import Source, VideoReader

FRAME_PIXELS = 4096 * 2304  # Of the largest video frame.
MEMORY = 3 * 2**29  # Bytes of private data, without code and mapped files.

_THREADS = 4  # Of decoders; frames in flight are most of the memory.
_CONTAINERS = 'mov,mp4,matroska,webm,avi,mpegts,mpeg,asf,flv,mxf,ogg'
_CODECS = (
  # Video.
  'h264 hevc vvc av1 libdav1d vp6 vp6a vp6f vp8 vp9 mpeg1video mpeg2video mpeg4'
  ' msmpeg4v1 msmpeg4v2 msmpeg4 wmv1 wmv2 wmv3 vc1 flv h261 h263 h263i theora'
  ' dirac mjpeg prores dnxhd cfhd ffv1 ffvhuff huffyuv utvideo magicyuv lagarith'
  ' dvvideo jpeg2000 rawvideo v210 v308 v408 v410 yuv4 r10k r210 svq1 svq3'
  ' cinepak indeo3 indeo4 indeo5 rpza qtrle msvideo1 png'
  # Audio, which FFmpeg decodes in part to probe it.
  ' aac aac_latm ac3 eac3 dca truehd mlp mp1 mp1float mp2 mp2float mp3 mp3float'
  ' opus libopus vorbis speex flac alac wmav1 wmav2 wmapro wmalossless wavpack'
  ' amrnb amrwb gsm_ms pcm_s8 pcm_u8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be'
  ' pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_f64be pcm_alaw'
  ' pcm_mulaw pcm_dvd pcm_bluray s302m adpcm_ms adpcm_ima_wav adpcm_ima_qt'
  ' adpcm_swf qdm2 mace3 mace6'
).replace(' ', ',')
_BOUNDS = containers.Bounds(
  pixels=FRAME_PIXELS, threads=_THREADS, formats=_CONTAINERS, codecs=_CODECS
)


def main() -> None:
  """Answers the calls of the parent until it closes the connection."""
  import resource  # Windows does not have it, and needs this module.

  handle, file_bytes = map(int, sys.argv[1:])
  for kind, limit in (
    (resource.RLIMIT_DATA, MEMORY),
    (resource.RLIMIT_FSIZE, file_bytes),
    (resource.RLIMIT_CORE, 0),
  ):
    resource.setrlimit(kind, (limit, limit))
  containers.bound(_BOUNDS)
  connection = Connection(handle)
  requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
  threading.Thread(
    target=_listen, args=(connection, requests), daemon=True
  ).start()
  reader: VideoReader | None = None
  allowed = 0.0
  while True:
    function, arguments, seconds = pickle.loads(requests.get())
    allowed += seconds
    cpu = math.ceil(allowed)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, resource.RLIM_INFINITY))
    if isinstance(function, str):
      function = getattr(reader, function)
    outcome, answer = _call(function, arguments)
    pixels = None
    if isinstance(answer, Frame):
      pixels = answer.rgb  # Sent without a copy.
      answer = answer._replace(rgb=None)  # type: ignore[arg-type]
    elif isinstance(answer, VideoReader):
      reader = answer
      answer = _properties(reader)
    elif outcome == 'end':
      outcome, answer = 'done', _properties(reader)
    connection.send_bytes(pickle.dumps((outcome, answer)))
    if pixels is not None:
      connection.send_bytes(pixels.data.cast('B'))


def _properties(reader: VideoReader | None) -> dict[str, Any]:
  return {name: getattr(reader, name) for name in Source.__annotations__}


def _call(
  function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[str, Any]:
  """Calls a function; returns the kind of the outcome, and the result."""
  try:
    return 'done', function(*arguments)
  except StopIteration:
    return 'end', None
  except UserError as error:
    return 'refused', str(error)
  except MemoryError:
    return 'memory', None
  except Exception as error:
    place = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(place.filename).name
    return 'failed', f'{error!r} at {file}:{place.lineno}'


def _listen(
  connection: Connection, requests: 'queue.SimpleQueue[bytes]'
) -> None:
  """Receives requests; ends the process when the parent has ended."""
  try:
    while True:
      requests.put(connection.recv_bytes())
  except (OSError, EOFError):
    os._exit(1)
