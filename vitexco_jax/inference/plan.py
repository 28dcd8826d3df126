"""--mode=plan: finds the shots of a film and chooses their references.

A *plan* is a JSON file that can be edited by hand:

  {"video": {"path": "film.mkv", "width": 768, "height": 432, "frames": 300,
             "frame_rate": "25"},
   "shots": [
     {"start": 0, "stop": 120,
      "references": [{"picture": "stills/garden.jpg", "score": 0.71}]},
     {"start": 120, "stop": 300,
      "references": [{"picture": "stills/ref_00150.png", "frame": 150}]}]}

Frames are counted from 0. `stop` is not included. Paths are relative to the folder
of the plan. With several references, each pixel uses the best match. A reference
with a `frame` is *bound*: it shows that frame of the shot in color, and its colors
are propagated from there in both directions. The picture `first-frame` is the first
frame of the video. `none` as the only picture of a shot means that the prior
colorizes it. A shot with `"references": "skip"`, or `[]`, stays as it is, for example a
title card or a part in color. Scores, confidences, and coverages
are information for the reader; see `trial`.

A shot with `"dissolve": 24` dissolves into the next one in its last 24 frames, which
get the colors of both. A fade is a dissolve to or from a black or white shot, which
stays as it is.

A shot with black or white borders has `"borders": [top, bottom, left, right]`, in
pixels. Borders are not changed; only the picture inside is matched and colorized.

This module writes plans and gives access to everything about them; see `shot_plan`
for the types, `plan_file` for the file, `survey` for the shots, `choice` for the
references, and `contact_sheet` for the pictures.
"""

import contextlib
import logging
import os
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import ml_collections
import tqdm

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import cut_list, manifest, reference_lists
from vitexco_jax.inference.choice import (
  doubts,
  give,
  list_references,
  match,
  named_frame,
  retrieve,
  same_for_all,
  scores,
  select,
  try_all,
)
from vitexco_jax.inference.contact_sheet import contact_sheets, table
from vitexco_jax.inference.plan_file import check, read, write
from vitexco_jax.inference.shot_plan import (
  AUTO,
  FIRST_FRAME,
  NONE,
  Choice,
  Plan,
  Shot,
  clock,
)
from vitexco_jax.inference.survey import (
  Embed,
  Survey,
  check_rate,
  damage,
  survey,
)
from vitexco_jax.media import sandbox, video

if TYPE_CHECKING:
  from vitexco_jax.inference.video_colorizer import VideoColorizer

__all__ = [
  'AUTO',
  'FIRST_FRAME',
  'NONE',
  'Choice',
  'Plan',
  'Shot',
  'Survey',
  'check',
  'check_output',
  'check_rate',
  'select',
  'clock',
  'contact_sheets',
  'damage',
  'doubts',
  'give',
  'list_references',
  'make_plan',
  'match',
  'named_frame',
  'plan_film',
  'read',
  'retrieve',
  'same_for_all',
  'scores',
  'survey',
  'table',
  'try_all',
  'write',
]

_logger = logging.getLogger(__name__)


def make_plan(
  config: ml_collections.ConfigDict,
  video_path: Path,
  pictures: Sequence[str],
  references: Path | None = None,
  gallery: Path | None = None,
  frame_rate: Fraction | None = None,
  colorizer: 'VideoColorizer | None' = None,
) -> tuple[Plan, Survey]:
  """Surveys a video with a progress bar and chooses its references.

  Args:
    config: its `retrieval` sets how pictures are compared.
    video_path: what to colorize.
    pictures: color pictures for all shots and `first-frame`, or only `auto` or
      only `none`.
    references: pictures to choose from; see `list_references`.
    gallery: where `auto` searches.
    frame_rate: of a folder of frames; None: 25.
    colorizer: tries the most similar pictures on each shot; None: the most similar
      one is used.

  Raises:
    UserError: a reference or the video cannot be read.
  """
  video.VideoReader(video_path).close()  # Fail before the progress bar.
  rows = reference_lists.read_manifest(references) if references else None
  if rows is not None:
    surveyed = _survey_with_bar(video_path, None, frame_rate)
    assert references is not None
    listed = list_references(references, surveyed)
    bound = {Path(x.picture): x.frame for x in listed}
    plan = manifest.follow(surveyed.plan, surveyed.seconds, rows, bound)
  elif references is not None:
    # It imports JAX, which checks of the input do not need.
    from vitexco_jax.retrieval import embedding

    embed = embedding.make_embedder(config)
    surveyed = _survey_with_bar(video_path, embed, frame_rate)
    plan = match(
      surveyed, list_references(references, surveyed), embed, colorizer
    )
  elif AUTO in pictures:
    if gallery is None:
      raise UserError('`pictures=auto` needs `gallery`')
    # It imports FAISS and TFDS, which only a gallery needs.
    from vitexco_jax.retrieval.gallery import open_with_embedder

    embed, opened = open_with_embedder(config, gallery)
    surveyed = _survey_with_bar(video_path, embed, frame_rate)
    plan = retrieve(surveyed, opened, colorizer)
  else:
    surveyed = _survey_with_bar(video_path, None, frame_rate)
    plan = same_for_all(surveyed, pictures)
  check(os.fspath(video_path), plan)
  for doubt in doubts(plan, surveyed.seconds):
    _logger.warning('%s', doubt)
  return plan, surveyed


