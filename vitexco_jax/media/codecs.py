"""Codecs of videos and folders: their pixel formats, containers, and options."""

import os
from pathlib import Path
from typing import NamedTuple

from vitexco_jax.errors import UserError
from vitexco_jax.media import interlacing, mxf
from vitexco_jax.media.frames import Format
from vitexco_jax.media.output_paths import output_kind


class Codec(NamedTuple):
  """How to encode video with one codec.

  Attributes:
    encoder: FFmpeg's name of the encoder.
    pixels: pixel formats by bits per channel.
    odd_pixels: the same for odd sizes: 4:2:0 halves both sides.
    suffixes: of the containers that support it.
    quality: default of the quality option; None: there is one quality.
    worst: largest value of the quality option.
    options: other options of the encoder.
    scale: name of the quality option.
    least: smallest (height, width).
  """

  encoder: str
  pixels: dict[int, str]
  odd_pixels: dict[int, str]
  suffixes: tuple[str, ...]
  quality: int | None
  worst: int
  options: dict[str, str]
  scale: str = 'crf'
  least: tuple[int, int] = (1, 1)

  @property
  def segment(self) -> str:
    """Suffix of the container of a part of a video."""
    return '.mkv' if '.mkv' in self.suffixes else '.mov'

  def pixels_of(self, form: Format) -> dict[int, str]:
    """Returns the pixel formats for a video, by bits per channel."""
    rows = 4 if form.field_order else 2  # Each field needs an even height.
    even = form.height % rows == form.width % 2 == 0
    return self.pixels if even else self.odd_pixels

  def encoder_options(self, quality: int | None) -> dict[str, str]:
    """Returns the options of the encoder; `quality` None: the default."""
    if self.quality is None:
      return dict(self.options)
    value = self.quality if quality is None else quality
    return {**self.options, self.scale: str(value)}


# Slower presets save few bytes and take time from the network.
_CODECS = {
  'h264': Codec(
    'libx264',
    {8: 'yuv420p', 10: 'yuv420p10le'},
    {8: 'yuv444p', 10: 'yuv444p10le'},
    ('.mp4', '.mov', '.m4v', '.mkv', '.avi'),
    12,
    51,
    # With mbtree the output of small pictures is not deterministic, which a resumed
    # run requires; without it files are a tenth larger.
    {'preset': 'veryfast', 'x264-params': 'mbtree=0'},
  ),
  'hevc': Codec(
    'libx265',
    {8: 'yuv420p', 10: 'yuv420p10le'},
    {8: 'yuv444p', 10: 'yuv444p10le'},
    ('.mp4', '.mov', '.m4v', '.mkv'),
    16,
    51,
    {'preset': 'veryfast', 'x265-params': 'log-level=none'},
  ),
  'ffv1': Codec(
    'ffv1',
    {8: 'bgr0', 10: 'gbrp10le', 16: 'gbrp16le'},
    {8: 'bgr0', 10: 'gbrp10le', 16: 'gbrp16le'},
    ('.mkv',),
    None,
    0,
    {'level': '3', 'g': '1', 'slicecrc': '1'},
  ),
  'prores': Codec(
    'prores_ks',
    {10: 'yuv422p10le'},
    {10: 'yuv422p10le'},
    ('.mov', '.mkv'),
    3,
    3,
    {'vendor': 'apl0'},
    'profile',
  ),
  'prores4444': Codec(
    'prores_ks',
    {10: 'yuv444p10le'},
    {10: 'yuv444p10le'},
    ('.mov', '.mkv'),
    None,
    0,
    {'vendor': 'apl0', 'profile': '4444'},
  ),
  'dnxhr': Codec(
    'dnxhd',
    {10: 'yuv422p10le'},
    {10: 'yuv422p10le'},
    ('.mov', '.mxf'),
    None,
    0,
    {'profile': 'dnxhr_hqx'},
    least=(120, 256),
  ),
}
CODECS = tuple(_CODECS)
_IMAGE_BITS = {'.png': (8, 16), '.tif': (8, 16), '.tiff': (8, 16)}


class Images(NamedTuple):
  """How to store the frames of a folder."""

  suffix: str
  bits: tuple[int, ...]  # Per channel; the first is the default.


_IMAGES = {
  'png': Images('.png', (8, 16)),
  'tiff': Images('.tif', (8, 16)),
  'dpx': Images('.dpx', (10, 16)),
  'exr': Images('.exr', (16,)),
}
SEQUENCES = tuple(_IMAGES)  # Codecs of folders.


