"""color_profiles: pictures of any color space are read as sRGB."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from vitexco_jax.errors import UserError
from vitexco_jax.media import video

D50 = np.array([0.9642, 1, 0.8249])
BRADFORD = np.array(
  [
    [0.8951, 0.2664, -0.1614],
    [-0.7502, 1.7135, 0.0367],
    [0.0389, -0.0685, 1.0296],
  ]
)
D65 = (0.3127, 0.3290)
P3 = (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)
ADOBE = (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)
PROPHOTO = (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)
SRGB = (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)


def _xyz(xy):
  return np.array([xy[0], xy[1], 1 - sum(xy)]) / xy[1]


def _matrix(primaries, white):
  columns = np.stack([_xyz(xy) for xy in primaries], 1)
  return columns * np.linalg.solve(columns, _xyz(white))


def _to_d50(primaries, white):
  """A display's matrix as profiles have it."""
  from_, to = BRADFORD @ _xyz(white), BRADFORD @ D50
  adapt = np.linalg.solve(BRADFORD, np.diag(to / from_) @ BRADFORD)
  return adapt @ _matrix(primaries, white)


def _profile(tags, space, kind=b'mntr', connection=b'XYZ '):
  """A profile by the ICC's specification, version 2."""
  tags = {
    b'desc': b'desc\0\0\0\0' + struct.pack('>I', 2) + b'x\0' + bytes(78),
    b'cprt': b'text\0\0\0\0x\0',
    b'wtpt': _xyz_tag(D50),
    **tags,
  }
  table, body, start = b'', b'', 132 + 12 * len(tags)
  for name, data in tags.items():
    table += name + struct.pack('>II', start + len(body), len(data))
    body += data + bytes(-len(data) % 4)
  head = struct.pack('>I', start + len(body)) + b'lcms\x02\x40\0\0' + kind
  head += space + connection + bytes(12) + b'acsp' + bytes(28)
  head += _fixed(D50) + bytes(48)
  return head + struct.pack('>I', len(tags)) + table + body


def _fixed(values):
  return b''.join(struct.pack('>i', round(x * 65536)) for x in values)


def _xyz_tag(values):
  return b'XYZ \0\0\0\0' + _fixed(values)


def _curve(gamma):
  return b'curv\0\0\0\0' + struct.pack('>IHH', 1, round(gamma * 256), 0)


def _rgb_profile(primaries, gamma, white=D65):
  columns = _to_d50(primaries, white).T
  tags = {}
  for letter, column in zip('rgb', columns, strict=True):
    tags[f'{letter}XYZ'.encode()] = _xyz_tag(column)
    tags[f'{letter}TRC'.encode()] = _curve(gamma)
  return _profile(tags, b'RGB ')


def _gray_profile(gamma):
  return _profile({b'kTRC': _curve(gamma)}, b'GRAY')


def _cmyk_profile():
  """Ink by the simplest of formulas, C' = 1 - C, in a table of CIE Lab."""
  inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing='ij'), -1).reshape(-1, 4)
  light = np.uint8(255 * (1 - inks[:, :3]) * (1 - inks[:, 3:]))
  to_lab = ImageCms.buildTransform(
    ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), 'RGB', 'LAB'
  )
  lab = np.asarray(to_lab.apply(Image.fromarray(light[None])))
  # Pillow's a and b are signed, the table's have an offset.
  lab = lab ^ np.uint8([0, 128, 128])
  table = b'mft1\0\0\0\0' + bytes([4, 3, 2, 0]) + _fixed(np.eye(3).ravel())
  ramp = bytes(range(256))
  table += 4 * ramp + lab.tobytes() + 3 * ramp
  return _profile({b'A2B0': table}, b'CMYK', b'prtr', b'Lab ')


def _encoded(linear):
  return np.where(
    linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
  )


def _as_srgb(rgb, primaries, gamma, white=D65):
  """By the formulas; [..., 3] of 0 to 1."""
  matrix = np.linalg.solve(_to_d50(SRGB, D65), _to_d50(primaries, white))
  return _encoded((rgb**gamma @ matrix.T).clip(0, 1))


def _colors(depth=8):
  """Mild colors, so that no color space clips them; [48, 64, 3]."""
  y, x = np.mgrid[:48, :64]
  values = np.stack([0.35 + x / 200, 0.35 + y / 150, 0.6 - x / 300], -1)
  top = 2**depth - 1
  return np.round(values * top).astype(np.uint8 if depth == 8 else np.uint16)


def _saved(path, rgb, **kwargs):
  Image.fromarray(rgb).save(path, **kwargs)
  return path


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif', '.webp', '.avif'])
@pytest.mark.parametrize(
  ('primaries', 'gamma', 'white'),
  [(P3, 2.2, D65), (ADOBE, 2.2, D65), (PROPHOTO, 1.8, (0.3457, 0.3585))],
)
def test_a_profile_is_applied(tmp_path, suffix, primaries, gamma, white):
  icc = _rgb_profile(primaries, gamma, white)
  path = _saved(
    tmp_path / f'a{suffix}', _colors(), icc_profile=icc, quality=100
  )
  expected = 255 * _as_srgb(_colors() / 255, primaries, gamma, white)
  assert np.abs(expected - _colors()).mean() > 2.5
  lossless = suffix in ('.png', '.tif')
  away = np.abs(video.read_image(path) - expected).mean()
  assert away < (0.5 if lossless else 2)


