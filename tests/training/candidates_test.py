"""Inputs of the mixture: the engine's colors follow from them, frame by frame."""

import jax
import numpy as np
import pytest
from pictures import make_frames, make_picture

from vitexco_jax import checkpoint
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.structs import Guidance
from vitexco_jax.training import candidates, mix

SIZE = (32, 48)  # As of other tests of the mixture, to compile less.
FRAMES = 11  # A block of 1, of 8, and a part of a third.


@pytest.fixture(scope='module')
def engine(tiny_weights):
  return VideoColorizer.from_checkpoint(tiny_weights, {'use.size': SIZE})


@pytest.fixture(scope='module')
def collector(tiny_weights):
  return candidates.CandidateCollector.from_checkpoint(
    tiny_weights, {'use.size': SIZE}
  )


def _random_inputs(shape):
  rng = np.random.default_rng(0)
  channels = 1, 2, 1, 2, 1, 1, 3, 1, 2
  luminance, *guidance, flow = (
    rng.normal(size=(*shape, c)).astype(np.float32) for c in channels
  )
  return luminance, Guidance(*guidance), flow


@pytest.mark.parametrize('first_frame', [True, False])
def test_the_mixture_colors_them_as_the_engine_does(
  engine, collector, tiny_weights, first_frame
):
  """With `mix.unroll`, the function that training differentiates."""
  before, *frames = make_frames(1 + FRAMES, SIZE)
  reference = before if first_frame else make_picture(SIZE, 99)
  for colorizer in (engine, collector):
    colorizer.set_reference(reference, first_frame=first_frame)
  expected = [np.asarray(x.ab) for x in engine.predict(frames)]
  inputs = [np.asarray(x.ab) for x in collector.predict(frames)]
  params = checkpoint.load_params(tiny_weights)['colorizer']
  inputs = np.concatenate(inputs)
  first = np.zeros((1, *inputs.shape[1:3], 4), np.float32)
  if first_frame:
    setup, _ = collector._clip(SIZE)
    first[..., :3] = setup.anchor_lab
  mixture = mix.make_mixture(engine.config)
  unroll = jax.jit(mix.unroll, static_argnums=(0, 4))
  _, mixed = unroll(mixture, params, first, inputs[:, None], 2)
  ab = np.asarray(mixed.color)[:, 0, : SIZE[0], : SIZE[1], :2]
  expected = np.concatenate(expected)
  assert ab.std() > 1
  np.testing.assert_allclose(ab, expected, atol=0.02)


def test_packing_is_inverted():
  inputs = _random_inputs((2, 3, 4))
  packed = candidates.pack(*inputs)
  assert packed.shape == (2, 3, 4, candidates.CHANNELS)
  jax.tree.map(np.testing.assert_array_equal, candidates.unpack(packed), inputs)


def test_an_absent_anchor_is_no_candidate():
  luminance, guidance, flow = _random_inputs((2, 3, 4))
  bare = guidance._replace(anchor_lab=None, anchored=None)
  packed = np.asarray(candidates.pack(luminance, guidance, flow))
  np.testing.assert_array_equal(
    candidates.without_anchor(packed), candidates.pack(luminance, bare, flow)
  )
  assert packed.all()  # It was copied.


def test_positions_are_means_with_flow_in_positions():
  luminance, guidance, flow = _random_inputs((2, 4, 8))
  packed = candidates.pack(luminance, guidance, flow)
  pooled = candidates.unpack(candidates.pool(packed, 4))
  np.testing.assert_allclose(
    pooled[0][0, 0, 1], luminance[0, :, 4:].mean((0, 1)), rtol=1e-4
  )
  np.testing.assert_allclose(
    pooled[2][1, 0, 0], flow[1, :, :4].mean((0, 1)) / 4, rtol=1e-4
  )


def test_collected_positions_and_true_colors(collector):
  before, *frames = make_frames(4, SIZE)
  collector.set_reference(before, first_frame=True)
  inputs, true_ab = collector.collect(frames)
  shape = 3, SIZE[0] // 2, SIZE[1] // 2
  assert inputs.shape == (*shape, candidates.CHANNELS)
  assert true_ab.shape == (*shape, 2)
  lab = collector.average_lab(frames[1])
  np.testing.assert_array_equal(lab[..., 1:], true_ab[1])
  # The engine sees the same lightness; the guide only corrects it a little.
  assert np.abs(lab[..., :1] - inputs[1, ..., :1]).mean() < 5
