"""Outputs of a film: options, files, and checks."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal
from vitexco_jax.inference.stretches import Block
from vitexco_jax.media import mux, sandbox, time_codes, video

# Entries of a folder of kept segments: of blocks, states, and folders of tracks.
_OF_WORK = re.compile(r'\d+\.(json|npy)|output|compare|confidence', re.ASCII)


class Options(NamedTuple):
  """Options of the outputs, apart from the colors that the network predicts."""

  coding: video.Coding = video.Coding()
  saturation: float = 1.0  # Factor of the predicted colors.
  # Strength of the edge-aware filter, which makes colors follow the edges of the
  # frame; 500 is usual, 0 turns it off.
  smoothing: float = 0.0
  compare: Path | None = None  # Gray and color next to each other.
  confidence: Path | None = None  # White where the confidence is high.
  audio: str = 'auto'  # 'none': no sound is copied.
  deinterlace: bool = False  # Whether to deinterlace the source.

  def check(self, output: Path) -> None:
    """Raises UserError if an output does not support the options."""
    self.coding.check(output)
    for name in ('saturation', 'smoothing'):
      if not 0 <= getattr(self, name) < float('inf'):
        raise UserError(
          f'`{name}={getattr(self, name)}` must be 0 or more, and finite'
        )
    if self.audio not in ('auto', 'none'):
      raise UserError(f'`audio={self.audio}` must be auto or none')
    outputs = self.outputs(output)
    for one, other in itertools.permutations(outputs, 2):
      if one.resolve() == other.resolve():
        raise UserError(f'{one} is named for two outputs: name others')
      if one.resolve() in other.resolve().parents:
        raise UserError(
          f'the output {other} is inside the output {one}: name others'
        )
    for path in outputs[1:]:
      video.Coding().check(path)

  def items(self) -> list[tuple[str, Any]]:
    """Returns the options that change an output, by name."""
    coding = self.coding._replace(bits=self.coding.depth)
    own = self._asdict()
    # Sound is copied at the end, so it changes no block.
    del own['coding'], own['audio']
    return [*coding._asdict().items(), *own.items()]

  @property
  def sound(self) -> bool:
    """Whether sound is copied."""
    return self.audio == 'auto'

  def outputs(self, output: Path) -> list[Path]:
    """Returns the paths of all outputs, the film first."""
    return [output, *filter(None, (self.compare, self.confidence))]


class Track(NamedTuple):
  """One of the outputs."""

  name: str
  target: Path
  kind: str  # See `video.output_kind`.
  coding: video.Coding
  columns: int = 1  # Frames next to each other.

  def format(self, source: video.Format, start: int) -> video.Format:
    """Returns the format of an output, or of a part of it.

    Args:
      source: format of the source.
      start: the frame of the source that is the first one of the output.
    """
    code = time_codes.after(source.time_code, start, source.frame_rate)
    form = source._replace(width=source.width * self.columns, time_code=code)
    # Confidence is not interlaced.
    return form._replace(field_order='') if self.name == 'confidence' else form

  def segment(self, block: Block) -> str:
    """Returns the path of a block's output, below the journal's folder."""
    suffix = '' if self.kind == 'folder' else self.target.suffix
    if self.kind == 'video':
      suffix = self.coding.settings.segment
    return f'{self.name}/{block.name}{suffix}'


def list_tracks(output: Path, options: Options) -> list[Track]:
  """Lists the outputs, the film first."""
  plain = video.Coding()
  return [
    Track(name, target, video.output_kind(target), coding, columns)
    for name, target, coding, columns in (
      ('output', output, options.coding, 1),
      ('compare', options.compare, plain, 2),
      ('confidence', options.confidence, plain, 1),
    )
    if target is not None
  ]


def part_folder(output: Path) -> Path:
  """Returns the folder of unfinished work."""
  return files.sibling(output, '', '.part')


def work_folder(output: Path) -> Path:
  """Returns the folder of the segments of a finished film."""
  return files.sibling(output, '', '.work')


def whole_file(output: Path) -> Path:
  """Returns the record that is written when all outputs are complete."""
  return files.sibling(output, '.', '.whole')


def absolute(paths: Iterable[Path]) -> list[str]:
  """Returns absolute paths as text, as records contain them."""
  return [str(path.absolute()) for path in paths]


def check_free(output: Path, overwrite: bool, options: Options) -> None:
  """Raises UserError if an output exists and must not be replaced.

  A run that was killed while it moved its outputs may continue.
  """
  targets = options.outputs(output)
  try:
    whole = journal.read_record(whole_file(output))
  except journal.DamagedError:
    whole = None
  if whole is None or [*whole['outputs']] != absolute(targets):
    for target in targets:
      video.check_free(target, overwrite)


def check(
  source: Path,
  output: Path,
  overwrite: bool,
  options: Options,
  inputs: Iterable[Path] = (),
) -> None:
  """Checks everything about outputs that does not depend on the video.

  Args:
    source: the video, folder of frames or image to color.
    output: the film.
    overwrite: whether to replace outputs that exist.
    options: contain the other outputs.
    inputs: other files and folders to read.

  Raises:
    UserError: an output cannot be written, or would replace an input.
  """
  targets = options.outputs(output)
  for target in targets:
    files.check_writable(target)
  options.check(output)
  for target in targets:
    inside = source.is_dir() and target.resolve().is_relative_to(
      source.resolve()
    )
    if inside and video.output_kind(target) != 'video':
      raise UserError(
        f'{target} is inside {source}, the folder of the frames: name another '
        'output'
      )
  partial = map(video.partial_path, targets)
  files.check_apart(
    [*targets, *partial, part_folder(output), work_folder(output)],
    [source, *inputs],
  )
  _check_work(work_folder(output))
  check_free(output, overwrite, options)


def _check_work(work: Path) -> None:
  """Raises UserError if a path is in use for anything but kept segments."""
  if not work.exists():
    return
  names = [path.name for path in work.iterdir()] if work.is_dir() else ['']
  if not all(_OF_WORK.fullmatch(name) for name in names):
    raise UserError(
      f'{work} has other content than the segments that a run keeps there: '
      'move it, or name another output'
    )


def left_out(
  reader: video.VideoReader | sandbox.Reader,
  source: Path,
  output: Path,
  options: Options,
  opener: sandbox.Direct | sandbox.Sandbox = sandbox.DIRECT,
) -> list[str]:
  """Describes what will be missing from the outputs.

  Args:
    reader: of the video.
    source: its path.
    output: the film.
    options: contain the other outputs.
    opener: opens the video, perhaps in another process.

  Raises:
    UserError: sound would be missing that another container supports.
  """
  descriptions = []
  for target in options.outputs(output):
    missing = reader.other_tracks
    if video.output_kind(target) == reader.kind == 'video':
      missing = opener.call(
        mux.left_out, source, target, options.sound, about=source
      )
    descriptions += [f'{target.name}: {name}' for name in missing]
  return descriptions


def notes(
  reader: video.VideoReader, source: Path, output: Path, options: Options
) -> list[str]:
  """Returns notes on how frames will be stored.

  Args:
    reader: of the video, which is not deinterlaced.
    source: its path.
    output: the film.
    options: of the output.

  Raises:
    UserError: `deinterlace` is set, but the source is not a video.
  """
  if options.deinterlace and reader.kind != 'video':
    raise UserError(f'{source} is not a video file: leave out `deinterlace`')
  form, coding = reader.format, options.coding
  is_video = video.output_kind(output) == 'video'
  if options.deinterlace:
    form = form._replace(field_order='')
  sentences = []
  if form.field_order and is_video and coding.keeps_fields:
    first = {'tt': 'top', 'bb': 'bottom'}[form.field_order]
    sentences.append(
      f'{source} is interlaced, and {output.name} will be so too, {first} field '
      'first: `deinterlace` makes it progressive'
    )
  elif form.field_order:
    sentences.append(
      f'{source} is interlaced, and {output.name} will show combs where something '
      'moves, as it cannot be marked as interlaced: add `deinterlace`'
    )
  if is_video and coding.is_rare(form):
    sentences.append(
      f'{output.name} will be 4:4:4, which QuickTime and many devices do not '
      f'play, as 4:2:0 does not hold {form.width}x{form.height} pixels: '
      '`codec=prores4444` plays in QuickTime'
    )
  return sentences
