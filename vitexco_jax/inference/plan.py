"""--mode=plan: which shots a film has, and where each takes its colours from.

A *plan* is a JSON file that is made to be edited by hand:

  {"video": {"path": "film.mkv", "width": 768, "height": 432, "frames": 300,
             "frame_rate": "25"},
   "shots": [
     {"start": 0, "stop": 120,
      "references": [{"picture": "stills/garden.jpg", "score": 0.71}]},
     {"start": 120, "stop": 300,
      "references": [{"picture": "stills/ref_00150.png", "frame": 150}]}]}

Frames count from 0, and a shot ends before its `stop`. Paths are relative to the
plan's folder. Several references of a shot compete: each place takes its colour
from the one that matches it best. A reference with a `frame` is *bound*: it is
that frame of the shot in colour, which spreads from there both ways. `first-frame`
for a picture means the video's own first frame; `none`, for the only picture of a shot,
that it is colorized by the network's prior. Scores are for the reader.

A shot with black or white borders has `"borders": [top, bottom, left, right]`, in
pixels. They stay as they are; only the picture within them is matched and colored.

`survey` runs through the video once; `match`, `retrieve` and `same_for_all` choose
the references; `read` and `write` are the file.
"""

import collections
import contextlib
import datetime
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import reference_lists
from vitexco_jax.media import borders, sandbox, shots, strips, video
from vitexco_jax.media.borders import Borders

if TYPE_CHECKING:
  from vitexco_jax.retrieval import embedding

FIRST_FRAME = 'first-frame'
AUTO = 'auto'
NONE = 'none'
_NO_PATHS = FIRST_FRAME, NONE

_MOMENTS = 3  # Of a shot, that are compared with references.
_KEPT = 16  # Frames of a shot that are kept to choose them from, at most.
_SHORT_SIDE = 512  # Pixels, that they are shrunk to: twice what networks see.
_THUMBNAIL = 240  # Width, in pixels.
_ROWS = 60  # Shots on a contact sheet.
_PLACE = 1.0  # Seconds from one damage to the next, to be another place.
_PLACES = 8  # That are named.
_BOUND = re.compile(r'ref_(\d+)')  # A name that says its frame.


_Embed = Callable[[Sequence[np.ndarray]], np.ndarray]  # Pictures to [b, d].


class Choice(NamedTuple):
  """A reference of a shot, or one that could be."""

  picture: str  # Path, `first-frame` or `none`.
  score: float | None = None  # Cosine to the shot; None: not compared.
  frame: int | None = None  # Of the video, which it is; None: not bound.


class Shot(NamedTuple):
  """Frames start to stop - 1, and what colours them."""

  start: int
  stop: int
  references: tuple[Choice, ...]
  borders: Borders = borders.NONE  # Stay as they are.

  @property
  def by_prior(self) -> bool:
    """Whether it is colorized without a reference."""
    return [x.picture for x in self.references] == [NONE]


class Plan(NamedTuple):
  """A film's shots, which together are all of its frames."""

  video: str  # Path.
  width: int  # Of frames as they are shown.
  height: int
  frames: int
  frame_rate: Fraction
  shots: tuple[Shot, ...]


class Survey(NamedTuple):
  """What one pass through a video tells."""

  plan: Plan  # Its shots have no references yet.
  seconds: list[float]  # When each frame is shown, after the first.
  embeddings: list[np.ndarray]  # Of each shot, [moments, d], if asked for.
  thumbnails: list[bytes]  # A frame of each shot, as JPEG.
  lost: int  # Frames that a broken video did not give,
  damaged: list[int]  # and where it is broken: numbers of frames.
  interlaced: int = 0  # Frames that are marked so.


