"""A film of three shots, each of one picture, and a simple embedder."""

import cv2
import numpy as np

from vitexco_jax.retrieval import embedding

LENGTHS = (9, 12, 7)


def shot_picture(seed, size=(48, 64)):
  rgb = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
  return cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_CUBIC)


def embed(pictures):
  """Returns gray thumbnails, centered, as [b, 64] of unit length."""
  small = [
    cv2.resize(
      cv2.cvtColor(
        embedding.crop(rgb) if len(rgb) != 224 else rgb, cv2.COLOR_RGB2GRAY
      ),
      (8, 8),
    )
    for rgb in pictures
  ]
  flat = np.float32(small).reshape(len(small), -1)
  flat -= flat.mean(1, keepdims=True)
  return flat / np.linalg.norm(flat, axis=1, keepdims=True)
