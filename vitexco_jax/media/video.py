"""Pictures in and out: video files, folders of frames, single images.

`VideoReader` gives the frames of any of the three one by one, `VideoWriter`
takes them; both hold a few frames at a time, however long the video. With
`prefetch` around the reader, decoding, whatever happens to the frames, and
encoding run side by side:

  with (
    VideoReader('in.mp4') as reader,
    VideoWriter('out.mp4', reader.format) as writer,
  ):
    for frame in prefetch(reader):
      writer.write(frame._replace(rgb=paint(frame.rgb)))

A frame is RGB, uint8 or on demand uint16, [h, w, 3], upright (the rotation that
phones note in the file is applied). Gray becomes three equal channels, alpha is
dropped and not composited. A time stamp `pts` counts ticks
of `Format.time_base` seconds.

Video is stored as YCbCr. It is read with the matrix and range that the file
names. Where it names no matrix we take BT.709 for high definition (from 1280
wide or 577 high) and BT.601 below, as players do; where it names no range,
FFmpeg's guess: limited for YCbCr, full for gray. Subsampled chroma is taken to
lie midway between its pixels. HDR and wide colors are converted to BT.709. Other
transfer functions and primaries are not converted but handed on to the output,
and so is the matrix where the file names one.
"""

import collections
import concurrent.futures
import contextlib
import errno
import io
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import (
  ColorPrimaries,
  ColorRange,
  Colorspace,
  ColorTrc,
  Interpolation,
  VideoReformatter,
)
from PIL import Image

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.media import (
  animations,
  color_profiles,
  cut_files,
  image_kinds,
  interlacing,
  tone_mapping,
)
from vitexco_jax.media.timeline import Timeline

VIDEO_SUFFIXES = ('.mp4', '.mov', '.m4v', '.mkv', '.avi')  # That we write.
IMAGE_SUFFIXES = image_kinds.SUFFIXES  # That we read.
WRITTEN_SUFFIXES = (  # Of images.
  *('.png', '.jpg', '.jpeg', '.tif', '.tiff'),
  *('.webp', '.bmp', '.ppm'),
)
DEFAULT_FRAME_RATE = Fraction(25)  # Of pictures without a clock.

# What it has to say of a broken picture, `read_image` says.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_MIN_SIDE = 32  # The network halves a picture several times.
_MAX_SIDE = 16_384  # H.264 ends here.

# FFmpeg's fast conversion darkens by about one level and repeats each chroma
# sample; this one is unbiased, and costs 3 ms a frame of 720p.
_SCALING = (
  Interpolation.BILINEAR
  | Interpolation.ACCURATE_RND
  | Interpolation.FULL_CHR_H_INT
  | Interpolation.FULL_CHR_H_INP
)
# To 16 bits, FFmpeg's bilinear one is broken for 4:2:0: green is lost.
_DEEP_SCALING = _SCALING & ~Interpolation.BILINEAR | Interpolation.BICUBIC
# By default FFmpeg searches 5 MB and 5 s for streams. It searches that far only where
# a file does not list its streams.
_PROBE = {'probesize': str(2**27), 'analyzeduration': str(600 * 10**6)}
_LONGEST = 60  # Seconds that the last frame may be shown.
_SCALING_FLAGS = 'bilinear+accurate_rnd+full_chroma_int+full_chroma_inp'
_WHITE = 255 << 8  # Of 16 bits, to FFmpeg, where YCbCr is of limited range.
_UNKNOWN_TAGS = (0, 2, 3)  # Reserved, unspecified, reserved.
_ICTCP = (14, 15)  # Matrices: ICtCp, and its relative of Dolby Vision.

_MATRICES = {  # Of the tags; two of them are the same.
  1: Colorspace.ITU709,
  5: Colorspace.ITU601,
  6: Colorspace.ITU601,
  9: Colorspace.BT2020,
}
_MATRIX_NAMES = {1: 'bt709', 5: 'bt601', 6: 'bt601', 9: 'bt2020'}


class _Codec(NamedTuple):
  encoder: str
  pixels: dict[int, str]  # By bits.
  odd_pixels: dict[int, str]  # Where a side is odd: 4:2:0 halves both sides.
  suffixes: tuple[str, ...]
  quality: int | None  # Unless told; None: it is without loss.
  worst: int
  options: dict[str, str]
  scale: str = 'crf'  # The option that takes the quality.

  def pixels_of(self, form: 'Format') -> dict[int, str]:
    """Pixel formats for frames of a format, by bits."""
    rows = 4 if form.field_order else 2  # Each field needs an even height.
    even = form.height % rows == form.width % 2 == 0
    return self.pixels if even else self.odd_pixels


# Slower presets save few bytes and take the network's time.
_CODECS = {
  'h264': _Codec(
    'libx264',
    {8: 'yuv420p', 10: 'yuv420p10le'},
    {8: 'yuv444p', 10: 'yuv444p10le'},
    VIDEO_SUFFIXES,
    12,
    51,
    # With mbtree small pictures do not always come out the same, and a film that
    # is resumed must; without it files are a tenth larger.
    {'preset': 'veryfast', 'x264-params': 'mbtree=0'},
  ),
  'hevc': _Codec(
    'libx265',
    {8: 'yuv420p', 10: 'yuv420p10le'},
    {8: 'yuv444p', 10: 'yuv444p10le'},
    ('.mp4', '.mov', '.m4v', '.mkv'),
    16,
    51,
    {'preset': 'veryfast', 'x265-params': 'log-level=none'},
  ),
  'ffv1': _Codec(
    'ffv1',
    {8: 'bgr0', 10: 'gbrp10le', 16: 'gbrp16le'},
    {8: 'bgr0', 10: 'gbrp10le', 16: 'gbrp16le'},
    ('.mkv',),
    None,
    0,
    {'level': '3', 'g': '1', 'slicecrc': '1'},
  ),
  'prores': _Codec(
    'prores_ks',
    {10: 'yuv422p10le'},
    {10: 'yuv422p10le'},
    ('.mov', '.mkv'),
    3,
    3,
    {'vendor': 'apl0'},
    'profile',
  ),
}
CODECS = tuple(_CODECS)
_IMAGE_BITS = {'.png': (8, 16), '.tif': (8, 16), '.tiff': (8, 16)}
_QUEUE = 4  # Frames that wait to be encoded.