def _survey_with_bar(
  video_path: Path, embed: Embed | None, frame_rate: Fraction | None
) -> Survey:
  """Surveys with a progress bar and warns of damage."""
  with tqdm.tqdm(desc='shots', unit='frame') as bar:

    def progress(count: int, total: int | None, _: int) -> None:
      bar.total = total
      bar.update(count - bar.n)

    surveyed = survey(video_path, embed, progress, sandbox.DIRECT, frame_rate)
  if surveyed.damaged:
    _logger.warning('%s', damage(video_path, surveyed))
  if 0 < surveyed.interlaced < surveyed.plan.frames:
    _logger.warning(
      '%d of %d frames of %s are interlaced; `deinterlace` makes them '
      'progressive',
      surveyed.interlaced,
      surveyed.plan.frames,
      video_path,
      extra={'kind': 'note'},
    )
  return surveyed


def check_output(output: Path) -> None:
  """Raises UserError unless a plan and the files next to it can be written."""
  if output.suffix != '.json':
    raise UserError(f'`output={output}` must be a plan: end its name in .json')
  # The longest of the names; there may be up to a thousand contact sheets.
  files.check_writable(output.with_name(f'{output.stem}_cuts.edl'))
  if output.exists():
    raise UserError(
      f'`output={output}` exists and may have been edited: name another file'
    )
  files.make_folder('output', output.parent)
  own = re.compile(re.escape(output.stem) + r'((_\d+)?\.jpg|_cuts\.(edl|csv))')
  for path in sorted(output.parent.iterdir()):
    if own.fullmatch(path.name):
      raise UserError(
        f'`output={output}` might replace {path}: name another file'
      )


def plan_film(
  config: ml_collections.ConfigDict,
  video_path: Path,
  pictures: Sequence[str],
  output: Path,
  references: Path | None = None,
  gallery: Path | None = None,
  frame_rate: Fraction | None = None,
  colorizer: 'VideoColorizer | None' = None,
) -> Plan:
  """Writes a plan with contact sheets and lists of the cuts, and prints it.

  Args:
    config: see `make_plan`.
    video_path: what to colorize.
    pictures: see `make_plan`.
    output: the JSON file; the sheets and lists are written next to it.
    references: see `make_plan`.
    gallery: see `make_plan`.
    frame_rate: see `make_plan`.
    colorizer: see `make_plan`.

  Raises:
    UserError: an input cannot be used, or an output exists or cannot be
      written.
  """
  check_output(output)
  plan, surveyed = make_plan(
    config, video_path, pictures, references, gallery, frame_rate, colorizer
  )
  sheets = []
  with contextlib.ExitStack() as undo:
    drawn = contact_sheets(plan, surveyed.thumbnails, surveyed.seconds)
    for page, sheet in enumerate(drawn, 1):
      suffix = '.jpg' if page == 1 else f'_{page}.jpg'
      sheets.append(output.with_name(output.stem + suffix))
      video.write_image(sheets[-1], sheet)
      undo.callback(sheets[-1].unlink)
    with files.explained('output', output):
      lists = _write_cuts(output, plan, surveyed, undo)
      write(output, plan)
    undo.pop_all()
  _logger.info(table(plan, surveyed.seconds))
  _logger.info(f'Contact sheets: {" ".join(map(str, sheets))}')
  _logger.info(f'Cuts: {" ".join(map(str, lists))}')
  _logger.info(f'Plan, which can be edited: {output}')
  return plan


def _write_cuts(
  output: Path, plan: Plan, surveyed: Survey, undo: contextlib.ExitStack
) -> list[Path]:
  """Writes the lists of the cuts next to a plan; `undo` removes them."""
  code = surveyed.time_code
  texts = {
    '.edl': cut_list.to_edl(plan, code),
    '.csv': cut_list.to_csv(plan, surveyed.seconds, code),
  }
  paths = []
  for suffix, text in texts.items():
    if not text:
      continue  # The frame rate has no time codes.
    path = output.with_name(f'{output.stem}_cuts{suffix}')
    files.write(path, text)
    undo.callback(path.unlink)
    paths.append(path)
  return paths
