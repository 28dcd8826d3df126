"""Interlaced video: detection, deinterlacing, and encoding.

An interlaced frame consists of two fields, its even and its odd rows, captured at
two moments. `field_order` says which field is first, in FFmpeg's notation: 'tt' for
top, 'bb' for bottom. Players need it, or moving edges show combing.
"""

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

_TICK = Fraction(1, 25)  # Filters require one; these filters ignore it.

# Options of the encoders.
_FLAGS = {'flags': '+ildct+ilme'}
_OPTIONS = {'libx264': _FLAGS, 'prores_ks': _FLAGS, 'ffv1': {}}
ENCODERS = tuple(_OPTIONS)  # Encoders that mark frames as interlaced.


def encoder_options(encoder: str, order: str) -> dict[str, str]:
  """Returns options that store the field order in the stream and the container.

  Encoders outside `ENCODERS` cannot store it; the container still does.
  """
  return {'field_order': order, **_OPTIONS.get(encoder, {})}


class Graph:
  """A chain of FFmpeg filters."""

  def __init__(self, *filters: tuple[str, str]):
    """Sets the names and options of the filters."""
    self._filters = filters
    self._shape: tuple[int, int, str] | None = None

  def _open(self, picture: av.VideoFrame) -> None:
    self._graph = graph = av.filter.Graph()
    nodes = [
      graph.add_buffer(
        width=picture.width,
        height=picture.height,
        format=picture.format,
        time_base=_TICK,
      ),
      *(graph.add(name, options) for name, options in self._filters),
      graph.add('buffersink'),
    ]
    graph.link_nodes(*nodes).configure()

  def push(self, picture: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
    """Adds a frame (None: the end) and yields the frames that are ready."""
    if picture is not None:
      shape = picture.width, picture.height, picture.format.name
      if shape != self._shape:  # A stream may change its size.
        yield from self.push(None)
        self._open(picture)
        self._shape = shape
    elif self._shape is None:
      return
    self._graph.push(picture)
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
      while True:
        yield self._graph.vpull()


def field_order(picture: av.VideoFrame) -> str:
  """Returns the field order of a decoded frame; empty if it is progressive.

  If the stream does not store the order, the top field is first, as in FFmpeg.
  """
  if not picture.interlaced_frame:
    return ''
  # PyAV does not expose which field is first.
  bottom_first = Graph(('select', 'eq(interlace_type,BOTTOMFIRST)'))
  return 'bb' if list(bottom_first.push(picture)) else 'tt'


def deinterlaced(
  pictures: Iterable[av.VideoFrame], only_marked: bool
) -> Iterator[av.VideoFrame]:
  """Deinterlaces frames with FFmpeg's bwdif, one output frame per input frame.

  Args:
    pictures: decoded frames.
    only_marked: whether frames that are not marked as interlaced stay unchanged.
  """
  which = 'interlaced' if only_marked else 'all'
  graph = Graph(('bwdif', f'mode=send_frame:deint={which}'))
  times: collections.deque[tuple[int | None, int]]
  times = collections.deque()  # bwdif uses its own time base.
  for picture in itertools.chain(pictures, [None]):
    if picture is not None:
      times.append((picture.pts, picture.duration))
    for output in graph.push(picture):
      output.pts, output.duration = times.popleft()
      yield output


def woven(order: str, pixels: str, matrix: str | None, flags: str) -> Graph:
  """Returns a graph that converts RGB frames for encoding as interlaced video.

  Chroma is computed separately for each field, so that it does not mix the two
  moments.

  Args:
    order: 'tt' or 'bb'.
    pixels: the target pixel format.
    matrix: FFmpeg's name of the matrix of limited-range YCbCr; None: RGB stays.
    flags: scaler flags.
  """
  scale = f'interl=1:flags={flags}'
  if matrix is not None:
    scale += f':out_color_matrix={matrix}:out_range=limited'
  return Graph(
    ('scale', scale), ('format', pixels), ('setfield', f'{order[0]}ff')
  )