class Frame(NamedTuple):
  """One picture of a video."""

  rgb: np.ndarray  # [h, w, 3] uint8, or uint16 where that was asked for.
  pts: int | None = None  # Time stamp, in ticks; None: one frame later.
  name: str | None = None  # The file's, of a folder's frame.
  duration: int | None = None  # In ticks; None: until the next, or one frame.


class Format(NamedTuple):
  """What a video is beside its pictures; all that a writer must know."""

  height: int
  width: int
  frame_rate: Fraction = DEFAULT_FRAME_RATE  # The mean, if it varies.
  time_base: Fraction | None = None  # Seconds per tick; None: 1 / frame_rate.
  pixel_aspect: Fraction = Fraction(1)  # Width of a pixel over its height.
  primaries: int = ColorPrimaries.BT709
  transfer: int = ColorTrc.BT709
  matrix: int = Colorspace.ITU709  # By its tag.
  field_order: str = ''  # 'tt' or 'bb' if interlaced; see `interlacing`.

  @property
  def ticks(self) -> int:
    """Ticks from a frame to the next, at the mean rate."""
    if self.time_base is None:
      return 1
    return max(1, round(1 / (self.frame_rate * self.time_base)))

  def at(self, frame_rate: Fraction) -> 'Format':
    """Returns the format of pictures without a clock at a frame rate."""
    return self._replace(frame_rate=frame_rate, time_base=1 / frame_rate)


class Coding(NamedTuple):
  """How pictures are stored.

  `check` says what goes with what.
  """

  codec: str = 'h264'  # Of `CODECS`; for video.
  bits: int | None = None  # To a channel; None: the fewest there are, 8 mostly.
  quality: int | None = None  # None: visually lossless. See docs/colorize.md.

  def check(self, path: str | os.PathLike) -> None:
    """Raises UserError unless a file or folder can be written so."""
    kind, suffix = output_kind(path), Path(path).suffix.lower()
    if self.codec not in _CODECS:
      raise UserError(
        f'--codec={self.codec} is unknown; known are {", ".join(CODECS)}'
      )
    codec = _CODECS[self.codec]
    if kind != 'video':
      if self.codec != 'h264' or self.quality is not None:
        raise UserError(f'{path} is no video: leave out --codec and --quality')
      known = _IMAGE_BITS.get(suffix or '.png', (8,))
    else:
      known = tuple(codec.pixels)
      if suffix not in codec.suffixes:
        raise UserError(
          f'--codec={self.codec} does not go into {path}: name it '
          f'{" or ".join(codec.suffixes)}'
        )
    if self.bits is not None and self.bits not in known:
      raise UserError(
        f'--bits={self.bits} is not known for {path} as {self.codec}: choose '
        f'from {", ".join(map(str, known))}'
      )
    if self.quality is None:
      return
    if codec.quality is None:
      raise UserError(f'--codec={self.codec} is without loss: leave --quality')
    if not 0 <= self.quality <= codec.worst:
      raise UserError(
        f'--quality={self.quality} must be from 0 to {codec.worst} for '
        f'--codec={self.codec}'
      )

  @property
  def keeps_fields(self) -> bool:
    """Whether video is marked as interlaced where its format is."""
    return _CODECS[self.codec].encoder in interlacing.ENCODERS

  def is_rare(self, form: Format) -> bool:
    """Whether frames of a format need 4:4:4 where 4:2:0 is usual."""
    codec = _CODECS[self.codec]
    return codec.pixels_of(form) != codec.pixels

  @property
  def depth(self) -> int:
    """Bits to a channel."""
    return self.bits or min(_CODECS[self.codec].pixels)

  @property
  def deep(self) -> bool:
    """Whether frames are to be uint16."""
    return self.depth > 8


class Bounds(NamedTuple):
  """What this process opens; the rest is refused."""

  pixels: int = 2**27  # Of a picture; memory ends about there.
  streams: int = 128  # Of a media file; attached fonts count.
  threads: int = 0  # That decode a video; 0: one for each core.
  formats: str | None = None  # FFmpeg's names, with commas; None: all.
  codecs: str | None = None  # Decoders, likewise.


_bounds = Bounds()


def bound(bounds: Bounds) -> None:
  """Sets what this process opens from now on."""
  global _bounds
  _bounds = bounds


