"""Putting a video together: coded segments, and all of its source but pictures.

`join` writes the packets of several coded videos one after the other, with the
time stamps that they are given, and beside them the sound, subtitles,
attachments, cover, chapters and metadata of another file. Nothing is coded anew.
What a container writes of itself (time code and chapter tracks) it writes anew.
"""

import contextlib
import heapq
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.bitstream import BitStreamFilterContext

from vitexco_jax.errors import UserError
from vitexco_jax.media import video

# By the muxers of FFmpeg, which know .m4v as "ipod" and take little there.
_FORMATS = {'.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska'}
_FORMATS |= {'.avi': 'avi'}

# Of one container, or of what it holds now.
_OWN_TAGS = re.compile(
  r'(major_brand|minor_version|compatible_brands|encoder|vendor_id|rotate|BPS.*'
  r'|DURATION.*|NUMBER_OF_.*|_STATISTICS_.*|creation_time|handler_name|duration)',
  re.IGNORECASE,
)


class Segment(NamedTuple):
  """A part of a video."""

  path: Path  # Of a file with one stream of coded video.
  pts: Sequence[int]  # Of its frames, rising, in ticks of the whole.
  delay: int  # See `delay`.


def delay(path: Path) -> int:
  """How many frames ahead of their turn a segment has to be decoded.

  Raises:
    UserError: it cannot be read.
  """
  with video.explained('read', path):
    ranks = [rank for rank, _ in _ranked(path)]
  return max(place - rank for place, rank in enumerate(ranks))


def _ranked(
  path: Path, frames: int | None = None
) -> Iterator[tuple[int, av.Packet]]:
  """Yields packets, as they are stored, with the places where they are shown.

  Raises:
    UserError: it has another number of `frames` than it should.
  """
  # Read twice: without loss, a block of large frames would not fit into memory.
  shown = sorted(packet.pts for packet in _packets(path))
  if frames not in (None, len(shown)):
    raise UserError(
      f'{path} has {len(shown)} frames instead of {frames}: run the same command '
      'again'
    )
  ranks = {pts: rank for rank, pts in enumerate(shown)}
  for packet in _packets(path):
    yield ranks[packet.pts], packet


def _packets(path: Path) -> Iterator[av.Packet]:
  with av.open(f'file:{path}') as container:
    for packet in container.demux():
      if packet.size:
        yield packet


def left_out(source: Path, target: Path) -> list[str]:
  """Tells what of a source a container does not take.

  Args:
    source: a video file.
    target: whose suffix tells the container.

  Returns:
    What will be missing, in words.

  Raises:
    UserError: sound would be missing, which nobody wants.
  """
  missing = []
  with (
    video.open_input(source) as container,
    av.open(io.BytesIO(), 'w', format=_FORMATS[target.suffix.lower()]) as out,
  ):
    for stream in _others(container):
      try:
        _add(out, stream)
      except ValueError as error:
        name = stream.codec_context.name if stream.codec_context else 'unknown'
        if stream.type == 'audio':
          raise UserError(
            f'{target} cannot hold the sound of {source} ({name}): name the '
            'output .mkv or .mov'
          ) from error
        missing.append(f'{stream.type} ({name})')
    if out.format.name == 'avi' and container.chapters():
      missing.append('chapters')
  return missing