def survey(
  video_path: Path,
  embed: _Embed | None = None,
  progress: Callable[[int, int | None, int], None] | None = None,
  opener: sandbox.Direct | sandbox.Sandbox = sandbox.DIRECT,
  frame_rate: Fraction | None = None,
) -> Survey:
  """Finds the shots of a video, a folder of frames or an image.

  Args:
    video_path: what to look through.
    embed: a `retrieval.Embedder`, where shots are to be compared with pictures.
    progress: is called with the frames seen, with how many there should be, and
      with the shots found.
    opener: where the video is opened.
    frame_rate: of a folder of frames; None: 25.

  Raises:
    UserError: it cannot be read.
  """
  with opener.open(video_path) as reader:
    check_rate(reader, frame_rate)
    times = []
    frames = _noting(video.prefetch(reader), times)
    size = reader.format.height, reader.format.width
    starts, moments = [0], _Moments()
    embeddings, thumbnails, evidence = [], [], []

    def end_shot():
      evidence.append(moments.borders.evidence())
      # Pictures of all shots would fill the memory.
      if embed:
        (box,) = borders.agreed(evidence[-1:], size)
        embeddings.append(embed(moments.crops(box)))
      thumbnails.append(video.encode_image('.jpg', moments.thumbnail()))

    for count, (rgb, begins) in enumerate(shots.mark_cuts(frames)):
      if begins:
        end_shot()
        starts.append(count)
        moments = _Moments()
      moments.add(rgb)
      if progress:
        progress(count + 1, reader.num_frames, len(starts))
    end_shot()
    lost, damaged = reader.lost, reader.damaged
  form, total = reader.format, count + 1
  if frame_rate is not None:
    form = form.at(frame_rate)
  ends = [*starts[1:], total]
  plan = Plan(
    os.fspath(video_path),
    form.width,
    form.height,
    total,
    form.frame_rate,
    tuple(
      Shot(start, stop, (), box)
      for start, stop, box in zip(
        starts, ends, borders.agreed(evidence, size), strict=True
      )
    ),
  )
  tick = float(form.time_base or 1 / form.frame_rate)
  return Survey(
    plan,
    [(pts - times[0]) * tick for pts in times],
    embeddings,
    thumbnails,
    lost,
    damaged,
    reader.interlaced,
  )


def check_rate(reader: video.VideoReader, frame_rate: Fraction | None) -> None:
  """Raises UserError if a frame rate is given for what has its own."""
  if frame_rate is not None and reader.kind != 'folder':
    raise UserError(
      f'--frame-rate is for a folder of frames, and {reader.path} is none: '
      'leave it out'
    )


def _noting(
  frames: Iterator[video.Frame], times: list[int]
) -> Iterator[np.ndarray]:
  for frame in frames:
    times.append(frame.pts)
    yield frame.rgb


