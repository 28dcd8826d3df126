"""--mode=retrieve: shows which references a gallery has for a picture or a video.

A video is asked about at three moments. The picture that is written has a row for
each: the query, then the best, the most alike first, under their cosines.
"""

from collections.abc import Iterator
from pathlib import Path

import ml_collections
import numpy as np

from vitexco_jax import retrieval, strips
from vitexco_jax.video import VideoReader, write_image

_MOMENTS = (1 / 6, 3 / 6, 5 / 6)  # Of a video's length.


def retrieve(
  config: ml_collections.ConfigDict, query: Path, gallery: Path, output: Path
) -> list[list[tuple[int, float]]]:
  """Finds the best references for a picture or for moments of a video.

  Args:
    config: `retrieval` as the gallery was made.
    query: an image, a folder of frames or a video.
    gallery: a gallery.
    output: image file to be written.

  Returns:
    For each query pairs of a picture's number and its cosine, the best first.

  Raises:
    UserError: query or gallery cannot be read, or output not be written.
  """
  opened = retrieval.Gallery(gallery, config.retrieval)
  frames = dict(_moments(query))
  embedder = retrieval.Embedder(config)
  opened.check(embedder)
  found = opened.best(embedder(list(frames.values())))
  rows, labels = [], []
  for (index, rgb), best in zip(frames.items(), found, strict=True):
    print(f'{query}, frame {index}:')
    for number, cosine in best:
      print(f'  {cosine:.3f}  {opened.names[number]}')
    rows.append([rgb, *(opened.read(number) for number, _ in best)])
    scores = '  '.join(f'{cosine:.3f}' for _, cosine in best)
    labels.append(f'frame {index}, then by cosine: {scores}')
  write_image(output, strips.strip(rows, labels, width=200))
  print(f'Wrote {output}')
  return found


def _moments(query: Path) -> Iterator[tuple[int, np.ndarray]]:
  """Yields a few frames with their numbers."""
  with VideoReader(query) as reader:
    count = reader.num_frames or 1
    wanted = {int(count * share) for share in _MOMENTS}
    for index, frame in enumerate(reader):
      if index in wanted:
        yield index, frame.rgb
      if index == max(wanted):
        return
