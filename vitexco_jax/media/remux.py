"""Copying of audio, subtitles, and other streams of a video file.

`examine` is a dry run: it copies all packets into a container of the target format
that writes to the null device, without decoding the pictures. It reports before a
long run which streams the container accepts, how, and what will be missing.
`Copies` then copies the same packets next to the new pictures.

Packets are repaired on the way. Clocks that restart are joined (see `timeline`),
overlapping audio is dropped, and equal time stamps are separated. Uncompressed
audio that a container cannot hold, as on DVDs and Blu-rays, is converted losslessly
to PCM that it can hold.
"""

import contextlib
import functools
import os
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av

from vitexco_jax.media import containers, mxf
from vitexco_jax.media.ffmpeg_errors import logged, reason
from vitexco_jax.media.stream_copy import OVERLAP, StreamCopy, pcm_encoder
from vitexco_jax.media.timeline import Timeline

# FFmpeg's names. It treats .m4v as "ipod", which supports fewer codecs.
FORMATS = {'.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska'}
FORMATS |= {'.avi': 'avi', mxf.SUFFIX: 'mxf'}


class Track(NamedTuple):
  """How to copy a stream into a container."""

  stream: int  # Index of the stream in the source.
  encoder: str | None  # For audio to be converted; None: packets are copied.
  refused: frozenset[int]  # Numbers of packets that the container refuses.


class Findings(NamedTuple):
  """Result of `examine`."""

  tracks: tuple[Track, ...]
  missing: tuple[str, ...]  # Descriptions of what will be missing.
  # Audio that the container cannot hold, with suffixes of containers that can.
  unfit: tuple[tuple[str, tuple[str, ...]], ...]
  start: Fraction | None  # Start of the audio, in seconds; None: no audio.


def mux_one(out: av.container.OutputContainer, packet: av.Packet) -> None:
  """Writes a packet; after an error, tries again to get the reason."""
  try:
    out.mux_one(packet)
  except av.FFmpegError:
    with logged():
      out.mux_one(packet)


def examine(source: Path, suffix: str, sound: bool = True) -> Findings:
  """Tries to copy everything in a file except its pictures; writes nothing.

  Args:
    source: a video file.
    suffix: of the output; determines the container.
    sound: whether to copy audio.

  Raises:
    av.FFmpegError, OSError: the file cannot be read.
  """
  stat = os.stat(source)
  state = stat.st_size, stat.st_mtime_ns
  return _examine(source.absolute(), suffix.lower(), sound, state)


@functools.lru_cache(16)  # Called before the work and again at its end.
def _examine(
  source: Path, suffix: str, sound: bool, _: tuple[int, int]
) -> Findings:
  trials: dict[int, _Trial] = {}
  missing: list[str] = []
  unfit: list[tuple[str, tuple[str, ...]]] = []
  with containers.open_input(source, thorough=True) as container:
    origin = Fraction(container.start_time or 0, av.time_base)
    for stream in _others(container, sound):
      try:
        trials[stream.index] = _Trial(stream, suffix, origin)
      except (ValueError, av.FFmpegError) as error:
        words = _name(stream) + _because(error)
        if stream.type != 'audio':
          missing.append(words)
        else:
          unfit.append((words, tuple(_fitting(stream, origin))))
    for packet in _packets(container, trials):
      trials[packet.stream_index].take(packet)
    tracks = [trial.finish() for trial in trials.values()]
    missing += (text for trial in trials.values() for text in trial.missing)
    starts = [
      trial.start
      for trial in trials.values()
      if trial.stream.type == 'audio' and trial.start is not None
    ]
    start: Fraction | None = min(starts, default=None)
    if suffix == '.avi' and start is not None:
      missing += _offset(containers.main_stream(container), start)
  return Findings(
    tuple(filter(None, tracks)), tuple(missing), tuple(unfit), start
  )


class Copies:
  """The streams of a source that are copied into an output container."""

  def __init__(
    self,
    source: av.container.InputContainer,
    out: av.container.OutputContainer,
    findings: Findings,
  ):
    """Adds the streams to `out`.

    Args:
      source: from `containers.open_input`.
      out: the output with its video stream, before anything is written.
      findings: for this source and container.
    """
    self._source = source
    self._copies: dict[int, StreamCopy] = {}
    for track in findings.tracks:
      stream = source.streams[track.stream]
      self._copies[track.stream] = StreamCopy(out, stream, track.encoder)
    self._refused = {track.stream: track.refused for track in findings.tracks}

  def packets(
    self, origin: Fraction, end: Fraction | None = None
  ) -> Iterator[tuple[Fraction, av.Packet]]:
    """Yields pairs of decoding time, in seconds, and packet of the output.

    Args:
      origin: second of the source that becomes zero.
      end: second of the source; audio and subtitles that are not between
        `origin` and `end` are left out. None: nothing is.
    """
    numbers = dict.fromkeys(self._copies, 0)
    for packet in _packets(self._source, self._copies):
      index = packet.stream_index
      number = numbers[index]
      numbers[index] += 1
      if number not in self._refused[index] and (
        end is None or _is_between(packet, origin, end)
      ):
        for part in self._copies[index].convert(packet, origin):
          yield (part.dts or 0) * part.time_base, part