def open_input(
  path: str | os.PathLike, thorough: bool = False
) -> av.container.InputContainer:
  """Opens a media file within the bounds of this process.

  FFmpeg decodes a little of every stream while it opens a file, so the bounds
  must be set before that. `decoding_options` sets them for what comes later.

  Args:
    path: The file.
    thorough: Whether to search further for sound that begins late.

  Raises:
    UserError: The file has too many streams, or is of no kind that is allowed.
    av.FFmpegError: It cannot be opened.
  """
  sentence = (
    f'{path} has more than {_bounds.streams} streams, or its head asks for '
    'more memory than there is'
  )
  options = decoding_options() | {'max_streams': str(_bounds.streams + 1)}
  if thorough:
    options |= _PROBE
  if _bounds.formats is not None:
    options['format_whitelist'] = _bounds.formats
    options['protocol_whitelist'] = 'file'
  try:
    # "file:", as a:b.mp4 would be taken for protocol a.
    container = av.open(
      f'file:{path}', metadata_errors='ignore', options=options
    )
  except av.MemoryError as error:
    raise UserError(sentence) from error
  except av.FFmpegError as error:
    if _bounds.formats is None:
      raise
    raise UserError(
      f'{path} is damaged or not a supported video: use MP4, MOV, MKV, WebM, '
      'AVI, or MPEG'
    ) from error
  if len(container.streams) > _bounds.streams:
    container.close()
    raise UserError(sentence)
  return container


def decoding_options() -> dict[str, str]:
  """FFmpeg's options by which a decoder keeps the bounds of this process."""
  options = {'max_pixels': str(_bounds.pixels)}
  if _bounds.codecs is not None:
    options['codec_whitelist'] = _bounds.codecs
  return options


def prefetch(iterable: Iterable, size: int = 4) -> Iterator:
  """Yields what `iterable` yields, made up to `size` ahead by another thread.

  Exceptions of `iterable` arrive where its next item would have. When this
  generator is closed or dropped the thread ends after the item it is making.
  """
  iterator = iter(iterable)
  end = object()
  pool = concurrent.futures.ThreadPoolExecutor(1, 'prefetch')
  try:
    ahead = collections.deque(
      pool.submit(next, iterator, end) for _ in range(size)
    )
    while (item := ahead.popleft().result()) is not end:
      ahead.append(pool.submit(next, iterator, end))
      yield item
  finally:
    pool.shutdown(cancel_futures=True)


def image_files(folder: str | os.PathLike) -> list[Path]:
  """Returns the images of a folder, frame2.png before frame10.png."""
  files = [
    path
    for path in Path(folder).iterdir()
    if path.suffix.lower() in IMAGE_SUFFIXES
    and not path.name.startswith('.')
    and not path.is_dir()  # Of a broken link the reader says so.
  ]

  def natural(path):
    parts = re.split('([0-9]+)', path.name.casefold())
    parts[1::2] = map(int, parts[1::2])
    return parts, path.name  # For 1.png and 01.png, a.png and A.png.

  return sorted(files, key=natural)


def read_image(path: str | os.PathLike, deep: bool = False) -> np.ndarray:
  """Returns an image file as RGB, [h, w, 3] uint8 (deep: uint16), upright.

  Raises:
    UserError: It is missing, broken, of a kind unknown, too small or too large.
  """
  files.check_regular(path)
  with explained('read', path):
    data = Path(path).read_bytes()
  return decode_image(data, path, deep)


def decode_image(
  data: bytes, path: str | os.PathLike, deep: bool = False
) -> np.ndarray:
  """Returns what an image file holds; `path` is its name in an error."""
  if not data:
    raise UserError(f'{path} is empty: 0 bytes')
  image_kinds.refuse_unreadable(data, path)
  image = image_kinds.open_header(data, path)
  if image is not None:
    _check_size(path, image.height, image.width)
    count = len(animations.frame_numbers(image))
    if count > 1:
      raise UserError(
        f'{path} holds {count} frames, not one picture: save the one that you '
        'want as PNG (as --video, all of them are read)'
      )
  rgb = None
  if not _is_broken_png(data):
    with contextlib.suppress(*image_kinds.BROKEN):
      rgb = image_kinds.decode(data, image, decoding_options())
  if rgb is None:
    raise UserError(f'{path} is not an image, or is damaged or cut short')
  _check_size(path, *rgb.shape[:2])
  if image is not None and rgb.dtype in (np.uint8, np.uint16):
    rgb = color_profiles.to_srgb(rgb, image, data, path)
  return image_kinds.with_bits(rgb, deep, path)


def write_image(path: str | os.PathLike, rgb: np.ndarray) -> None:
  """Writes an RGB uint8 image, whole or not at all, replacing what is there.

  Raises:
    UserError: The path cannot be written, or its suffix is of no image format.
  """
  path = Path(path)
  if path.suffix.lower() not in WRITTEN_SUFFIXES:
    raise UserError(
      f'{path} cannot be written: end its name in one of '
      f'{" ".join(WRITTEN_SUFFIXES)}'
    )
  _check_rgb(rgb)
  data = encode_image(path.suffix, rgb)
  with explained('write', path):
    files.write(path, data)


def main_stream(
  container: av.container.InputContainer,
) -> av.video.stream.VideoStream | None:
  """The stream that a file is watched for, or None; a cover is none."""
  streams = _video_tracks(container)
  best = container.streams.best('video')
  return best if best in streams else next(iter(streams), None)


def other_tracks(container: av.container.InputContainer) -> list[str]:
  """Names the video tracks that are not read, each in words."""
  main = main_stream(container)
  names = []
  for stream in _video_tracks(container):
    if stream != main:
      coder = stream.codec_context
      kind = (
        f'{coder.name}, {coder.width}x{coder.height}' if coder else 'unknown'
      )
      names.append(f'video track {stream.index} ({kind})')
  return names


def _video_tracks(container):
  return [
    stream
    for stream in container.streams.video
    if not stream.disposition & av.stream.Disposition.attached_pic
  ]


def container_tick(suffix: str, form: Format) -> Fraction:
  """Seconds that time stamps count in a container, for frames of a format."""
  coarse = {'.mkv': Fraction(1, 1000), '.avi': 1 / form.frame_rate}
  return coarse.get(suffix, form.time_base or 1 / form.frame_rate)


