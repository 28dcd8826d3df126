"""Pretraining: what is learned, what stays put, what is never looked at."""

import functools
import json
import os
import signal

import cv2
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import written_records

from configs.vitexco import get_config
from vitexco_jax import checkpoint, color
from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.models import efficientnet, prior, vit
from vitexco_jax.pretrained import efficientnet_weights, vgg16
from vitexco_jax.tools.export import export_run
from vitexco_jax.training import crops, loop, pretrain, train

pytestmark = pytest.mark.usefixtures('quick_compiler')

PICTURES = 70
_make_teacher = pretrain._make_teacher  # The true one.


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """A folder tree of smooth pictures, each of a color of its own."""
  folder = tmp_path_factory.mktemp('images')
  rng = np.random.default_rng(0)
  for i in range(PICTURES):
    noise = rng.uniform(0, 255, (4, 6, 3)) * 0.5 + rng.uniform(0, 127, 3)
    rgb = cv2.resize(noise, (60, 40), interpolation=cv2.INTER_CUBIC)
    path = folder / f'{i % 3}' / f'{i}.png'
    path.parent.mkdir(exist_ok=True)
    video.write_image(path, np.uint8(rgb.clip(0, 255)))
  return folder


@pytest.fixture(scope='module', autouse=True)
def teachers():
  """Stand in for VGG16 and EfficientNet, which take long."""
  rng = np.random.default_rng(0)

  def layer(c_in, c_out):
    kernel = rng.normal(0, (2 / 9 / c_in) ** 0.5, (3, 3, c_in, c_out))
    return {'kernel': np.float32(kernel), 'bias': np.zeros(c_out, np.float32)}

  def make_teacher(config):
    width = vit.VARIANTS[config.model.vit.variant].width
    directions = jax.random.normal(jax.random.key(1), (6, width))

    def embed(rgb):  # By the mean colors of two halves.
      x = rgb.reshape(len(rgb), 2, -1, 3).mean(2).reshape(len(rgb), 6)
      x = x @ directions
      return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    return embed

  with pytest.MonkeyPatch.context() as patch:
    channels = 6, 8, 8, 8, 8
    patch.setattr(vgg16, 'CHANNELS', channels)
    params, c_in = {}, 3
    for name in vgg16._NAMES:
      c_out = channels[int(name[4]) - 1]
      params[name] = layer(c_in, c_out)
      c_in = c_out
    patch.setattr(vgg16, 'load_vgg16', lambda: params)
    patch.setattr(pretrain, '_make_teacher', make_teacher)
    yield


def _config(**values):
  config = get_config('tiny')
  config.data.records = 'nowhere'
  config.model.feature_transform.kind = 'subpixel'
  config.pretrain.update(values)
  return config


def _batch(n, seed=0):
  rng = np.random.default_rng(seed)
  rgb = rng.integers(0, 256, (n, 4, 6, 3)).repeat(8, 1).repeat(8, 2)
  return crops.Crops(np.uint8(rgb), np.arange(n) % 2 == 0)


def _equal(ours, theirs):
  return jax.tree.all(
    jax.tree.map(lambda x, y: bool((x == y).all()), ours, theirs)
  )


# --- What is looked at ---


def _collect(images, **values):
  return crops.collect(_config(**values), str(images))