def _is_between(packet: av.Packet, start: Fraction, end: Fraction) -> bool:
  """Whether audio starts, or a subtitle is shown, between two times."""
  stamp = packet.dts if packet.pts is None else packet.pts
  if packet.stream.type not in ('audio', 'subtitle') or stamp is None:
    return True
  time = stamp * packet.time_base
  if packet.stream.type == 'subtitle':
    return (
      start < time + (packet.duration or 0) * packet.time_base and time < end
    )
  return start <= time < end


def _others(
  container: av.container.InputContainer, sound: bool
) -> Iterator[av.stream.Stream]:
  """Yields the streams to copy."""
  for stream in container.streams:
    cover = stream.disposition & av.stream.Disposition.attached_pic
    copied = stream.type in ('subtitle', 'attachment') or cover
    if copied or (sound and stream.type == 'audio'):
      yield stream


def _packets(
  container: av.container.InputContainer, indices: Collection[int]
) -> Iterator[av.Packet]:
  """Yields the packets of some streams up to the end or the first error."""
  if not indices:
    return
  timeline = Timeline(container)
  with contextlib.suppress(av.FFmpegError):
    for packet in container.demux():
      if packet.size:
        timeline.correct(packet)
        if packet.stream_index in indices:
          yield packet


def _name(stream: av.stream.Stream) -> str:
  codec = stream.codec_context.name if stream.codec_context else 'unknown'
  return f'{stream.type} ({codec})'


def _because(error: Exception) -> str:
  """Returns the reason for an error, if there is one, for a sentence."""
  text = reason(error).rstrip('.')
  if isinstance(error, mxf.UnfitError):
    text = str(error)
  return f': {text}' if text else ''


def _fitting(stream: av.stream.Stream, origin: Fraction) -> Iterator[str]:
  """Yields the suffixes of containers that can hold a stream."""
  for suffix in ('.mkv', '.mov', '.mp4', '.avi'):
    with contextlib.suppress(ValueError, av.FFmpegError):
      _Trial(stream, suffix, origin).finish()
      yield suffix


def _start(stream: av.stream.Stream) -> Fraction | None:
  """Returns the start of a stream, in seconds, if the file stores it."""
  if stream.start_time is None or stream.time_base is None:
    return None
  return Fraction(stream.start_time * stream.time_base)


def _offset(picture: av.VideoStream | None, start: Fraction) -> Iterator[str]:
  """Describes the offset between audio and pictures, which AVI loses."""
  if picture is None:
    return
  first = _start(picture) or Fraction(0)
  if abs(start - first) > 1 / (picture.average_rate or 25):
    apart = abs(float(start - first))
    yield f'the {apart:.2f} s between the starts of audio and picture'


class _Trial:
  """Copies one stream into a container that writes to the null device."""

  def __init__(self, stream: av.stream.Stream, suffix: str, origin: Fraction):
    """Opens the container.

    Args:
      stream: to copy.
      suffix: of the output, which determines the container.
      origin: second of the source that becomes zero.

    Raises:
      ValueError, av.FFmpegError: the container refuses the stream.
    """
    self.stream = stream
    self.start = _start(stream)  # In seconds.
    self.missing: list[str] = []  # Descriptions.
    self._origin = origin
    self._count = 0
    # Why packets were refused, by their numbers.
    self._reasons: dict[int, str] = {}
    self._suffix = suffix
    try:
      self._begin(None)
    except (ValueError, av.FFmpegError):
      encoder = pcm_encoder(stream)
      if encoder is None:
        raise
      self._begin(encoder)

  def _begin(self, encoder: str | None) -> None:
    self._encoder = encoder
    form = FORMATS[self._suffix]
    if self._suffix == mxf.SUFFIX:
      mxf.check_stream(self.stream, encoder)
      form = 'mov'  # The muxer of MXF needs pictures.
    self._out = av.open(f'file:{os.devnull}', 'w', format=form)
    self._copy = StreamCopy(self._out, self.stream, encoder)
    with logged():
      self._out.start_encoding()

  def take(self, packet: av.Packet) -> None:
    """Tries to copy a packet."""
    number, self._count = self._count, self._count + 1
    if self.start is None and packet.pts is not None:
      self.start = packet.pts * packet.time_base
    try:
      for part in self._copy.convert(packet, self._origin):
        mux_one(self._out, part)
    except av.FFmpegError as error:
      self._reasons[number] = _because(error)

  def finish(self) -> Track | None:
    """Returns how the stream is copied; None if it cannot be."""
    name = _name(self.stream)
    refused = len(self._reasons)
    try:
      if refused and refused == self._count:
        raise ValueError
      with logged():
        self._out.close()
    except (ValueError, av.FFmpegError) as error:
      reason = next(iter(self._reasons.values()), _because(error))
      self.missing.append(name + reason)
      self.start = None
      return None
    if refused:
      reason = next(iter(self._reasons.values()))
      self.missing.append(
        f'{refused} packets of {self._count} of {name}{reason}'
      )
    if self._copy.overlap >= OVERLAP:
      self.missing.append(
        f'{float(self._copy.overlap):.2f} s of {name} that overlap with others'
      )
    return Track(self.stream.index, self._encoder, frozenset(self._reasons))
