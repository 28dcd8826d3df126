"""The input pipeline, on records whose frames can be identified."""

import itertools
import json
import re

import cv2
import numpy as np
import pytest
import written_records
from absl import flags
from written_records import HEIGHT, WIDTH

from configs.vitexco import get_config
from vitexco_jax.data import input_pipeline
from vitexco_jax.errors import UserError
from vitexco_jax.generator import make_generator

_CLIP = 3
_EPOCH = 4 + 2 + 7  # Places where a clip can start.


@pytest.fixture(scope='module')
def runs():
  return written_records.moving_runs()


@pytest.fixture(scope='module')
def folder(runs, tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  written_records.write(folder, runs)
  return folder


@pytest.fixture
def config(folder):
  config = get_config('tiny')
  config.data.records = str(folder)
  config.train.clip_length = _CLIP
  config.data.warped_share = 0.0  # So that references can be identified.
  return config


def _feed(config, batch_size, host=0, hosts=1):
  return input_pipeline.make_iterator(
    input_pipeline.open_records(
      config.data, config.train.clip_length, config.variant
    ),
    config.train.clip_length,
    config.data,
    config.augment,
    make_generator(config).flow_alpha,
    config.seed,
    batch_size,
    host,
    hosts,
  )


def _samples(feed, count):
  """The next samples, one by one."""
  out = []
  while len(out) < count:
    batch = next(feed)
    out += [type(batch)(*x) for x in zip(*batch, strict=True)]
  return out


def _locate(rgb, runs):
  """Returns (run, frame, whether mirrored) of the most similar frame."""

  def distance(place):
    run, frame, mirrored = place
    truth = runs[run].rgb[frame].astype(int)
    return np.abs(truth[:, :: -1 if mirrored else 1] - rgb).mean()

  places = [
    (run, frame, mirrored)
    for run in range(len(runs))
    for frame in range(len(runs[run].rgb))
    for mirrored in (False, True)
  ]
  best = min(places, key=distance)
  assert distance(best) < 3  # JPEG costs about 1.
  return best


def _assert_same(actual, expected):
  for ours_, theirs_ in zip(actual, expected, strict=True):
    np.testing.assert_array_equal(ours_, theirs_)


def test_batches_have_the_promised_shapes_and_types(config):
  batch = next(_feed(config, 2))
  actual = {k: (v.shape, str(v.dtype)) for k, v in batch._asdict().items()}
  picture = HEIGHT, WIDTH
  assert actual == {
    'rgb': ((2, _CLIP, *picture, 3), 'uint8'),
    'reference': ((2, *picture, 3), 'uint8'),
    'flow': ((2, _CLIP - 1, *picture, 2), 'float32'),
    'visible': ((2, _CLIP - 1, *picture, 1), 'uint8'),
    'same_video': ((2,), 'bool'),
    'first_frame': ((2,), 'bool'),
    'backward_flow': ((2, _CLIP - 1, *picture, 2), 'float32'),
    'anchor_flow': ((2, _CLIP, *picture, 2), 'float32'),
  }


def test_an_epoch_has_every_clip_once_and_none_crosses_runs(config, runs):
  orders = []
  samples = _samples(_feed(config, 1), 2 * _EPOCH)
  for epoch in (samples[:_EPOCH], samples[_EPOCH:]):
    order = []
    for sample in epoch:
      places = [_locate(rgb, runs) for rgb in sample.rgb]
      run, start, mirrored = places[0]
      assert places == [(run, start + t, mirrored) for t in range(_CLIP)]
      order.append((run, start))
    orders.append(order)
  every = {
    (run, start)
    for run in range(len(runs))
    for start in range(len(runs[run].rgb) - _CLIP + 1)
  }
  assert set(orders[0]) == set(orders[1]) == every
  assert orders[0] != sorted(orders[0])
  assert orders[0] != orders[1]


def test_reference_is_from_the_same_run_and_mirrored_like_the_clip(
  config, runs
):
  firsts, mirrors, others = [], [], set()
  for sample in _samples(_feed(config, 4), 8 * _EPOCH):
    run, start, mirrored = _locate(sample.rgb[0], runs)
    of_run, frame, of_mirrored = _locate(sample.reference, runs)
    assert (of_run, of_mirrored) == (run, mirrored)
    assert sample.same_video
    assert sample.first_frame == (frame == start)
    firsts.append(frame == start)
    mirrors.append(mirrored)
    others.add(frame - start)
  # Of 104 samples; about 0.3 + 0.7 / 7 are expected to be first frames.
  assert 0.25 < np.mean(firsts) < 0.6
  assert 0.3 < np.mean(mirrors) < 0.7
  assert min(others) < 0 and max(others) >= _CLIP


def test_flow_is_consistent_with_the_content_also_when_mirrored(config, runs):
  mirrors = set()
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  for sample in _samples(_feed(config, 4), 3 * _EPOCH):
    run, _, mirrored = _locate(sample.rgb[0], runs)
    mirrors.add((run, mirrored))
    for t in range(1, _CLIP):
      usable = sample.visible[t - 1, ..., 0] == 1
      dx, dy = np.moveaxis(sample.flow[t - 1].astype(int), -1, 0)
      landed = sample.rgb[t][(y + dy)[usable], (x + dx)[usable]]
      error = np.abs(landed.astype(int) - sample.rgb[t - 1][usable])
      assert usable.mean() > 0.7 and error.mean() < 4
  assert mirrors == set(itertools.product(range(len(runs)), (False, True)))


def test_backward_flow_points_to_the_previous_positions(config, runs):
  """It is estimated, so correct at most pixels; runs move by whole pixels."""
  del runs
  samples = _samples(_feed(config, 4), _EPOCH)
  moved, stayed = [], []
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  for sample in samples:
    assert sample.backward_flow.shape == (_CLIP - 1, HEIGHT, WIDTH, 2)
    for t in range(1, _CLIP):
      dx, dy = np.moveaxis(np.rint(sample.backward_flow[t - 1]), -1, 0)
      place = (
        np.clip(y + dy, 0, HEIGHT - 1).astype(int),
        np.clip(x + dx, 0, WIDTH - 1).astype(int),
      )
      before, now = sample.rgb[t - 1].astype(int), sample.rgb[t].astype(int)
      moved.append(np.abs(before[place] - now).mean())
      stayed.append(np.abs(before - now).mean())
  assert np.mean(moved) < np.mean(stayed) / 2


def test_anchor_flow_points_to_the_first_frame_if_that_is_the_reference(config):
  config.data.retrieved_share = 0.0
  config.data.first_frame_share = 0.5
  config.data.warped_share = config.data.nearby_share = 0.0
  moved, stayed = [], []
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  samples = _samples(_feed(config, 4), _EPOCH)
  for sample in samples:
    if not sample.first_frame:
      assert not sample.anchor_flow.any()
      continue
    assert not sample.anchor_flow[0].any()
    dx, dy = np.moveaxis(np.rint(sample.anchor_flow[-1]), -1, 0)
    place = (
      np.clip(y + dy, 0, HEIGHT - 1).astype(int),
      np.clip(x + dx, 0, WIDTH - 1).astype(int),
    )
    first, last = sample.rgb[0].astype(int), sample.rgb[-1].astype(int)
    moved.append(np.abs(first[place] - last).mean())
    stayed.append(np.abs(first - last).mean())
  assert 0 < len(moved) < len(samples)
  assert np.mean(moved) < np.mean(stayed) / 2


def test_flows_are_empty_if_the_colorizer_does_not_use_them(config):
  config.model.colorizer.kind = 'u_net'
  (sample,) = _samples(_feed(config, 1), 1)
  assert sample.backward_flow.shape == (_CLIP - 1, 0, 0, 2)
  assert sample.anchor_flow.shape == (_CLIP, 0, 0, 2)


def test_resumes_at_the_same_sample(config):
  feed = _feed(config, 2)
  for _ in range(_EPOCH):  # Into the second epoch.
    next(feed)
  state = json.loads(json.dumps(feed.get_state()))
  expected = [next(feed) for _ in range(3)]

  config.data.threads = 3
  resumed = _feed(config, 2)
  resumed.set_state(state)
  assert resumed.get_state() == state
  for batch in expected:
    _assert_same(next(resumed), batch)


def test_order_depends_only_on_the_seed(config):
  by_twos = _samples(_feed(config, 2), 6)
  by_threes = _samples(_feed(config, 3), 6)
  for two, three in zip(by_twos, by_threes, strict=True):
    _assert_same(two, three)
  config.seed = 1
  other = _samples(_feed(config, 2), 6)
  pairs = zip(other, by_twos, strict=True)
  assert any((actual.rgb != expected.rgb).any() for actual, expected in pairs)


@pytest.mark.parametrize('hosts', [2, 4])
def test_hosts_share_each_batch(config, hosts):
  state = {'samples': 8}
  whole = _feed(config, 4)
  whole.set_state(state)
  feeds = [_feed(config, 4, host, hosts) for host in range(hosts)]
  for feed in feeds:
    feed.set_state(state)
  for _ in range(3):
    expected = next(whole)
    shares = [next(feed) for feed in feeds]
    for host, share in enumerate(shares):
      _assert_same(share, [x[host::hosts] for x in expected])
  assert {feed.get_state()['samples'] for feed in feeds} == {20}


def test_processes_yield_the_same_batches_as_threads(config):
  if not flags.FLAGS.is_parsed():  # Grain passes the flags to its processes.
    flags.FLAGS(['test'])
  state = {'samples': 5}
  threads = _feed(config, 2)
  threads.set_state(state)
  config.data.workers = 2
  processes = _feed(config, 2)
  processes.set_state(state)
  for _ in range(4):
    _assert_same(next(processes), next(threads))


def test_windows_depend_only_on_the_seed(config):
  whole = _samples(_feed(config, 2), 6)
  config.augment.crop = 0.5
  by_twos = _samples(_feed(config, 2), 6)
  by_threes = _samples(_feed(config, 3), 6)
  for two, three, uncut in zip(by_twos, by_threes, whole, strict=True):
    _assert_same(two, three)
    assert (two.rgb != uncut.rgb).any()
    assert (two.first_frame, two.same_video) == (
      uncut.first_frame,
      uncut.same_video,
    )


def test_flips_follow_the_config(config, runs):
  for flip in (0.0, 1.0):
    config.augment.flip = flip
    for sample in _samples(_feed(config, 2), 8):
      assert _locate(sample.rgb[0], runs)[2] == bool(flip)


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_share_of_retrieved_references(config, runs, tmp_path, share):
  retrieved = [np.full((HEIGHT, WIDTH, 3), x, np.uint8) for x in (40, 200)]
  written_records.write(tmp_path, runs, tuple(retrieved))
  config.data.records = str(tmp_path)
  config.data.retrieved_share = share
  seen = set()
  for sample in _samples(_feed(config, 2), 12):
    assert sample.same_video == (share == 0)
    if share:
      assert not sample.first_frame
      assert np.ptp(sample.reference) <= 2
      seen.add(int(np.rint(sample.reference.mean() / 20)) * 20)
    else:
      _locate(sample.reference, runs)
  assert seen == ({40, 200} if share else set())


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_share_of_first_frames_as_reference(config, share):
  config.data.retrieved_share = 0.0
  config.data.first_frame_share, config.data.nearby_share = share, 0.0
  samples = _samples(_feed(config, 2), 24)
  firsts = [sample.first_frame for sample in samples]
  # Any frame of a run may be the first one by chance.
  assert all(firsts) if share else not all(firsts)


def test_nearby_references_are_near(config, runs):
  config.data.retrieved_share = config.data.first_frame_share = 0.0
  config.data.warped_share, config.data.nearby_share = 0.0, 1.0
  away = []
  for sample in _samples(_feed(config, 2), 24):
    run, first, _ = _locate(sample.rgb[0], runs)
    of_run, frame, _ = _locate(sample.reference, runs)
    assert of_run == run
    away.append(frame - first)
  assert min(away) >= -5 and max(away) <= 6 and len(set(away)) > 2


def test_warped_references_are_the_warped_last_frame(config, runs):
  config.data.retrieved_share = config.data.first_frame_share = 0.0
  config.data.warped_share, config.data.nearby_share = 1.0, 0.0
  moved = 0
  for sample in _samples(_feed(config, 2), 12):
    assert sample.same_video and not sample.first_frame
    last = np.float32(sample.rgb[-1])
    moved += np.abs(sample.reference - last).max() > 1
    # A slightly warped picture keeps its mean color; others differ.
    np.testing.assert_allclose(
      sample.reference.mean((0, 1)), last.mean((0, 1)), atol=12
    )
  assert moved > 6


def test_without_records_the_error_names_the_command(config, tmp_path):
  config.data.records = str(tmp_path / 'none')
  with pytest.raises(UserError) as error:
    _feed(config, 2)
  for part in (
    str(tmp_path / 'none'),
    'python launch.py --mode=prepare --config=:tiny',
    '--videos=DIR',
  ):
    assert part in str(error.value)


def test_a_clip_longer_than_every_run_is_refused(config):
  config.train.clip_length = 9
  _samples(_feed(config, 1), 1)
  config.train.clip_length = 10
  with pytest.raises(UserError, match='clip_length=10 .* at most 9'):
    _feed(config, 1)


def test_records_of_another_size_are_refused(config):
  config.data.size = (48, 64)
  with pytest.raises(UserError, match=r'32x48, not config.data.size=\(48, 64'):
    _feed(config, 1)


def _break(folder, split, places):
  """Damages records; each is in its own chunk."""
  (shard,) = (folder / 'vitexco/1.0.0').glob(f'*{split}*')
  data = bytearray(shard.read_bytes())
  jpeg = cv2.imencode('.jpg', np.zeros((1, 1)))[1].tobytes()[:10]
  starts = [match.start() for match in re.finditer(re.escape(jpeg), data)]
  for place in places:
    data[starts[place] + 100] ^= 0xFF
  shard.write_bytes(data)


def test_a_broken_record_is_skipped_counted_and_named(
  config, runs, tmp_path, capfd
):
  written_records.write(tmp_path, runs)
  config.data.records = str(tmp_path)
  broken = 6 + 1  # The second of the second run.
  _break(tmp_path, 'train', [broken])
  feed = _feed(config, 1)
  samples = _samples(feed, _EPOCH)
  for sample in samples:
    places = [_locate(rgb, runs)[:2] for rgb in sample.rgb]
    assert (1, 1) not in places
  # Both clips of the second run contain it, and other clips may have it as their
  # reference.
  assert feed.skipped >= 2
  named = capfd.readouterr().err
  assert named.count('skipped record 7 of train') == 1

  again = _samples(_feed(config, 1), _EPOCH)
  for actual, expected in zip(again, samples, strict=True):
    _assert_same(actual, expected)


def test_processes_name_skipped_records(config, runs, tmp_path, capfd):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(['test'])
  written_records.write(tmp_path, runs)
  config.data.records = str(tmp_path)
  _break(tmp_path, 'train', [7])
  config.data.workers = 1
  feed = _feed(config, 1)
  _samples(feed, _EPOCH)
  assert feed.skipped >= 2
  assert capfd.readouterr().err.count('skipped record 7 of train') == 1


def test_a_missing_shard_is_skipped(config, runs, tmp_path):
  written_records.write(
    tmp_path, runs, [np.full((HEIGHT, WIDTH, 3), 99, np.uint8)]
  )
  config.data.records = str(tmp_path)
  config.data.retrieved_share = 0.5
  (shard,) = (tmp_path / 'vitexco/1.0.0').glob('*references*')
  shard.unlink()
  feed = _feed(config, 1)
  samples = _samples(feed, 20)
  assert feed.skipped and all(sample.same_video for sample in samples)


def test_only_broken_records_end_the_run(config, runs, tmp_path):
  written_records.write(tmp_path, runs)
  config.data.records = str(tmp_path)
  _break(tmp_path, 'train', range(19))
  with pytest.raises(UserError, match='in a row.*record .* of train: .*again'):
    next(_feed(config, 1))
