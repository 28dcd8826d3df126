"""Plans: shots and references found, written, edited, and refused."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from configs.vitexco import get_config
from vitexco_jax.errors import UserError
from vitexco_jax.inference import contact_sheet, plan, survey
from vitexco_jax.inference.plan import Choice
from vitexco_jax.media import video
from vitexco_jax.media.borders import NONE, Borders
from vitexco_jax.retrieval import build, embedding

LENGTHS = (9, 12, 7)


def _picture(seed, size=(48, 64)):
  rgb = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
  return cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_CUBIC)


def _embed(pictures):
  """As grey thumbnails, centred: [b, 64] of unit length."""
  small = [
    cv2.resize(
      cv2.cvtColor(
        embedding.crop(rgb) if len(rgb) != 224 else rgb, cv2.COLOR_RGB2GRAY
      ),
      (8, 8),
    )
    for rgb in pictures
  ]
  flat = np.float32(small).reshape(len(small), -1)
  flat -= flat.mean(1, keepdims=True)
  return flat / np.linalg.norm(flat, axis=1, keepdims=True)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
  """Three shots, each a still picture."""
  path = tmp_path_factory.mktemp('film') / 'film.mp4'
  with video.VideoWriter(path, video.Format(48, 64, Fraction(10))) as writer:
    for seed, length in enumerate(LENGTHS):
      for _ in range(length):
        writer.write(video.Frame(_picture(seed)))
  return path


@pytest.fixture(scope='module')
def surveyed(film):
  return plan.survey(film, _embed)


@pytest.fixture
def references(tmp_path):
  folder = tmp_path / 'stills'
  folder.mkdir()
  for name, seed in {'two': 2, 'zero': 0, 'ref_00011': 1, 'other': 9}.items():
    video.write_image(folder / f'{name}.png', _picture(seed, (96, 128)))
  return folder


def test_a_survey_finds_shots_and_what_they_look_like(surveyed):
  shots = surveyed.plan.shots
  assert [(shot.start, shot.stop) for shot in shots] == [
    (0, 9),
    (9, 21),
    (21, 28),
  ]
  assert surveyed.plan[1:5] == (64, 48, 28, 10)
  assert surveyed.seconds == pytest.approx([i / 10 for i in range(28)])
  for seed, (seen, thumbnail) in enumerate(
    zip(surveyed.embeddings, surveyed.thumbnails, strict=True)
  ):
    assert len(seen) == 3
    scores = seen @ _embed([_picture(s) for s in range(3)]).T
    assert (scores.argmax(1) == seed).all()
    assert video.decode_image(thumbnail, '').shape == (180, 240, 3)


def test_borders_are_found_for_each_shot_and_not_compared(tmp_path):
  path = tmp_path / 'film.mkv'
  form, coding = video.Format(68, 64, Fraction(10)), video.Coding('ffv1')
  with video.VideoWriter(path, form, coding=coding) as writer:
    for seed, length in enumerate(LENGTHS):
      bar = 10 if seed != 2 else 0
      rgb = np.zeros((68, 64, 3), np.uint8)
      rgb[bar : 68 - bar] = _picture(seed, (68 - 2 * bar, 64))
      for _ in range(length):
        writer.write(video.Frame(rgb))
  surveyed = plan.survey(path, _embed)
  found = [shot.borders for shot in surveyed.plan.shots]
  assert found == [Borders(10, 10), Borders(10, 10), NONE]
  expected = _embed([_picture(0)])
  assert (surveyed.embeddings[0] @ expected.T > 0.999).all()

  # A reference with borders of its own is compared without them.
  boxed = np.full((96, 64, 3), 255, np.uint8)
  boxed[24:72] = _picture(1)
  video.write_image(tmp_path / 'boxed.png', boxed)
  choices = [Choice(str(tmp_path / 'boxed.png'))]
  scored = plan.scores(surveyed, choices, _embed)
  assert scored[1][0].score > 0.999

  made = plan.same_for_all(surveyed, [str(tmp_path / 'boxed.png')])
  plan.write(tmp_path / 'plan.json', made)
  assert plan.read(tmp_path / 'plan.json').shots == made.shots


@pytest.mark.parametrize(
  'widths, message',
  [
    ([1, 2, 3], 'must be four numbers'),
    ([1, 2, 3, -4], 'must be four numbers'),
    ([True, 2, 3, 4], 'must be four numbers'),
    ('none', 'must be there, a list'),
    ([10, 10, 0, 0], 'shot 1 has borders that leave 64x28 pixels of 64x48'),
    ([10**9, 0, 0, 0], 'shot 1 has borders that leave'),
  ],
)
def test_borders_that_cannot_be_are_refused(
  tmp_path, surveyed, references, widths, message
):
  made = plan.same_for_all(surveyed, [str(references / 'two.png')])
  path = tmp_path / 'plan.json'
  plan.write(path, made)
  entries = json.loads(path.read_text())
  entries['shots'][0]['borders'] = widths
  path.write_text(json.dumps(entries))
  with pytest.raises(UserError, match=message):
    plan.read(path)


@pytest.mark.parametrize('count', [1, 2, 3, 16, 17, 200, 1000])
def test_moments_are_the_middles_of_thirds(count):
  moments = survey._Moments()
  for i in range(count):
    moments.add(np.full((32, 32, 3), (i // 256, i % 256, 0), np.uint8))
  assert len(moments._frames) <= survey._MAX_FRAMES
  middles = [(2 * i + 1) * count / 6 for i in range(3)]
  found = [256 * int(x[0, 0, 0]) + int(x[0, 0, 1]) for x in moments.crops(NONE)]
  assert len(found) == min(count, 3)
  for middle, place in zip(middles, found, strict=False):
    assert abs(place - middle) <= max(1, count / 8)


def test_each_shot_takes_what_is_bound_to_it_or_most_similar(
  surveyed, references
):
  choices = plan.list_references(references, surveyed)
  made = plan.match(surveyed, choices, _embed)
  names = [
    [(Path(x.picture).name, x.frame) for x in shot.references]
    for shot in made.shots
  ]
  assert names == [
    [('zero.png', None)],
    [('ref_00011.png', 11)],
    [('two.png', None)],
  ]
  assert all(0.95 < shot.references[0].score <= 1 for shot in made.shots)


@pytest.mark.parametrize(
  'name, text, expected',
  [
    ('a.txt', 'zero.png\n\n two.png\n', [('zero', None), ('two', None)]),
    (
      'a.csv',
      'file,frame\nzero.png,4\ntwo.png,\n',
      [('zero', 4), ('two', None)],
    ),
    ('a.csv', 'file, time\nzero.png, 1.52\n', [('zero', 15)]),
    ('a.csv', 'time,file\n0:00:02.1,zero.png\n', [('zero', 21)]),
    ('a.csv', 'file,frame\nref_00011.png,3\n', [('ref_00011', 3)]),
  ],
)
def test_lists_of_references(surveyed, references, name, text, expected):
  (references / name).write_text(text)
  found = plan.list_references(references / name, surveyed)
  assert [(Path(x.picture).stem, x.frame) for x in found] == expected


@pytest.mark.parametrize(
  'text, sentence',
  [
    ('name,frame\nzero.png,4\n', 'needs a first line like file,frame'),
    ('file,frame\nnone.png,4\n', r'none\.png, which does not exist'),
    ('file,frame\nzero.png,x\n', "'x' is neither a frame"),
    ('file,frame\nzero.png,-1\n', "'-1' is neither a frame"),
    ('file,time\nzero.png,1:x\n', "'1:x' is neither a frame"),
    ('file,time\nzero.png,90\n', 'nothing is shown at 90'),
    ('file,frame\nzero.png,28\n', 'frame 28, but .* has 28 frames'),
    ('file,frame\n', 'holds no pictures'),
    ('file,frame\nzero.png,1.5\n', "'1.5' is neither a frame"),
    ('file,frame\nzero.png,1_0\n', "'1_0' is neither a frame"),
    (f'file,frame\nzero.png,{"9" * 5000}\n', 'is neither a frame'),
    ('file,time\nzero.png,-0.2\n', "'-0.2' is neither a frame"),
    ('file,time\nzero.png,1:-5\n', "'1:-5' is neither a frame"),
    ('file,time\nzero.png,0:00:00:05\n', "'0:00:00:05' is neither a frame"),
    ('file,time\nzero.png,nan\n', "'nan' is neither a frame"),
    ('file,time\nzero.png,0:nan\n', "'0:nan' is neither a frame"),
    ('file,time\nzero.png,inf\n', "'inf' is neither a frame"),
    ('file,time\nzero.png,1e999\n', "'1e999' is neither a frame"),
    ('file,frame,time\nzero.png,1,1\n', 'line 2 has both a frame and a time'),
    ('file,frame\n,1\n', 'line 2 names no file'),
    ('file,frame\nzero.png,1,2\n', 'line 2 has more than 2 values'),
    ('file,frame,frame\nzero.png,1,2\n', 'needs a first line like'),
    (f'file\n{"x" * 5000}.png\n', 'x.png, which does not exist'),
    (f'file\n{"x" * 200_000}\n', 'is no CSV: field larger'),
    ('file\n\0.png\n', 'is not a text file in UTF-8'),
  ],
)
def test_unfit_lists_are_refused(surveyed, references, text, sentence):
  (references / 'a.csv').write_text(text)
  with pytest.raises(UserError, match=sentence):
    plan.list_references(references / 'a.csv', surveyed)


@pytest.mark.parametrize(
  'frames, picture, expected',
  [
    ('00001 00002 00003', 'ref_00003', 2),
    ('00001 00002 00003', '00002', 1),
    ('a_0100 a_0101 a_0102', 'ref_101', 1),
    ('a_0100 a_0101 a_0102', 'a_0102', 2),
    ('s2_e7 s2_e8', 'ref_8', 1),
    ('ref_00007 ref_00008', 'ref_00008', 1),
    ('one three two', 'ref_00002', 2),  # Without numbers they are counted.
    ('one three two', 'three', 1),
    ('00001 00002', 'garden', None),
  ],
)
def test_a_picture_binds_to_the_file_of_its_name_or_number(
  tmp_path, surveyed, frames, picture, expected
):
  for folder in ('film', 'one'):
    (tmp_path / folder).mkdir()
  for name in frames.split():
    video.write_image(tmp_path / f'film/{name}.png', _picture(0))
  video.write_image(tmp_path / f'one/{picture}.jpg', _picture(0))
  made = surveyed.plan._replace(video=str(tmp_path / 'film'))
  surveyed = surveyed._replace(plan=made)
  (choice,) = plan.list_references(tmp_path / 'one', surveyed)
  assert choice.frame == expected


def test_a_number_of_no_file_or_several_is_refused(tmp_path):
  files = [tmp_path / name for name in ('a1.png', 'b1.png', 'b2.png')]
  with pytest.raises(UserError, match='ref_0: no frame is numbered 0 in'):
    plan.named_frame('ref_0', files)
  with pytest.raises(UserError, match='ref_1: several frames are numbered 1'):
    plan.named_frame('ref_1', files)


def test_the_same_for_all_shots(surveyed):
  made = plan.same_for_all(surveyed, ['a.png', plan.FIRST_FRAME])
  first, second = Choice(plan.FIRST_FRAME), Choice('a.png')
  assert [shot.references for shot in made.shots] == [
    (first._replace(frame=0), second),
    (first, second),
    (first, second),
  ]


def test_a_plan_comes_back_as_it_was_written(tmp_path, surveyed, references):
  made = plan.match(
    surveyed, plan.list_references(references, surveyed), _embed
  )
  path = tmp_path / 'deeper' / 'plan.json'
  path.parent.mkdir()
  plan.write(path, made)
  back = plan.read(path)
  assert back._replace(video='', shots=()) == made._replace(video='', shots=())
  for ours, theirs in zip(made.shots, back.shots, strict=True):
    assert theirs[:2] == ours[:2]
    for a, b in zip(ours.references, theirs.references, strict=True):
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
    (_edit(lambda x: x['video'].pop('width')), '"width" must be there, a num'),
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
    (_edit(lambda x: x.update(shots={})), '"shots" must be there, a list'),
    (_edit(lambda x: x.update(video=[])), '"video" must be there, braces'),
    (
      _edit(lambda x: x.update(shots=[[]] * 3)),
      '"references" must be there, a list',
    ),
    (
      _edit(lambda x: x['shots'][0].update(references=[[]])),
      '"picture" must be there, a text',
    ),
    (
      _edit(lambda x: x['shots'][0]['references'][0].update(score='x')),
      '"score" must be there, a number',
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
    (_edit(lambda x: x['shots'][1].update(stop=True)), '"stop" must be there'),
    (_edit(lambda x: x['shots'][0].update(references=[])), 'has no references'),
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
      '"frame" must be there, a number',
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
def test_a_plan_that_was_spoiled_is_refused(
  tmp_path, surveyed, references, edit, sentence
):
  path = tmp_path / 'plan.json'
  choices = plan.list_references(references, surveyed)
  plan.write(path, plan.match(surveyed, choices, _embed))
  path.write_text(edit(json.loads(path.read_text())))
  with pytest.raises(UserError, match=sentence) as caught:
    plan.read(path)
  assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_the_mode_writes_prints_and_draws(
  tmp_path, film, references, capsys, monkeypatch
):
  monkeypatch.setattr(embedding, 'make_embedder', lambda config: _embed)
  monkeypatch.setattr(contact_sheet, '_ROWS', 2)
  output = tmp_path / 'plans' / 'film.json'
  made = plan.plan_film(None, film, (), output, references)
  assert plan.read(output).shots[1].references[0].frame == 11
  printed = capsys.readouterr().out
  assert plan.table(made) in printed
  assert '   2    9-20  0:00:00.9   1.00  ref_00011.png (frame 11)' in printed
  sheets = sorted(output.parent.glob('*.jpg'))
  assert [path.name for path in sheets] == ['film.jpg', 'film_2.jpg']
  assert video.read_image(sheets[0]).shape[0] == 2 * (22 + 180) + 4
  with pytest.raises(UserError, match='film.json exists and may have been'):
    plan.plan_film(None, film, (), output, references)
  with pytest.raises(UserError, match='end its name in .json'):
    plan.plan_film(None, film, (), tmp_path / 'plan.txt', references)
  still = tmp_path / 'still.jpg'
  still.write_bytes(b'ours')
  with pytest.raises(UserError, match='still.json might replace .*still.jpg'):
    plan.plan_film(None, film, (), still.with_suffix('.json'), references)
  assert still.read_bytes() == b'ours'
  still.rename(tmp_path / 'still_2.jpg')
  with pytest.raises(UserError, match='might replace .*still_2.jpg'):
    plan.plan_film(None, film, (), still.with_suffix('.json'), references)


def test_a_plan_that_cannot_be_written_leaves_no_sheets(
  tmp_path, film, references, monkeypatch
):
  def fail(*_):
    raise OSError('the disk is full')

  monkeypatch.setattr(plan, 'write', fail)
  with pytest.raises(UserError, match='disk is full'):
    plan.plan_film(
      None, film, [str(references / 'two.png')], tmp_path / 'film.json'
    )
  assert [x.name for x in tmp_path.iterdir()] == ['stills']


def test_where_a_video_is_broken(film, surveyed, monkeypatch, capsys):
  monkeypatch.setattr(survey, '_PLACES', 2)
  config, pictures = None, [plan.FIRST_FRAME]
  for damaged, lost, words in (
    ([3, 4, 9], 2, '0:00:00.3: 2 frames could not be read, and are left out'),
    ([14, 0, 28], 0, '0:00:00.0, 0:00:01.4 and 1 more places: see how its'),
    ([28], 0, '0:00:02.7: the file is cut short there'),
  ):
    found = surveyed._replace(damaged=damaged, lost=lost)
    monkeypatch.setattr(plan, 'survey', lambda *_, found=found: found)
    plan.make_plan(config, film, pictures)
    assert f'film.mp4 is broken at {words}' in capsys.readouterr().err


@pytest.mark.usefixtures('quick_compiler')
def test_references_are_retrieved_from_a_gallery(tmp_path, film):
  config = get_config('tiny')
  config.retrieval.network = 'vit'
  for seed in range(3):
    (tmp_path / 'images').mkdir(exist_ok=True)
    video.write_image(tmp_path / f'images/{seed}.png', _picture(seed))
  build.build_gallery(config, str(tmp_path / 'images'), tmp_path / 'gallery')
  made, _ = plan.make_plan(
    config, film, [plan.AUTO], gallery=tmp_path / 'gallery'
  )
  assert [
    [Path(x.picture).name for x in shot.references] for shot in made.shots
  ] == [['0.png'], ['1.png'], ['2.png']]
  plan.check('the plan', made)


@pytest.mark.parametrize('late', [0, 36_000])
def test_times_count_from_the_beginning_of_the_film(tmp_path, references, late):
  path = tmp_path / 'in.ts'
  with av.open(str(path), 'w') as out:
    stream = out.add_stream('mpeg2video', rate=25, width=64, height=48)
    packets = []
    for i in range(12):
      frame = av.VideoFrame.from_ndarray(_picture(0), 'rgb24')
      frame.pts, frame.time_base = i, Fraction(1, 25)
      packets += stream.encode(frame)
    for packet in packets + stream.encode(None):
      packet.pts += late * 25
      packet.dts += late * 25
      out.mux(packet)
  surveyed = plan.survey(path)
  assert surveyed.seconds[0] == 0
  text = 'file,time\ntwo.png,0.2\ntwo.png,0:00:00.0'
  (references / 'times.csv').write_text(text)
  found = plan.list_references(references / 'times.csv', surveyed)
  assert [choice.frame for choice in found] == [5, 0]
  (references / 'times.csv').write_text('file,time\ntwo.png,36000.2')
  with pytest.raises(UserError, match='nothing is shown at 36000.2 s'):
    plan.list_references(references / 'times.csv', surveyed)


def test_a_time_within_a_frame_that_is_shown_for_long(surveyed, references):
  starts = [0.0, 0.04, *(9 + 0.04 * i for i in range(surveyed.plan.frames - 2))]
  slow = surveyed._replace(seconds=starts)
  text = 'file,time\ntwo.png,5.0\ntwo.png,8.9\n'
  (references / 'slow.csv').write_text(text)
  found = plan.list_references(references / 'slow.csv', slow)
  # Times may be rounded: 8.9 s is close to the next frame.
  assert [choice.frame for choice in found] == [1, 2]


def test_a_folder_of_frames_has_the_rate_that_is_given(tmp_path):
  for i in range(6):
    video.write_image(tmp_path / f'{i}.png', _picture(i))
  rate = Fraction(24_000, 1001)
  surveyed = plan.survey(tmp_path, frame_rate=rate)
  assert surveyed.plan.frame_rate == rate
  np.testing.assert_allclose(surveyed.seconds, np.arange(6) / float(rate))
  assert plan.survey(tmp_path).plan.frame_rate == 25
  with pytest.raises(UserError, match='--frame-rate is for a folder'):
    plan.survey(tmp_path / '0.png', frame_rate=rate)


def test_a_table_shows_the_times_of_a_varying_rate(surveyed):
  shots = [plan.Shot(0, 2, ()), plan.Shot(2, 4, ())]
  choice = (plan.Choice('a.png'),)
  made = surveyed.plan._replace(
    shots=tuple(shot._replace(references=choice) for shot in shots)
  )
  assert '0:00:07.5' in plan.table(made, [0.0, 0.04, 7.5, 7.54])


@pytest.mark.parametrize('name', ['x' * 300 + '.json', 'x' * 249 + '.json'])
def test_a_name_that_is_too_long_is_refused_first(tmp_path, film, name):
  with pytest.raises(UserError, match='more than the 255 bytes'):
    plan.plan_film(None, film, [plan.FIRST_FRAME], tmp_path / name)
  assert not list(tmp_path.iterdir())