class Coding(NamedTuple):
  """How frames are stored.

  Attributes:
    codec: one of `CODECS` for video, one of `SEQUENCES` for a folder, which by
      default is PNG.
    bits: per channel; None: the fewest that the codec supports, usually 8.
    quality: None: visually lossless; see docs/colorize.md.
  """

  codec: str = 'h264'
  bits: int | None = None
  quality: int | None = None

  def check(self, path: str | os.PathLike[str]) -> None:
    """Raises UserError if an output cannot be stored like this."""
    if self.codec not in _CODECS and self.codec not in _IMAGES:
      raise UserError(
        f'`codec={self.codec}` is unknown; known are '
        f'{", ".join(CODECS + SEQUENCES)}'
      )
    known = self._known_bits(path)
    if self.bits is not None and self.bits not in known:
      raise UserError(
        f'`bits={self.bits}` is not known for {path} as {self.codec}: choose '
        f'from {", ".join(map(str, known))}'
      )
    if self.quality is None:
      return
    if self.codec in _IMAGES or self.settings.quality is None:
      raise UserError(
        f'`codec={self.codec}` has one quality: leave out `quality`'
      )
    worst = self.settings.worst
    if not 0 <= self.quality <= worst:
      raise UserError(
        f'`quality={self.quality}` must be from 0 to {worst} for '
        f'`codec={self.codec}`'
      )

  def check_format(self, path: str | os.PathLike[str], form: Format) -> None:
    """Raises UserError if the size or the frame rate of a video is impossible."""
    if output_kind(path) != 'video':
      return
    height, width = self.settings.least
    if form.height < height or form.width < width:
      raise UserError(
        f'`codec={self.codec}` needs at least {width}x{height} pixels, but '
        f'{path} would have {form.width}x{form.height}: choose another codec'
      )
    # A defect of FFmpeg 8: this column loses its chroma.
    if self.codec == 'prores' and form.width % 16 == 1:
      raise UserError(
        f'`codec=prores` would spoil the last column of {path}, which has '
        f'{form.width} pixels: use `codec=prores4444`'
      )
    if Path(path).suffix.lower() == mxf.SUFFIX:
      try:
        mxf.check_format(form)
      except mxf.UnfitError as error:
        raise UserError(
          f'{path} is impossible: {error}: name the output .mov'
        ) from error

  def _known_bits(self, path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Returns the bits per channel that an output supports; see `check`."""
    suffix, kind = Path(path).suffix.lower(), output_kind(path)
    if self.codec in _IMAGES:
      if kind != 'folder':
        raise UserError(
          f'`codec={self.codec}` writes a folder of images, and {path} is not '
          'the name of a folder: leave out the suffix'
        )
      return _IMAGES[self.codec].bits
    if kind != 'video':
      if self.codec != 'h264' or self.quality is not None:
        raise UserError(
          f'{path} is not a video: leave out `codec` and `quality`'
          + (
            f', or use `codec={"|".join(SEQUENCES)}`'
            if kind == 'folder'
            else ''
          )
        )
      return _IMAGE_BITS.get(suffix or '.png', (8,))
    if suffix not in self.settings.suffixes:
      raise UserError(
        f'`codec={self.codec}` does not go into {path}: name it '
        f'{" or ".join(self.settings.suffixes)}, or use '
        f'`codec={"|".join(x for x in CODECS if suffix in _CODECS[x].suffixes)}`'
      )
    return tuple(self.settings.pixels)

  @property
  def settings(self) -> Codec:
    """The codec of a video."""
    return _CODECS[self.codec]

  @property
  def image_suffix(self) -> str:
    """Suffix of the files of a folder."""
    return _IMAGES[self.codec if self.codec in _IMAGES else 'png'].suffix

  @property
  def keeps_fields(self) -> bool:
    """Whether the encoder marks the frames of interlaced video."""
    return self.settings.encoder in interlacing.ENCODERS

  def is_rare(self, form: Format) -> bool:
    """Whether a video needs 4:4:4 instead of the usual 4:2:0."""
    return self.settings.pixels_of(form) != self.settings.pixels

  @property
  def depth(self) -> int:
    """Bits per channel."""
    if self.bits is None:
      images = _IMAGES.get(self.codec)
      return images.bits[0] if images else min(self.settings.pixels)
    return self.bits

  @property
  def deep(self) -> bool:
    """Whether frames must be uint16."""
    return self.depth > 8