def join(
  segments: Sequence[Segment],
  form: video.Format,
  source: Path | None,
  target: Path,
) -> None:
  """Writes a video file, replacing what is there.

  Args:
    segments: in their order, coded alike, each beginning with a key frame.
    form: of the whole; its `time_base` is that of the time stamps.
    source: what the rest is copied from; None: nothing.
    target: the file; its suffix tells the container.

  Raises:
    UserError: it cannot be written, the source not be read, or a segment does
      not have as many frames as time stamps.
  """
  with video.explained('write', target), contextlib.ExitStack() as stack:
    suffix = target.suffix.lower()
    tick = video.container_tick(suffix, form)
    out = stack.enter_context(
      av.open(
        f'file:{target}',
        'w',
        format=_FORMATS[suffix],
        container_options={
          # The same from the same: no random numbers, no dates.
          'fflags': '+bitexact',
          **video.container_options(suffix, tick),
        },
      )
    )
    pictures = stack.enter_context(av.open(f'file:{segments[0].path}'))
    template = pictures.streams.video[0]
    stream = out.add_stream_from_template(template)
    stream.time_base = tick
    stream.codec_context.framerate = form.frame_rate
    if template.name == 'hevc' and suffix != '.mkv':
      stream.codec_context.codec_tag = 'hvc1'  # Players by Apple ask for it.
    packets = [_pictures(segments, form, tick, template, stream)]
    if source is not None:
      other = stack.enter_context(video.open_input(source))
      copies = {}
      for one in _others(other):
        with contextlib.suppress(ValueError):  # `left_out` told of it.
          copies[one.index] = _add(out, one)
      out.metadata.update(_kept(other.metadata))
      out.set_chapters(other.chapters())
      first = video.main_stream(other)
      stream.metadata.update(_kept(first.metadata))
      stream.disposition = first.disposition
      packets.append(_copied(other, copies))
    out.start_encoding()
    for _, packet in heapq.merge(*packets, key=lambda pair: pair[0]):
      out.mux_one(packet)


def _others(
  container: av.container.InputContainer,
) -> Iterator[av.stream.Stream]:
  """Streams to be copied."""
  for stream in container.streams:
    cover = stream.disposition & av.stream.Disposition.attached_pic
    if stream.type in ('audio', 'subtitle', 'attachment') or cover:
      yield stream


def _add(out, stream):
  """Adds a stream like that of another file; ValueError if it does not fit."""
  if stream.type == 'attachment':
    if out.format.name != 'matroska':
      raise ValueError('only Matroska has attachments')
    copy = out.add_attachment(
      stream.name or 'attachment',
      stream.mimetype or 'application/octet-stream',
      stream.data,
    )
  else:
    if stream.codec_context is None:
      raise ValueError('unknown to this FFmpeg')
    copy = out.add_stream_from_template(stream, opaque=True)
  copy.metadata.update(_kept(stream.metadata))
  copy.disposition = stream.disposition
  return copy


def _kept(tags: dict[str, str]) -> dict[str, str]:
  return {
    name: text for name, text in tags.items() if not _OWN_TAGS.fullmatch(name)
  }


def _pictures(segments, form, tick, template, stream):
  """Yields packets of the segments with the second that they are due at."""
  ahead = max(segment.delay for segment in segments)
  adapt = None
  if stream.container.format.name == 'avi' and template.name == 'h264':
    adapt = BitStreamFilterContext('h264_mp4toannexb', template)
  stamps = list(
    video.rising(
      itertools.chain.from_iterable(segment.pts for segment in segments),
      (form.time_base or 1 / form.frame_rate) / tick,
    )
  )
  step = max(1, round(1 / (form.frame_rate * tick)))
  early = [stamps[0] - i * step for i in range(ahead, 0, -1)]
  due = itertools.chain(early, stamps)  # When packets are to be decoded.
  first = 0
  for segment in segments:
    for rank, packet in _ranked(segment.path, len(segment.pts)):
      rank += first
      for part in adapt.filter(packet) if adapt else [packet]:
        part.pts, part.dts = stamps[rank], next(due)
        part.time_base = tick
        after = stamps[rank + 1] if rank + 1 < len(stamps) else None
        part.duration = step if after is None else after - stamps[rank]
        part.stream = stream
        yield part.dts * tick, part
    first += len(segment.pts)


def _copied(
  container: av.container.InputContainer, copies: dict[int, av.stream.Stream]
) -> Iterable[tuple[Fraction, av.Packet]]:
  """Yields the packets of a source, up to where it breaks, with their second."""
  if not copies:
    return
  due = Fraction(0)
  with contextlib.suppress(av.FFmpegError):
    for packet in container.demux(*(container.streams[i] for i in copies)):
      if not packet.size:
        continue
      if packet.dts is None:
        packet.dts = packet.pts
      if packet.dts is not None:
        due = max(due, packet.dts * packet.time_base)
      packet.stream = copies[packet.stream_index]
      yield due, packet
