"""--mode=retrieve: finds the pictures of a gallery most similar to a query.

The query is a picture or a video. A video is searched by three frames, the middle
of each third, since its scenes may differ. The result is a contact sheet with one
row per frame: the frame, then its best pictures, with their scores.
"""

import logging
from pathlib import Path

import ml_collections
import numpy as np

from vitexco_jax import files
from vitexco_jax.media import image_grid, video
from vitexco_jax.retrieval.gallery import open_with_embedder

_logger = logging.getLogger(__name__)

_MOMENTS = 3  # Frames of a video.


def retrieve(
  config: ml_collections.ConfigDict, query: Path, gallery: Path, output: Path
) -> list[list[tuple[str, float]]]:
  """Finds references for a picture or a video; draws and prints them.

  Args:
    config: `retrieval` has the settings, which must match the gallery.
    query: an image, a video, or a folder of frames.
    gallery: to search.
    output: an image; an existing file is replaced.

  Returns:
    For each query frame the names and scores of the best pictures.

  Raises:
    UserError: the query cannot be read, the gallery has other settings, or the
      output cannot be written or is the query.
  """
  files.check_apart([output], [query, gallery])
  embed, opened = open_with_embedder(config, gallery)
  frames = _moments(query)
  best = opened.best(
    embed(frames.values()),
    config.retrieval.count,
    config.retrieval.near_duplicate,
  )
  rows, labels, named = [], [], []
  for (place, rgb), results in zip(frames.items(), best, strict=True):
    rows.append([rgb, *(opened.read(number) for number, _ in results)])
    scores = '  '.join(f'{score:.2f}' for _, score in results)
    labels.append(f'{place}; best matches: {scores}')
    named.append([(opened.name(number), score) for number, score in results])
    _logger.info(place)
    for name, score in named[-1]:
      _logger.info(f'  {score:.3f}  {name}')
  video.write_image(output, image_grid.draw(rows, labels))
  _logger.info(f'Wrote {output}')
  return named


def _moments(query: Path) -> dict[str, np.ndarray]:
  """Returns the query frames, [h, w, 3] uint8, by their names."""
  with video.VideoReader(query) as reader:
    if reader.kind == 'image':
      return {query.name: next(reader).rgb}
    count = reader.num_frames or sum(1 for _ in reader)
  moments = [(2 * i + 1) * count // (2 * _MOMENTS) for i in range(_MOMENTS)]
  frames = {}
  with video.VideoReader(query) as reader:
    for index, frame in enumerate(reader):
      name = f'{query.name}, frame {index}'
      if index in moments:
        frames[name] = frame.rgb
      if index == moments[-1]:
        break
  return frames or {name: frame.rgb}  # A file may be shorter than it claims.
