"""ffmpeg_errors: reasons of FFmpeg."""

import io

import av
import pytest
from written_recordings import RATE

from vitexco_jax.errors import UserError
from vitexco_jax.media import remux, video


def test_the_reason_of_ffmpeg_is_reported():
  with av.open(io.BytesIO(), 'w', format='mp4') as out:
    stream = out.add_stream('pcm_s16le', rate=RATE, layout='stereo')
    out.start_encoding()

    packets = [av.Packet(bytes(16)) for _ in range(2)]
    for stamp, packet in zip((100, 50), packets, strict=True):
      packet.pts = packet.dts = stamp
      packet.stream, packet.time_base = stream, stream.time_base
    out.mux_one(packets[0])
    with (
      pytest.raises(UserError, match='non monotonically increasing dts'),
      video.explained('write', 'out.mp4'),
    ):
      remux.mux_one(out, packets[1])
