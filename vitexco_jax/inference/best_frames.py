"""--mode=stills: writes the frames of a film that are worth coloring by hand.

From each shot it takes the frames that together are most similar to all others of
the shot. Blurred frames, frames next to a cut or in a dissolve, and near-duplicates are
left out. After a run, the frames that it doubted most come first, and only from the
shots with such frames.
"""

import contextlib
import csv
import io
import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import doubts, kept_work, manifest, plan
from vitexco_jax.inference.shot_plan import Plan, Shot, clock
from vitexco_jax.inference.source import Source
from vitexco_jax.inference.survey import Embed
from vitexco_jax.media import image_grid, sandbox, video

_MARGIN = 3  # Frames at either end of a shot that are not used.
_WIDTH = 480  # At which sharpness is measured.
_ROWS = 60  # Shots of a contact sheet.
_logger = logging.getLogger(__name__)


class Still(NamedTuple):
  """A frame that is worth coloring."""

  shot: int  # Its number, from 1.
  frame: int
  seconds: float
  covered: float  # Mean cosine of the shot to its stills so far.
  rgb: np.ndarray  # [h, w, 3] uint8


def check_output(output: Path) -> None:
  """Raises UserError unless stills can be written into a new or empty folder."""
  files.check_writable(output / 'ref_000000.png')
  if output.exists() and (not output.is_dir() or any(output.iterdir())):
    raise UserError(f'`output={output}` is not empty: name a new folder')


def write_stills(
  config: ml_collections.ConfigDict,
  video_path: Path,
  output: Path,
  count: int,
  plan_path: Path | None = None,
  finished: Path | None = None,
) -> list[Still]:
  """Writes stills, contact sheets, and lists, `stills.csv` and `manifest.csv`.

  Args:
    config: its `retrieval` sets how frames are compared, its `use` which are used.
    video_path: the film.
    output: a new or empty folder.
    count: most stills of a shot.
    plan_path: a plan with the shots; None: they are detected.
    finished: a result with kept segments. Only stills of shots with frames that it
      doubts are written, those frames first, and no manifest.

  Raises:
    UserError: the film cannot be read, or the folder cannot be written.
  """
  check_output(output)
  confidences = (
    None if finished is None else kept_work.read_confidences(finished)
  )
  # It imports JAX, which checks of the input do not need.
  from vitexco_jax.retrieval import embedding

  embed = embedding.make_embedder(config)
  if plan_path is None:
    film_plan, _ = plan.make_plan(config, video_path, [plan.NONE])
    shots = tuple(x._replace(references=()) for x in film_plan.shots)
    film_plan = film_plan._replace(shots=shots)
  else:
    film_plan = plan.read(plan_path)
  doubtful = None
  if confidences is not None:
    doubtful = _find_doubtful(film_plan, confidences, config.use)
    if not doubtful:
      _logger.info(f'{finished} has no doubtful frames: no stills are written')
      return []
  files.make_folder('output', output)
  stills = []
  found = find(film_plan, video_path, embed, count, config.use, doubtful)
  with contextlib.closing(found) as steps:
    for still in steps:
      path = output / f'ref_{still.frame:06d}.png'
      video.write_image(path, still.rgb)
      # Only the small picture for the contact sheet stays in memory.
      stills.append(still._replace(rgb=_small(still.rgb)))
  _write_list(output / 'stills.csv', stills)
  if doubtful is None:
    numbers = [
      [x.frame for x in stills if x.shot == shot]
      for shot in range(1, 1 + len(film_plan.shots))
    ]
    with files.explained('output', output):
      text = manifest.to_text(film_plan, numbers, output)
      files.write(output / 'manifest.csv', text)
  for page, sheet in enumerate(_draw(stills), 1):
    suffix = '' if page == 1 else f'_{page}'
    # Not a picture of the folder of references.
    video.write_image(output.with_name(f'{output.name}{suffix}.jpg'), sheet)
  shot_count = len({still.shot for still in stills})
  _logger.info(
    f'Wrote {len(stills)} stills of {shot_count} shots: {output}, list '
    f'{output / "stills.csv"}, contact sheet {output}.jpg'
  )
  return stills


def _find_doubtful(
  film_plan: Plan, confidences: np.ndarray, use: ml_collections.ConfigDict
) -> dict[int, list[int]]:
  """Returns the frames to color by the number of their shot, the worst first."""
  if len(confidences) > film_plan.frames:
    raise UserError(
      f'`finished` has more frames than {film_plan.video}: name its own result'
    )
  frames = [
    doubts.worst(start, stop, confidences)
    for start, stop in doubts.find(film_plan, confidences, use)
  ]
  frames.sort(key=lambda frame: float(confidences[frame]))
  doubtful: dict[int, list[int]] = {}
  for frame in frames:
    (number,) = (
      number
      for number, shot in enumerate(film_plan.shots, 1)
      if shot.start <= frame < shot.stop
    )
    doubtful.setdefault(number, []).append(frame)
  return doubtful


