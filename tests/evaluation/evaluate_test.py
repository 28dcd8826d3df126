"""Evaluation of fake methods with known results."""

import csv
import json
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy
from skimage import color as skcolor
from skimage import metrics as skmetrics

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import evaluate
from vitexco_jax.media import image_grid, video
from vitexco_jax.pretrained import lpips
from vitexco_jax.retrieval import embedding

SIZE = (48, 64)


@pytest.fixture(autouse=True)
def quick_lpips(monkeypatch):
  """A fake of the network, which has separate tests."""

  def distance(net, rgb, true_rgb):
    assert rgb.shape == true_rgb.shape and rgb.ndim == 4
    return np.abs(np.float32(rgb) - true_rgb).mean((1, 2, 3)) * len(net)

  monkeypatch.setattr(lpips, 'lpips', distance)
  monkeypatch.setattr(evaluate, '_lpips', lambda net: net)


class _Brighter:
  """Returns each frame 10 brighter, two frames later, and counts calls."""

  config = get_config('tiny')

  def __init__(self):
    self.references = []

  def set_reference(self, *rgb, first_frame=False):
    self.references.append((rgb, first_frame))

  def colorize(self, frames):
    waiting = []
    for rgb in frames:
      waiting.append(rgb + np.uint8(10))
      if len(waiting) > 2:
        yield waiting.pop(0)
    yield from waiting


