"""Reading and writing of videos, folders of frames, and images.

`VideoReader` yields the frames of a video, a folder of images, or an image file;
`VideoWriter` writes them. Both hold a few frames in memory. With `prefetch` around
the reader, decoding, processing, and encoding run in parallel:

  with (
    VideoReader('in.mp4') as reader,
    VideoWriter('out.mp4', reader.format) as writer,
  ):
    for frame in prefetch(reader):
      writer.write(frame._replace(rgb=paint(frame.rgb)))

This module is the public interface of the modules from which it imports.
"""

from vitexco_jax.media.codecs import CODECS, Coding
from vitexco_jax.media.containers import (
  Bounds,
  bound,
  container_options,
  container_tick,
  main_stream,
  open_input,
  other_tracks,
  rising,
)
from vitexco_jax.media.ffmpeg_errors import explained
from vitexco_jax.media.frames import (
  DEFAULT_FRAME_RATE,
  Format,
  Frame,
  prefetch,
)
from vitexco_jax.media.images import (
  IMAGE_SUFFIXES,
  WRITTEN_SUFFIXES,
  decode_image,
  encode_image,
  image_files,
  read_image,
  write_image,
)
from vitexco_jax.media.output_paths import (
  VIDEO_SUFFIXES,
  check_free,
  move,
  output_kind,
  partial_path,
  remove,
)
from vitexco_jax.media.reader import VideoReader
from vitexco_jax.media.writer import VideoWriter

__all__ = [
  'CODECS',
  'DEFAULT_FRAME_RATE',
  'IMAGE_SUFFIXES',
  'VIDEO_SUFFIXES',
  'WRITTEN_SUFFIXES',
  'Bounds',
  'Coding',
  'Format',
  'Frame',
  'VideoReader',
  'VideoWriter',
  'bound',
  'check_free',
  'container_options',
  'container_tick',
  'decode_image',
  'encode_image',
  'explained',
  'image_files',
  'main_stream',
  'move',
  'open_input',
  'other_tracks',
  'output_kind',
  'partial_path',
  'prefetch',
  'read_image',
  'remove',
  'rising',
  'write_image',
]
