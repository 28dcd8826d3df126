"""Checks of inputs and outputs before any work.

This module does not import JAX, which takes seconds. The slowest check copies the
sound of the video without writing it, which reads the file once.
"""

import itertools
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from vitexco_jax.errors import UserError
from vitexco_jax.inference import outputs, plan, ranges, reference_lists
from vitexco_jax.media import quality, video

_NO_FILES = plan.AUTO, plan.FIRST_FRAME, plan.NONE
_FASTEST = 1000  # Frames per second.


def read_frame_rate(text: str | None) -> Fraction | None:
  """Parses a frame rate, such as 25, 23.976 or 24000/1001."""
  if text is None:
    return None
  try:
    rate = Fraction(text)
    if 0 < rate <= _FASTEST:
      return rate
  except (ValueError, ZeroDivisionError):
    pass
  raise UserError(
    f'`frame_rate={text}` is not a number up to {_FASTEST}: write 25, 23.976 or '
    '24000/1001'
  )


def check_inputs(
  video_path: Path,
  pictures: Sequence[str],
  references: Path | None = None,
  frame_rate: Fraction | None = None,
) -> list[str]:
  """Checks the inputs of a plan.

  Args:
    video_path: the video, folder of frames or image to color.
    pictures: paths, `first-frame`, `auto` or `none`.
    references: see `reference_lists.read`.
    frame_rate: in frames per second, for a folder of frames.

  Returns:
    Warnings.

  Raises:
    UserError: something cannot be read, or no reference has color.
  """
  with video.VideoReader(video_path) as reader:
    plan.check_rate(reader, frame_rate)
  paths = [x for x in pictures if x not in (plan.AUTO, plan.NONE)]
  if references is not None:
    entries = reference_lists.read(references)
    paths += [os.fspath(x.path) for x in entries]
  return _check_color(video_path, paths)


def check_sources(
  video_path: Path,
  pictures: Sequence[str],
  plan_path: Path | None = None,
  references: Path | None = None,
  gallery: Path | None = None,
  frame_rate: Fraction | None = None,
  frames: ranges.Span | None = None,
) -> list[str]:
  """Checks the inputs of a film; see `check` for the arguments.

  Returns:
    Warnings.

  Raises:
    UserError: an input cannot be used.
  """
  del gallery  # It is opened by its own module.
  if plan_path is not None:
    film_plan = plan.read(plan_path)
    plan_pictures = [x.picture for y in film_plan.shots for x in y.references]
    pictures = [*pictures, *plan_pictures]
  warnings = check_inputs(video_path, pictures, references, frame_rate)
  if frames is not None:
    with video.VideoReader(video_path) as reader:
      form, count = reader.format, reader.num_frames
    if frame_rate is not None:
      form = form.at(frame_rate)
    if count:
      ranges.check(frames, count, float(form.frame_rate))
  return warnings


def check(
  video_path: Path,
  pictures: Sequence[str],
  output: Path,
  overwrite: bool,
  options: outputs.Options,
  *,
  plan_path: Path | None = None,
  references: Path | None = None,
  gallery: Path | None = None,
  frame_rate: Fraction | None = None,
  frames: ranges.Span | None = None,
) -> list[str]:
  """Checks everything that is known before a film is colorized.

  Args:
    video_path: see `check_inputs`.
    pictures: see `check_inputs`.
    output: the film.
    overwrite: whether to replace outputs that exist.
    options: of the output.
    plan_path: a plan to follow, without references.
    references: see `check_inputs`.
    gallery: where `auto` searches.
    frame_rate: see `check_inputs`.
    frames: the part to colorize; None: everything.

  Returns:
    Warnings.

  Raises:
    UserError: an input cannot be used, or an output cannot be written.
  """
  inputs = [Path(x) for x in pictures if x not in _NO_FILES]
  inputs += filter(None, (plan_path, references, gallery))
  if plan_path is not None:
    film_plan = plan.read(plan_path)
    plan_pictures = [x.picture for y in film_plan.shots for x in y.references]
    inputs += [Path(x) for x in plan_pictures if x not in _NO_FILES]
  elif references is not None:
    inputs += [x.path for x in reference_lists.read(references)]
  outputs.check(video_path, output, overwrite, options, inputs)
  warnings = check_sources(
    video_path,
    pictures,
    plan_path,
    references,
    gallery,
    frame_rate,
    frames,
  )
  with video.VideoReader(video_path) as reader:
    several = frames is None and len([*itertools.islice(reader, 2)]) > 1
  form = reader.format if frame_rate is None else reader.format.at(frame_rate)
  options.coding.check_format(output, form)
  for target in options.outputs(output):
    if several and video.output_kind(target) == 'image':
      raise UserError(
        f'{target} is one image but {video_path} has more frames: name a video '
        'or a folder'
      )
  warnings += outputs.notes(reader, video_path, output, options)
  missing = outputs.left_out(reader, video_path, output, options)
  return warnings + [f'left out of {what}' for what in missing]


def _check_color(video_path: Path, paths: Iterable[str]) -> list[str]:
  """Returns warnings of gray references; raises UserError if all are gray."""
  gray, colored = [], False
  for name in dict.fromkeys(paths):
    if name == plan.FIRST_FRAME:
      with video.VideoReader(video_path) as reader:
        if quality.is_gray(next(reader).rgb):
          raise UserError(
            f'`pictures={name}`: the first frame of {video_path} has no color '
            'to give: name a picture in color'
          )
      colored = True
    elif quality.is_gray(video.read_image(name)):
      gray.append(name)
    else:
      colored = True
  if gray and not colored:
    raise UserError(
      f'the reference {gray[0]} has no color: name a picture in color'
    )
  return [f'the reference {name} has no color' for name in gray]