def find(
  film_plan: Plan,
  video_path: Path,
  embed: Embed,
  count: int,
  use: ml_collections.ConfigDict,
  doubtful: Mapping[int, Sequence[int]] | None = None,
) -> Generator[Still, None, None]:
  """Yields the stills of each shot.

  Args:
    film_plan: the shots.
    video_path: the film.
    embed: an `embedding.Embedder`.
    count: most stills of a shot.
    use: `config.use`.
    doubtful: frames that come first, by the number of their shot, from 1; only
      these shots have stills. None: all shots have.
  """
  with contextlib.closing(Source(sandbox.DIRECT, video_path)) as source:
    shots = tqdm.tqdm(film_plan.shots, 'stills', unit='shot')
    for number, shot in enumerate(shots, 1):
      if doubtful is not None and number not in doubtful:
        continue
      first = () if doubtful is None else doubtful[number]
      frames = {}
      for i in sorted({*candidates(shot, use.still_candidates), *first}):
        frame = next(source.frames(i, i + 1), None)
        if frame is None:
          raise UserError(f'{video_path} has no frame {i}: make another plan')
        frames[i] = frame.rgb
      inner = [shot.borders.crop(rgb) for rgb in frames.values()]
      embeddings = embed(inner)
      sharp = np.array([_sharpness(rgb) for rgb in inner])
      usable = np.flatnonzero(sharp >= use.still_sharpness * np.median(sharp))
      order = [*frames]
      given = [order.index(x) for x in first]
      for place, covered in choose(
        embeddings, usable, count, use.still_duplicate, given
      ):
        i = order[place]
        time = float(i / film_plan.frame_rate)
        yield Still(number, i, time, covered, frames[i])


def candidates(shot: Shot, count: int) -> list[int]:
  """Returns evenly spaced frames of a shot, away from its ends and dissolves."""
  margin = min(_MARGIN, (shot.alone_stop - shot.start - 1) // 2)
  first, last = shot.start + margin, shot.alone_stop - 1 - margin
  return np.unique(np.linspace(first, last, count).round()).astype(int).tolist()


def choose(
  embeddings: np.ndarray,
  usable: Iterable[int],
  count: int,
  duplicate: float,
  given: Sequence[int] = (),
) -> Iterator[tuple[int, float]]:
  """Yields the rows that cover all rows best, one after the other.

  Args:
    embeddings: [n, d], of unit length.
    usable: rows to choose from.
    count: most rows.
    duplicate: rows with this cosine to a chosen one are not used.
    given: rows that come first.

  Yields:
    A row, and the mean cosine of all rows to the nearest chosen one.
  """
  cosines = embeddings @ embeddings.T
  best = np.full(len(cosines), -1.0)
  left, first = [*usable], [*given]
  for _ in range(count):
    if first:
      row = first.pop(0)
    elif left:
      gains = [np.maximum(best, cosines[row]).mean() for row in left]
      row = left[int(np.argmax(gains))]
    else:
      return
    best = np.maximum(best, cosines[row])
    yield row, float(best.mean())
    left = [x for x in left if cosines[row, x] < duplicate]


def _sharpness(rgb: np.ndarray) -> float:
  """Returns the variance of the Laplacian, relative to that of the picture."""
  gray = cv2.cvtColor(_small(rgb), cv2.COLOR_RGB2GRAY)
  contrast = max(1.0, float(gray.var()))
  return float(cv2.Laplacian(gray, cv2.CV_32F).var()) / contrast


def _small(rgb: np.ndarray) -> np.ndarray:
  height, width = rgb.shape[:2]
  if width <= _WIDTH:
    return rgb
  size = _WIDTH, max(1, round(height * _WIDTH / width))
  return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def _write_list(path: Path, stills: Iterable[Still]) -> None:
  """Writes a list that `references` reads, with the frames."""
  text = io.StringIO()
  rows = csv.writer(text, lineterminator='\n')
  rows.writerow(('file', 'frame'))
  for still in stills:
    rows.writerow((f'ref_{still.frame:06d}.png', still.frame))
  with files.explained('output', path):
    files.write(path, text.getvalue())


def _draw(stills: list[Still]) -> Iterator[np.ndarray]:
  """Draws contact sheets, a row for each shot."""
  numbers = sorted({still.shot for still in stills})
  for start in range(0, len(numbers), _ROWS):
    rows, labels = [], []
    for number in numbers[start : start + _ROWS]:
      own = [still for still in stills if still.shot == number]
      rows.append([still.rgb for still in own])
      frames = ', '.join(str(still.frame) for still in own)
      labels.append(
        f'{number}, {clock(own[0].seconds)}: frames {frames}, covered '
        f'{own[-1].covered:.2f}'
      )
    yield image_grid.draw(rows, labels)
