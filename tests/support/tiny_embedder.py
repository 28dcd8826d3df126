"""A tiny embedder, and pictures to embed."""

import cv2
import numpy as np

from configs.vitexco import get_config


def make_config(**values):
  """Settings of an embedder with the tiny ViT, which compiles quickly."""
  config = get_config('tiny')
  config.retrieval.network = 'vit'
  config.update_from_flattened_dict(
    {name.replace('__', '.'): value for name, value in values.items()}
  )
  return config


def make_pictures(count, size=(60, 80)):
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (count, 4, 5, 3), np.uint8)
  return np.stack([cv2.resize(rgb, size[::-1]) for rgb in small])
