"""The state of a clip: saving and loading."""

import numpy as np

from vitexco_jax.inference.clip_state import ClipState


def test_a_saved_state_is_restored(tmp_path):
  rng = np.random.default_rng(0)
  lab, flow = (
    rng.normal(size=(1, 4, 6, channels)).astype(np.float32)
    for channels in (3, 2)
  )
  ClipState(lab, flow, 0.25).save(tmp_path / 'state.npy')
  state = ClipState.load(tmp_path / 'state.npy')
  np.testing.assert_array_equal(state.previous, lab)
  np.testing.assert_array_equal(state.anchor_flow, flow)
  assert state.gain == 0.25
