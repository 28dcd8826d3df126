"""Correction of time stamps to one continuous clock per file.

The clock of a recording may restart or jump where two files were concatenated or a
broadcast was interrupted. Each part of the file then has its own *clock*, an offset
in seconds that continues the time of the previous parts. Picture and audio of a part
share the offset, so they stay in sync. FFmpeg's command line corrects time stamps
similarly; its libraries do not.
"""

import collections
from collections.abc import Sequence

import av

_BACK = 0.1  # Allowed step back of a stream, in seconds; FFmpeg's value.
_AHEAD = 10.0  # Allowed jump ahead of all streams, in seconds; FFmpeg's value.
_CLOCKS = 8  # Clocks to remember: packets of two parts mix where they meet.
_LARGEST = 2**60  # Largest time stamp; larger ones in damaged files overflow.


class Timeline:
  """Corrects the packets of one file in storage order."""

  def __init__(self, container: av.container.InputContainer):
    """Starts at an open file whose packets have not been read yet."""
    # In other formats a gap is intended.
    self._may_jump = bool(
      av.format.Flags.ts_discont in av.format.Flags(container.format.flags)
    )
    # Seconds to add to the time stamps of each part.
    self._clocks = collections.deque([0.0], _CLOCKS)
    self._front: float | None = None  # End of the packets so far, in seconds.
    # Decoding time of each stream's last packet, in seconds.
    self._last: dict[int, float] = {}

  def correct(self, packet: av.Packet) -> None:
    """Changes the time stamps of a packet to the continuous clock."""
    stamp = packet.pts if packet.dts is None else packet.dts
    if stamp is None or abs(stamp) > _LARGEST:
      return
    time = float(stamp * packet.time_base)
    if packet.pts is not None:
      ahead = float(packet.pts * packet.time_base) - time
      if abs(ahead) > _AHEAD:  # FFmpeg confuses two parts where they meet.
        packet.pts = None
    stream = packet.stream
    cover = stream.disposition & av.stream.Disposition.attached_pic
    # Without a decoding time, pictures are unordered; subtitles are sparse.
    rises = stream.type == 'audio' or packet.dts is not None
    if stream.type in ('audio', 'video') and rises and not cover:
      clock = self._continued(stream.index, time)
      self._last[stream.index] = time + clock
      end = time + clock + float((packet.duration or 0) * packet.time_base)
      self._front = end if self._front is None else max(self._front, end)
    else:
      clock = self._nearest(self._clocks, time)
    if clock:
      shift = round(clock / packet.time_base)
      if packet.pts is not None:
        packet.pts += shift
      if packet.dts is not None:
        packet.dts += shift

  def _continued(self, index: int, time: float) -> float:
    """Returns the clock on which a stream continues; may start a new one."""
    last = self._last.get(index)
    fits = [
      clock
      for clock in self._clocks
      if (last is None or time + clock > last - _BACK)
      and not (
        self._may_jump
        and self._front is not None
        and time + clock > self._front + _AHEAD
      )
    ]
    if not fits:  # Then there were packets before.
      fits = [(self._front or 0.0) - time]
      self._clocks += fits
    return self._nearest(fits, time)

  def _nearest(self, clocks: Sequence[float], time: float) -> float:
    """Returns the clock that brings a time closest to the packets so far."""
    front = self._front
    if front is None:
      return clocks[0]
    return min(clocks, key=lambda clock: abs(time + clock - front))
