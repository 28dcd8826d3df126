"""Files of plans: written, edited, and invalid ones."""

import json
from pathlib import Path

import pytest
from three_shots import embed

from vitexco_jax.errors import UserError
from vitexco_jax.inference import plan


@pytest.mark.parametrize(
  'widths, message',
  [
    ([1, 2, 3], 'must be four numbers'),
    ([1, 2, 3, -4], 'must be four numbers'),
    ([True, 2, 3, 4], 'must be four numbers'),
    ('none', 'must be a list'),
    ([10, 10, 0, 0], 'shot 1 has borders that leave 64x28 pixels of 64x48'),
    ([10**9, 0, 0, 0], 'shot 1 has borders that leave'),
  ],
)
def test_impossible_borders_are_refused(
  tmp_path, surveyed, references, widths, message
):
  film_plan = plan.same_for_all(surveyed, [str(references / 'two.png')])
  path = tmp_path / 'plan.json'
  plan.write(path, film_plan)
  entries = json.loads(path.read_text())
  entries['shots'][0]['borders'] = widths
  path.write_text(json.dumps(entries))
  with pytest.raises(UserError, match=message):
    plan.read(path)


@pytest.mark.parametrize(
  'shot, value, message',
  [
    (0, -1, 'shot 1: "dissolve" is -1, but'),
    (0, 10, 'shot 1: "dissolve" is 10, but it must be a number of its 9'),
    (0, 'fade', '"dissolve" must be a number'),
    (2, 3, 'shot 3 is the last one'),
  ],
)
def test_impossible_dissolves_are_refused(
  tmp_path, surveyed, references, shot, value, message
):
  film_plan = plan.same_for_all(surveyed, [str(references / 'two.png')])
  path = tmp_path / 'plan.json'
  plan.write(path, film_plan)
  entries = json.loads(path.read_text())
  entries['shots'][shot]['dissolve'] = value
  path.write_text(json.dumps(entries))
  with pytest.raises(UserError, match=message):
    plan.read(path)


def test_dissolves_are_restored(tmp_path, surveyed, references):
  film_plan = plan.same_for_all(surveyed, [str(references / 'two.png')])
  first, *others = film_plan.shots
  shots = first._replace(dissolve=4), *others
  plan.write(tmp_path / 'plan.json', film_plan._replace(shots=shots))
  back = plan.read(tmp_path / 'plan.json')
  assert [x.dissolve for x in back.shots] == [4, 0, 0]
  assert '(4 dissolve)' in plan.table(back)


def test_a_plan_is_restored(tmp_path, surveyed, references):
  film_plan = plan.match(
    surveyed, plan.list_references(references, surveyed), embed
  )
  path = tmp_path / 'deeper' / 'plan.json'
  path.parent.mkdir()
  plan.write(path, film_plan)
  back = plan.read(path)
  assert back._replace(video='', shots=()) == film_plan._replace(
    video='', shots=()
  )
  for actual, expected in zip(back.shots, film_plan.shots, strict=True):
    assert actual[:2] == expected[:2]
    for a, b in zip(expected.references, actual.references, strict=True):
      assert b[1:] == a[1:] and Path(b.picture).samefile(a.picture)
  entry = json.loads(path.read_text())['shots'][0]['references'][0]
  assert entry['picture'] == '../stills/zero.png'


def _edit(change):
  def apply(entries):
    change(entries)
    return json.dumps(entries)

  return apply


@pytest.mark.parametrize(
  'edit, sentence',
  [
    (lambda x: '{"video": ', r'is not JSON: .* at line 1'),
    (lambda x: '[]', r'must be a JSON object, in braces'),
    (_edit(lambda x: x['video'].pop('width')), '"width" must be a num'),
    (_edit(lambda x: x['video'].update(frame_rate='x')), 'frame_rate is no'),
    (_edit(lambda x: x['video'].update(frame_rate='0')), 'frame_rate is no'),
    (_edit(lambda x: x['video'].update(frame_rate='1/0')), 'frame_rate is no'),
    (
      _edit(lambda x: x['video'].update(frame_rate='1e999999999')),
      'frame_rate is no',
    ),
    (lambda x: '{"video": NaN}', 'NaN is not a number'),
    (lambda x: '{"video": ' + '9' * 5000 + '}', 'is too long'),
    (lambda x: '{"video": ' + '[' * 10**5, 'nested too deeply'),
    (_edit(lambda x: x.update(shots={})), '"shots" must be a list'),
    (_edit(lambda x: x.update(video=[])), '"video" must be an object'),
    (
      _edit(lambda x: x.update(shots=[[]] * 3)),
      '"references" must be a list',
    ),
    (
      _edit(lambda x: x['shots'][0].update(references=[[]])),
      '"picture" must be a text',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(score='x')),
      '"score" must be a number',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(fram=3)),
      'there is no "fram"; known are picture, score, frame',
    ),
    (
      _edit(lambda x: x['shots'][0].update(end=3)),
      'there is no "end"; known are start, stop, references',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(picture='x' * 300)),
      'there is no picture',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(picture='\0')),
      'there is no picture',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(picture='\ud800')),
      'there is no picture',
    ),
    (_edit(lambda x: x['shots'].pop(1)), 'shot 2 starts at frame 21, not at 9'),
    (_edit(lambda x: x['shots'].pop()), 'last shot stops at 21, but .* 28'),
    (_edit(lambda x: x['shots'][1].update(stop=9)), 'shot 2 must stop after'),
    (_edit(lambda x: x['shots'][1].update(stop=True)), '"stop" must be a'),
    (
      _edit(lambda x: x['shots'][0].update(references='skipped')),
      '"references" must be a list',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'].append({'picture': 'none'})),
      'shot 1: "none" must be the only picture, without a frame',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(picture='x.png')),
      r'shot 1: there is no picture .*x\.png',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(frame=9)),
      'shot 1 has a reference bound to frame 9, .* between 0 and 8',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(frame='3')),
      '"frame" must be a number',
    ),
    (
      _edit(
        lambda x: x['shots'][1]['references'].append(
          x['shots'][1]['references'][0]
        )
      ),
      'shot 2 has two references bound to frame 11',
    ),
  ],
)
def test_an_invalid_plan_is_refused(
  tmp_path, surveyed, references, edit, sentence
):
  path = tmp_path / 'plan.json'
  choices = plan.list_references(references, surveyed)
  plan.write(path, plan.match(surveyed, choices, embed))
  path.write_text(edit(json.loads(path.read_text())))
  with pytest.raises(UserError, match=sentence) as caught:
    plan.read(path)
  assert str(path) in str(caught.value) and '\n' not in str(caught.value)