def _write_clip(folder, frames, seed=0):
  """Writes smooth colorful frames as PNG; returns them."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(seed)
  clip = []
  for i in range(frames):
    small = rng.integers(20, 220, (4, 5, 3), np.uint8)
    rgb = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    assert cv2.imwrite(str(folder / f'{i:05}.png'), rgb[..., ::-1])
    clip.append(rgb)
  return np.stack(clip)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'weights').write_text('of the first training')
  _write_clip(tmp_path / 'data' / 'walk', 12)
  _write_clip(tmp_path / 'data' / 'boat', 3, seed=1)
  return tmp_path


def _evaluate(folder, colorizer, **arguments):
  return evaluate.evaluate(
    get_config('tiny'),
    evaluate.network(colorizer, folder / 'weights'),
    str(folder / 'data'),
    folder / 'out',
    **arguments,
  )


def _row(summary, clip, protocol='first-frame', method='vitexco'):
  return summary['protocols'][protocol]['clips'][clip]['methods'][method]


def test_values_table_and_files(folder, capsys):
  clip = _write_clip(folder / 'data' / 'zoo', 12, seed=2)
  summary = _evaluate(folder, _Brighter(), compared=['gray'])
  tables = summary['protocols']['first-frame']

  assert list(tables['clips']) == ['boat', 'walk', 'zoo']
  assert tables['clips']['zoo']['frames'] == 12
  assert tables['clips']['zoo']['size'] == list(SIZE)
  assert tables['clips']['zoo']['references'] == ['frame 0']
  row = _row(summary, 'zoo')
  # All pixels differ by 10.
  for column in ('psnr', 'psnr_not_given', 'psnr_last', 'psnr_wrapped'):
    np.testing.assert_allclose(row[column], 20 * np.log10(25.5), 1e-9)
  np.testing.assert_allclose(row['lpips_alex'], 40)
  np.testing.assert_allclose(row['lpips_vgg'], 30)

  lab = skcolor.rgb2lab(clip)
  gray = np.round(skcolor.lab2rgb(lab * [1, 0, 0]) * 255).astype(np.uint8)
  pairs = list(zip(clip, gray, strict=True))
  psnr = [skmetrics.peak_signal_noise_ratio(a, b) for a, b in pairs]
  ssim = [
    skmetrics.structural_similarity(a, b, channel_axis=-1) for a, b in pairs
  ]
  delta = [
    skcolor.deltaE_ciede2000(skcolor.rgb2lab(a), skcolor.rgb2lab(b)).mean()
    for a, b in pairs
  ]
  row = _row(summary, 'zoo', method='gray')
  np.testing.assert_allclose(row['psnr'], np.mean(psnr), 1e-3)
  np.testing.assert_allclose(row['psnr_not_given'], np.mean(psnr[1:]), 1e-3)
  np.testing.assert_allclose(row['psnr_last'], np.mean(psnr[2:]), 1e-3)
  np.testing.assert_allclose(row['ssim'], np.mean(ssim), 1e-3)
  np.testing.assert_allclose(row['ciede2000'], np.mean(delta), 1e-2)
  chroma = np.hypot(lab[..., 1], lab[..., 2]).mean((1, 2))
  slope = scipy.stats.linregress(np.arange(12), -chroma).slope
  np.testing.assert_allclose(row['drift'], 100 * slope, 1e-2)
  true = _row(summary, 'zoo', method='truth')
  assert row['colorfulness'] < 1 < true['colorfulness']
  assert row['colorfulness_gap'] == row['colorfulness'] - true['colorfulness']
  assert true['cdc'] > 0 and 'psnr' not in true

  # All clips have the same weight, whatever their length.
  np.testing.assert_allclose(
    tables['mean']['gray']['psnr'],
    np.mean([_row(summary, x, method='gray')['psnr'] for x in tables['clips']]),
  )
  out = folder / 'out'
  assert json.loads((out / 'summary.json').read_text()) == summary
  printed = capsys.readouterr().out
  assert (
    '96x64' in printed and (out / 'report.md').read_text() in printed + '\n'
  )
  assert (
    f'| zoo | 64x48 | 12 | frame 0 | 28.13 | {np.mean(psnr):.2f} |' in printed
  )
  with (out / 'frames.csv').open() as file:
    frames = list(csv.DictReader(file))
  assert [
    row['frame']
    for row in frames
    if (row['clip'], row['method']) == ('boat', 'vitexco')
  ] == ['0', '1', '2']
  np.testing.assert_allclose(float(frames[-1]['psnr']), psnr[-1], 1e-3)
  with (out / 'clips.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['method'] for row in rows] == 3 * ['truth', 'vitexco', 'gray']


def test_warp_error_is_that_of_the_true_motion(tmp_path):
  """A picture that moves: the truth has no error, one that flickers has."""
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (12, 24, 3), np.uint8)
  wide = cv2.resize(small, (192, 96), interpolation=cv2.INTER_CUBIC)
  (tmp_path / 'data/pan').mkdir(parents=True)
  (tmp_path / 'weights').touch()
  for i in range(6):
    rgb = wide[:, 3 * i : 3 * i + 128]
    assert cv2.imwrite(str(tmp_path / f'data/pan/{i}.png'), rgb)
  flickering = _Brighter()
  flickering.colorize = lambda frames: (
    rgb + np.uint8(20 * (i % 2)) * (rgb < 200) for i, rgb in enumerate(frames)
  )
  summary = _evaluate(tmp_path, flickering)
  true = _row(summary, 'pan', method='truth')['warp_error']
  ours = _row(summary, 'pan')['warp_error']
  assert true < 1e-3
  share = (wide < 200).mean()  # Share of values that flicker.
  np.testing.assert_allclose(ours, share * (20 / 255) ** 2, rtol=0.25)


def _frames(folder, clip, *numbers):
  paths = [folder / f'data/{clip}/{number:05}.png' for number in numbers]
  return [video.read_image(path) for path in paths]


@pytest.mark.parametrize(
  'protocol, given, counted',
  [
    ('first-frame', [0], range(12)),
    ('far-frame', [6], [*range(6), *range(7, 12)]),
    ('multi', [0, 11], range(12)),
  ],
)
def test_references_and_what_counts(folder, protocol, given, counted):
  class _Uneven(_Brighter):
    def colorize(self, frames):
      for i, rgb in enumerate(frames):
        yield rgb + np.uint8(1 + i)

  colorizer = _Uneven()
  summary = _evaluate(folder, colorizer, protocols=[protocol])
  rgb, first = colorizer.references[-1]
  assert first is True
  np.testing.assert_array_equal(rgb, _frames(folder, 'walk', *given))
  row = _row(summary, 'walk', protocol)
  # Colors are propagated from the given frame in both directions.
  psnr = [20 * np.log10(255 / (1 + abs(i - given[0]))) for i in range(12)]
  free = [i for i in counted if i not in given]
  for column, frames in (
    ('psnr', counted),
    ('psnr_not_given', free),
    ('psnr_last', list(counted)[-10:]),
  ):
    np.testing.assert_allclose(row[column], np.mean([psnr[i] for i in frames]))


def test_without_a_reference_all_frames_count(folder):
  colorizer = _Brighter()
  summary = _evaluate(
    folder, colorizer, protocols=['none'], compared=['gray', 'transfer']
  )
  assert set(colorizer.references) == {((), False)}
  row = _row(summary, 'walk', 'none')
  assert row['psnr'] == row['psnr_not_given'] > 20
  clip = summary['protocols']['none']['clips']['walk']
  assert clip['references'] == []
  # Gray needs no reference; a transfer of colors does.
  assert set(clip['methods']) == {'truth', 'vitexco', 'gray'}


def test_retrieved_is_the_best_of_the_gallery(folder, monkeypatch):
  asked = []
  picture = _frames(folder, 'walk', 3)[0]

  def embed(pictures):
    asked.extend(pictures)
    return 'queries'

  def best(queries, count):
    assert (queries, count) == ('queries', 1)
    return [[(7, 0.9)]]

  gallery = types.SimpleNamespace(
    best=best,
    read=lambda number: picture,
    name=lambda number: f'n{number}.jpg',
    fingerprint='that',
  )
  monkeypatch.setattr(
    embedding, 'open_with_embedder', lambda *_: (embed, gallery)
  )
  colorizer = _Brighter()
  summary = _evaluate(
    folder,
    colorizer,
    protocols=['retrieved'],
    compared=['gray', 'flow'],
    gallery=folder,
  )
  np.testing.assert_array_equal(
    asked, _frames(folder, 'boat', 1) + _frames(folder, 'walk', 6)
  )
  assert all(not first for _, first in colorizer.references)
  np.testing.assert_array_equal(colorizer.references[0][0], [picture])
  clip = summary['protocols']['retrieved']['clips']['walk']
  assert clip['references'] == ['n7.jpg']
  # Flow cannot reach a picture outside the clip.
  assert list(clip['methods']) == ['truth', 'vitexco', 'gray']


def test_strip_has_five_moments_and_video_all(folder, monkeypatch):
  drawn = {}

  def strip(rows, labels):
    drawn[len(rows[0])] = dict(zip(labels, rows, strict=True))
    return np.zeros((8, 8, 3), np.uint8)

  monkeypatch.setattr(image_grid, 'draw', strip)
  _evaluate(folder, _Brighter(), compared=['gray'])
  rows = drawn[5]  # Frames 0, 3, 6, 8, 11.
  (last,) = _frames(folder, 'walk', 11)
  assert list(rows) == ['truth', 'vitexco', 'gray']
  np.testing.assert_array_equal(rows['truth'][-1], last)
  np.testing.assert_array_equal(rows['vitexco'][-1], last + 10)

  out = folder / 'out/first-frame'
  with video.VideoReader(out / 'walk.mp4') as reader:
    frames = [frame.rgb for frame in reader]
  assert len(frames) == 12
  height, width = SIZE
  assert frames[0].shape[1] == 3 * width
  for place, shift in enumerate((0, 10)):
    shown = frames[-1][-height:, place * width :][:, :width]
    difference = np.float32(shown) - last
    assert np.abs(difference - shift).mean() < 12  # Loss of H.264.
    assert abs(difference.mean() - shift) < 3
  page = (folder / 'out/report.html').read_text()
  assert page.count('<video') == page.count('data:video/mp4;base64') == 2
  assert page.count('data:image/png;base64') == 2
  assert 'src="http' not in page and '28.88' in page


def test_goes_on_with_what_is_missing_or_has_changed(folder):
  first = _evaluate(folder, _Brighter())
  colorizer = _Brighter()
  assert _evaluate(folder, colorizer) == first
  assert not colorizer.references

  _write_clip(folder / 'data' / 'new', 2)
  _evaluate(folder, colorizer)
  assert len(colorizer.references) == 1

  (folder / 'data' / 'boat' / '00002.png').unlink()
  summary = _evaluate(folder, colorizer)
  clips = summary['protocols']['first-frame']['clips']
  assert clips['boat']['frames'] == 2
  assert len(colorizer.references) == 2

  (folder / 'weights').write_text('of a further training')
  _evaluate(folder, colorizer)
  assert len(colorizer.references) == 5

  colorizer.config = get_config('tiny')
  colorizer.config.model.vit.gelu = 'erf'
  _evaluate(folder, colorizer)
  assert len(colorizer.references) == 8

  _evaluate(folder, colorizer, compared=['gray'])
  assert len(colorizer.references) == 11

  (folder / 'out/first-frame/boat.mp4').unlink()
  _evaluate(folder, colorizer, compared=['gray'])
  assert len(colorizer.references) == 12


def test_clips_before_a_broken_one_are_kept(folder):
  _write_clip(folder / 'data' / 'single', 1)
  with pytest.raises(UserError, match='single has fewer than'):
    _evaluate(folder, _Brighter())
  (folder / 'data' / 'single' / '00000.png').unlink()
  (folder / 'data' / 'single').rmdir()
  colorizer = _Brighter()
  _evaluate(folder, colorizer)
  assert len(colorizer.references) == 1  # Only walk; boat came before.


def test_lost_frames_do_not_pass(folder):
  colorizer = _Brighter()
  colorize = colorizer.colorize
  colorizer.colorize = lambda frames: iter(list(colorize(frames))[:-1])
  with pytest.raises(UserError, match='vitexco: frame 2 of boat is missing'):
    _evaluate(folder, colorizer)
  assert not list((folder / 'out/first-frame').glob('*.mp4'))


# --- Predictions of other methods ---


def _judge(folder):
  return evaluate.evaluate(
    get_config('tiny'),
    evaluate.predictions(str(folder / 'theirs')),
    str(folder / 'data'),
    folder / 'out',
  )


def _write_theirs(folder, clip, shift=10, start=0):
  (folder / 'theirs' / clip).mkdir(parents=True)
  for path in sorted((folder / 'data' / clip).iterdir()):
    rgb = video.read_image(path) + np.uint8(shift)
    name = f'{int(path.stem) + start:05}.png'
    video.write_image(folder / 'theirs' / clip / name, rgb)


def test_predictions_are_scored_like_our_own(folder):
  for clip in ('walk', 'boat'):
    _write_theirs(folder, clip)
  theirs = _judge(folder)['protocols']['first-frame']
  ours = _evaluate(folder, _Brighter())['protocols']['first-frame']
  assert theirs['mean']['predictions'] == ours['mean']['vitexco']
  assert theirs['mean']['truth'] == ours['mean']['truth']


def test_a_video_predicts_a_single_clip(folder):
  clip = _write_clip(folder / 'data' / 'only' / 'walk', 4)
  form = video.Format(*SIZE)
  with video.VideoWriter(folder / 'theirs.mkv', form) as writer:
    for rgb in clip:
      writer.write(video.Frame(rgb))
  summary = evaluate.evaluate(
    get_config('tiny'),
    evaluate.predictions(str(folder / 'theirs.mkv')),
    str(folder / 'data/only/walk'),
    folder / 'out',
  )
  row = _row(summary, 'walk', method='predictions')
  assert row['psnr'] > 30  # Loss of H.264.


def test_predictions_that_do_not_fit_are_named(folder):
  _write_theirs(folder, 'walk')
  with pytest.raises(UserError, match='has 12 frames, but the clip boat .* 3'):
    _judge(folder)
  _write_clip(folder / 'theirs' / 'other', 2)
  with pytest.raises(
    UserError, match='no clips named boat, for .* among: other, walk'
  ):
    _judge(folder)
  _write_theirs(folder, 'boat', start=1)
  with pytest.raises(
    UserError, match='boat has a frame 00001 where the clip boat .* 00000'
  ):
    _judge(folder)
  for path in (folder / 'theirs/boat').iterdir():
    path.unlink()
  for i in range(3):
    video.write_image(
      folder / f'theirs/boat/{i:05}.png', np.zeros((48, 80, 3), np.uint8)
    )
  with pytest.raises(
    UserError, match='frame 0 of boat is 80x48, the true frame is 64x48'
  ):
    _judge(folder)


# --- Errors ---


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    ({'protocols': ['last-frame']}, '--protocols=last-frame: known are first-'),
    ({'protocols': ['retrieved']}, '--protocols=retrieved needs --gallery'),
    ({'compared': ['sepia']}, '--baselines=sepia: known are gray, flow'),
    (
      {
        'protocols': ['first-frame', 'retrieved'],
        'gallery': Path('no_such_folder'),
      },
      'no_such_folder',
    ),
  ],
)
def test_what_cannot_be_is_refused_before_any_work(folder, arguments, sentence):
  colorizer = _Brighter()
  with pytest.raises(UserError, match=sentence):
    _evaluate(folder, colorizer, **arguments)
  assert not colorizer.references and not (folder / 'out').exists()


def test_an_output_that_cannot_be_written_is_refused(folder):
  (folder / 'out').touch()
  colorizer = _Brighter()
  with pytest.raises(UserError, match=r'cannot write `output=.*out`: File ex'):
    _evaluate(folder, colorizer)
  assert not colorizer.references
