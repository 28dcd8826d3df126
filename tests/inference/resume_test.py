"""Resuming: damaged or foreign files in a `.part` folder are replaced."""

import os
import re
import shutil
from fractions import Fraction

import numpy as np
import pytest
from damages import DAMAGES, flip, remove, truncate
from painter import SIZE, Painter
from skimage import color as skcolor

from vitexco_jax.errors import UserError
from vitexco_jax.inference import assembly, film, schedule
from vitexco_jax.inference.outputs import Options
from vitexco_jax.inference.plan import Choice, Plan, Shot
from vitexco_jax.media import mux, video

COUNT = 23
NAMES = 'out.mp4', 'both', 'sure.mkv'


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(schedule, 'BLOCK', 4)


def _write_film(path, shade):
  with video.VideoWriter(path, video.Format(*SIZE)) as writer:
    for number in range(COUNT):
      rgb = np.full((*SIZE, 3), shade + 3 * number, np.uint8)
      rgb[: 2 * number] //= 2
      writer.write(video.Frame(rgb, name=f'{number:03d}'))


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A film as a video and as frames, and two references."""
  folder = tmp_path_factory.mktemp('home')
  _write_film(folder / 'film.mkv', 100)
  _write_film(folder / 'frames', 100)
  for name, a in (('red', 20), ('green', -20)):
    lab = np.broadcast_to(np.float32([60, a, 0]), (*SIZE, 3))
    rgb = np.uint8(np.round(skcolor.lab2rgb(lab) * 255))
    video.write_image(folder / f'{name}.png', rgb)
  return folder


def _plan(home):
  """A shot in three blocks, and one in three stretches."""
  red, green = (str(home / f'{name}.png') for name in ('red', 'green'))
  bound = Choice(green, frame=13), Choice(red, frame=21)
  shots = Shot(0, 11, (Choice(red),)), Shot(11, COUNT, bound)
  return Plan('film', SIZE[1], SIZE[0], COUNT, Fraction(25), shots)


def _run(home, folder, stop=None, source='film.mkv', name='out.mp4', **kwargs):
  """Colors into a folder, up to step `stop`; returns the numbers of frames."""
  options = Options(compare=folder / 'both', confidence=folder / 'sure.mkv')
  painter = Painter()
  painter.config.use.still_agreement = 0.0  # The references are plain colors.
  job = film.Film(
    [painter],
    home / source,
    _plan(home),
    folder / name,
    **{'options': options} | kwargs,
  )
  run = job.run()
  numbers = []
  for step in run:
    if step.rgb is not None:
      numbers.append(step.number)
    if step.done == stop:
      break
  run.close()
  return numbers


# By then frames 0 to 16 are there, and the colors back from frame 21.
STOP = 11 + 5 + 9 + 6


@pytest.fixture(scope='module')
def stopped(home, tmp_path_factory):
  """An undisturbed run, and one that was stopped."""
  folders = [tmp_path_factory.mktemp(x) for x in ('whole', 'stopped')]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(schedule, 'BLOCK', 4)
    _run(home, folders[0])
    _run(home, folders[1], STOP)
  return folders


def _contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def _copied(stopped, tmp_path):
  """A copy of the stopped run, and its files in their order."""
  folder = tmp_path / 'again'
  shutil.copytree(stopped[1], folder)
  return folder, sorted(x for x in folder.rglob('*') if x.is_file())


@pytest.mark.parametrize('every', [1, 3])
@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_files_do_not_change_the_result(
  home, stopped, tmp_path, damage, every
):
  folder, paths = _copied(stopped, tmp_path)
  for path in paths[DAMAGES.index(damage) % every :: every]:
    damage(path)
  _run(home, folder)
  assert _contents(folder) == _contents(stopped[0])


def test_the_folder_has_all_kinds_of_files(stopped, tmp_path):
  folder, paths = _copied(stopped, tmp_path)
  names = {str(x.relative_to(folder / 'out.mp4.part')) for x in paths}
  expected = {'settings.json', '0000000.npy', '0000004.npy', '0000013.npy'}
  expected |= {f'0000013.backwards.{suffix}' for suffix in ('npy', 'json')}
  for start, stop in ((0, 4), (4, 8), (8, 11), (11, 13), (13, 17)):
    block = f'{start:07d}'
    expected |= {f'{block}.json', f'output/{block}.mkv'}
    expected |= {f'confidence/{block}.mkv'}
    frames = range(start, stop)
    expected |= {f'compare/{block}/{number:06d}.png' for number in frames}
  assert names == expected


@pytest.mark.parametrize(
  'name, numbers, said',
  [
    (
      'output/0000004.mkv',
      range(4, 8),
      '4 to 7 are colorized again: .*4.mkv has',
    ),
    (
      '0000000.json',
      range(4),
      '0 to 3 are colorized again: .*000.json is damag',
    ),
    # Nothing starts from frame 7, but from frame 16.
    ('0000004.npy', (), None),
    (
      '0000013.npy',
      range(13, 17),
      '13 to 16 are colorized again: .*13.npy has',
    ),
    ('0000013.backwards.npy', (), '13 to 20 are matched again: .*s.npy has'),
    ('settings.json', (), 'settings.json is damaged'),
  ],
)
def test_only_damaged_parts_are_colored_again(
  home, stopped, tmp_path, caplog, name, numbers, said
):
  folder, _ = _copied(stopped, tmp_path)
  truncate(folder / 'out.mp4.part' / name)
  assert _run(home, folder) == [*numbers, *range(17, COUNT)]
  assert _contents(folder) == _contents(stopped[0])
  warnings = caplog.messages
  assert len(warnings) == (said is not None)
  assert said is None or re.search(said, warnings[0])


@pytest.mark.parametrize('source', ['film.mkv', 'frames'])
def test_another_film_with_the_same_name_and_size_starts_over(
  home, tmp_path, caplog, source
):
  old, new = tmp_path / 'old', tmp_path / 'new'
  for folder in (old, new):
    folder.mkdir()
    for name in ('red.png', 'green.png'):
      shutil.copy(home / name, folder)
    _write_film(folder / source, 100 if folder == old else 120)
  _equalize(old / source, new / source)
  _run(new, tmp_path / 'expected', source=source)
  _run(old, tmp_path / 'out', STOP, source)
  video.move(new / source, old / source)
  caplog.clear()
  assert _run(old, tmp_path / 'out', source=source) == [*range(COUNT)]
  assert _contents(tmp_path / 'out') == _contents(tmp_path / 'expected')
  message = caplog.text
  assert 'out.mp4.part was begun with another content of' in message
  assert len(message.splitlines()) == 1


def _equalize(old, new):
  """Makes two films equal in sizes and times of change."""
  pairs = [(old, new)]
  if old.is_dir():
    pairs = [(path, new / path.name) for path in old.iterdir()]
  for paths in pairs:
    size = max(path.stat().st_size for path in paths)
    for path in paths:
      with open(path, 'r+b') as file:
        file.truncate(size)
      os.utime(path, (10**9, 10**9))


def test_a_film_may_be_renamed(home, stopped, tmp_path):
  folder, _ = _copied(stopped, tmp_path)
  shutil.copy(home / 'film.mkv', tmp_path / 'renamed.mkv')
  _run(home, folder, source=tmp_path / 'renamed.mkv')
  assert _contents(folder) == _contents(stopped[0])


def test_blocks_of_other_settings_are_not_used(home, stopped, tmp_path):
  folder, _ = _copied(stopped, tmp_path)
  remove(folder / 'out.mp4.part' / 'settings.json')
  options = Options(
    saturation=0.5, compare=folder / 'both', confidence=folder / 'sure.mkv'
  )
  assert _run(home, folder, options=options) == [*range(COUNT)]


@pytest.fixture
def unmoved(home, tmp_path, monkeypatch):
  """A run that was killed when its outputs were whole."""

  def stop(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(film.Film, '_move', stop)
    with pytest.raises(KeyboardInterrupt):
      _run(home, tmp_path / 'again')
  return tmp_path / 'again'


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('number', range(2))
def test_complete_outputs_are_verified_too(
  home, stopped, unmoved, number, damage
):
  names = '.out.mp4.whole', '.out.partial.mp4', '.both.partial/000003.png'
  damage(unmoved / names[(number + DAMAGES.index(damage)) % 3])
  _run(home, unmoved)
  assert _contents(unmoved) == _contents(stopped[0])


def test_finished_outputs_are_not_replaced(home, stopped, unmoved):
  video.move(unmoved / '.out.partial.mp4', unmoved / 'out.mp4')
  flip(unmoved / '.sure.partial.mkv')
  with pytest.raises(UserError, match='out.mp4 exists: set `overwrite`'):
    _run(home, unmoved)
  assert not _run(home, unmoved, overwrite=True)
  assert _contents(unmoved) == _contents(stopped[0])


def test_frames_are_counted_during_assembly(home, tmp_path, monkeypatch):
  gather = assembly.gather

  def lossy(job, track, blocks, path):
    remove(job.journal.folder / 'compare/0000004/000005.png')
    gather(job, track, blocks, path)

  with monkeypatch.context() as patch:
    patch.setattr(assembly, 'gather', lossy)
    with pytest.raises(UserError, match='0000004 has 3 frames instead of 4'):
      _run(home, tmp_path)
  short = tmp_path / 'short.mkv'
  with video.VideoWriter(short, video.Format(*SIZE)) as writer:
    for _ in range(3):
      writer.write(video.Frame(np.zeros((*SIZE, 3), np.uint8)))
  for stamps in (range(4), range(2)):
    with pytest.raises(UserError, match='short.mkv has 3 frames instead of'):
      mux.join(
        [mux.Segment(short, stamps, 0)],
        video.Format(*SIZE),
        None,
        tmp_path / 'joined.mkv',
      )
