"""The whole program as a user calls it, tiny, on a real decoded clip.

With the paper's structure; tutorial_test.py does the like with that of `:small`.
"""

import json
import time

import calls
import cv2
import numpy as np
import pytest
import tiny_weights

from vitexco_jax.media import video

FRAMES = 24


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """Where the program runs: a folder with one clip of moving shapes."""
  path = tmp_path_factory.mktemp('home')
  (path / 'clips').mkdir()
  form = video.Format(64, 96)
  # Flat colors would count as no more than a tone of each lightness.
  noise = np.random.default_rng(0).uniform(0, 255, (8, 12, 3))
  background = cv2.resize(noise, (96, 64), interpolation=cv2.INTER_CUBIC)
  with video.VideoWriter(path / 'clips/shapes.mp4', form) as writer:
    for i in range(FRAMES):
      rgb = np.uint8(background.clip(0, 255))
      cv2.circle(rgb, (10 + 3 * i, 20), 12, (220, 60, 40), -1)
      cv2.rectangle(rgb, (80 - 2 * i, 40), (95 - 2 * i, 58), (60, 200, 80), -1)
      writer.write(video.Frame(rgb))
  tiny_weights.write_vit(path / 'Ti_16.npz')
  return path


def _call(home, *arguments):
  process = calls.start(home, *arguments)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert 'Traceback' not in err and 'Warning' not in err, err
  return out


def _refused(home, *arguments):
  """The sentence with which a call is refused."""
  process = calls.start(home, *arguments)
  out, err = process.communicate()
  assert process.returncode == 1, (out, err)
  sentence = err.splitlines()[-1]  # Below a progress bar, perhaps.
  assert sentence.startswith('error: '), err
  assert 'Traceback' not in err and 'Warning' not in err, err
  return sentence


VIT = '--config.train.vit_weights=Ti_16.npz'
TRAIN = (
  calls.PAPER_TINY,
  VIT,
  '--config.train.updates=16',
  '--config.train.checkpoint_every=4',
  '--config.train.strip_every=8',
)


@pytest.fixture(scope='module')
def prepared(home):
  _call(home, '--mode=prepare', calls.PAPER_TINY, VIT, '--videos=clips')
  return home


@pytest.fixture(scope='module')
def trained(prepared):
  _call(prepared, *TRAIN, '--workdir=whole')
  return prepared


@pytest.fixture(scope='module')
def exported(trained):
  _call(trained, '--mode=export', '--workdir=whole', '--output=weights/mine')
  return trained


def _rows(workdir):
  path = workdir / 'metrics.jsonl'
  text = path.read_text() if path.exists() else ''
  *lines, _ = text.split('\n')  # The last may be half written yet.
  return [
    {k: v for k, v in json.loads(x).items() if not k.endswith('_per_second')}
    for x in lines
  ]


def test_training_logs_all_losses(trained):
  rows = _rows(trained / 'whole')
  assert [row['update'] for row in rows] == list(range(1, 17))
  names = 'l1 adversarial perceptual contextual temporal smoothness'
  for name in (*names.split(), 'discriminator'):
    values = [row[f'raw/{name}'] for row in rows]
    assert np.isfinite(values).all() and len(set(values)) > 1, name
  strips = (trained / 'whole/strips').iterdir()
  assert sorted(x.name for x in strips) == ['000008.png', '000016.png']


def test_killed_and_resumed_equals_uninterrupted(trained):
  workdir = trained / 'killed'
  process = calls.start(trained, *TRAIN, '--workdir=killed')
  while process.poll() is None and len(_rows(workdir)) < 6:
    time.sleep(0.05)
  process.kill()
  err = process.communicate()[1]
  assert process.returncode == -9, err
  assert len(_rows(workdir)) < 16
  _call(trained, *TRAIN, '--workdir=killed')
  assert _rows(workdir) == _rows(trained / 'whole')


def test_another_architecture_does_not_resume(trained):
  message = _refused(
    trained, *TRAIN, '--workdir=whole', '--config.model.colorizer.width=0.125'
  )
  assert 'another architecture' in message and 'colorizer' in message
  config = json.loads((trained / 'whole/config.json').read_text())
  assert config['model']['colorizer']['width'] == 1 / 16


