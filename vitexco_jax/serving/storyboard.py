"""The shots of a video as the user edits them on the page.

A row is a shot with everything that the page needs of it. The functions return new
rows, with which the caller replaces the old ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vitexco_jax.inference import plan
from vitexco_jax.inference.plan import Choice, Shot, Survey
from vitexco_jax.media import video
from vitexco_jax.media.borders import Borders
from vitexco_jax.retrieval import embedding
from vitexco_jax.serving import drawings
from vitexco_jax.serving.jobs import Preview

MAX_SHOTS = 5000  # All are shown; a long film has 3,000.
_MOMENT = 910  # Width in pixels: twice the input of the networks.
BY_PRIOR = (Choice(plan.NONE),)


class Row(NamedTuple):
  """A shot with its candidates."""

  shot: Shot
  candidates: tuple[Choice, ...]  # All references, in order.
  embedding: np.ndarray | None  # [moments, d]; None: not computed yet.
  thumbnail: bytes  # JPEG.
  moments: list[bytes]  # A few frames, as image files.
  earlier: tuple[Choice, ...] = ()  # References before the shot was skipped.
  trial: Preview | None = None  # A frame in color.

  def using(self, references: tuple[Choice, ...]) -> 'Row':
    """Returns the row with other references."""
    shot = self.shot._replace(references=references)
    return self._replace(shot=shot, trial=None)

  def skip(self) -> 'Row':
    """Returns the row of a shot that stays as it is."""
    if self.shot.skipped:
      return self
    return self.using(())._replace(earlier=self.shot.references)

  def unskip(self) -> 'Row':
    """Returns the row with the references from before it was skipped."""
    if not self.shot.skipped:
      return self
    return self.using(self.earlier or _propose(self.candidates))


def make_rows(
  surveyed: Survey, candidates: Sequence[Sequence[Choice]]
) -> list[Row]:
  """Makes the rows of a survey with proposed references.

  Args:
    surveyed: of the video, with an embedder.
    candidates: of each shot, with scores.
  """
  return [
    Row(shot, tuple(choices), embedding, thumbnail, moments).using(
      () if number in surveyed.blank else _propose(choices)
    )
    for number, (shot, choices, embedding, thumbnail, moments) in enumerate(
      zip(
        surveyed.plan.shots,
        candidates,
        surveyed.embeddings,
        surveyed.thumbnails,
        surveyed.moments,
        strict=True,
      )
    )
  ]


def _propose(candidates: Sequence[Choice]) -> tuple[Choice, ...]:
  return plan.select(candidates) if candidates else BY_PRIOR


def update(surveyed: Survey, rows: Sequence[Row], embed: plan.Embed) -> Survey:
  """Returns a survey with the shots of rows, without references."""
  embeddings = []
  for row in rows:
    known = row.embedding
    if known is None:
      frames = [video.decode_image(x, 'a frame') for x in row.moments]
      known = embed([embedding.crop(rgb) for rgb in frames])
    embeddings.append(known)
  shots = tuple(row.shot._replace(references=()) for row in rows)
  return surveyed._replace(
    plan=surveyed.plan._replace(shots=shots),
    embeddings=embeddings,
    thumbnails=[row.thumbnail for row in rows],
    moments=tuple(row.moments for row in rows),
    blank=frozenset(),  # Rows may be other shots than those of the survey.
  )


def add_reference(row: Row, choice: Choice) -> Row:
  """Adds a candidate, which is used if it is bound to a frame of the shot.

  Args:
    row: of the shot.
    choice: the reference; `frame` is a frame of the video.
  """
  choice = _within(row.shot, choice)
  row = row._replace(candidates=row.candidates + (choice,))
  if choice.frame is None:
    return row
  bound = [
    x for x in row.shot.references if x.frame not in (None, choice.frame)
  ]
  return row.using(_ordered(bound + [choice]))


def remove_reference(row: Row, picture: str) -> Row:
  """Removes a candidate; a shot that used only this one gets another one."""
  candidates = tuple(x for x in row.candidates if x.picture != picture)
  earlier = tuple(x for x in row.earlier if x.picture != picture)
  row = row._replace(candidates=candidates, earlier=earlier)
  remaining = [x for x in row.shot.references if x.picture != picture]
  if len(remaining) == len(row.shot.references):
    return row
  return row.using(tuple(remaining) or _propose(candidates))


def join(row: Row, other: Row) -> Row:
  """Joins a shot with the next one, which keeps the references of both."""
  shot, after = row.shot, other.shot
  borders = Borders(*map(min, shot.borders, after.borders))
  both = Shot(shot.start, after.stop, (), borders, after.dissolve)
  candidates = tuple(
    _better(x, y) for x, y in zip(row.candidates, other.candidates, strict=True)
  )
  used = {x.picture for x in shot.references + after.references}
  references = tuple(x for x in candidates if x.picture in used)
  if not references and not (shot.skipped and after.skipped):
    references = BY_PRIOR
  embedding = None
  if row.embedding is not None and other.embedding is not None:
    embedding = np.concatenate([row.embedding, other.embedding])
  moments = row.moments + other.moments
  joined = Row(both, candidates, embedding, row.thumbnail, moments)
  return joined.using(_ordered(references))


class Look(NamedTuple):
  """A frame of a shot, as image files."""

  moment: bytes  # Without borders, to compare it with references.
  thumbnail: bytes  # To show.


def look(png: bytes, borders: Borders) -> Look:
  """Encodes a frame of a shot with borders."""
  rgb = video.decode_image(png, 'a frame')
  small = drawings.shrunk(borders.crop(rgb), _MOMENT)
  return Look(
    video.encode_image('.jpg', small),
    video.encode_image('.jpg', drawings.shrunk(rgb, drawings.THUMBNAIL)),
  )


def middles(shot: Shot, frame: int) -> tuple[int, int]:
  """Returns the frames in the middle of the parts of a divided shot."""
  return (shot.start + frame) // 2, (frame + shot.stop) // 2


def divide(row: Row, frame: int, looks: Sequence[Look]) -> list[Row]:
  """Divides a shot; both parts keep its references.

  Args:
    row: of the shot.
    frame: the first one of the second part.
    looks: a frame of each part.
  """
  shot = row.shot
  used = {x.picture for x in shot.references}
  parts = []
  for edge, seen in zip(
    ((shot.start, frame), (frame, shot.stop)), looks, strict=True
  ):
    part = Shot(*edge, (), shot.borders)
    if part.stop == shot.stop:
      dissolve = min(shot.dissolve, part.stop - part.start)
      part = part._replace(dissolve=dissolve)
    if edge[1] == shot.stop:
      dissolve = min(shot.dissolve, shot.stop - frame)
      part = part._replace(dissolve=dissolve)
    # Trials were of the whole shot.
    candidates = [
      _within(part, Choice(x.picture, x.score, x.frame)) for x in row.candidates
    ]
    references = [x for x in candidates if x.picture in used]
    bound = [x for x in references if x.frame is not None]
    chosen = _ordered(bound or references) or shot.references
    moments = [seen.moment]
    new = Row(part, tuple(candidates), None, seen.thumbnail, moments)
    parts.append(new.using(chosen))
  return parts


def _within(shot: Shot, choice: Choice) -> Choice:
  """Returns a choice that is bound only to a frame of the shot."""
  frames = range(shot.start, shot.stop)
  return choice if choice.frame in frames else choice._replace(frame=None)


def _better(choice: Choice, other: Choice) -> Choice:
  """Joins what is known of a reference for two shots."""
  best = max(choice, other, key=lambda x: (x.rank or 0.0, x.score or 0.0))
  return best._replace(
    frame=other.frame if choice.frame is None else choice.frame
  )


def _ordered(choices: Sequence[Choice]) -> tuple[Choice, ...]:
  """Sorts choices by the frames to which they are bound."""
  return tuple(
    sorted(choices, key=lambda x: -1 if x.frame is None else x.frame)
  )
