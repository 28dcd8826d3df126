"""Muxing: joins encoded video segments and copies the source's other streams.

`join` concatenates the packets of several encoded videos with given time stamps,
and adds the audio, subtitles, attachments, cover, chapters, and metadata of another
file. Nothing is re-encoded. The muxer writes tracks of its own for the time code and
the chapters.
"""

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
from av.bitstream import BitStreamFilterContext

from vitexco_jax.errors import UserError
from vitexco_jax.media import containers, mxf, remux, time_codes
from vitexco_jax.media.ffmpeg_errors import explained
from vitexco_jax.media.frames import Format
from vitexco_jax.media.stream_copy import copied_tags

if TYPE_CHECKING:
  from av.container.core import Chapter


class Segment(NamedTuple):
  """A part of a video."""

  path: Path  # A file with one stream of encoded video.
  pts: Sequence[int]  # Time stamps of its frames, increasing, in output ticks.
  delay: int  # See `delay`.
  end: int | None = None  # End of the last frame; None: one frame later.


def delay(path: Path) -> int:
  """Returns by how many frames decoding order can precede display order.

  Raises:
    UserError: the segment cannot be read.
  """
  with explained('read', path):
    ranks = [rank for rank, _ in _ranked(path)]
  return max(place - rank for place, rank in enumerate(ranks))


def _ranked(
  path: Path, frames: int | None = None
) -> Iterator[tuple[int, av.Packet]]:
  """Yields pairs of display index and packet, in storage order.

  Raises:
    UserError: the segment does not have `frames` frames.
  """
  # Read twice, because large lossless frames may not fit into memory.
  # Encoders set the time stamps of all packets.
  shown = sorted(packet.pts or 0 for packet in _packets(path))
  if frames not in (None, len(shown)):
    raise UserError(
      f'{path} has {len(shown)} frames instead of {frames}: run the same command '
      'again'
    )
  ranks = {pts: rank for rank, pts in enumerate(shown)}
  for packet in _packets(path):
    yield ranks[packet.pts or 0], packet


def _packets(path: Path) -> Iterator[av.Packet]:
  with av.open(f'file:{path}') as container:
    for packet in container.demux(video=0):  # MOV may have a time code, too.
      if packet.size:
        yield packet


def left_out(source: Path, target: Path, sound: bool = True) -> list[str]:
  """Lists what the output container cannot hold, by trying to copy everything.

  Args:
    source: a video file.
    target: the output; its suffix determines the container.
    sound: whether to copy audio.

  Returns:
    Descriptions of what will be missing.

  Raises:
    UserError: the source cannot be read, or the container cannot hold audio that
      another container can.
  """
  with explained('read', source):
    findings = remux.examine(source, target.suffix, sound)
  missing = list(findings.missing)
  for words, suffixes in findings.unfit:
    if suffixes:
      raise UserError(
        f'{target} cannot hold the sound of {source}, {words}: name the output '
        f'{" or ".join(suffixes)}, or leave the sound out with `audio=none`'
      )
    missing.append(words)
  with containers.open_input(source, thorough=True) as container:
    missing += containers.other_tracks(container)
    if target.suffix.lower() in ('.avi', mxf.SUFFIX) and container.chapters():
      missing.append('chapters')
  return missing


