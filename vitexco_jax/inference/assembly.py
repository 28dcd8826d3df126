"""Assembles the outputs of a film from the segments of its blocks."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.inference import journal
from vitexco_jax.inference.film_job import Job
from vitexco_jax.inference.outputs import Track
from vitexco_jax.inference.stretches import Block
from vitexco_jax.media import mux, video


@contextlib.contextmanager
def assemble(
  job: Job, blocks: Sequence[Block], is_part: bool = False
) -> Iterator[dict[str, list[int | str]]]:
  """Assembles each output next to its final place.

  Args:
    job: with complete blocks.
    blocks: all blocks of the film, in order.
    is_part: whether they are only a part of the source.

  Yields:
    `journal.measure` of each output, by the path of its final place. If the body
    fails, the outputs are removed.

  Raises:
    UserError: an output cannot be written.
  """
  with contextlib.ExitStack() as undo:
    checksums = {}
    for index, track in enumerate(job.tracks):
      partial = video.partial_path(track.target)
      undo.callback(video.remove, partial)
      with video.explained('write', track.target):
        video.remove(partial)  # From a killed run.
        if track.kind == 'video':
          _join(job, index, blocks, partial, is_part)
        else:
          gather(job, track, blocks, partial)
        files.sync(partial)
        checksums[str(track.target.absolute())] = journal.measure(partial)
    yield checksums
    undo.pop_all()


def _join(
  job: Job, index: int, blocks: Sequence[Block], path: Path, is_part: bool
) -> None:
  """Joins the video segments of all blocks, with the other streams."""
  track = job.tracks[index]
  facts = [job.progress.facts[block] for block in blocks]
  segments = [
    mux.Segment(
      job.journal.folder / track.segment(block),
      fact['pts'],
      fact['delay'][index],
      fact['end'],
    )
    for block, fact in zip(blocks, facts, strict=True)
  ]
  parts = [job.path, *(segment.path for segment in segments)]
  job.opener.call(
    mux.join,
    segments,
    track.format(job.format, blocks[0].start),
    job.path if job.kind == 'video' else None,
    path,
    job.options.sound,
    *([True] if is_part else []),
    about=job.path,
    # The output is about as large as its parts.
    file_bytes=2**24 + sum(part.stat().st_size for part in parts),
  )


def gather(job: Job, track: Track, blocks: Sequence[Block], path: Path) -> None:
  """Links the images of all blocks into `path`."""
  segments = [job.journal.folder / track.segment(block) for block in blocks]
  if track.kind == 'image':
    _link(segments[0], path)
    return
  path.mkdir()
  for block, segment in zip(blocks, segments, strict=True):
    images = [*segment.iterdir()]
    if len(images) != block.stop - block.start:
      raise UserError(
        f'{segment} has {len(images)} frames instead of '
        f'{block.stop - block.start}: run the same command again'
      )
    for image in images:
      _link(image, path / image.name)


def _link(path: Path, place: Path) -> None:
  try:
    place.hardlink_to(path)
  except OSError:  # Another file system, or one without links.
    shutil.copyfile(path, place)
