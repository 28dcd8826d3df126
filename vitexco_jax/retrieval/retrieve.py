"""--mode=retrieve: the pictures of a gallery that are most like a query.

The query is a picture or a video. Of a video three frames are taken, from the
middle of each third, as its scenes may differ. The pictures are written as a
strip, a row for each frame: the frame, then its best, with their scores.
"""

from pathlib import Path

import ml_collections
import numpy as np

from vitexco_jax import files
from vitexco_jax.media import strips, video
from vitexco_jax.retrieval import embedding

_MOMENTS = 3  # Of a video.


def retrieve(
  config: ml_collections.ConfigDict, query: Path, gallery: Path, output: Path
) -> list[list[tuple[str, float]]]:
  """Finds references for a picture or a video, shows and prints them.

  Args:
    config: its `retrieval` says how; it must be that of the gallery.
    query: an image, a video or a folder of frames.
    gallery: to search.
    output: an image, which is replaced if it is there.

  Returns:
    For each frame looked at the names and scores of the best pictures.

  Raises:
    UserError: the query cannot be read, the gallery is of other settings, or the
      output cannot be written or is the query.
  """
  files.check_apart([output], [query, gallery])
  embed, opened = embedding.open_with_embedder(config, gallery)
  frames = _moments(query)
  best = opened.best(
    embed(frames.values()),
    config.retrieval.count,
    config.retrieval.near_duplicate,
  )
  rows, labels, named = [], [], []
  for (place, rgb), found in zip(frames.items(), best, strict=True):
    rows.append([rgb, *(opened.read(number) for number, _ in found)])
    scores = '  '.join(f'{score:.2f}' for _, score in found)
    labels.append(f'{place}; its best: {scores}')
    named.append([(opened.name(number), score) for number, score in found])
    print(place)
    for name, score in named[-1]:
      print(f'  {score:.3f}  {name}')
  video.write_image(output, strips.strip(rows, labels))
  print(f'To look at: {output}')
  return named


def _moments(query: Path) -> dict[str, np.ndarray]:
  """Frames to find references for, [h, w, 3] uint8, by what they are called."""
  with video.VideoReader(query) as reader:
    if reader.kind == 'image':
      return {query.name: next(reader).rgb}
    count = reader.num_frames or sum(1 for _ in reader)
  wanted = [(2 * i + 1) * count // (2 * _MOMENTS) for i in range(_MOMENTS)]
  frames = {}
  with video.VideoReader(query) as reader:
    for index, frame in enumerate(reader):
      name = f'{query.name}, frame {index}'
      if index in wanted:
        frames[name] = frame.rgb
      if index == wanted[-1]:
        break
  return frames or {name: frame.rgb}  # A file may hold less than it says.
