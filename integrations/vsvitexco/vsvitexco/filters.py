"""The filters: `vs_vitexco` colorizes a clip, `vs_recolor` a part of it again."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import vapoursynth as vs

from vitexco_jax import FrameServer, UserError, VideoColorizer, read_image
from vsvitexco import clips

# Of references for a whole clip. The time of a frame grows with their number.
_MAX_REFERENCES = 16
_Size = tuple[int, int]


def vs_vitexco(
  clip: vs.VideoNode,
  clip_ref: vs.VideoNode | None = None,
  ref_framedir: str | Path | None = None,
  *,
  dissolves: Sequence[tuple[int, int]] = (),
  weights: str | Path | None = None,
  working_size: _Size | None = None,
) -> vs.VideoNode:
  """Colorizes a clip.

  Frames may be requested in any order; they have the colors of a run from the first
  to the last frame. Shots are colorized independently. They start where an earlier
  filter has set `_SceneChangePrev`, or `_SceneChangeNext` on the previous frame;
  without these properties, cuts are detected.

  Args:
    clip: RGB or YUV of one format and size; only its lightness is used.
    clip_ref: a clip in color. If it has as many frames as `clip`, it shows the same
      frames, and the first one of each shot is used. Otherwise, its frames are
      references for all shots.
    ref_framedir: a folder of color pictures. One named ref_000123.png shows frame
      123 of the clip, counted from 0; its colors are propagated from there in both
      directions. Other pictures are references for all shots. A shot without any
      picture uses the nearest one.
    dissolves: first and last frame of each dissolve, after which the next shot
      starts. These frames get the colors of both shots.
    weights: an export or a work directory; None: the weights of the program.
    working_size: (height, width) that bounds the size at which the networks work;
      None: that of the weights.

  Returns:
    The clip in color, in its format. Frames have the property
    `VitexcoConfidence`, the mean confidence of the matching, in [-1, 1].

  Raises:
    UserError: an argument cannot be used; the text says what to do.
  """
  return _colorize(
    clip, clip_ref, ref_framedir, dissolves, weights, working_size, 0
  )


def vs_recolor(
  clip: vs.VideoNode,
  clip_colored: vs.VideoNode,
  first: int,
  last: int,
  clip_ref: vs.VideoNode | None = None,
  ref_framedir: str | Path | None = None,
  *,
  dissolves: Sequence[tuple[int, int]] = (),
  weights: str | Path | None = None,
  working_size: _Size | None = None,
) -> vs.VideoNode:
  """Colorizes a range of a clip with other pictures.

  Args:
    clip: see `vs_vitexco`.
    clip_colored: the clip in color, from which the other frames are taken.
    first: number of the first frame of the range.
    last: number of its last frame, which is included.
    clip_ref: see `vs_vitexco`; of as many frames as `clip` or the range.
    ref_framedir: see `vs_vitexco`; numbers are those of `clip`.
    dissolves: see `vs_vitexco`; within the range, with numbers of `clip`.
    weights: see `vs_vitexco`.
    working_size: see `vs_vitexco`.

  Returns:
    `clip_colored` with the new colors of the range.

  Raises:
    UserError: see `vs_vitexco`.
  """
  if not 0 <= first <= last < clip.num_frames:
    raise UserError(
      f'`first={first}` and `last={last}` must be frames from 0 to '
      f'{clip.num_frames - 1} in this order'
    )
  alike = 'num_frames', 'width', 'height', 'format'
  if any(getattr(clip, x) != getattr(clip_colored, x) for x in alike):
    raise UserError(
      '`clip_colored` must have the length, size, and format of `clip`'
    )
  if clip_ref is not None and clip_ref.num_frames == clip.num_frames:
    clip_ref = clip_ref[first : last + 1]
  part = _colorize(
    clip[first : last + 1],
    clip_ref,
    ref_framedir,
    dissolves,
    weights,
    working_size,
    first,
  )
  parts = [clip_colored[:first]] if first else []
  parts.append(part)
  if last + 1 < clip.num_frames:
    parts.append(clip_colored[last + 1 :])
  return vs.core.std.Splice(parts)


def _colorize(
  clip: vs.VideoNode,
  clip_ref: vs.VideoNode | None,
  ref_framedir: str | Path | None,
  dissolves: Sequence[tuple[int, int]],
  weights: str | Path | None,
  working_size: _Size | None,
  offset: int,
) -> vs.VideoNode:
  """Colorizes a clip whose first frame has the number `offset` in names."""
  if clip_ref is not None and ref_framedir is not None:
    raise UserError('give `clip_ref` or `ref_framedir`, not both')
  rgb = clips.to_rgb(clip, 'clip')
  stills: clips.FolderStills | dict = {}
  references, colored = [], None
  if ref_framedir is not None:
    stills = clips.FolderStills(Path(ref_framedir), clip.num_frames, offset)
    _check_count(len(stills.others), f'`ref_framedir={ref_framedir}`')
    references = [read_image(path) for path in stills.others]
  elif clip_ref is not None:
    frames = clips.ClipFrames(clips.to_rgb(clip_ref, 'clip_ref'))
    if len(frames) == clip.num_frames:
      colored = frames
    else:
      _check_count(len(frames), '`clip_ref`')
      references = [frames[number] for number in range(len(frames))]
  colorizer = _load(weights, working_size)
  if ref_framedir is None and clip_ref is None:
    colorizer.check_prior()
  find_cuts = None
  if clips.marks_cuts(clip):
    find_cuts = functools.partial(clips.read_cuts, clip)
  server = FrameServer(
    colorizer,
    clips.ClipFrames(rgb),
    stills,
    references,
    find_cuts,
    colored,
    [range(x - offset, y + 1 - offset) for x, y in dissolves],
  )

  def color(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
    colors, result = server.colors(n), f.copy()
    clips.fill(result, colors.join(clips.to_array(f)))
    result.props['VitexcoConfidence'] = float(colors.confidence.mean())
    return result

  return clips.from_rgb(vs.core.std.ModifyFrame(rgb, rgb, color), clip)


def _check_count(count: int, name: str) -> None:
  if count > _MAX_REFERENCES:
    raise UserError(
      f'{name} has {count} pictures for all shots, more than '
      f'{_MAX_REFERENCES}: name pictures after their frames, or use fewer'
    )


def _load(
  weights: str | Path | None, working_size: _Size | None
) -> VideoColorizer:
  """Returns a colorizer that no other clip uses; weights are read once."""
  return _read(weights, working_size).on(jax.local_devices()[0])


@functools.cache
def _read(
  weights: str | Path | None, working_size: _Size | None
) -> VideoColorizer:
  overrides = working_size and {'use.size': tuple(working_size)}
  return VideoColorizer.from_checkpoint(weights, overrides or None)
