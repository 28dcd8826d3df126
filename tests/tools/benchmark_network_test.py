"""Benchmarks of the networks at toy size."""

import jax
import jax.numpy as jnp
import numpy as np

from configs.vitexco import get_config
from vitexco_jax.tools import benchmark_network


def test_memory_of_matching():
  rows = benchmark_network.matching(
    get_config('tiny'), positions=64, large=2048, channels=8
  )
  values = {row.name: row.value for row in rows}
  assert values['matching 2048 positions, forward, direct, memory'] > 16
  assert values['matching 2048 positions, forward, blocked, memory'] < 4
  assert all(value > 0 for value in values.values())


def test_network_has_four_levels():
  config = get_config('tiny')
  config.model.correspondence.levels = (1, 2, 3, 4, 5)
  rows = benchmark_network.network(config, (32, 48), block=2)
  frame, speed, memory = rows  # No share of peak: not a known GPU.
  np.testing.assert_allclose(frame.value * speed.value, 1, rtol=0.5)
  assert frame.unit == 's' and frame.runs >= 3 and memory.value > 50
  assert config.model.correspondence.levels == (1, 2, 3, 4, 5)


def test_an_update_is_all_its_micro_steps(monkeypatch):
  """With a fake of the step, which takes minutes to compile."""
  config = get_config('tiny')
  config.train.batch_size, config.train.accumulation = 6, 3
  calls = []

  def make_step(terms, weights, settings, optimizer, axis):
    def step(state, clips):
      assert clips.rgb.shape == (1, 2, 32, 48, 3)  # The share of one device.
      jax.debug.callback(lambda: calls.append(1))
      return state + 1, jax.lax.pmean(state @ state.T, axis)

    return step

  monkeypatch.setattr(benchmark_network.train, 'make_step', make_step)
  monkeypatch.setattr(
    benchmark_network.train, 'init_state', lambda *_: jnp.ones((2, 4))
  )
  time, speed, memory = benchmark_network.training(config)
  jax.effects_barrier()
  assert len(calls) == 2 * 3 * (1 + time.runs)  # Devices, micro-steps, calls.
  assert (time.unit, speed.unit, memory.unit) == ('ms', 'samples/s', 'MB')
  np.testing.assert_allclose(speed.value * time.value, 6e3, rtol=0.5)
