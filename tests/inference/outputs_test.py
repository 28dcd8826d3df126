"""Outputs: options, and what a container does not support."""

from pathlib import Path

import av
import numpy as np
import pytest
from films import (
  COUNT,
  read_frames,
  run_film,
)
from painter import Painter

from vitexco_jax.errors import UserError
from vitexco_jax.inference import film
from vitexco_jax.inference.outputs import Options
from vitexco_jax.media import mux


def test_unsupported_containers_are_refused(tmp_path, source, red):
  assert mux.left_out(source, tmp_path / 'out.mkv') == []
  assert mux.left_out(source, tmp_path / 'out.mp4') == [
    'subtitle (srt)',
    'attachment (unknown)',
  ]
  assert 'chapters' in mux.left_out(source, tmp_path / 'out.avi')
  path = tmp_path / 'opus.mkv'
  with av.open(str(path), 'w') as out, av.open(str(source)) as container:
    picture = out.add_stream_from_template(container.streams.video[0])
    sound = out.add_stream('libopus', rate=48000, layout='mono')
    for packet in container.demux(video=0):
      if packet.size:
        packet.stream = picture
        out.mux(packet)
    frame = av.AudioFrame.from_ndarray(
      np.zeros((1, 960), np.int16), 's16', 'mono'
    )
    frame.sample_rate, frame.pts = 48000, 0
    out.mux(sound.encode(frame))
    out.mux(sound.encode(None))
  with pytest.raises(UserError, match=r'out\.avi cannot hold the sound .*opus'):
    film.Film([Painter()], path, red, tmp_path / 'out.avi')
  assert not (tmp_path / 'out.avi.part').exists()


@pytest.mark.parametrize(
  'options, sentence',
  [
    (Options(saturation=-1), '`saturation=-1` must be 0 or more'),
    (Options(smoothing=float('nan')), '`smoothing=nan` must be 0'),
    (Options(compare=Path('out.mkv')), 'out.mkv is named for two'),
    (Options(compare=Path('x/../out.mkv')), 'named for two outputs'),
    (
      Options(compare=Path('both'), confidence=Path('both/sure.mkv')),
      'the output both/sure.mkv is inside the output both: name others',
    ),
    (Options(confidence=Path('a.xyz')), r'a\.xyz cannot be written'),
  ],
)
def test_unsuitable_options_are_refused(source, red, options, sentence):
  with pytest.raises(UserError, match=sentence):
    film.Film([Painter()], source, red, Path('out.mkv'), options=options)


def test_a_film_cannot_be_written_to_an_image(tmp_path, source, red):
  options = Options(compare=tmp_path / 'compare.png')
  with pytest.raises(UserError, match=r'compare.png is one image .* 23 frames'):
    film.Film([Painter()], source, red, tmp_path / 'out.mkv', options=options)


def test_existing_files_are_replaced_only_on_request(tmp_path, source, red):
  output = tmp_path / 'out.mkv'
  output.write_text('years of work')
  with pytest.raises(UserError, match='`overwrite`'):
    run_film(source, red, output)
  run_film(source, red, output, stop=9, overwrite=True)
  assert output.read_text() == 'years of work'
  run_film(source, red, output, overwrite=True)
  assert len(read_frames(output)) == COUNT