def join(
  segments: Sequence[Segment],
  form: Format,
  source: Path | None,
  target: Path,
  sound: bool = True,
  is_part: bool = False,
) -> None:
  """Writes a video file; replaces an existing file.

  The output starts at time zero with its first picture or audio, and a part of a
  source with its first picture.

  Args:
    segments: in order, encoded with the same settings, each starting with a key
      frame.
    form: of the output; its `time_base` is the unit of the time stamps.
    source: file whose other streams are copied; None: no other streams.
    target: the output; its suffix determines the container.
    sound: whether to copy audio.
    is_part: whether the segments are only a part of the source: then audio and
      subtitles of other times are left out.

  Raises:
    UserError: the output cannot be written, the source cannot be read, or the
      number of frames and time stamps of a segment differ.
  """
  with explained('write', target), contextlib.ExitStack() as stack:
    suffix = target.suffix.lower()
    tick = containers.container_tick(suffix, form)
    out = stack.enter_context(_open(target, tick))
    pictures = stack.enter_context(av.open(f'file:{segments[0].path}'))
    template = pictures.streams.video[0]
    stream = out.add_stream_from_template(template)
    stream.time_base = tick
    stream.codec_context.framerate = form.frame_rate
    if suffix == mxf.SUFFIX:
      stream.codec_context.framerate = 1 / tick
    if template.name == 'hevc' and suffix != '.mkv':
      stream.codec_context.codec_tag = 'hvc1'  # Apple players require it.
    origin = segments[0].pts[0] * form.tick
    last = segments[-1]
    end = last.pts[-1] + form.ticks if last.end is None else last.end
    copies = None
    if source is not None:
      other = stack.enter_context(containers.open_input(source, thorough=True))
      findings = remux.examine(source, suffix, sound)
      # MXF begins with a picture.
      if findings.start is not None and not is_part and suffix != mxf.SUFFIX:
        origin = min(origin, findings.start)
      copies = remux.Copies(other, out, findings)
      out.metadata.update(copied_tags(other.metadata))
      length = end * form.tick - origin if is_part else None
      out.set_chapters(list(_moved(other.chapters(), origin, length)))
      if first := containers.main_stream(other):
        stream.metadata.update(copied_tags(first.metadata))
        stream.disposition = first.disposition
    if code := time_codes.after(form.time_code, 0, form.frame_rate):
      stream.metadata['timecode'] = code
    out.start_encoding()
    packets = [_pictures(segments, form, tick, template, stream, origin)]
    stop = end * form.tick
    if copies is not None:
      is_cut = is_part or suffix == mxf.SUFFIX
      packets.append(copies.packets(origin, stop if is_cut else None))
    if suffix == mxf.SUFFIX:
      packets = mxf.fitted(packets, out.streams.audio, stop - origin)
    for _, packet in heapq.merge(*packets, key=lambda pair: pair[0]):
      remux.mux_one(out, packet)


def _open(target: Path, tick: Fraction) -> av.container.OutputContainer:
  suffix = target.suffix.lower()
  return av.open(
    f'file:{target}',
    'w',
    format=remux.FORMATS[suffix],
    container_options={
      'fflags': '+bitexact',  # Deterministic: no random numbers, no dates.
      **containers.container_options(suffix, tick),
    },
  )


def _moved(
  chapters: 'list[Chapter]', origin: Fraction, length: Fraction | None
) -> 'Iterator[Chapter]':
  """Yields chapters shifted so that second `origin` becomes zero.

  Args:
    chapters: of the source.
    origin: in seconds.
    length: of the output in seconds, if it is a part of the source.
  """
  for chapter in chapters:
    shift = round(origin / (chapter['time_base'] or 1))
    start = max(0, chapter['start'] - shift)
    end = chapter['end'] - shift
    if length is not None:
      end = min(end, round(length / (chapter['time_base'] or 1)))
    if end > start:
      yield {**chapter, 'start': start, 'end': end}


def _pictures(
  segments: Sequence[Segment],
  form: Format,
  tick: Fraction,
  template: av.VideoStream,
  stream: av.VideoStream,
  origin: Fraction,
) -> Iterator[tuple[Fraction, av.Packet]]:
  """Yields pairs of decoding time, in seconds, and packet of the segments."""
  base = form.tick
  ahead = max(segment.delay for segment in segments)
  adapt = None
  if stream.container.format.name == 'avi' and template.name == 'h264':
    adapt = BitStreamFilterContext('h264_mp4toannexb', template)
  stamps = list(
    containers.rising(
      (pts - origin / base for segment in segments for pts in segment.pts),
      base / tick,
    )
  )
  step = max(1, round(1 / (form.frame_rate * tick)))
  end = segments[-1].end
  if end is None:
    end = stamps[-1] + step
  else:
    end = max(stamps[-1] + 1, round((end * base - origin) / tick))
  early = [stamps[0] - i * step for i in range(ahead, 0, -1)]
  # Decoding times of the packets.
  order = [*early, *stamps][: len(stamps)]
  due = iter(order)
  first = 0
  for segment in segments:
    for rank, packet in _ranked(segment.path, len(segment.pts)):
      rank += first
      for part in adapt.filter(packet) if adapt else [packet]:
        part.pts, part.dts = stamps[rank], next(due)
        part.time_base = tick
        after = stamps[rank + 1] if rank + 1 < len(stamps) else end
        part.duration = after - stamps[rank]
        if part.dts == order[-1] and stream.container.format.name != 'matroska':
          # In MP4 the durations, in coding order, sum to that of the video.
          part.duration = end - stamps[0] - (order[-1] - order[0])
        part.stream = stream
        yield part.dts * tick, part
    first += len(segment.pts)