def container_options(suffix: str, tick: Fraction) -> dict[str, str]:
  """What FFmpeg's muxer of a container has to be told."""
  if suffix in ('.mkv', '.avi'):
    return {}
  # Else the start is rounded to milliseconds.
  return {'movie_timescale': str(tick.denominator)}


def rising(stamps: Iterable[int | Fraction], ratio: Fraction) -> Iterator[int]:
  """Scales time stamps to coarser ticks, lest two frames fall together."""
  previous = None
  for stamp in stamps:
    stamp = round(stamp * ratio)
    previous = stamp if previous is None else max(stamp, previous + 1)
    yield previous


class VideoReader:
  """Iterates over the frames of a video, a folder of images or an image file.

  A context manager, and an iterator that can be run through once. Time stamps
  rise from frame to frame: the file's own, or, where these are missing or fall
  back, counted on at the frame rate. A video that breaks off or is damaged
  gives what can be decoded.

  Attributes:
    path: Where it reads from.
    kind: 'video', 'folder', 'image', or 'animation', an image file of several
      frames.
    format: Size, frame rate, time base and what else a writer must know.
    num_frames: How many frames there should be, as far as the file tells, else
      None; exact for folders and images.
    lost: How many of them a broken video did not give (an estimate unless the
      file counts its frames); known when the frames have run out.
    damaged: Numbers of frames that are shown damaged or that others are missing
      about, as far as FFmpeg notices; likewise.
    other_tracks: Video tracks that are not read, in words.
    interlaced: How many frames so far are marked as interlaced in the file.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    deep: bool = False,
    deinterlace: bool = False,
  ):
    """Opens `path`.

    Args:
      path: What to read.
      deep: Whether frames come as uint16.
      deinterlace: Whether the frames of a video are made progressive: those that
        are marked as interlaced or, where the first one is not, all.

    Raises:
      UserError: Nothing there can be read as pictures, or their size is out of
        bounds.
    """
    self.path = Path(path)
    self.lost = 0
    self.damaged = []
    self.other_tracks = []
    self.interlaced = 0
    self._deep, self._deinterlace = deep, deinterlace
    self._lock = Lock()  # Closing waits for a frame in the making.
    self._container = None
    try:
      with explained('read', path):
        self._open()
    except BaseException:
      self.close()
      raise

  def __iter__(self):
    return self

  def __next__(self) -> Frame:
    with self._lock, explained('read', self.path):
      return self._convert(*next(self._coded))

  def skip(self, count: int) -> None:
    """Passes over frames, faster than by asking for them.

    Raises:
      UserError: What comes cannot be read.
    """
    with self._lock, explained('read', self.path):
      collections.deque(itertools.islice(self._coded, count), 0)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def close(self) -> None:
    """Lets go of the file; there are no more frames."""
    with self._lock:
      self._coded = iter(())
      if self._container is not None:
        self._container.close()

  def _open(self):
    if self.path.is_dir():
      self.kind = 'folder'
      self._open_images(image_files(self.path))
    elif not self.path.exists():
      raise UserError(f'{self.path} does not exist')
    elif self._is_image_file():
      self._open_image_file()
    else:
      self.kind = 'video'
      self._open_video()

  def _is_image_file(self):
    if self.path.suffix.lower() in IMAGE_SUFFIXES:
      return True
    # Where kinds of video are listed, no others are taken.
    known = _bounds.formats is None and self.path.is_file()
    return known and image_kinds.may_be_animated(self.path)

  def _open_image_file(self):
    data = self.path.read_bytes()
    image = image_kinds.open_header(data, self.path)
    if image is None or len(animations.frame_numbers(image)) == 1:
      self.kind = 'image'
      self._open_images([self.path])
      return
    self.kind = 'animation'
    _check_size(self.path, image.height, image.width)
    animation = animations.Animation(data, image, self.path)
    self.num_frames = animation.count
    rate = DEFAULT_FRAME_RATE
    tick, stamps = 1 / rate, range(animation.count + 1)
    if animation.stamps is not None:
      tick, stamps = Fraction(1, 1000), animation.stamps
      rate = (len(stamps) - 1) / (stamps[-1] * tick)
    if len(stamps) <= animation.count:
      self.lost = animation.count + 1 - len(stamps)
      self.damaged.append(len(stamps) - 1)
    height, width = animation.read(0).shape[:2]
    self.format = Format(height, width, rate, tick)
    spans = enumerate(itertools.pairwise(stamps))
    self._coded = ((animation, index, *span) for index, span in spans)
    self._convert = self._convert_page

  def _convert_page(self, animation, index, start, end):
    size = self.format.height, self.format.width
    rgb = animation.read(index, self._deep)
    if rgb.shape[:2] != size:
      raise UserError(
        f'{self.path}: frame {index} is {rgb.shape[1]}x{rgb.shape[0]} pixels, '
        f'the first {size[1]}x{size[0]}: frames must be of one size'
      )
    return Frame(rgb, start, duration=end - start)

  def _open_images(self, files):
    if not files:
      raise UserError(
        f'{self.path} holds no frames: put images there '
        f'({" ".join(WRITTEN_SUFFIXES)})'
      )
    stems = {}
    for path in files:
      other = stems.setdefault(path.stem, path)
      if other is not path:
        raise UserError(
          f'{self.path} holds both {other.name} and {path.name}: '
          'a frame may be there only once'
        )
    first = read_image(files[0])
    height, width = first.shape[:2]
    # Now, and not hours later. The header knows of no rotation.
    for path in files[1:]:
      size = _header_size(path)
      if size and sorted(size) != sorted((height, width)):
        raise _mixed_sizes(path, size, files[0], (height, width))
    self.format = Format(height, width, time_base=1 / DEFAULT_FRAME_RATE)
    self.num_frames = len(files)
    self._first = files[0]
    self._coded = ((path, index) for index, path in enumerate(files))
    self._convert = self._convert_image

  def _convert_image(self, path, index):
    size = self.format.height, self.format.width
    rgb = read_image(path, self._deep)
    if rgb.shape[:2] != size:
      raise _mixed_sizes(path, rgb.shape[:2], self._first, size)
    return Frame(rgb, index, path.name)

  def _open_video(self):
    if not self.path.stat().st_size:
      raise UserError(f'{self.path} is empty: 0 bytes')
    try:
      container = open_input(self.path)
    except av.FFmpegError as error:
      broken = av.InvalidDataError, av.EOFError
      if not isinstance(error, broken) and error.errno != errno.EIO:
        raise
      with open(self.path, 'rb') as file:
        if file.read(8)[4:] == b'ftyp':
          raise UserError(
            f'{self.path} is cut short or damaged: the index that an MP4 or MOV '
            'file often has at its end is missing, so no frame can be found'
          ) from error
      raise UserError(
        f'{self.path} is not a video, or is damaged or cut short at its head'
      ) from error
    self._container = container
    if container.format.name == 'tty':  # FFmpeg draws text files.
      raise UserError(f'{self.path} is a text file, not a video')
    self._stream = stream = main_stream(container)
    if stream is None:
      raise UserError(f'{self.path} holds no video (sound alone, perhaps)')
    if stream.codec_context is None:
      raise UserError(f'{self.path} is coded in a way unknown to this FFmpeg')
    self.other_tracks = other_tracks(container)
    if stream.width:  # Some files tell only with the first frame.
      _check_size(self.path, stream.height, stream.width)
    stream.thread_type = 'AUTO'
    stream.codec_context.thread_count = _bounds.threads
    # A stream may grow on the way; what is too large then is not decoded.
    stream.codec_context.options = decoding_options()
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_FRAME_RATE
    self.num_frames = stream.frames or round(_seconds(stream) * rate) or None

    self._first_dts = None
    pictures = self._decode()
    first = next(pictures, None)
    if first is None:
      raise UserError(
        f'{self.path}: not one frame can be decoded; it is damaged or cut short'
      )
    self._orientation = _orientation(first)
    height, width = first.height, first.width
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if self._orientation[0]:
      height, width, aspect = width, height, 1 / aspect
    _check_size(self.path, height, width)
    self.format = Format(height, width, rate, stream.time_base, aspect)
    self._read_colors(first)
    # AVI stores no time stamps; FFmpeg guesses them a frame or two late.
    late = 0
    if container.format.name == 'avi' and first.pts is not None:
      late = first.pts - self._first_dts
    order = interlacing.field_order(first)
    pictures = itertools.chain([first], pictures)
    if self._deinterlace:
      pictures = interlacing.deinterlaced(pictures, only_marked=bool(order))
    elif self._orientation == (False, None) and height % 2 == 0:
      self.format = self.format._replace(field_order=order)
    self._coded = self._stamped(pictures, late)
    self._convert = self._convert_picture

  def _read_colors(self, first):
    """Prepares for the color space of the first frame, and names the output's.

    HDR and wide colors are converted to the default of `Format`, BT.709.
    """
    if first.colorspace in _ICTCP:
      raise UserError(
        f'{self.path} is HDR video whose colors are ICtCp, as in Dolby Vision, '
        'which cannot be read: convert it to HDR10 or SDR first'
      )
    self._pixels = 'rgb48le' if self._deep else 'rgb24'
    self._tone_mapper = None
    self._reformatter = VideoReformatter()
    if tone_mapping.is_needed(first):
      size = self.format.width, self.format.height
      if self._orientation[0]:
        size = size[::-1]
      self._tone_mapper = tone_mapping.ToneMapper(*size, self._pixels)
      return
    if first.color_primaries not in _UNKNOWN_TAGS:
      self.format = self.format._replace(primaries=first.color_primaries)
    if first.color_trc not in _UNKNOWN_TAGS:
      self.format = self.format._replace(transfer=first.color_trc)
    if int(first.colorspace) in _MATRICES:
      self.format = self.format._replace(matrix=int(first.colorspace))

  def _decode(self):
    """Yields FFmpeg's frames up to the end or the break; notes damage."""
    container, stream = self._container, self._stream
    packets = container.demux()
    timeline = Timeline(container)
    errors = count = 0
    end = None  # Of all streams together, in seconds.
    while True:
      try:
        packet = next(packets)
      except StopIteration:
        break
      except (av.FFmpegError, OSError):
        errors += 1
        self.damaged.append(count)
        packet = None  # Brings out the frames under way.
      if packet is not None:
        if packet.pts is not None:
          stop = (packet.pts + (packet.duration or 0)) * packet.time_base
          end = stop if end is None else max(end, stop)
        timeline.correct(packet)
        if packet.stream is not stream:
          continue
        if self._first_dts is None:
          self._first_dts = packet.dts or 0
      try:
        pictures = stream.decode(packet)
      except av.FFmpegError:
        errors += 1
        self.damaged.append(count)
        continue
      for picture in pictures:
        if picture.is_corrupt:
          self.damaged.append(count)
        self.interlaced += picture.interlaced_frame
        count += 1
        yield picture

    # Some containers end without a word where they were cut.
    if end is not None and container.duration:
      start = Fraction(container.start_time or 0, av.time_base)
      missing = start + Fraction(container.duration, av.time_base) - end
      rate = stream.average_rate or DEFAULT_FRAME_RATE
      if missing * rate > 3:
        errors += 1
        self.damaged.append(count)
    cut = cut_files.is_cut(self.path, container.format.name)
    if cut and count not in self.damaged:
      self.damaged.append(count)
    if errors or cut:
      self.lost = max((self.num_frames or 0) - count, errors)

  def _stamped(self, pictures, late):
    """Yields FFmpeg's frames with time stamps that rise, and durations."""
    before = pts = None
    for picture in pictures:
      stamp = None if picture.pts is None else picture.pts - late
      if pts is None:
        pts = stamp or 0
      else:
        last = pts
        if stamp is None or stamp < pts:
          pts += self.format.ticks
        else:
          pts = max(stamp, pts + 1)
        yield before, last, pts - last
      before = picture
    yield before, pts, self._last_duration(before, pts)

  def _last_duration(self, picture, pts):
    """Returns how many ticks the last frame is shown."""
    stream = self._stream
    if 'mp4' in self._container.format.name and not self.damaged:
      # It stores the duration of the frame that was coded last.
      rest = (stream.start_time or 0) + (stream.duration or 0) - pts
      if 0 < rest * self.format.time_base < _LONGEST:
        return rest
    return picture.duration or self.format.ticks

  def _convert_picture(self, picture, pts, duration):
    if self._tone_mapper is None:
      rgb = self._scale(picture)
    else:
      rgb = self._tone_mapper.convert(picture).to_ndarray()
    transposed, flips = self._orientation
    if transposed:
      rgb = cv2.transpose(rgb)
    if flips is not None:
      rgb = cv2.flip(rgb, flips)
    return Frame(np.ascontiguousarray(rgb), pts, duration=duration)

  def _scale(self, picture):
    """RGB of the format's size, not yet turned.

    A stream may change its size on the way: players scale, so do we.
    """
    height, width = self.format.height, self.format.width
    if self._orientation[0]:
      height, width = width, height
    if picture.colorspace in _UNKNOWN_TAGS and not picture.format.is_rgb:
      large = picture.width >= 1280 or picture.height > 576
      picture.colorspace = Colorspace.ITU709 if large else Colorspace.ITU601
    scaling = _DEEP_SCALING if self._deep else _SCALING
    rgb = self._reformatter.reformat(
      picture, width, height, self._pixels, interpolation=scaling
    ).to_ndarray()
    if self._deep:
      rgb = cv2.addWeighted(rgb, 65535 / _white(picture), rgb, 0, 0)
    return rgb


