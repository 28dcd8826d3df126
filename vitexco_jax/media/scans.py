"""Frames of film scanners and compositing: DPX and OpenEXR files.

FFmpeg encodes and decodes them. DPX has RGB of full range in the transfer function
of the video, with 10 or 16 bits. OpenEXR has linear light: RGB with the primaries of
BT.709 in half floats, 1.0 is white. Its transfer function is that of sRGB in both
directions, so that writing and reading cancel.
"""

import contextlib
import io
import struct
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np

from vitexco_jax.media import time_codes

_EXR = b'\x76\x2f\x31\x01'  # The first bytes of OpenEXR.
_DEMUXERS = {  # FFmpeg's, by the first bytes.
  b'SDPX': 'dpx_pipe',
  b'XPDS': 'dpx_pipe',
  _EXR: 'exr_pipe',
}
SUFFIXES = ('.dpx', '.exr')  # Of files that `encode` writes.
HEADER = 2048  # Size of the header of DPX, which has the time code.

# The header of DPX: places, in bytes. FFmpeg writes its first part.
_OFFSET, _SIZE, _PARTS, _TRANSFER, _CODE, _RATE = 4, 16, 24, 801, 1920, 1940
_GENERIC = 1664  # Size of the first part.
# The parts about film and television: texts are empty, numbers are undefined.
_INDUSTRY = bytes(48) + 20 * b'\xff' + bytes(188) + 52 * b'\xff' + bytes(76)
_BT709 = 6  # DPX's number of the transfer function and of the primaries.
_NO_CODE = b'\xff' * 4
_DROP = 0x40  # Marks drop-frame counting in the last byte of a time code.


def is_scan(data: bytes) -> bool:
  """Whether the content of a file is DPX or OpenEXR."""
  return data[:4] in _DEMUXERS


def decode(data: bytes, bounds: Mapping[str, str]) -> np.ndarray:
  """Decodes DPX as stored, or OpenEXR converted from linear light to sRGB.

  Args:
    data: content of the file.
    bounds: FFmpeg's options that limit its decoders.

  Returns:
    [h, w, 3] RGB, uint8 or uint16.

  Raises:
    av.FFmpegError, StopIteration: the file is damaged.
  """
  demuxer = _DEMUXERS[data[:4]]
  with av.open(
    io.BytesIO(data), 'r', format=demuxer, options=dict(bounds)
  ) as container:
    codec = container.streams.video[0].codec_context
    codec.options = dict(bounds)
    if demuxer == 'exr_pipe':
      codec.options |= {'apply_trc': 'iec61966_2_1'}
    picture = next(container.decode(video=0))
    shallow = picture.format.components[0].bits == 8
    return picture.to_ndarray(format='rgb24' if shallow else 'rgb48le')


def encode(
  suffix: str, rgb: np.ndarray, bits: int, code: str, frame_rate: Fraction
) -> bytes:
  """Encodes a frame.

  Args:
    suffix: of the file, one of `SUFFIXES`.
    rgb: [h, w, 3] uint16.
    bits: per channel of DPX, 10 or 16.
    code: time code of the frame; '' for none.
    frame_rate: in frames per second; DPX stores it.

  Returns:
    The content of the file.
  """
  if suffix == '.exr':
    options = {'format': 'half', 'compression': 'zip16'}
    content = _encoded('exr', _linear(rgb), 'gbrpf32le', options)
    return _with_code(content, code) if code else content
  if bits == 16:
    data = bytearray(_encoded('dpx', rgb, 'rgb48be', {}))
  else:
    levels = np.round(rgb * np.float32(1023 / 65535)).astype(np.uint16)
    data = bytearray(_encoded('dpx', levels, 'gbrp10be', {}))
  data[_GENERIC:_GENERIC] = _INDUSTRY
  struct.pack_into('>I', data, _OFFSET, HEADER)
  struct.pack_into('>I', data, _SIZE, len(data))
  struct.pack_into('>2I', data, _PARTS, _GENERIC, len(_INDUSTRY))
  data[_TRANSFER : _TRANSFER + 2] = _BT709, _BT709
  data[_CODE : _CODE + 4] = _pack(code)
  struct.pack_into('>f', data, _RATE, frame_rate)
  return bytes(data)


def _linear(rgb: np.ndarray) -> np.ndarray:
  """Converts uint16 sRGB to linear light in [0, 1], float32."""
  x = np.arange(65536) / 65535
  table = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
  return table.astype(np.float32)[rgb]


def _encoded(
  codec: str, rgb: np.ndarray, pixels: str, options: Mapping[str, str]
) -> bytes:
  """Encodes [h, w, 3] values of a pixel format by FFmpeg."""
  picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), pixels)
  coder = av.CodecContext.create(codec, 'w')
  assert isinstance(coder, av.VideoCodecContext)
  coder.width, coder.height = picture.width, picture.height
  coder.pix_fmt, coder.time_base = pixels, Fraction(1, 25)
  coder.options = dict(options)
  packets = list(coder.encode(picture)) + list(coder.encode(None))
  return b''.join(map(bytes, packets))


# --- Time codes: two decimal digits per byte ---


def time_code(data: bytes) -> str:
  """Returns the time code of a file that starts with `data`; '' if none."""
  packed = b''
  if data[:4] == _EXR:
    with contextlib.suppress(ValueError, IndexError, struct.error):
      packed = _attributes(data)[0].get(b'timeCode', b'')[3::-1]
  elif data[:4] in _DEMUXERS and len(data) >= HEADER:
    order = '>' if data[:4] == b'SDPX' else '<'
    (offset,) = struct.unpack_from(f'{order}I', data, _OFFSET)
    if offset >= HEADER:  # Else the header has no such part.
      packed = data[_CODE : _CODE + 4][:: 1 if order == '>' else -1]
  if len(packed) != 4 or packed in (_NO_CODE, bytes(4)):
    return ''
  drop = packed[3] & _DROP
  digits = (packed[:3] + bytes([packed[3] & ~_DROP])).hex()
  pairs = [digits[i : i + 2] for i in range(0, 8, 2)]
  return ':'.join(pairs[:3]) + (';' if drop else ':') + pairs[3]


def _pack(code: str) -> bytes:
  """Returns the four bytes of a time code; '' is undefined."""
  if not code:
    return _NO_CODE
  packed = bytearray.fromhex(code[:8].replace(':', '') + code[9:])
  packed[3] |= _DROP if time_codes.is_drop(code) else 0
  return bytes(packed)


def _attributes(data: bytes) -> tuple[dict[bytes, bytes], int]:
  """Returns the attributes of an OpenEXR file, and where their list ends.

  Raises:
    ValueError, IndexError, struct.error: the header is damaged.
  """
  values, place = {}, 8
  while data[place]:
    name = data[place : data.index(0, place)]
    place = data.index(0, place + len(name) + 1) + 1  # After the type.
    (size,) = struct.unpack_from('<I', data, place)
    values[name] = data[place + 4 : place + 4 + size]
    place += 4 + size
  return values, place


def _with_code(data: bytes, code: str) -> bytes:
  """Adds a time code to an OpenEXR file."""
  _, end = _attributes(data)
  attribute = b'timeCode\0timecode\0' + struct.pack('<I', 8)
  attribute += _pack(code)[::-1] + bytes(4)
  # A table of the places of the chunks follows, and then the chunks.
  (first,) = struct.unpack_from('<Q', data, end + 1)
  table = np.frombuffer(data[end + 1 : first], '<u8') + len(attribute)
  return data[:end] + attribute + b'\0' + table.tobytes() + data[first:]