class _Moments:
  """A few frames of a shot, evenly spread, however long it gets."""

  def __init__(self):
    self.borders = borders.Finder()
    self._kept = []
    self._step = 1
    self._count = 0

  def add(self, rgb: np.ndarray):
    self.borders.add(rgb)
    if self._count % self._step == 0:
      self._scale = min(1.0, _SHORT_SIDE / min(rgb.shape[:2]))
      self._kept.append(_scaled(rgb, self._scale))
      if len(self._kept) > _KEPT:
        self._kept = self._kept[::2]
        self._step *= 2
    self._count += 1

  def _chosen(self) -> list[np.ndarray]:
    """From the middle of each third."""
    last = len(self._kept) - 1
    places = {
      min(last, (2 * i + 1) * self._count // (2 * _MOMENTS * self._step))
      for i in range(_MOMENTS)
    }
    return [self._kept[place] for place in sorted(places)]

  def crops(self, box: Borders) -> list[np.ndarray]:
    """What the networks look at: nothing of the borders, given in pixels."""
    box = box.scaled(self._scale)
    from vitexco_jax.retrieval import embedding  # See `make_plan`.

    return [embedding.crop(box.crop(rgb)) for rgb in self._chosen()]

  def thumbnail(self) -> np.ndarray:
    chosen = self._chosen()
    rgb = chosen[len(chosen) // 2]
    return _scaled(rgb, _THUMBNAIL / rgb.shape[1])


def _scaled(rgb: np.ndarray, scale: float) -> np.ndarray:
  """A picture at a scale, at least a pixel high."""
  height, width = (max(1, round(scale * side)) for side in rgb.shape[:2])
  return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def list_references(source: Path, surveyed: Survey) -> list[Choice]:
  """Lists pictures that shots may choose from.

  Args:
    source: see `reference_lists.read`. Names bind, too; see `named_frame`.
    surveyed: of the video, which tells what is shown when.

  Raises:
    UserError: it cannot be read, is empty, or binds to what is not in the video.
  """
  flag = f'--references={source}'
  video_path = Path(surveyed.plan.video)
  sequence = video.image_files(video_path) if video_path.is_dir() else ()
  choices = []
  for path, bound, seconds in reference_lists.read(source):
    if seconds is not None:
      bound = _frame_at(f'{flag}, {path.name}', seconds, surveyed)
    elif bound is None:
      bound = named_frame(path.stem, sequence)
    frames = surveyed.plan.frames
    if bound is not None and bound >= frames:
      raise UserError(
        f'{flag}: {path.name} is bound to frame {bound}, but {frames} frames are '
        f'all of {surveyed.plan.video}'
      )
    choices.append(Choice(os.fspath(path), frame=bound))
  return choices


def named_frame(stem: str, sequence: Sequence[Path] = ()) -> int | None:
  """Reads from a picture's name which frame of a video it is.

  Args:
    stem: the name without its suffix. A picture named like a frame's file is that
      frame. One named like ref_00123 is the frame of that number: in a folder the
      file with this number at its end, in a video counted from 0.
    sequence: the video's files, if it is a folder of frames.

  Returns:
    The frame, counted from 0; None: the name says none.

  Raises:
    UserError: no file, or more than one, has that number.
  """
  stems = [path.stem for path in sequence]
  if stem in stems:
    return stems.index(stem)
  named = _BOUND.fullmatch(stem)
  if named is None:
    return None
  number = int(named[1])
  digits = [re.findall(r'[0-9]+', stem) for stem in stems]
  if not stems or not all(digits):
    return number
  frames = [i for i, groups in enumerate(digits) if int(groups[-1]) == number]
  if len(frames) != 1:
    count = 'several frames are' if frames else 'no frame is'
    raise UserError(
      f'{stem}: {count} numbered {number} in {sequence[0].parent}; name the '
      'picture exactly like its frame'
    )
  return frames[0]


def _frame_at(where: str, seconds: float, surveyed: Survey) -> int:
  """Returns the frame that is shown at a time, which may be rounded."""
  starts = np.array(surveyed.seconds)
  away = np.abs(starts - seconds)
  nearest = int(away.argmin())
  if away[nearest] > 1:
    if starts[0] < seconds < starts[-1]:  # A frame is shown for long.
      return int((starts < seconds).sum()) - 1
    raise UserError(f'{where}: nothing is shown at {seconds:g} s in the video')
  return nearest


def same_for_all(surveyed: Survey, pictures: Sequence[str]) -> Plan:
  """Gives every shot all of the pictures: paths, `first-frame` or `none`."""
  # That leads, as it is the one that is bound.
  pictures = sorted(pictures, key=lambda picture: picture != FIRST_FRAME)
  choices = tuple(map(Choice, pictures))
  first, *others = (
    shot._replace(references=choices) for shot in surveyed.plan.shots
  )
  if pictures[0] == FIRST_FRAME:
    bound = choices[0]._replace(frame=0)
    first = first._replace(references=(bound, *choices[1:]))
  return surveyed.plan._replace(shots=(first, *others))


def match(surveyed: Survey, choices: Sequence[Choice], embed: _Embed) -> Plan:
  """Gives each shot those that are bound to it, or else the most similar one.

  Args:
    surveyed: of the video, by `embed`.
    choices: pictures to choose from.
    embed: a `retrieval.Embedder`.

  Raises:
    UserError: a picture cannot be read.
  """
  made = tuple(
    shot._replace(references=chosen(scored))
    for shot, scored in zip(
      surveyed.plan.shots, scores(surveyed, choices, embed), strict=True
    )
  )
  return surveyed.plan._replace(shots=made)


def scores(
  surveyed: Survey, choices: Sequence[Choice], embed: _Embed
) -> list[list[Choice]]:
  """Compares every shot with every picture.

  Args:
    surveyed: of the video, by `embed`.
    choices: pictures to choose from.
    embed: a `retrieval.Embedder`.

  Returns:
    For each shot all choices in their order, with their scores, and bound only
    if to a frame of that shot.

  Raises:
    UserError: a picture cannot be read.
  """
  embeddings = np.concatenate(
    [embed([borders.without(video.read_image(x.picture))]) for x in choices]
  )
  made = []
  for shot, seen in zip(surveyed.plan.shots, surveyed.embeddings, strict=True):
    cosines = (seen @ embeddings.T).mean(0).tolist()
    frames = range(shot.start, shot.stop)
    made.append(
      [
        Choice(
          choice.picture,
          round(cosine, 4),
          choice.frame if choice.frame in frames else None,
        )
        for choice, cosine in zip(choices, cosines, strict=True)
      ]
    )
  return made


def chosen(scored: Sequence[Choice]) -> tuple[Choice, ...]:
  """Of what `scores` gives for a shot: those bound to it, or else the best."""
  bound = [choice for choice in scored if choice.frame is not None]
  if bound:
    return tuple(sorted(bound, key=lambda choice: choice.frame))
  return (max(scored, key=lambda choice: choice.score),)


def retrieve(surveyed: Survey, gallery: 'embedding.Gallery') -> Plan:
  """Gives each shot the picture of a gallery that is most similar.

  Args:
    surveyed: of the video, by the gallery's embedder.
    gallery: to choose from.

  Raises:
    UserError: that picture is in no file of its own.
  """
  made = []
  for shot, seen in zip(surveyed.plan.shots, surveyed.embeddings, strict=True):
    query = seen.mean(0, keepdims=True)
    scores, numbers = gallery.search(query, 1)
    picture = os.fspath(gallery.path(int(numbers[0, 0])))
    choice = Choice(picture, round(float(scores[0, 0]), 4))
    made.append(shot._replace(references=(choice,)))
  return surveyed.plan._replace(shots=tuple(made))


# --- The file ---


def write(path: Path, plan: Plan) -> None:
  """Writes a plan, replacing what is there.

  Raises:
    OSError: it cannot be written.
  """
  folder = path.parent.absolute()

  def relative(name):
    return name if name in _NO_PATHS else os.path.relpath(name, folder)

  def described(choice):
    entry = {'picture': relative(choice.picture)}
    if choice.frame is not None:
      entry['frame'] = choice.frame
    if choice.score is not None:
      entry['score'] = choice.score
    return entry

  facts = {
    'path': relative(plan.video),
    'width': plan.width,
    'height': plan.height,
    'frames': plan.frames,
    'frame_rate': str(plan.frame_rate),
  }

  def described_shot(shot):
    entry = {
      'start': shot.start,
      'stop': shot.stop,
      'references': [described(choice) for choice in shot.references],
    }
    if shot.borders != borders.NONE:
      entry['borders'] = list(shot.borders)
    return entry

  lines = [
    json.dumps(described_shot(shot), ensure_ascii=False) for shot in plan.shots
  ]
  body = ',\n    '.join(lines)  # A line for each shot is easy to edit.
  facts = json.dumps(facts, ensure_ascii=False)
  files.write(path, f'{{"video": {facts},\n "shots": [\n    {body}\n ]}}\n')


def read(path: Path) -> Plan:
  """Reads a plan that people may have edited.

  Raises:
    UserError: it cannot be read, does not have the form of a plan, leaves out
      frames, or names a picture that does not exist.
  """
  entries = files.read_json(path)
  facts = _field(f'{path}', entries, 'video', dict)
  where = f'{path}, video'
  try:
    text = _field(where, facts, 'frame_rate', str)
    # Fraction would compute all digits of 1e999999999.
    if not re.fullmatch(r'\d{1,10}([/.]\d{1,10})?', text, re.ASCII):
      raise ValueError
    rate = Fraction(text)
    if not rate:
      raise ValueError
  except (ValueError, ZeroDivisionError) as error:
    raise UserError(
      f'{where}: frame_rate is no number like "25" or "24000/1001"'
    ) from error
  plan = Plan(
    os.fspath(path.parent / _field(where, facts, 'path', str)),
    *(_field(where, facts, name, int) for name in ('width', 'height')),
    _field(where, facts, 'frames', int),
    rate,
    tuple(
      _read_shot(f'{path}, shot {number}', entry, path.parent)
      for number, entry in enumerate(
        _field(f'{path}', entries, 'shots', list), 1
      )
    ),
  )
  check(os.fspath(path), plan)
  return plan


def _field(where: str, entry: Any, name: str, kind: type) -> Any:
  value = entry.get(name) if isinstance(entry, dict) else None
  if not isinstance(value, kind) or isinstance(value, bool):
    words = {
      dict: 'braces',
      list: 'a list',
      str: 'a text',
      int: 'a number',
      int | float: 'a number',
    }
    raise UserError(f'{where}: "{name}" must be there, {words[kind]}')
  return value


def _check_names(where: str, entry: Any, names: Collection[str]) -> None:
  """Misspelled fields would be passed over."""
  unknown = sorted(entry.keys() - names) if isinstance(entry, dict) else ()
  if unknown:
    raise UserError(
      f'{where}: there is no "{unknown[0]}"; known are {", ".join(names)}'
    )


def _read_shot(where: str, entry: Any, folder: Path) -> Shot:
  choices = []
  for reference in _field(where, entry, 'references', list):
    picture = _field(where, reference, 'picture', str)
    if picture not in _NO_PATHS:
      picture = os.fspath(folder / picture)
    _check_names(where, reference, Choice._fields)
    frame, score = reference.get('frame'), reference.get('score')
    if frame is not None:
      frame = _field(where, reference, 'frame', int)
    if score is not None:
      score = _field(where, reference, 'score', int | float)
    choices.append(Choice(picture, score, frame))
  _check_names(where, entry, Shot._fields)
  start, stop = (_field(where, entry, name, int) for name in ('start', 'stop'))
  return Shot(start, stop, tuple(choices), _read_borders(where, entry))


def _read_borders(where: str, entry: dict[str, Any]) -> Borders:
  if 'borders' not in entry:
    return borders.NONE
  widths = _field(where, entry, 'borders', list)
  if len(widths) != 4 or not all(type(x) is int and x >= 0 for x in widths):
    raise UserError(
      f'{where}: "borders" must be four numbers of pixels: [top, bottom, left, '
      'right]'
    )
  return Borders(*widths)


def check(where: str, plan: Plan) -> None:
  """Checks that a plan can be carried out.

  Args:
    where: what to call it.
    plan: to check.

  Raises:
    UserError: it cannot; says which shot is wrong and how.
  """
  expected = 0
  for number, shot in enumerate(plan.shots, 1):
    name = f'{where}, shot {number}'
    if shot.start != expected:
      raise UserError(
        f'{name} starts at frame {shot.start}, not at {expected}: shots must '
        'follow one another without gaps'
      )
    if shot.stop <= shot.start:
      raise UserError(f'{name} must stop after it starts, at {shot.start}')
    expected = shot.stop
    left = shot.borders.size(plan.height, plan.width)
    if min(left) < borders.MIN_PICTURE and shot.borders != borders.NONE:
      raise UserError(
        f'{name} has borders that leave {left[1]}x{left[0]} pixels of '
        f'{plan.width}x{plan.height}: at least {borders.MIN_PICTURE} must '
        'remain on either side'
      )
    if not shot.references:
      raise UserError(f'{name} has no references: name one picture at least')
    named = [choice.picture for choice in shot.references]
    is_bound = any(x.frame is not None for x in shot.references)
    if NONE in named and (len(named) > 1 or is_bound):
      raise UserError(
        f'{name}: "none" must be the only picture, without a frame'
      )
    bound = [x.frame for x in shot.references if x.frame is not None]
    seen = set()
    for frame in bound:
      if not shot.start <= frame < shot.stop:
        raise UserError(
          f'{name} has a reference bound to frame {frame}, which is not between '
          f'{shot.start} and {shot.stop - 1}'
        )
      if frame in seen:
        raise UserError(f'{name} has two references bound to frame {frame}')
      seen.add(frame)
    for choice in shot.references:
      if choice.picture == FIRST_FRAME and choice.frame:
        raise UserError(f'{name}: first-frame can be bound to frame 0 only')
      if choice.picture not in _NO_PATHS and not os.path.isfile(choice.picture):
        raise UserError(f'{name}: there is no picture {choice.picture}')
  if expected != plan.frames:
    raise UserError(
      f'{where}: the last shot stops at {expected}, but the video has '
      f'{plan.frames} frames'
    )


# --- To look at ---


def table(plan: Plan, seconds: Sequence[float] = ()) -> str:
  """A plan as text, a line for each reference.

  Args:
    plan: to show.
    seconds: when each frame is shown, if the rate varies.
  """
  rows = [('shot', 'frames', 'from', 'score', 'reference')]
  for number, shot in enumerate(plan.shots, 1):
    first = (
      str(number),
      f'{shot.start}-{shot.stop - 1}',
      clock(_start(plan, shot, seconds)),
    )
    for choice in shot.references:
      score = '' if choice.score is None else f'{choice.score:.2f}'
      rows.append((*first, score, _label(choice)))
      first = ('', '', '')
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if i == len(row) - 1 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  )


def _start(
  plan: Plan, shot: Shot, seconds: Sequence[float]
) -> float | Fraction:
  return seconds[shot.start] if seconds else shot.start / plan.frame_rate


def clock(seconds: float | Fraction) -> str:
  """Seconds as h:mm:ss.s."""
  tenths = round(10 * seconds)
  whole = datetime.timedelta(seconds=tenths // 10)
  return f'{whole}.{tenths % 10}'


def _label(choice: Choice) -> str:
  bound = '' if choice.frame is None else f' (frame {choice.frame})'
  return Path(choice.picture).name + bound


def contact_sheets(
  plan: Plan, thumbnails: Sequence[bytes], seconds: Sequence[float] = ()
) -> Iterator[np.ndarray]:
  """Draws each shot beside its references, sixty shots to a picture.

  Args:
    plan: to draw.
    thumbnails: an image file of each shot.
    seconds: as of `table`.

  Yields:
    [h, w, 3] uint8.

  Raises:
    UserError: a reference cannot be read.
  """
  pictures = {FIRST_FRAME: video.decode_image(thumbnails[0], FIRST_FRAME)}
  rows = collections.deque()
  for number, (shot, thumbnail) in enumerate(
    zip(plan.shots, thumbnails, strict=True), 1
  ):
    row = [video.decode_image(thumbnail, 'a thumbnail')]
    for choice in () if shot.by_prior else shot.references:
      if choice.picture not in pictures:
        rgb = video.read_image(choice.picture)
        height = max(1, round(rgb.shape[0] * _THUMBNAIL / rgb.shape[1]))
        pictures[choice.picture] = cv2.resize(
          rgb, (_THUMBNAIL, height), interpolation=cv2.INTER_AREA
        )
      row.append(pictures[choice.picture])
    names = ', '.join(
      _label(choice) + ('' if choice.score is None else f' {choice.score:.2f}')
      for choice in shot.references
    )
    start = clock(_start(plan, shot, seconds))
    rows.append((row, f'{number}, {start}: {names}'))
    if len(rows) == _ROWS or number == len(plan.shots):
      yield strips.strip(*zip(*rows, strict=True))
      rows.clear()
      pictures = {FIRST_FRAME: pictures[FIRST_FRAME]}


# --- The mode ---


def make_plan(
  config: ml_collections.ConfigDict,
  video_path: Path,
  pictures: Sequence[str],
  references: Path | None = None,
  gallery: Path | None = None,
  frame_rate: Fraction | None = None,
) -> tuple[Plan, Survey]:
  """Surveys a video with a progress bar, and chooses references as flags say.

  Args:
    config: its `retrieval` says how pictures are compared.
    video_path: what is to be coloured.
    pictures: what `--reference` names: pictures for all shots, `first-frame`, or
      `auto` or `none` alone.
    references: what to choose from, if anything; see `list_references`.
    gallery: where `auto` looks.
    frame_rate: of a folder of frames; None: 25.

  Raises:
    UserError: they cannot be had, or the video cannot be read.
  """
  # It imports JAX, which the checks before the work do not need.
  from vitexco_jax.retrieval import embedding

  video.VideoReader(video_path).close()  # What is none gets no bar.
  if references is not None:
    embed = embedding.make_embedder(config)
    surveyed = _survey_with_bar(video_path, embed, frame_rate)
    plan = match(surveyed, list_references(references, surveyed), embed)
  elif AUTO in pictures:
    embed, opened = embedding.open_with_embedder(config, gallery)
    surveyed = _survey_with_bar(video_path, embed, frame_rate)
    plan = retrieve(surveyed, opened)
  else:
    surveyed = _survey_with_bar(video_path, None, frame_rate)
    plan = same_for_all(surveyed, pictures)
  check(os.fspath(video_path), plan)
  return plan, surveyed


def _survey_with_bar(
  video_path: Path, embed: _Embed | None, frame_rate: Fraction | None
) -> Survey:
  """As `survey`, with a progress bar, and a warning where it is broken."""
  with tqdm.tqdm(desc='shots', unit='frame') as bar:

    def progress(count, total, _):
      bar.total = total
      bar.update(count - bar.n)

    surveyed = survey(video_path, embed, progress, sandbox.DIRECT, frame_rate)
  if surveyed.damaged:
    print(f'warning: {damage(video_path, surveyed)}', file=sys.stderr)
  if 0 < surveyed.interlaced < surveyed.plan.frames:
    print(
      f'note: {surveyed.interlaced} of {surveyed.plan.frames} frames of '
      f'{video_path} are interlaced; --deinterlace makes them progressive',
      file=sys.stderr,
    )
  return surveyed


def damage(name: str | Path, surveyed: Survey) -> str:
  """Says where a video called `name`, which is `damaged`, is broken."""
  effect = 'see how its frames look there'
  if surveyed.lost:
    effect = f'{surveyed.lost} frames could not be read, and are left out'
  elif min(surveyed.damaged) >= len(surveyed.seconds):
    effect = 'the file is cut short there, perhaps after its last frame'
  return f'{name} is broken at {_places(surveyed)}: {effect}'


def _places(surveyed: Survey) -> str:
  """When a video is broken, in words; what is close together is one place."""
  last = len(surveyed.seconds) - 1
  times = [surveyed.seconds[min(x, last)] for x in sorted(surveyed.damaged)]
  apart = [
    after
    for before, after in itertools.pairwise([-np.inf, *times])
    if after - before > _PLACE
  ]
  named = ', '.join(map(clock, apart[:_PLACES]))
  more = len(apart) - _PLACES
  return named + (f' and {more} more places' if more > 0 else '')


def check_output(output: Path) -> None:
  """Raises UserError unless a plan and its contact sheets can be written."""
  if output.suffix != '.json':
    raise UserError(f'--output={output} is to be a plan: end its name in .json')
  # Up to a thousand pictures lie next to it.
  files.check_writable(output.with_name(f'{output.stem}_999.jpg'))
  if output.exists():
    raise UserError(
      f'--output={output} exists and may have been edited: name another file'
    )
  files.make_folder('--output', output.parent)
  own = re.compile(re.escape(output.stem) + r'(_\d+)?\.jpg')
  for path in sorted(output.parent.iterdir()):
    if own.fullmatch(path.name):
      raise UserError(
        f'--output={output} might draw over {path}: name another file'
      )


def plan_film(
  config: ml_collections.ConfigDict,
  video_path: Path,
  pictures: Sequence[str],
  output: Path,
  references: Path | None = None,
  gallery: Path | None = None,
  frame_rate: Fraction | None = None,
) -> Plan:
  """Writes a plan with its contact sheets, and prints it.

  Args:
    config: see `make_plan`.
    video_path: what is to be coloured.
    pictures: see `make_plan`.
    output: the JSON file; the sheets lie beside it.
    references: see `make_plan`.
    gallery: see `make_plan`.
    frame_rate: see `make_plan`.

  Raises:
    UserError: an input cannot be used, or the output or its sheet exists or cannot
      be written.
  """
  check_output(output)
  plan, surveyed = make_plan(
    config, video_path, pictures, references, gallery, frame_rate
  )
  sheets = []
  with contextlib.ExitStack() as undo:
    drawn = contact_sheets(plan, surveyed.thumbnails, surveyed.seconds)
    for page, sheet in enumerate(drawn, 1):
      suffix = '.jpg' if page == 1 else f'_{page}.jpg'
      sheets.append(output.with_name(output.stem + suffix))
      video.write_image(sheets[-1], sheet)
      undo.callback(sheets[-1].unlink)
    with files.explained('--output', output):
      write(output, plan)
    undo.pop_all()
  print(table(plan, surveyed.seconds))
  print(f'To look at: {" ".join(map(str, sheets))}')
  print(f'To edit, and to colour with --plan={output}: {output}')
  return plan