_DEFAULT_CODING = Coding()


class VideoWriter:
  """Writes frames to a video file, a folder of PNG files or an image.

  Which one, the path says: a suffix of `VIDEO_SUFFIXES` means a video with the
  frames' time stamps as exact as the container can say them (.mkv counts
  milliseconds, .avi frames), a suffix of `WRITTEN_SUFFIXES` one image, no suffix
  or an existing folder a folder.

  Encoding happens in a thread of its own. The output grows beside its target,
  under a hidden name, and takes its place when the `with` block (or `close`)
  ends; when the block ends by an exception, what was written is removed and
  the target is as it was. `write` raises what went wrong in earlier frames.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    format: Format,
    overwrite: bool = False,
    coding: Coding = _DEFAULT_CODING,
    reordered: bool = True,
  ):
    """Starts an output.

    Args:
      path: The target; the folder it is in is made where missing.
      format: Of the frames to come.
      overwrite: Replace a file, or a folder of images, that is there.
      coding: How pictures are stored; that it can be is checked.
      reordered: Whether video may store frames ahead of others shown before
        them; .avi never does.

    Raises:
      UserError: The target exists, cannot be written or is of no known kind.
    """
    self.path = Path(path)
    self.kind = output_kind(path)
    self._format = format
    coding.check(path)
    self._coding = coding
    self._reordered = reordered and self.path.suffix.lower() != '.avi'
    self._partial = partial_path(self.path)
    self._container = None
    self._count = 0
    self._queue = collections.deque()  # Of frames being encoded.
    with explained('write', path):
      check_free(self.path, overwrite)
      self.path.parent.mkdir(parents=True, exist_ok=True)
      remove(self._partial)  # Of a run that was killed.
      try:
        self._start()
      except BaseException:
        self._discard()
        raise
    self._pool = concurrent.futures.ThreadPoolExecutor(1, 'encode')

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind is None:
      self.close()
    else:
      self.abort()

  def write(self, frame: Frame) -> None:
    """Appends a frame, whose array must not change from now on.

    Args:
      frame: Of the writer's size. Its time stamp must be above the one before;
        its name, if it has one, names the file in a folder.

    Raises:
      UserError: This or an earlier frame could not be written.
    """
    _check_rgb(frame.rgb)
    size = self._format.height, self._format.width
    if frame.rgb.shape[:2] != size:
      raise ValueError(f'frame of {frame.rgb.shape[:2]}, output of {size}')
    if len(self._queue) == _QUEUE:
      self._queue.popleft().result()
    self._queue.append(self._pool.submit(self._encode, frame))

  def close(self) -> None:
    """Finishes the output and puts it in its place.

    Raises:
      UserError: It could not be written, or no frame came.
    """
    if self._pool is None:
      return
    try:
      while self._queue:
        self._queue.popleft().result()
      if not self._count:
        raise UserError(f'{self.path} is not written: there was no frame')
      with explained('write', self.path):
        if self._container is not None:
          self._mux(self._stream.encode(None), last=True)
          self._container.close()
        move(self._partial, self.path)
    finally:
      self.abort()

  def abort(self) -> None:
    """Removes what was written; does nothing to an output that is closed."""
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)
      self._pool = None
      self._discard()

  def _discard(self):
    if self._container is not None:
      with contextlib.suppress(av.FFmpegError, OSError):
        self._container.close()
    remove(self._partial)

  def _start(self):
    if self.kind == 'folder':
      self._partial.mkdir()
    elif self.kind == 'image':
      self._partial.touch()
    else:
      self._start_video()

  def _start_video(self):
    form = self._format
    suffix = self.path.suffix.lower()
    self._tick = container_tick(suffix, form)
    self._ratio = (form.time_base or 1 / form.frame_rate) / self._tick
    self._previous = -form.ticks  # Time stamp of the frame before, as it came,
    self._stamp = -1  # and as it was written.
    self._durations = {}  # Of frames in the encoder, by their time stamps.
    self._end = 0  # Of the frames that were encoded.
    self._first_dts = None
    self._shift = None
    self._reformatter = VideoReformatter()
    self._container = av.open(
      f'file:{self._partial}',
      'w',
      container_options=container_options(suffix, self._tick),
    )
    codec = _CODECS[self._coding.codec]
    pixels = codec.pixels_of(form)[self._coding.depth]
    options = dict(codec.options)
    if codec.quality is not None:
      quality = self._coding.quality
      options[codec.scale] = str(codec.quality if quality is None else quality)
    if not self._reordered and self._coding.codec == 'h264':
      options['bf'] = '0'
    order = form.field_order
    if order:
      options |= interlacing.encoder_options(codec.encoder, order)
      if codec.encoder == 'libx264':
        options['x264-params'] += f':{order[0]}ff=1'
    self._stream = stream = self._container.add_stream(
      codec.encoder,
      rate=form.frame_rate,
      width=form.width,
      height=form.height,
      pix_fmt=pixels,
      time_base=self._tick,
      options=options,
    )
    self._matrix = _MATRICES[form.matrix]
    self._woven = None
    if order:
      matrix = None if stream.format.is_rgb else _MATRIX_NAMES[form.matrix]
      self._woven = interlacing.woven(order, pixels, matrix, _SCALING_FLAGS)
    if not stream.format.is_rgb:
      stream.colorspace = form.matrix
      stream.color_range = ColorRange.MPEG
    stream.thread_type = 'AUTO'
    stream.codec_context.sample_aspect_ratio = form.pixel_aspect
    stream.color_primaries = form.primaries
    stream.color_trc = form.transfer
    self._container.start_encoding()  # Opens the file, or fails now.

  def _encode(self, frame):
    with explained('write', self.path):
      if self.kind == 'folder':
        stem = Path(frame.name).stem if frame.name else f'{self._count:06d}'
        path = self._partial / f'{stem}.png'
        path.write_bytes(encode_image('.png', frame.rgb))
      elif self.kind == 'video':
        self._encode_video(frame)
      elif not self._count:
        data = encode_image(self.path.suffix, frame.rgb)
        self._partial.write_bytes(data)
      else:
        raise UserError(
          f'{self.path} is one image but there are more frames: '
          'name a video or a folder'
        )
      self._count += 1

  def _encode_video(self, frame):
    pts = frame.pts
    if pts is None:
      pts = self._previous + self._format.ticks
    self._previous = pts
    if self._shift is None:
      self._shift = -pts  # The output begins at zero.
    stamp = round((pts + self._shift) * self._ratio)
    self._stamp = max(stamp, self._stamp + 1)
    rgb = np.ascontiguousarray(frame.rgb)
    deep = rgb.dtype == np.uint16
    if deep and not self._stream.format.is_rgb:
      rgb = cv2.addWeighted(rgb, _WHITE / 65535, rgb, 0, 0)
    picture = av.VideoFrame.from_ndarray(rgb, 'rgb48le' if deep else 'rgb24')
    if self._woven is not None:
      (picture,) = self._woven.push(picture)
      if not picture.format.is_rgb:
        picture.colorspace = self._format.matrix
    else:
      target = {'format': self._stream.pix_fmt, 'interpolation': _SCALING}
      if not self._stream.format.is_rgb:
        target['dst_colorspace'] = self._matrix
        target['dst_color_range'] = ColorRange.MPEG
      picture = self._reformatter.reformat(picture, **target)
    # Of these ProRes writes what the frame says.
    picture.color_primaries = self._format.primaries
    picture.color_trc = self._format.transfer
    picture.pts = self._stamp
    picture.time_base = self._tick
    ticks = frame.duration or self._format.ticks
    self._durations[self._stamp] = max(1, round(ticks * self._ratio))
    self._mux(self._stream.encode(picture))

  def _mux(self, packets, last=False):
    for packet in packets:
      if self._first_dts is None:
        self._first_dts = packet.dts
      self._end = max(self._end, packet.pts + self._durations[packet.pts])
      packet.duration = self._durations.pop(packet.pts)
    if last and packets and self.path.suffix.lower() != '.mkv':
      # In MP4 the sum of durations, in coding order, is that of the video.
      packets[-1].duration = self._end - (packets[-1].dts - self._first_dts)
    self._container.mux(packets)


@contextlib.contextmanager
def explained(verb: str, path: str | os.PathLike) -> Iterator[None]:
  """Turns what the system and FFmpeg say into a sentence for the user."""
  try:
    yield
  except (av.FFmpegError, OSError) as error:
    log = getattr(error, 'log', None)  # FFmpeg's own words.
    reason = log[2].strip() if log else error.strerror or error
    raise UserError(f'cannot {verb} {path}: {reason}') from error


def _check_rgb(rgb):
  known = rgb.dtype in (np.uint8, np.uint16)
  if not known or rgb.ndim != 3 or rgb.shape[-1] != 3:
    raise TypeError(f'uint8 [h, w, 3] is wanted, not {rgb.dtype} {rgb.shape}')


def _check_size(path, height, width):
  if min(height, width) < _MIN_SIDE:
    raise UserError(
      f'{path} is {width}x{height} pixels: '
      f'too small, {_MIN_SIDE} are needed on either side'
    )
  if max(height, width) > _MAX_SIDE or height * width > _bounds.pixels:
    raise UserError(
      f'{path} is {width}x{height} pixels: too large, at most '
      f'{_MAX_SIDE} a side and {_bounds.pixels // 10**6} million in all will do'
    )


def _is_broken_png(data):
  """Whether an image is a PNG whose checksums say that it was damaged."""
  if not data.startswith(b'\x89PNG'):
    return False
  with image_kinds.quiet():
    try:
      Image.open(io.BytesIO(data)).verify()
    except image_kinds.BROKEN:
      return True
  return False


def _header_size(path):
  """Returns (height, width) without decoding, or None where that fails."""
  try:
    with image_kinds.quiet(), Image.open(path) as image:
      return image.height, image.width
  except image_kinds.BROKEN:
    return None  # Reading the whole will tell what is wrong.


def _mixed_sizes(path, size, first_path, first_size):
  return UserError(
    f'{path} is {size[1]}x{size[0]} pixels but {first_path.name} is '
    f'{first_size[1]}x{first_size[0]}: frames of one folder must be of one size'
  )


def _seconds(stream):
  """Returns how long a stream says it is; 0 if it does not."""
  if stream.duration:
    return stream.duration * stream.time_base
  tag = stream.metadata.get('DURATION', '')  # Matroska's, "00:01:02.345".
  if match := re.fullmatch(r'(\d+):(\d+):(\d+(?:\.\d+)?)', tag):
    hours, minutes, seconds = map(Fraction, match.groups())
    return hours * 3600 + minutes * 60 + seconds
  return Fraction(stream.container.duration or 0, av.time_base)


def _white(picture):
  """What FFmpeg makes of white in 16 bits, found by trying."""
  bits = picture.format.components[0].bits
  gray = picture.format.name.startswith('gray')
  full = picture.color_range == ColorRange.JPEG or (
    gray and picture.color_range != ColorRange.MPEG
  )
  if picture.format.is_rgb and bits > 8:
    return 65535
  return (2**bits - 1) << (16 - bits) if full else _WHITE


def _orientation(picture):
  """Reads how a decoded frame must be turned to stand upright.

  Its display matrix (a, b, u, c, d, v, x, y, w) says that pixel (x, y) is shown
  at (a x + c y, b x + d y).

  Returns:
    Whether to transpose it, and cv2.flip's code for what to do then or None.
  """
  try:
    matrix = picture.side_data.get('DISPLAYMATRIX')
  except ValueError:  # PyAV does not know the Exif data of a photograph.
    matrix = None
  if matrix is None:
    return False, None
  a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
  transposed = abs(b) + abs(c) > abs(a) + abs(d)
  flip_x, flip_y = (c < 0, b < 0) if transposed else (a < 0, d < 0)
  if flip_x and flip_y:
    return transposed, -1
  return transposed, 1 if flip_x else 0 if flip_y else None


def output_kind(path: str | os.PathLike) -> str:
  """Tells 'video', 'folder' or 'image' by a name; raises UserError."""
  suffix = Path(path).suffix.lower()
  if Path(path).is_dir() or not suffix or os.fspath(path).endswith(os.sep):
    return 'folder'
  if suffix in VIDEO_SUFFIXES:
    return 'video'
  if suffix in WRITTEN_SUFFIXES:
    return 'image'
  raise UserError(
    f'{path} cannot be written: end its name in {" ".join(VIDEO_SUFFIXES)} '
    f'for a video, in {os.sep} for a folder of images'
  )


def check_free(path: Path, overwrite: bool) -> None:
  """Raises UserError for a target that is there and must not be replaced."""
  kind = output_kind(path)
  if not path.exists():
    return
  if kind != 'folder':
    if not overwrite:
      raise UserError(f'{path} exists: pass --overwrite or name another file')
    return
  if not path.is_dir():
    raise UserError(f'{path} is a file: name a folder, or a video with suffix')
  contents = sorted(path.iterdir())
  if contents and not overwrite:
    raise UserError(
      f'{path} is not empty: pass --overwrite or name another folder'
    )
  for other in contents:  # A slip of the pen must not delete a home folder.
    if other.is_dir() or other.suffix.lower() not in WRITTEN_SUFFIXES:
      raise UserError(
        f'{path} holds more than images ({other.name}) and is not replaced: '
        'name another folder'
      )


def partial_path(path: Path) -> Path:
  """Returns where an output grows: beside its target, hidden, same suffix."""
  path = path.absolute()  # For ".", which has no name.
  return files.sibling(path.with_suffix(''), '.', f'.partial{path.suffix}')


def remove(path: Path) -> None:
  """Removes a file, or a folder with all in it, if it is there."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def move(partial: Path, target: Path) -> None:
  """Puts a finished output in the place of whatever is there.

  Where that was begun and killed, calling it again ends it.
  """
  old = files.sibling(partial, '', '.old')
  if partial.exists():
    if target.is_dir():
      remove(old)
      os.replace(target, old)
    os.replace(partial, target)
  remove(old)


def encode_image(suffix: str, rgb: np.ndarray) -> bytes:
  """Returns the bytes of an image file of [h, w, 3]."""
  bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
  return cv2.imencode(suffix.lower(), bgr)[1].tobytes()
