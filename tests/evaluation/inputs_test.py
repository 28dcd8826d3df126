"""The inputs of an evaluation, and scoring of what a method made of them."""

import numpy as np
import pytest
from small_clips import read_frames, write_clip

from configs.vitexco import get_config
from vitexco_jax import color
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import evaluate, subjects
from vitexco_jax.evaluation.inputs import write_inputs
from vitexco_jax.media import video


def test_frames_are_gray_and_references_named_by_frame(folder):
  out = folder / 'inputs'
  write_inputs(
    get_config('tiny'), str(folder / 'data'), out, ['far-frame', 'none']
  )
  true = read_frames(folder, 'walk', 6)[0]
  reference = video.read_image(out / 'far-frame/references/walk/ref_000006.png')
  np.testing.assert_array_equal(reference, true)
  assert not list((out / 'none/references/walk').iterdir())
  frames = out / 'far-frame/frames/walk'
  assert [x.name for x in sorted(frames.iterdir())] == [
    f'{i:05d}.png' for i in range(12)
  ]
  gray = video.read_image(frames / '00006.png')
  assert (gray == gray[..., :1]).all()
  lightness = [np.asarray(color.uint8_to_lab(x))[..., 0] for x in (gray, true)]
  np.testing.assert_allclose(*lightness, atol=0.3)


def test_what_was_made_of_the_inputs_is_scored_by_protocol(folder):
  # A method that returns the gray frames has exactly the error of gray.
  protocols = ['entering', 'aged']
  out = folder / 'inputs'
  write_inputs(get_config('tiny'), str(folder / 'data'), out, protocols)
  (folder / 'results').mkdir()
  for protocol in protocols:
    (out / protocol / 'frames').rename(folder / 'results' / protocol)
  summary = evaluate.evaluate(
    get_config('tiny'),
    subjects.predictions(str(folder / 'results'), protocols=protocols),
    str(folder / 'data'),
    folder / 'out',
    protocols,
    ['gray'],
  )
  for protocol in protocols:
    means = summary['protocols'][protocol]['mean']
    assert means['predictions'] == means['gray']


@pytest.mark.parametrize(
  'protocols, sentence',
  [
    (['best'], '`protocols=best`: known are first-frame, '),
    (['retrieved'], '`protocols=retrieved` needs `gallery`'),
  ],
)
def test_protocols_are_checked_first(tmp_path, protocols, sentence):
  write_clip(tmp_path / 'data' / 'walk', 3)
  with pytest.raises(UserError, match=sentence):
    write_inputs(
      get_config('tiny'), str(tmp_path / 'data'), tmp_path / 'out', protocols
    )
  assert not (tmp_path / 'out').exists()