def test_each_picture_is_held_out_or_shown_once_an_epoch(images):
  collection = _collect(images)
  assert len(collection.held_out) == 32
  assert len(collection) == PICTURES - 32
  every = {
    path.relative_to(images).as_posix() for path in images.rglob('*.png')
  }
  assert {*collection.held_out, *collection.keys} == every

  seen = []
  (height, width) = (32, 48)
  whole = functools.partial(crops.cut, size=(height, width))
  known = {
    key: whole(crops.read(collection.source, key)).astype(int) for key in every
  }
  config = _config(crop=1.0)
  feed = crops.make_feed(config, collection, 2)
  for _ in range(len(collection) // 2):
    batch = next(feed)
    assert batch.rgb.shape == (2, height, width, 3)
    assert batch.rgb.dtype == np.uint8 and batch.gray.dtype == bool
    for rgb in batch.rgb:
      distance = {
        key: min(np.abs(x - rgb).mean(), np.abs(x[:, ::-1] - rgb).mean())
        for key, x in known.items()
      }
      seen.append(min(distance, key=distance.get))
      assert distance[seen[-1]] < 6  # A window of the same height, elsewhere.
  assert sorted(seen) == sorted(collection.keys)


def test_a_name_decides_what_is_held_out(images, tmp_path):
  before = _collect(images)
  for path in images.rglob('*.png'):  # Elsewhere, and in larger company.
    copy = tmp_path / path.relative_to(images)
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(path.read_bytes())
  (tmp_path / 'new.png').write_bytes(path.read_bytes())
  after = _collect(tmp_path)
  assert len({*before.held_out} - {*after.held_out}) <= 1


def test_frames_of_records_are_shown_too_but_of_no_video_held_out(
  images, tmp_path, monkeypatch
):
  written_records.write(tmp_path, written_records.moving_runs())
  config = _config()
  config.data.records = str(tmp_path)
  digest = crops._digest
  for video_held_out, expected in (('b', range(10)), ('a', range(10, 19))):
    monkeypatch.setattr(
      crops,
      '_digest',
      lambda name, out=video_held_out: b'' if name == out else digest(name),
    )
    collection = crops.collect(config, str(images))
    np.testing.assert_array_equal(collection.frames, expected)
    assert len(collection) == PICTURES - 32 + len(expected)
    last = collection.read(len(collection) - 1)
    truth = collection.records.read(expected[-1]).rgb()
    np.testing.assert_array_equal(last, truth)


def test_the_feed_goes_on_where_it_was_and_half_of_it_is_gray(images):
  collection = _collect(images)
  feed = crops.make_feed(_config(), collection, 4)
  batches = [next(feed) for _ in range(16)]
  again = crops.make_feed(_config(), collection, 4)
  again.set_state({'samples': 60})
  for ours, theirs in zip(next(again), batches[15], strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert 20 <= np.sum([batch.gray for batch in batches]) <= 44


def test_a_picture_that_is_broken_is_replaced_and_named(
  images, tmp_path, capsys
):
  for path in images.rglob('*.png'):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  broken = _collect(tmp_path).keys[0]
  (tmp_path / broken).write_bytes(b'no picture')
  feed = crops.make_feed(_config(), _collect(tmp_path), 2)
  for _ in range((PICTURES - 32) // 2):
    assert next(feed).rgb.shape == (2, 32, 48, 3)
  assert feed.skipped == 1
  assert broken in capsys.readouterr().err


def test_windows_have_the_aspect_and_lie_inside():
  y, x = np.mgrid[:60, :100]
  rgb = np.stack([x, y, x + y], -1).astype(np.uint8)
  middle = crops.cut(rgb, (30, 30))  # 60x60 of it, halved.
  np.testing.assert_allclose(middle[..., 0].mean(), 49.5, atol=0.5)
  assert middle[0, 0, 0] == 20 or middle[0, 0, 0] == 21
  corner = crops.cut(rgb, (30, 30), 0.5, (1.0, 1.0))
  np.testing.assert_array_equal(corner, rgb[30:, 70:])


def test_too_few_pictures_are_refused(tmp_path):
  with pytest.raises(
    UserError, match='has 0 pictures; pretraining needs at least 64'
  ):
    _collect(tmp_path)


# --- What is learned ---


@pytest.fixture(scope='module')
def initial(teachers):
  config = _config()
  optimizer = pretrain.make_optimizer(config.pretrain)
  return jax.jit(lambda: pretrain.init_state(config, optimizer))()


def test_the_share_explained_agrees_with_a_slow_computation():
  rng = np.random.default_rng(0)
  wanted = rng.gamma(1, 1, (5, 6, 4, 3))
  found = wanted + rng.normal(0, 0.3, wanted.shape)
  residual = total = 0.0
  for channel in range(3):
    mean = wanted[..., channel].mean()
    for a, b in zip(
      found[..., channel].flat, wanted[..., channel].flat, strict=True
    ):
      residual += (a - b) ** 2
      total += (b - mean) ** 2
  each = [
    pretrain.fit(jnp.asarray(a[None]), jnp.asarray(b[None]))
    for a, b in zip(found, wanted, strict=True)
  ]
  all_ = jax.tree.map(lambda *x: np.mean(x, 0), *each)
  assert all_.explained() == pytest.approx(1 - residual / total, rel=1e-4)
  perfect = pretrain.fit(jnp.asarray(wanted), jnp.asarray(wanted))
  assert perfect.explained() == 1


def test_maps_are_of_what_is_shown_and_tokens_of_the_colors(initial):
  compare = jax.jit(pretrain.make_compare(_config()))
  compare = functools.partial(compare, initial.params, initial.heads)
  rgb = _batch(1).rgb
  shown_gray = compare(rgb, np.array([True]))
  lightness = np.asarray(color.uint8_to_lab(rgb)[..., :1]) / 100
  is_gray = np.uint8(np.round(255 * np.repeat(lightness, 3, -1)))
  is_gray = compare(is_gray, np.array([False]))
  in_color = compare(rgb, np.array([False]))
  for level, fit in shown_gray.fits.items():
    for x, y in zip(fit, is_gray.fits[level], strict=True):
      np.testing.assert_allclose(x, y, rtol=0.02, atol=0.02)
    assert abs(fit.error - in_color.fits[level].error) > 1e-3
  assert abs(shown_gray.class_token - is_gray.class_token) > 1e-3


def test_each_place_of_a_target_counts_alike():
  rng = np.random.default_rng(0)
  vgg_map = rng.gamma(1, 1, (2, 3, 4, 8)) * rng.gamma(1, 9, (2, 3, 4, 1))
  target = np.asarray(pretrain._target(jnp.asarray(vgg_map)))
  np.testing.assert_allclose((target**2).mean(-1), 1, rtol=1e-5)
  ratio = target / vgg_map
  np.testing.assert_allclose(ratio, ratio[..., :1].repeat(8, -1), rtol=1e-5)


def test_teacher_keeps_what_pictures_have_in_common():
  config = get_config('small')  # Of 192 directions.
  rgb = np.float32(_batch(3).rgb / 255)
  found = np.asarray(jax.jit(_make_teacher(config))(rgb))
  np.testing.assert_allclose((found**2).sum(-1), 1, rtol=1e-5)
  large = jax.image.resize(rgb, (3, 224, 224, 3), 'bilinear')
  params = efficientnet_weights.load_efficientnet_lite0()
  whole = efficientnet.EfficientNetLite0()
  whole = np.array(jax.jit(whole.apply)({'params': params}, large))
  whole /= np.linalg.norm(whole, axis=1, keepdims=True)
  np.testing.assert_allclose(found @ found.T, whole @ whole.T, atol=0.25)


def _steps(config, state, batches, optimizer, devices):
  used = jax.local_devices()[:devices]
  step = jax.pmap(
    pretrain.make_step(config, optimizer, loop.AXIS),
    axis_name=loop.AXIS,
    devices=used,
  )
  state = flax.jax_utils.replicate(state, used, loop.AXIS)
  metrics = []
  for batch in batches:
    state, values = step(state, loop._shard(batch, devices))
    metrics.append({name: float(x[0]) for name, x in values.items()})
  return jax.tree.map(lambda x: np.asarray(x[0]), state), metrics


def test_two_devices_equal_one(initial):
  config = _config()
  config.model.feature_transform.dropout = 0.0
  optimizer = optax.MultiSteps(optax.sgd(1.0), 1)
  learned = pretrain._learned(config, initial.params, initial.heads)
  state = initial._replace(learned=learned, optimizer=optimizer.init(learned))
  # Each device has a picture in gray and one in color.
  found = [
    _steps(config, state, [_batch(4)], optimizer, devices) for devices in (1, 2)
  ]
  for group in ('vit', 'feature_transform', 'prior'):
    moved = [
      jax.tree.map(np.subtract, after.params[group], initial.params[group])
      for after, _ in found
    ]
    error = optax.tree.norm(jax.tree.map(np.subtract, *moved))
    assert error <= 0.02 * optax.tree.norm(moved[0]), group
  (_, (one,)), (_, (two,)) = found
  assert one.keys() == two.keys()
  for name, value in one.items():
    assert two[name] == pytest.approx(value, rel=1e-2, abs=1e-4), name


def test_few_pictures_are_learned_by_heart(initial):
  groups = 'vit', 'feature_transform', 'prior', 'heads'
  rates = dict.fromkeys(groups, 1e-2)
  config = _config(learning_rate=rates, updates=60, warmup=0.1)
  config.model.feature_transform.dropout = 0.0
  optimizer = pretrain.make_optimizer(config.pretrain)
  batch = _batch(2)
  after, metrics = _steps(config, initial, [batch] * 60, optimizer, 1)
  first, last = metrics[0], metrics[-1]
  for level in range(1, 6):
    name = f'explained/level{level}'
    assert last[name] > max(0.2, first[name] + 0.2), name
  assert last['raw/class_token'] < 0.2 < first['raw/class_token']
  assert last['square/error'] < 0.5 * last['square/gray']
  assert last['raw/spread'] < first['raw/spread']
  names = 'maps', 'class_token', 'color', 'spread'
  assert last['loss'] == pytest.approx(
    sum(last[f'weighted/{name}'] for name in names), rel=1e-5
  )
  shares = [last[f'explained/level{level}'] for level in range(1, 6)]
  assert last['raw/maps'] == pytest.approx(1 - np.mean(shares), rel=1e-4)
  for group in ('correspondence', 'colorizer'):
    assert _equal(initial.params[group], after.params[group])
  for block, stays in (('encoderblock_0', True), ('encoderblock_1', False)):
    before, now = (
      x.params['vit']['Transformer'][block] for x in (initial, after)
    )
    assert _equal(before, now) == stays


def test_colors_are_compared_place_by_place():
  rng = np.random.default_rng(0)
  ab = np.float32(rng.normal(0, 10, (2, 3, 4, 2)))
  spread = np.float32(rng.uniform(1, 20, (2, 3, 4, 1)))
  true_ab = np.float32(rng.normal(0, 10, (2, 12, 16, 2)))
  found = pretrain.compare_colors(
    prior.PriorColor(ab, spread), true_ab, np.array([False, True])
  )
  rows = []
  for i in range(3):
    for j in range(4):
      a, b = true_ab[1, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((0, 1))
      square = (ab[1, i, j, 0] - a) ** 2 + (ab[1, i, j, 1] - b) ** 2
      s = spread[1, i, j, 0]
      rows.append(
        {
          'color': ((square + 100) ** 0.5 - 10) / 20,
          'spread': np.log(s) + (square + 0.25) ** 0.5 / s,
          'error': square,
          'gray': a**2 + b**2,
        }
      )
  for name, value in found.items():
    mean = np.mean([row[name] for row in rows])
    assert value == pytest.approx(mean, rel=1e-4), name


def test_what_is_kept_is_the_average(initial):
  config = _config(average=0.9)
  optimizer = pretrain.make_optimizer(config.pretrain)
  batch = _batch(2)
  kept = optax.tree.cast(initial.params['prior'], np.float32)
  state = initial
  for step in range(3):
    state, _ = _steps(config, state, [batch], optimizer, 1)
    decay = min(0.9, (1 + step) / (10 + step))
    kept = jax.tree.map(
      lambda old, new, decay=decay: decay * old + (1 - decay) * new,
      kept,
      state.learned['prior'],
    )
  for found, expected in zip(
    *map(jax.tree.leaves, (state.params['prior'], kept)), strict=True
  ):
    np.testing.assert_allclose(found, expected, atol=1e-6)
  state, _ = _steps(_config(average=0.0), state, [batch], optimizer, 1)
  assert _equal(state.params['prior'], state.learned['prior'])


def test_without_maps_vgg16_is_left_out(monkeypatch):
  monkeypatch.setattr(vgg16, 'load_vgg16', None)
  config = _config(weights={'maps': 0.0})
  optimizer = pretrain.make_optimizer(config.pretrain)
  state = jax.jit(lambda: pretrain.init_state(config, optimizer))()
  assert state.heads == {}
  _, (metrics,) = _steps(config, state, [_batch(2)], optimizer, 1)
  assert metrics['raw/color'] > 0 and 'raw/maps' not in metrics


def test_the_rate_rises_and_falls():
  config = _config(learning_rate={'vit': 0.5}, updates=100, warmup=0.1)
  rate = pretrain.schedule(config.pretrain, 'vit')
  found = [rate(n) for n in (0, 5, 10, 55, 100)]
  np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.25, 0], atol=1e-6)


# --- Whole runs ---


def _run(config, images, workdir, monkeypatch, stop_at=None):
  """Pretrains; Ctrl-C is pressed while this batch is made."""
  make_feed = crops.make_feed

  def make(*args):
    feed = make_feed(*args)
    given = iter(feed)

    class Watched:
      skipped = 0
      get_state, set_state = feed.get_state, feed.set_state
      count = 0

      def __next__(self):
        self.count += 1
        if self.count == stop_at:
          os.kill(os.getpid(), signal.SIGINT)
        return next(given)

    return Watched()

  with monkeypatch.context() as patch:
    patch.setattr(pretrain.crops, 'make_feed', make)
    pretrain.pretrain(config, str(images), workdir)


def _rows(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: x for k, x in json.loads(line).items() if not k.endswith('_per_second')}
    for line in lines
  ]


def test_a_run_is_resumed_reported_and_exported_and_starts_training(
  images, tmp_path, monkeypatch, capsys
):
  config = _config()
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  _run(config, images, whole, monkeypatch)
  table = capsys.readouterr().out
  with pytest.raises(KeyboardInterrupt):
    _run(config, images, stopped, monkeypatch, stop_at=3)
  assert not (stopped / pretrain.REPORT).exists()
  assert [row['update'] for row in _rows(stopped)] == [1, 2, 3]
  _run(config, images, stopped, monkeypatch)
  assert _rows(stopped) == _rows(whole)
  params = checkpoint.load_params(whole)
  assert _equal(params, checkpoint.load_params(stopped))
  curve = (whole / 'validation.jsonl').read_text()
  assert curve == (stopped / 'validation.jsonl').read_text()
  curve = [json.loads(line) for line in curve.splitlines()]
  assert [row['update'] for row in curve] == [2, 4]
  report = json.loads((whole / pretrain.REPORT).read_text())
  assert curve[-1]['held_out/error'] == pytest.approx(
    report['prior']['error'], rel=1e-3
  )

  report = json.loads((whole / pretrain.REPORT).read_text())
  assert report == json.loads((stopped / pretrain.REPORT).read_text())
  assert report['held_out'] == 32
  assert report['trained_on'] == {'pictures': PICTURES - 32, 'frames': 0}
  levels = [f'level{n}' for n in range(1, 6)]
  assert list(report['gray']) == list(report['color'])
  assert list(report['gray']) == [*levels, 'class_token']
  assert f'| gray | {report["gray"]["level1"]:.3f} |' in table

  export_run(whole, tmp_path / 'export')
  optimizer = train.make_optimizer(config)
  fresh = jax.jit(lambda: train.init_state(config, optimizer))()
  for source in (whole, tmp_path / 'export'):
    config.train.init = str(source)
    begun = train.load_initial_weights(config, fresh)
    for group in ('vit', 'feature_transform'):
      for x, y in zip(
        jax.tree.leaves(begun.params[group]),
        jax.tree.leaves(params[group]),
        strict=True,
      ):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-3)


