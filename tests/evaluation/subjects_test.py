"""Subjects of an evaluation: another method's predictions."""

import numpy as np
import pytest
from small_clips import (
  SIZE,
  Brighter,
  read_row,
  run_evaluate,
  write_clip,
)

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import evaluate, subjects
from vitexco_jax.media import video


def evaluate_predictions(folder):
  return evaluate.evaluate(
    get_config('tiny'),
    subjects.predictions(str(folder / 'predictions')),
    str(folder / 'data'),
    folder / 'out',
  )


def write_predictions(folder, clip, shift=10, start=0):
  (folder / 'predictions' / clip).mkdir(parents=True)
  for path in sorted((folder / 'data' / clip).iterdir()):
    rgb = video.read_image(path) + np.uint8(shift)
    name = f'{int(path.stem) + start:05}.png'
    video.write_image(folder / 'predictions' / clip / name, rgb)


def test_predictions_are_scored_like_the_network(folder):
  for clip in ('walk', 'boat'):
    write_predictions(folder, clip)
  expected = evaluate_predictions(folder)['protocols']['first-frame']
  actual = run_evaluate(folder, Brighter())['protocols']['first-frame']
  assert expected['mean']['predictions'] == actual['mean']['vitexco']
  assert expected['mean']['truth'] == actual['mean']['truth']


def test_several_predictions_are_compared_by_label(folder):
  write_predictions(folder, 'walk', shift=4)
  write_predictions(folder, 'boat', shift=4)
  (folder / 'predictions').rename(folder / 'close')
  write_predictions(folder, 'walk', shift=9)
  write_predictions(folder, 'boat', shift=9)
  first, *others = subjects.read_predictions(
    [f'A, new={folder / "close"}', str(folder / 'predictions')]
  )
  arguments = (
    get_config('tiny'),
    first,
    str(folder / 'data'),
    folder / 'out',
    ['first-frame'],
    ['gray'],
    None,
    others,
  )
  summary = evaluate.evaluate(*arguments)
  methods = summary['protocols']['first-frame']['mean']
  assert list(methods) == ['truth', 'A, new', 'predictions', 'gray']
  assert methods['A, new']['psnr'] > methods['predictions']['psnr']
  report = (folder / 'out/report.md').read_text()
  best = f'{methods["A, new"]["psnr"]:.2f}'
  assert f'| A, new | **{best}** |' in report


@pytest.mark.parametrize(
  'labels, sentence',
  [
    (['a', 'a'], 'the label a is used twice'),
    (['gray'], 'the label gray is taken'),
  ],
)
def test_labels_are_unique(folder, labels, sentence):
  write_predictions(folder, 'walk')
  values = [f'{label}={folder / "predictions"}' for label in labels]
  with pytest.raises(UserError, match=sentence):
    first, *others = subjects.read_predictions(values)
    evaluate.evaluate(
      get_config('tiny'),
      first,
      str(folder / 'data'),
      folder / 'out',
      others=others,
    )


def test_each_protocol_has_its_own_predictions(folder):
  for protocol, shift in (('first-frame', 4), ('aged', 9)):
    for clip in ('walk', 'boat'):
      write_predictions(folder, clip, shift)
    (folder / 'predictions').rename(folder / protocol)
    (folder / 'of_all').mkdir(exist_ok=True)
    (folder / protocol).rename(folder / 'of_all' / protocol)
  names = ['first-frame', 'aged']

  def run(protocols):
    return evaluate.evaluate(
      get_config('tiny'),
      subjects.predictions(str(folder / 'of_all'), protocols=protocols),
      str(folder / 'data'),
      folder / 'out',
      protocols,
    )

  tables = run(names)['protocols']
  means = [tables[x]['mean']['predictions']['psnr'] for x in names]
  np.testing.assert_allclose(means[0], 20 * np.log10(255 / 4))
  assert means[1] < means[0]  # Compared with the aged clip.
  with pytest.raises(UserError, match='of_all` has no folder multi: add it'):
    run(['first-frame', 'multi'])


@pytest.mark.parametrize('protocols', [['aged'], ['first-frame', 'multi']])
def test_predictions_of_unclear_protocols_are_refused(folder, protocols):
  write_predictions(folder, 'walk')
  with pytest.raises(UserError, match='needs a folder .*--mode=inputs writes'):
    subjects.predictions(str(folder / 'predictions'), protocols=protocols)


def test_a_video_predicts_a_single_clip(folder):
  clip = write_clip(folder / 'data' / 'only' / 'walk', 4)
  form = video.Format(*SIZE)
  with video.VideoWriter(folder / 'predictions.mkv', form) as writer:
    for rgb in clip:
      writer.write(video.Frame(rgb))
  summary = evaluate.evaluate(
    get_config('tiny'),
    subjects.predictions(str(folder / 'predictions.mkv')),
    str(folder / 'data/only/walk'),
    folder / 'out',
  )
  row = read_row(summary, 'walk', method='predictions')
  assert row['psnr'] > 30  # Loss of H.264.


def test_predictions_that_do_not_fit_are_refused(folder):
  write_predictions(folder, 'walk')
  with pytest.raises(UserError, match='has 12 frames, but the clip boat .* 3'):
    evaluate_predictions(folder)
  write_clip(folder / 'predictions' / 'other', 2)
  with pytest.raises(
    UserError, match='no clips named boat, for .* among: other, walk'
  ):
    evaluate_predictions(folder)
  write_predictions(folder, 'boat', start=1)
  with pytest.raises(
    UserError, match='boat has a frame 00001 where the clip boat .* 00000'
  ):
    evaluate_predictions(folder)
  for path in (folder / 'predictions/boat').iterdir():
    path.unlink()
  for i in range(3):
    video.write_image(
      folder / f'predictions/boat/{i:05}.png', np.zeros((48, 80, 3), np.uint8)
    )
  with pytest.raises(
    UserError, match='frame 0 of boat is 80x48, the true frame is 64x48'
  ):
    evaluate_predictions(folder)