def test_srgb_is_unchanged(tmp_path):
  rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
  own = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  for number, icc in enumerate([own, None]):
    path = _saved(tmp_path / f'{number}.png', rgb, icc_profile=icc)
    np.testing.assert_array_equal(video.read_image(path), rgb)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bits_are_preserved(tmp_path, suffix):
  rgb = _colors(16)
  icc = _rgb_profile(ADOBE, 2.2)
  path = tmp_path / f'a{suffix}'
  if suffix == '.png':
    data = cv2.imencode('.png', rgb[..., ::-1])[1].tobytes()
    path.write_bytes(_with_chunk(data, b'iCCP', b'x\0\0' + zlib.compress(icc)))
  else:
    path.write_bytes(_deep_tiff(rgb, icc))
  expected = _as_srgb(rgb / 65535, ADOBE, 2.2)
  assert np.abs(video.read_image(path) - 255 * expected).mean() < 0.5
  deep = video.read_image(path, deep=True)
  assert deep.dtype == np.uint16
  assert np.abs(deep - 65535 * expected).mean() < 100
  assert len(np.unique(deep % 257)) > 64  # Not as coarse as 8 bits.


def test_a_gray_profile(tmp_path):
  gray = np.uint8(np.arange(48 * 64).reshape(48, 64) // 12)
  path = _saved(tmp_path / 'a.png', gray, icc_profile=_gray_profile(1.8))
  rgb = video.read_image(path)
  assert (rgb == rgb[..., :1]).all()
  assert np.abs(rgb[..., 0] - 255 * _encoded((gray / 255) ** 1.8)).max() < 2


def test_a_gray_picture_with_a_profile_of_colors(tmp_path):
  gray = _colors()[..., 0]
  path = _saved(tmp_path / 'a.jpg', gray, icc_profile=_rgb_profile(P3, 1.8))
  rgb = video.read_image(path)
  assert (np.ptp(rgb, -1) <= 1).all()
  expected = 255 * _encoded((gray / 255) ** 1.8)
  assert np.abs(rgb[..., 0] - expected).max() < 4


@pytest.mark.parametrize('suffix', ['.jpg', '.tif'])
def test_cmyk_is_converted_by_its_profile(tmp_path, suffix):
  picture = Image.fromarray(255 - _colors()).convert('RGB')
  cmyk = Image.merge('CMYK', [*picture.split(), Image.new('L', picture.size)])
  path = tmp_path / f'a{suffix}'
  cmyk.save(path, icc_profile=_cmyk_profile(), quality=100)
  expected = ImageCms.profileToProfile(
    cmyk,
    ImageCms.ImageCmsProfile(io.BytesIO(_cmyk_profile())),
    ImageCms.createProfile('sRGB'),
    outputMode='RGB',
    renderingIntent=1,
  )
  rgb = video.read_image(path)
  assert np.abs(rgb - np.float32(expected)).mean() < 4
  # Not the formula that serves where there is no profile.
  assert np.abs(rgb - np.float32(cmyk.convert('RGB'))).mean() > 4


def test_lab(tmp_path):
  srgb, lab = ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB')
  picture = Image.fromarray(_colors())
  ImageCms.profileToProfile(picture, srgb, lab, outputMode='LAB').save(
    tmp_path / 'a.tif'
  )
  assert (
    np.abs(video.read_image(tmp_path / 'a.tif') - 1.0 * _colors()).max() < 5
  )


def test_orientation_comes_with_a_profile(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  icc = _rgb_profile(ADOBE, 2.2)
  expected = video.read_image(
    _saved(tmp_path / 'a.png', _colors(), icc_profile=icc)
  )
  for suffix in ('.png', '.tif', '.avif'):
    path = _saved(
      tmp_path / f'b{suffix}',
      _colors(),
      icc_profile=icc,
      exif=exif,
      quality=100,
    )
    turned = np.rot90(video.read_image(path)).astype(int)
    assert np.abs(turned - expected).mean() < (2 if suffix == '.avif' else 0.1)


def test_gamma_and_primaries_of_a_png(tmp_path):
  path = _saved(tmp_path / 'a.png', _colors())
  plain = path.read_bytes()
  points = np.round(1e5 * np.array([D65, *P3])).astype('>u4').tobytes()
  data = _with_chunk(plain, b'cHRM', points)
  path.write_bytes(_with_chunk(data, b'gAMA', struct.pack('>I', 55556)))
  expected = 255 * _as_srgb(_colors() / 255, P3, 1.8)
  assert np.abs(video.read_image(path) - expected).max() < 1
  # As many programs write it for sRGB.
  path.write_bytes(_with_chunk(plain, b'gAMA', struct.pack('>I', 45455)))
  np.testing.assert_array_equal(video.read_image(path), _colors())
  path.write_bytes(_with_chunk(plain, b'gAMA', struct.pack('>I', 0)))
  with pytest.raises(UserError, match='profile that is damaged'):
    video.read_image(path)


@pytest.mark.parametrize(
  ('space', 'index', 'adobe'),
  [
    (2, None, True),
    (65535, 'R03', True),
    (1, 'R98', False),
    (65535, None, False),
  ],
)
def test_adobe_rgb_is_recognized_by_exif(tmp_path, space, index, adobe):
  exif = Image.Exif()
  exif.get_ifd(0x8769)[0xA001] = space
  if index:
    exif.get_ifd(0x8769)[0xA005] = {1: index}
  path = _saved(tmp_path / 'a.jpg', _colors(), exif=exif, quality=100)
  expected = 255 * _as_srgb(_colors() / 255, ADOBE, 2.2) if adobe else _colors()
  assert np.abs(video.read_image(path) - 1.0 * expected).mean() < 2


def test_code_numbers_of_png_and_avif(tmp_path):
  path = _saved(tmp_path / 'a.png', _colors())
  plain = path.read_bytes()
  path.write_bytes(_with_chunk(plain, b'cICP', bytes([12, 13, 0, 1])))
  matrix = np.linalg.solve(_matrix(SRGB, D65), _matrix(P3, D65))
  stored = _colors() / 255
  linear = np.where(
    stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4
  )
  expected = 255 * _encoded((linear @ matrix.T).clip(0, 1))
  assert np.abs(video.read_image(path) - expected).max() < 1
  for transfer, name in ((16, 'PQ'), (18, 'HLG')):
    path.write_bytes(_with_chunk(plain, b'cICP', bytes([9, transfer, 0, 1])))
    with pytest.raises(
      UserError, match=rf'a\.png is an HDR picture \({name}\)'
    ):
      video.read_image(path)
  avif = _saved(tmp_path / 'a.avif', _colors()).read_bytes()
  assert avif.count(b'colrnclx') == 1
  place = avif.index(b'colrnclx') + 8
  hdr = avif[:place] + bytes([0, 9, 0, 16]) + avif[place + 4 :]
  (tmp_path / 'a.avif').write_bytes(hdr)
  with pytest.raises(UserError, match=r'a\.avif is an HDR picture \(PQ\)'):
    video.read_image(tmp_path / 'a.avif')


@pytest.mark.parametrize(
  'icc',
  [
    b'nonsense',
    _rgb_profile(P3, 2.2)[:200],
    _gray_profile(2.2),
    _cmyk_profile(),
  ],
  ids=['nonsense', 'cut', 'gray', 'cmyk'],
)
def test_a_profile_that_cannot_be_used_is_named(tmp_path, icc):
  path = _saved(tmp_path / 'a.png', _colors(), icc_profile=icc)
  with pytest.raises(
    UserError, match=r'a\.png has a color profile that is damaged'
  ):
    video.read_image(path)


def test_an_hdr_profile_is_refused(tmp_path):
  numbers = {b'cicp': b'cicp' + bytes(4) + bytes([9, 16, 0, 1])}
  icc = _profile(numbers, b'RGB ')
  path = _saved(tmp_path / 'a.jpg', _colors(), icc_profile=icc)
  with pytest.raises(UserError, match=r'a\.jpg is an HDR picture \(PQ\)'):
    video.read_image(path)


def test_lab_with_16_bits_is_not_read_as_rgb(tmp_path):
  data = _deep_tiff(_colors(16), b'')
  rgb, lab = (struct.pack('<HHII', 262, 3, 1, kind) for kind in (2, 8))
  (tmp_path / 'a.tif').write_bytes(data.replace(rgb, lab))
  with pytest.raises(
    UserError, match=r'a\.tif is a CIE Lab picture of more th'
  ):
    video.read_image(tmp_path / 'a.tif')


def _with_chunk(png, kind, content):
  """A PNG file with one more chunk, after its header."""
  chunk = struct.pack('>I', len(content)) + kind + content
  chunk += struct.pack('>I', zlib.crc32(kind + content))
  return png[:33] + chunk + png[33:]


def _deep_tiff(rgb, icc):
  """A TIFF file of 16 bits with a profile."""
  height, width = rgb.shape[:2]
  data = rgb.astype('<u2').tobytes()
  start = 8 + len(data) + len(icc)
  short, long, undefined = 3, 4, 7
  tags = [
    (256, long, 1, width),
    (257, long, 1, height),
    (258, short, 3, start),
    (259, short, 1, 1),
    (262, short, 1, 2),
    (273, long, 1, 8),
    (277, short, 1, 3),
    (278, long, 1, height),
    (279, long, 1, len(data)),
    (34675, undefined, len(icc), 8 + len(data)),
  ]
  table = b''.join(struct.pack('<HHII', *tag) for tag in tags)
  return (
    struct.pack('<2sHI', b'II', 42, start + 6)
    + data
    + icc
    + struct.pack('<3H', 16, 16, 16)
    + struct.pack('<H', len(tags))
    + table
    + bytes(4)
  )
