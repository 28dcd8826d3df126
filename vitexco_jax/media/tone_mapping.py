"""Conversion of HDR and wide-gamut video to standard video, BT.709.

The networks, references, and output support only BT.709. FFmpeg's scale filter
converts HDR (the transfer functions PQ and HLG) with its perceptual tone mapping,
which uses the brightness stored in the file, or else the maximum of PQ. Wide-gamut
colors are clipped.
"""

from fractions import Fraction

import av
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_WIDE = (
  ColorPrimaries.BT2020,
  ColorPrimaries.SMPTE431,
  ColorPrimaries.SMPTE432,
)
_UNKNOWN = (0, 2, 3)  # Reserved, unspecified, reserved.


def is_needed(picture: av.VideoFrame) -> bool:
  """Whether a frame is HDR or may have colors outside BT.709."""
  return picture.color_trc in _HDR or picture.color_primaries in _WIDE


class ToneMapper:
  """Converts the frames of a video."""

  def __init__(self, width: int, height: int, pixels: str):
    """Sets the output format; the first frame takes a few seconds.

    Args:
      width: of the converted frames.
      height: of the converted frames.
      pixels: FFmpeg's name of their pixel format.
    """
    self._size = width, height
    self._pixels = pixels
    self._graph: Graph | None = None
    self._input: tuple[int, int, str, int] | None = None

  def convert(self, picture: av.VideoFrame) -> av.VideoFrame:
    """Converts a frame; guesses missing color tags."""
    if picture.color_trc in _UNKNOWN:
      picture.color_trc = ColorTrc.BT709
    if picture.color_primaries in _UNKNOWN:
      picture.color_primaries = ColorPrimaries.BT2020
    if picture.colorspace in _UNKNOWN and not picture.format.is_rgb:
      picture.colorspace = Colorspace.BT2020
    kind = picture.width, picture.height, picture.format.name, picture.color_trc
    if self._graph is None or kind != self._input:
      self._input, self._graph = kind, self._build(picture)
    self._graph.push(picture)
    return self._graph.vpull()

  def _build(self, picture: av.VideoFrame) -> Graph:
    width, height = self._size
    hdr = picture.color_trc in _HDR
    scale = {
      'width': width,
      'height': height,
      'out_primaries': 'bt709',
      'out_transfer': 'bt709',
      'intent': 'perceptual' if hdr else 'relative_colorimetric',
      # The same scaling as in `video`.
      'flags': 'bicubic+accurate_rnd+full_chroma_int+full_chroma_inp',
    }
    graph = Graph()
    graph.link_nodes(
      graph.add_buffer(
        width=picture.width,
        height=picture.height,
        format=picture.format,
        time_base=picture.time_base or Fraction(1, 25),
      ),
      graph.add('scale', **{name: str(value) for name, value in scale.items()}),
      graph.add('format', pix_fmts=self._pixels),
      graph.add('buffersink'),
    ).configure()
    return graph