def test_a_vit_that_is_given_stays_as_it_is(
  initial, images, tmp_path, monkeypatch
):
  rng = np.random.default_rng(0)
  given = jax.tree.map(
    lambda x: np.float32(rng.normal(0, 0.1, x.shape)), initial.params['vit']
  )
  path = tmp_path / 'vit.npz'
  np.savez(path, **flax.traverse_util.flatten_dict(given, sep='/'))
  config = _config(updates=2)
  config.train.vit_weights = str(path)
  _run(config, images, tmp_path / 'run', monkeypatch)
  after = checkpoint.load_params(tmp_path / 'run')
  assert _equal(after['vit'], given)
  assert not _equal(
    after['feature_transform'], initial.params['feature_transform']
  )
  for row in _rows(tmp_path / 'run'):
    assert not [name for name in row if 'class_token' in name]
  report = json.loads((tmp_path / 'run' / pretrain.REPORT).read_text())
  assert 'class_token' not in report['gray']


@pytest.mark.parametrize(
  'name, value, must',
  [
    (
      'size',
      (32, 40),
      r'be \(height, width\), at least 16 and a multiple of 16',
    ),
    ('crop', 0.0, 'be above 0 and at most 1'),
    ('gray', 1.5, 'be at least 0 and at most 1'),
    ('learning_rate.vit', -1.0, 'be at least 0'),
    ('average', 1.0, 'be at least 0 and below 1'),
    ('first_block', 3, 'be at most 2'),
    ('taught', 0.0, 'be above 0 and at most 1'),
    ('weights.color', 0.0, 'both be above 0, or none'),
    ('warmup', 1.0, 'be at least 0 and below 1'),
    ('updates', 0, 'be at least 1'),
  ],
)
def test_what_cannot_be_pretrained_with_is_named(tmp_path, name, value, must):
  config = _config()
  config.pretrain.update_from_flattened_dict({name: value})
  with pytest.raises(
    UserError, match=rf'config\.pretrain\.{name}=.* must {must}'
  ):
    pretrain.pretrain(config, str(tmp_path), tmp_path)


def test_the_batch_must_fit_the_devices(tmp_path):
  with pytest.raises(
    UserError, match=r'pretrain\.batch_size=3 cannot be divided'
  ):
    pretrain.pretrain(_config(batch_size=3), str(tmp_path), tmp_path)
