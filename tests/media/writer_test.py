"""writer: time stamps and durations, and what a failed run leaves."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from written_videos import HEIGHT, WIDTH, blocks, moving, read, threads, write

from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.media.video import Format, Frame, VideoReader, VideoWriter


def test_16_bit_folder_round_trip(tmp_path):
  rng = np.random.default_rng(0)
  rgb = rng.integers(0, 1 << 16, (48, 64, 3), np.uint16)
  write(tmp_path / 'out', [rgb, rgb + 1], coding=video.Coding(bits=16))
  with VideoReader(tmp_path / 'out', deep=True) as reader:
    actual = [frame.rgb for frame in reader]
  np.testing.assert_array_equal(actual, [rgb, rgb + 1])


@pytest.mark.parametrize('start', [0, 777, -40])
def test_time_stamps_start_at_the_first_frame(tmp_path, start):
  time_base = Fraction(1, 15360)
  times = [0, 700, 1500, 1501, 4000, 4400, 9000, 9001, 12345, 20000]
  frames = [
    Frame(rgb, start + pts) for rgb, pts in zip(moving(10), times, strict=True)
  ]
  form = Format(HEIGHT, WIDTH, Fraction(10), time_base)
  for suffix in ['.mp4', '.mov']:
    back, reader = read(write(tmp_path / f'a{suffix}', frames, form))
    ratio = reader.format.time_base / time_base
    assert [frame.pts * ratio for frame in back] == times
  # Matroska counts milliseconds; two frames must not fall into one.
  path = write(tmp_path / 'a.mkv', frames, form)
  with av.open(str(path)) as container:
    written = [frame.pts for frame in container.decode(video=0)]
  exact = [float(1000 * pts * time_base) for pts in times]
  np.testing.assert_allclose(written, exact, atol=1.5, rtol=0)
  assert np.diff(written).min() > 0


@pytest.mark.parametrize('suffix', ['.mp4', '.mov', '.mkv'])
def test_the_last_frame_keeps_its_duration(tmp_path, suffix):
  frames = [
    Frame(rgb, pts, duration=2000 if pts == 500 else None)
    for rgb, pts in zip(moving(5), [0, 40, 120, 160, 500], strict=True)
  ]
  form = Format(HEIGHT, WIDTH, Fraction(25), Fraction(1, 1000))
  path = write(tmp_path / f'a{suffix}', frames, form)
  again = write(tmp_path / f'b{suffix}', *_with_format(path))
  for one in (path, again):
    back, reader = read(one)
    last = back[-1].pts + back[-1].duration
    assert last * reader.format.time_base == Fraction(5, 2)
    between = [b.pts - a.pts for a, b in itertools.pairwise(back)]
    assert [frame.duration for frame in back[:-1]] == between


def _with_format(path):
  frames, reader = read(path)
  return frames, reader.format


def test_an_avi_whose_clock_starts_late(tmp_path):
  frames = [Frame(rgb, 900_000 + i) for i, rgb in enumerate(moving(5))]
  back, _ = read(write(tmp_path / 'a.avi', frames))
  assert len(back) == 5


def test_folder_round_trip_keeps_names(tmp_path):
  frames = [Frame(blocks(seed=i), name=f'shot{i}.jpg') for i in range(3)]
  write(tmp_path / 'out', frames)
  back, _ = read(tmp_path / 'out')
  assert [frame.name for frame in back] == [f'shot{i}.png' for i in range(3)]
  for original, frame in zip(frames, back, strict=True):
    np.testing.assert_array_equal(frame.rgb, original.rgb)
  write(tmp_path / 'numbered', [frame.rgb for frame in frames])
  assert read(tmp_path / 'numbered')[0][2].name == '000002.png'


def test_one_image_is_one_frame(tmp_path):
  write(tmp_path / 'a.png', [blocks()])
  np.testing.assert_array_equal(video.read_image(tmp_path / 'a.png'), blocks())
  with (
    pytest.raises(UserError, match=r'b\.png is one image'),
    VideoWriter(tmp_path / 'b.png', Format(HEIGHT, WIDTH)) as writer,
  ):
    for _ in range(50):
      writer.write(Frame(blocks()))
    raise AssertionError('the error is late')
  assert [p.name for p in tmp_path.iterdir()] == ['a.png']


@pytest.mark.parametrize('name', ['a.mp4', 'a.png', 'folder'])
def test_a_failed_run_leaves_the_target_unchanged(tmp_path, name):
  path = write(tmp_path / name, [blocks()])
  with (
    pytest.raises(RuntimeError, match='the network'),
    VideoWriter(path, Format(HEIGHT, WIDTH), overwrite=True) as writer,
  ):
    writer.write(Frame(blocks(seed=1)))
    raise RuntimeError('the network fell over')
  assert [p.name for p in tmp_path.iterdir()] == [name]
  error = read(path)[0][0].rgb.astype(int) - blocks()
  assert np.abs(error[4::8, 4::8]).mean() < 5  # Still seed 0.
  assert not threads()


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'folder'])
def test_a_full_disk_is_reported_and_leaves_no_files(tmp_path, name):
  resource = pytest.importorskip('resource')
  noise = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), np.uint8)
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # Of one file.
  try:
    with pytest.raises(UserError, match=f'cannot write .*{name}: File too'):
      write(tmp_path / name, noise)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not list(tmp_path.iterdir())
  assert not threads()


def test_files_of_a_killed_run_are_replaced(tmp_path):
  (tmp_path / '.a.partial.mp4').write_bytes(b'half a video')
  (tmp_path / '.out.partial').mkdir()
  (tmp_path / '.out.partial' / '000007.png').write_bytes(b'half a frame')
  write(tmp_path / 'a.mp4', moving(3))
  write(tmp_path / 'out', moving(3))
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.mp4', 'out']
  assert len(read(tmp_path / 'out')[0]) == 3


def test_an_output_without_frames_is_not_written(tmp_path):
  with pytest.raises(UserError, match='no frame'):
    write(tmp_path / 'a.mp4', [], Format(HEIGHT, WIDTH))
  assert not list(tmp_path.iterdir())


def test_other_arrays_are_refused(tmp_path):
  with VideoWriter(tmp_path / 'a.mp4', Format(HEIGHT, WIDTH)) as writer:
    writer.write(Frame(blocks()))
    with pytest.raises(TypeError, match='float64'):
      writer.write(Frame(blocks() / 255))
    with pytest.raises(ValueError, match='the output'):
      writer.write(Frame(blocks(64, 64)))
