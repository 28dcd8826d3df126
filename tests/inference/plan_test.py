"""The mode plan: its files, its output, and retrieval."""

from pathlib import Path

import pytest
from three_shots import embed, shot_picture

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.inference import contact_sheet, plan
from vitexco_jax.media import video
from vitexco_jax.retrieval import build, embedding


def test_the_mode_writes_prints_and_draws(
  tmp_path, three_shots, references, capsys, monkeypatch
):
  monkeypatch.setattr(embedding, 'make_embedder', lambda config: embed)
  monkeypatch.setattr(contact_sheet, '_ROWS', 2)
  output = tmp_path / 'plans' / 'film.json'
  film_plan = plan.plan_film(None, three_shots, (), output, references)
  assert plan.read(output).shots[1].references[0].frame == 11
  printed = capsys.readouterr().out
  assert plan.table(film_plan) in printed
  assert '   2    9-20  0:00:00.9   1.00  ref_00011.png (frame 11)' in printed
  sheets = sorted(output.parent.glob('*.jpg'))
  assert [path.name for path in sheets] == ['film.jpg', 'film_2.jpg']
  edl = (output.parent / 'film_cuts.edl').read_text()
  assert edl.count('* FROM CLIP NAME: ') == 3
  rows = (output.parent / 'film_cuts.csv').read_text().splitlines()
  assert rows[2].startswith('2,9,21,') and rows[2].endswith('ref_00011.png')
  assert video.read_image(sheets[0]).shape[0] == 2 * (22 + 180) + 4
  with pytest.raises(UserError, match='film.json` exists and may have been'):
    plan.plan_film(None, three_shots, (), output, references)
  with pytest.raises(UserError, match='end its name in .json'):
    plan.plan_film(None, three_shots, (), tmp_path / 'plan.txt', references)
  still = tmp_path / 'still.jpg'
  still.write_bytes(b'original')
  with pytest.raises(UserError, match='still.json` might replace .*still.jpg'):
    plan.plan_film(
      None, three_shots, (), still.with_suffix('.json'), references
    )
  assert still.read_bytes() == b'original'
  for name in ('still_2.jpg', 'still_cuts.csv', 'still_cuts.edl'):
    still = still.rename(tmp_path / name)
    with pytest.raises(UserError, match=f'might replace .*{name}'):
      plan.plan_film(None, three_shots, (), tmp_path / 'still.json', references)


def test_a_plan_that_cannot_be_written_leaves_no_sheets(
  tmp_path, three_shots, references, monkeypatch
):
  def fail(*_):
    raise OSError('the disk is full')

  monkeypatch.setattr(plan, 'write', fail)
  with pytest.raises(UserError, match='disk is full'):
    plan.plan_film(
      None, three_shots, [str(references / 'two.png')], tmp_path / 'film.json'
    )
  assert [x.name for x in tmp_path.iterdir()] == ['stills']


def test_references_are_retrieved_from_a_gallery(tmp_path, three_shots):
  config = get_config('tiny')
  config.retrieval.network = 'vit'
  for seed in range(3):
    (tmp_path / 'images').mkdir(exist_ok=True)
    video.write_image(tmp_path / f'images/{seed}.png', shot_picture(seed))
  build.build_gallery(config, str(tmp_path / 'images'), tmp_path / 'gallery')
  result, _ = plan.make_plan(
    config, three_shots, [plan.AUTO], gallery=tmp_path / 'gallery'
  )
  assert [
    [Path(x.picture).name for x in shot.references] for shot in result.shots
  ] == [['0.png'], ['1.png'], ['2.png']]
  plan.check('the plan', result)


@pytest.mark.parametrize('name', ['x' * 300 + '.json', 'x' * 249 + '.json'])
def test_a_name_that_is_too_long_is_refused_first(tmp_path, three_shots, name):
  with pytest.raises(UserError, match='more than the 255 bytes'):
    plan.plan_film(None, three_shots, [plan.FIRST_FRAME], tmp_path / name)
  assert not list(tmp_path.iterdir())
