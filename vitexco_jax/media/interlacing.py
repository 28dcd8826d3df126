"""Interlaced video: how it is recognized, made progressive, and written as such.

An interlaced frame holds two fields, its even and its odd rows, that show two
moments. `field_order` says which field comes first, as FFmpeg writes it: 'tt', the
top one, or 'bb'. Players need to know it, or moving edges show combs.
"""

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

_TICK = Fraction(1, 25)  # Filters want one; ours are not interested in time.

# What encoders have to be told.
_FLAGS = {'flags': '+ildct+ilme'}
_OPTIONS = {'libx264': _FLAGS, 'prores_ks': _FLAGS, 'ffv1': {}}
ENCODERS = tuple(_OPTIONS)  # That mark frames as interlaced.


def encoder_options(encoder: str, order: str) -> dict[str, str]:
  """Options that have an encoder and its container keep a field order.

  An encoder that is not of `ENCODERS` cannot; the container then still does.
  """
  return {'field_order': order, **_OPTIONS.get(encoder, {})}


class Graph:
  """A chain of FFmpeg's filters for frames, one after the other."""

  def __init__(self, *filters: tuple[str, str]):
    """Takes names and options of filters."""
    self._filters = filters
    self._shape = None

  def _open(self, picture):
    self._graph = graph = av.filter.Graph()
    nodes = [
      graph.add_buffer(
        width=picture.width,
        height=picture.height,
        format=picture.format.name,
        time_base=_TICK,
      ),
      *(graph.add(name, options) for name, options in self._filters),
      graph.add('buffersink'),
    ]
    graph.link_nodes(*nodes).configure()

  def push(self, picture: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
    """Yields the frames that are ready after another one, or None: the end."""
    if picture is not None:
      shape = picture.width, picture.height, picture.format.name
      if shape != self._shape:  # A stream may change its size on the way.
        yield from self.push(None)
        self._open(picture)
        self._shape = shape
    elif self._shape is None:
      return
    self._graph.push(picture)
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
      while True:
        yield self._graph.pull()


def field_order(picture: av.VideoFrame) -> str:
  """The field order of a decoded frame; empty if it is progressive.

  Where the stream does not say which field comes first it is taken to be the top
  one, as FFmpeg does.
  """
  if not picture.interlaced_frame:
    return ''
  # PyAV does not tell which field is the first one.
  bottom_first = Graph(('select', 'eq(interlace_type,BOTTOMFIRST)'))
  return 'bb' if list(bottom_first.push(picture)) else 'tt'


def deinterlaced(
  pictures: Iterable[av.VideoFrame], only_marked: bool
) -> Iterator[av.VideoFrame]:
  """Makes frames progressive by FFmpeg's bwdif, one of each.

  Args:
    pictures: as they are decoded.
    only_marked: whether those that are not marked as interlaced stay as they are.
  """
  which = 'interlaced' if only_marked else 'all'
  graph = Graph(('bwdif', f'mode=send_frame:deint={which}'))
  times = collections.deque()  # bwdif counts in ticks of its own.
  for picture in itertools.chain(pictures, [None]):
    if picture is not None:
      times.append((picture.pts, picture.duration))
    for made in graph.push(picture):
      made.pts, made.duration = times.popleft()
      yield made


def woven(order: str, pixels: str, matrix: str | None, flags: str) -> Graph:
  """A graph that converts RGB frames to be encoded, and marks them.

  Chroma is computed for each field on its own, so that none has color of the other
  moment.

  Args:
    order: 'tt' or 'bb'.
    pixels: the pixel format wanted.
    matrix: FFmpeg's name of that of YCbCr of limited range; None: RGB stays.
    flags: of the scaler.
  """
  scale = f'interl=1:flags={flags}'
  if matrix is not None:
    scale += f':out_color_matrix={matrix}:out_range=limited'
  return Graph(
    ('scale', scale), ('format', pixels), ('setfield', f'{order[0]}ff')
  )
