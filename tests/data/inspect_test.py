"""The inspection page: numbers, likely errors first, escaped names."""

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from configs.vitexco import get_config
from vitexco_jax.data import inspect, records, records_writer
from vitexco_jax.errors import UserError
from vitexco_jax.media import video

_H, _W = 32, 48
_NAME = 'a<b>&"c".mp4'


def _frame(shift):
  """A window over a smooth texture; its content moves left by `shift`."""
  noise = np.random.default_rng(0).uniform(0, 255, (12, 40, 3))
  texture = cv2.resize(noise, (160, _H), interpolation=cv2.INTER_CUBIC)
  return np.uint8(np.clip(texture, 0, 255))[:, shift : shift + _W]


def _write(folder, wrong=()):
  """A run of eight frames that moves by 3; the flow of `wrong` ones is reversed."""
  visible = np.ones((_H, _W, 1), np.uint8)
  visible[:, :4] = 0
  with records_writer.PartWriter(folder / 'part') as writer:
    for index in range(8):
      flow = np.zeros((_H, _W, 2), np.float32)
      flow[..., 0] = 3 if index in wrong else -3
      motion = (flow, visible) if index < 7 else None
      writer.write(
        records.encode(_frame(3 * index), _NAME, index, motion, [5, 9])
      )
    for number in (5, 9):
      writer.write(records.encode(_frame(99), f'<{number}>.jpg', number))
  part = folder / 'part'
  records_writer.write(
    folder,
    records_writer.Contents(
      size=(_H, _W),
      settings={'flow': 'dis', 'quality': {'max_blur': 0.5}},
      videos=[_NAME],
      runs=[(0, 0, 8)],
      references=[5, 9],
      left_out={
        'x.mp4': 'static',
        'y.mp4': 'static',
        '<z>.mp4': 'black-and-white (8 of 16 frames)',
        'cut.mkv': 'damaged or cut short (30 frames lost)',
        'cut2.mkv': 'damaged or cut short (7 frames lost)',
      },
      fingerprint='abc',
      frame_parts=[records_writer.Part(part, 0, 8)],
      reference_parts=[records_writer.Part(part, 8, 2)],
    ),
  )


def _page(folder):
  config = get_config('tiny')
  config.data.records = str(folder)
  page = inspect.inspect(config, folder / 'page')
  return page.read_text()


class _Texts(HTMLParser):
  """Collects the visible text, and the files that the page loads."""

  def __init__(self, page):
    super().__init__()
    self.texts, self.loads, self.tags = [], [], []
    self.feed(page)

  def handle_data(self, data):
    self.texts.append(data.strip())

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    names = ('src', 'href', 'data')
    self.loads += [value for name, value in attributes if name in names]


def test_numbers_agree_with_the_data_set(tmp_path):
  _write(tmp_path)
  texts = _Texts(_page(tmp_path)).texts
  rows = dict(zip(texts, texts[1:], strict=False))
  assert rows['frames'] == '8' and rows['pairs'] == '7'
  assert rows['runs'] == '1' and rows['videos and pictures'] == '1'
  assert rows['references'] == '2' and rows['references of a pair'] == '2.0'
  assert rows['size'] == '32 x 48' and rows['fingerprint'] == 'abc'
  assert rows['quality.max_blur'] == '0.5' and rows['flow'] == '"dis"'
  assert rows['motion'].startswith('3.0 pixels')
  assert rows['visible'].startswith('92%')  # 44 of 48 columns.
  assert '2 \u00d7 static' in texts
  assert '1 \u00d7 a part: black-and-white' in texts
  assert '2 \u00d7 damaged or cut short' in texts
  assert 'cut.mkv: damaged or cut short (30 frames lost)' in texts


def test_names_are_escaped_and_nothing_is_loaded(tmp_path):
  _write(tmp_path)
  page = _Texts(_page(tmp_path))
  assert f'{_NAME}, frame 3' in page.texts
  assert '<5>.jpg' in page.texts and 'b' not in page.tags
  assert '<z>.mp4: black-and-white (8 of 16 frames)' in page.texts
  assert page.loads
  assert all(x.startswith('data:image/png;base64,') for x in page.loads)
  assert not {'script', 'link', 'iframe'}.intersection(page.tags)
  samples = video.read_image(tmp_path / 'page/samples.png')
  assert samples.shape[1] > 7 * 160


def test_wrong_flow_is_listed_first(tmp_path):
  _write(tmp_path, wrong=[4])
  page = _page(tmp_path)
  errors = {
    int(index): (float(error), float(without))
    for index, error, without in re.findall(
      r'frame (\d+)</h3><p>error ([0-9.]+), without flow ([0-9.]+)', page
    )
  }
  error, without = errors.pop(4)
  assert error > without
  assert all(error > 3 * other for other, _ in errors.values())
  assert all(other < without for other, without in errors.values())
  first = re.search(r'<h3>.*?, frame (\d+)', page)[1]
  assert first == '4'


def test_broken_records_are_listed(tmp_path):
  _write(tmp_path)
  (shard,) = (tmp_path / 'vitexco/1.0.0').glob('*train*')
  data = bytearray(shard.read_bytes())
  data[data.index(b'\x89PNG') + 100] ^= 0xFF  # In the first record.
  shard.write_bytes(data)
  texts = _Texts(_page(tmp_path)).texts
  assert [text for text in texts if text.startswith('record 0 of train: ')]
  (shard,) = (tmp_path / 'vitexco/1.0.0').glob('*references*')
  shard.unlink()
  texts = _Texts(_page(tmp_path)).texts
  assert [text for text in texts if text.startswith('record 1 of references')]


@pytest.mark.parametrize(
  'direction, rgb',
  [
    ((1, 0), (255, 0, 0)),
    ((0, 1), (128, 255, 0)),
    ((-1, 0), (0, 255, 255)),
    ((0, -1), (128, 0, 255)),
    ((0, 0), (255, 255, 255)),
  ],
)
def test_colors_of_flow(direction, rgb):
  flow = np.broadcast_to(np.float32(direction), (4, 4, 2)).copy()
  painted = inspect.flow_picture(flow, 1.0)
  np.testing.assert_allclose(painted[2, 2], rgb, atol=4)


def test_unusable_inputs_are_refused(tmp_path):
  config = get_config('tiny')
  config.data.records = str(tmp_path / 'none')
  with pytest.raises(UserError, match='no prepared videos'):
    inspect.inspect(config, tmp_path / 'page')
  _write(tmp_path)
  for shard in (tmp_path / 'vitexco/1.0.0').glob('*array_record*'):
    shard.unlink()
  with pytest.raises(UserError, match='no pair of the records'):
    _page(tmp_path)