def test_colors_a_video(exported):
  arguments = (
    '--mode=colorize',
    '--video=clips/shapes.mp4',
    '--reference=first-frame',
    '--output=out/shapes.mp4',
    '--checkpoint=weights/mine',
  )
  _call(exported, *arguments)
  with video.VideoReader(exported / 'out/shapes.mp4') as reader:
    assert (reader.format.width, reader.format.height) == (96, 64)
    assert len(list(reader)) == FRAMES
  assert 'out/shapes.mp4 exists' in _refused(exported, *arguments)


def test_a_plan_is_written_and_followed(exported):
  stills = exported / 'stills'
  stills.mkdir()
  with video.VideoReader(exported / 'clips/shapes.mp4') as reader:
    for number, frame in enumerate(reader):
      if number == 3:
        video.write_image(stills / 'ref_00003.png', frame.rgb)
  out = _call(
    exported,
    '--mode=plan',
    '--video=clips/shapes.mp4',
    '--references=stills',
    '--output=plan.json',
    '--checkpoint=weights/mine',
  )
  assert 'ref_00003.png (frame 3)' in out and (exported / 'plan.jpg').exists()
  _call(
    exported,
    '--mode=colorize',
    '--video=clips/shapes.mp4',
    '--plan=plan.json',
    '--output=out/planned.mkv',
    '--checkpoint=weights/mine',
    '--codec=ffv1',
    '--compare=out/compare.mp4',
    '--working-size=32x48',
  )
  for name, width in (('planned.mkv', 96), ('compare.mp4', 192)):
    with video.VideoReader(exported / 'out' / name) as reader:
      assert reader.format.width == width
      assert len(list(reader)) == FRAMES
  assert not (exported / 'out/planned.mkv.part').exists()


def test_evaluates_the_clips(exported):
  out = _call(
    exported,
    '--mode=evaluate',
    '--data=clips',
    '--output=evaluation',
    '--checkpoint=weights/mine',
  )
  assert 'shapes' in out
  summary = json.loads((exported / 'evaluation/summary.json').read_text())
  means = summary['protocols']['first-frame']['mean']
  assert list(means) == ['truth', 'vitexco', 'gray', 'flow']
  assert means['vitexco']['psnr'] > 10


def test_training_without_data_names_the_command(home):
  message = _refused(
    home, calls.PAPER_TINY, VIT, '--config.data.records=nowhere'
  )
  assert '--mode=prepare' in message and 'nowhere' in message


def test_preparing_without_usable_videos_fails(home):
  (home / 'texts').mkdir()
  (home / 'texts/notes.txt').write_text('no video')
  message = _refused(
    home,
    '--mode=prepare',
    calls.PAPER_TINY,
    VIT,
    '--videos=texts',
    '--config.data.records=none',
  )
  assert '--videos=texts' in message


@pytest.mark.parametrize(
  'arguments',
  [
    (),
    ('--mode=prepare', '--videos=clips'),
    ('--mode=gallery', '--images=clips', '--gallery=gallery'),
  ],
)
def test_an_untrained_vit_is_refused(prepared, arguments):
  message = _refused(prepared, calls.PAPER_TINY, *arguments)
  for way in ('vit_weights=', 'pretrain', 'learning_rate.vit=', '.npz', 'timm'):
    assert way in message


@pytest.mark.parametrize(
  'changed, sentence',
  [
    ('--video=nowhere.mp4', 'nowhere.mp4 does not exist'),
    ('--reference=nowhere.png', 'cannot read nowhere.png'),
    ('--output=out.gif', 'out.gif cannot be written'),
    ('--checkpoint=nowhere', 'there is no checkpoint '),
  ],
)
def test_unusable_inputs_of_colorize_are_refused(exported, changed, sentence):
  message = _refused(
    exported,
    '--mode=colorize',
    '--video=clips/shapes.mp4',
    '--reference=first-frame',
    '--output=out.mp4',
    '--checkpoint=weights/mine',
    changed,
  )
  assert sentence in message
  assert not (exported / 'out.mp4').exists()
