"""Checks before any frame is colored and before JAX is imported."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.inference import film, outputs, plan, preflight
from vitexco_jax.media import video

SIZE = (48, 64)
OPTIONS = outputs.Options()


def _picture(seed=0, gray=False):
  small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
  rgb = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
  return np.repeat(rgb[..., 1:2], 3, -1) if gray else rgb


@pytest.fixture
def home(tmp_path):
  """A gray film, a folder of its frames, and references."""
  for name in ('frames', 'stills', 'empty'):
    (tmp_path / name).mkdir()
  with video.VideoWriter(tmp_path / 'film.mp4', video.Format(*SIZE)) as writer:
    for i in range(3):
      writer.write(video.Frame(_picture(i, gray=True)))
      video.write_image(tmp_path / f'frames/{i}.png', _picture(i, gray=True))
  video.write_image(tmp_path / 'color.png', _picture())
  video.write_image(tmp_path / 'gray.png', _picture(gray=True))
  video.write_image(tmp_path / 'stills/a.png', _picture(1))
  video.write_image(tmp_path / 'stills/b.png', _picture(2, gray=True))
  return tmp_path


def _check(home, source='film.mp4', output='out.mp4', pictures=None, **kwargs):
  if pictures is None:
    pictures = () if {'references', 'plan_path'} & {*kwargs} else ['color.png']
  pictures = [x if x == plan.FIRST_FRAME else str(home / x) for x in pictures]
  arguments = {'overwrite': True, 'options': OPTIONS} | kwargs
  return preflight.check(home / source, pictures, home / output, **arguments)


def _contents(home):
  return {x: x.read_bytes() for x in home.rglob('*') if x.is_file()}


@pytest.mark.parametrize(
  'source, output',
  [
    ('film.mp4', 'film.mp4'),
    ('film.mp4', 'link.mp4'),
    ('film.mp4', 'hard.mp4'),
    ('link.mp4', 'film.mp4'),
    ('frames', 'frames'),
    ('frames', 'frames/'),
    ('frames', 'link'),
    ('frames', 'frames/out'),
    ('linked', 'frames'),
    ('frames/0.png', 'frames'),
    ('frames/0.png', 'frames/0.png'),
    ('.out.partial.mp4', 'out.mp4'),
  ],
)
def test_an_output_cannot_be_its_source(home, source, output):
  (home / 'link.mp4').symlink_to(home / 'film.mp4')
  (home / 'hard.mp4').hardlink_to(home / 'film.mp4')
  (home / '.out.partial.mp4').hardlink_to(home / 'film.mp4')
  (home / 'link').symlink_to(home / 'frames')
  (home / 'linked').mkdir()
  for i in range(3):
    (home / f'linked/{i}.png').symlink_to(home / f'frames/{i}.png')
  before = _contents(home)
  with pytest.raises(UserError, match='name another output'):
    _check(home, source, output)
  film_plan = plan.Plan('', *SIZE[::-1], 3, Fraction(25), ())
  with pytest.raises(UserError, match='name another output'):
    film.Film([None], home / source, film_plan, home / output, True)
  assert _contents(home) == before


@pytest.mark.parametrize(
  'output, kwargs',
  [
    ('color.png', {'source': 'gray.png'}),
    ('stills', {'references': 'stills'}),
    ('stills', {'pictures': ['stills/a.png']}),
    ('out.mp4', {'options': OPTIONS._replace(compare='film.mp4')}),
    (
      'out',
      {
        'options': OPTIONS._replace(confidence='stills/a.png'),
        'references': 'stills',
        'source': 'gray.png',
      },
    ),
  ],
)
def test_an_output_cannot_be_a_reference(home, output, kwargs):
  if 'references' in kwargs:
    kwargs['references'] = home / kwargs['references']
  for name in ('compare', 'confidence'):
    value = getattr(kwargs.get('options', OPTIONS), name)
    if value:
      kwargs['options'] = OPTIONS._replace(**{name: home / value})
  with pytest.raises(UserError, match='name another output'):
    _check(home, output=output, **kwargs)


def test_outputs_next_to_inputs_are_allowed(home):
  assert _check(home, output='stills.mp4') == []
  assert _check(home, 'frames', 'frames/film.mp4') == []
  assert _check(home, 'frames', 'colored') == []
  assert _check(home, 'gray.png', 'frames/a.png') == []


@pytest.mark.parametrize(
  'kwargs, sentence',
  [
    ({'source': 'no.mp4'}, 'no.mp4 does not exist'),
    ({'output': 'out.png'}, 'out.png is one image but .* more frames'),
    ({'source': 'frames', 'output': 'out.png'}, 'is one image'),
    ({'pictures': ['no.png']}, 'cannot read .*no.png'),
    ({'pictures': ['gray.png']}, 'gray.png has no color'),
    ({'pictures': ['first-frame']}, 'the first frame of .* has no color'),
    ({'pictures': ['first-frame', 'color.png']}, 'first frame .* no color'),
    ({'references': 'empty'}, 'empty` has no pictures'),
    ({'references': 'no'}, 'no` does not exist'),
    ({'references': 'list.txt'}, 'list.txt` names .*wrong.png'),
    ({'references': 'list.csv'}, "a.png: 'nan' is neither a frame"),
    ({'references': 'gray.txt'}, 'gray.png has no color'),
    ({'output': 'x' * 300 + '.mp4'}, 'more than the 255 bytes'),
    ({'output': 'film.mp4/out.mp4'}, 'cannot write .*Not a directory'),
    ({'frame_rate': Fraction(24)}, '`frame_rate` is for a folder'),
    ({'options': OPTIONS._replace(audio='of')}, '`audio=of` must be auto or'),
    ({'plan_path': 'plan.json'}, 'there is no picture .*wrong.png'),
  ],
)
def test_errors_are_detected_early(home, kwargs, sentence):
  (home / 'list.txt').write_text('stills/a.png\nwrong.png\n')
  (home / 'list.csv').write_text('file,time\nstills/a.png,nan\n')
  (home / 'gray.txt').write_text('gray.png\nstills/b.png\n')
  shot = plan.Shot(0, 3, (plan.Choice(str(home / 'wrong.png')),))
  film_plan = plan.Plan(
    str(home / 'film.mp4'), *SIZE[::-1], 3, Fraction(25), (shot,)
  )
  plan.write(home / 'plan.json', film_plan)
  for name in ('references', 'plan_path'):
    if name in kwargs:
      kwargs = kwargs | {name: home / kwargs[name]}
  with pytest.raises(UserError, match=sentence):
    _check(home, **kwargs)


def test_one_of_several_references_may_be_gray(home):
  (warning,) = _check(home, references=home / 'stills')
  assert 'b.png has no color' in warning


@pytest.mark.parametrize(
  'name', ['ä' * 120 + '.mp4', 'n' * 246 + '.mp4', 'x' * 255]
)
def test_names_up_to_the_limit_of_the_file_system(home, name):
  output = home / name
  assert _check(home, output=name) == []
  assert outputs.part_folder(output) != outputs.part_folder(
    home / f'y{name[1:]}'
  )
  if output.suffix:
    with video.VideoWriter(output, video.Format(*SIZE)) as writer:
      writer.write(video.Frame(_picture()))
    before = output.stat().st_size
    with video.VideoWriter(output, video.Format(*SIZE), True) as writer:
      writer.write(video.Frame(_picture()))
    assert output.stat().st_size == before
  else:
    for i in range(2):
      with video.VideoWriter(output, video.Format(*SIZE), i > 0) as writer:
        writer.write(video.Frame(_picture()))
    assert len([*output.iterdir()]) == 1
  assert not [x for x in home.iterdir() if x.name.startswith('.')]


@pytest.mark.parametrize(
  'text, rate',
  [
    ('24', Fraction(24)),
    ('24000/1001', Fraction(24000, 1001)),
    ('12.5', Fraction(25, 2)),
    (None, None),
    *((x, UserError) for x in ('0', '-1', 'nan', 'inf', '1/0', 'x', '1e9')),
  ],
)
def test_frame_rates(text, rate):
  if rate is UserError:
    with pytest.raises(UserError, match='`frame_rate='):
      preflight.read_frame_rate(text)
  else:
    assert preflight.read_frame_rate(text) == rate


def _tape(path, size=SIZE, order=''):
  form = video.Format(*size, field_order=order)
  with video.VideoWriter(path, form, coding=video.Coding('ffv1')) as writer:
    for _ in range(2):
      writer.write(video.Frame(np.full((*size, 3), 90, np.uint8)))


@pytest.mark.parametrize(
  'output, codec, deinterlace, expected',
  [
    ('out.mp4', 'h264', False, 'out.mp4 will be so too, bottom field first'),
    ('out.mkv', 'ffv1', False, 'out.mkv will be so too, bottom field first'),
    ('out.mkv', 'hevc', False, 'out.mkv will show combs'),
    ('new', 'h264', False, 'new will show combs'),
    ('out.mp4', 'h264', True, None),
    ('new', 'h264', True, None),
  ],
)
def test_interlaced_video_causes_a_message(
  home, output, codec, deinterlace, expected
):
  _tape(home / 'tape.mkv', order='bb')
  options = OPTIONS._replace(
    coding=video.Coding(codec), deinterlace=deinterlace
  )
  warnings = _check(home, 'tape.mkv', output, options=options)
  assert len(warnings) == bool(expected)
  for warning in warnings:
    assert 'tape.mkv is interlaced' in warning and expected in warning
    assert '`deinterlace`' in warning


@pytest.mark.parametrize(
  'size, codec, is_said',
  [
    ((48, 65), 'h264', True),
    ((49, 64), 'hevc', True),
    ((48, 64), 'h264', False),
    ((49, 63), 'prores', False),
    ((49, 65), 'prores4444', False),
    ((49, 65), 'ffv1', False),
  ],
)
def test_odd_sides_cause_a_message_about_444(home, size, codec, is_said):
  _tape(home / 'odd.mkv', size)
  options = OPTIONS._replace(coding=video.Coding(codec))
  warnings = _check(
    home, 'odd.mkv', 'out.mov' if codec != 'ffv1' else 'o.mkv', options=options
  )
  assert len(warnings) == is_said
  assert all('4:4:4' in x and f'{size[1]}x{size[0]}' in x for x in warnings)


@pytest.mark.parametrize('source', ['frames', 'color.png'])
def test_only_video_is_deinterlaced(home, source):
  options = OPTIONS._replace(deinterlace=True)
  with pytest.raises(UserError, match='leave out `deinterlace`'):
    _check(home, source, 'out', options=options)


def test_checks_do_not_import_jax():
  code = (
    'import sys; from vitexco_jax.inference import preflight; '
    'print("jax" in sys.modules, "flax" in sys.modules)'
  )
  root = Path(preflight.__file__).parents[2]
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=root, capture_output=True, text=True
  )
  assert done.stdout == 'False False\n', done.stderr
