"""The training objective: who learns from which loss, and its settings."""

import jax
import optax
import pytest
from tiny_training import make_config, make_terms, random_clips

from vitexco_jax.data import augment

LOSSES = ('l1', 'warped', 'perceptual', 'contextual', 'temporal', 'smoothness')


def test_generator_and_discriminator_learn_only_from_their_losses(
  initial_state,
):
  config = make_config(*LOSSES, 'adversarial')
  terms = make_terms(config)
  clips, key = random_clips(1), jax.random.key(0)

  def losses(params):
    values, _ = terms(params, initial_state.spectral, clips, key)
    assert set(values) == {*LOSSES, 'adversarial', 'discriminator'}
    discriminator = values.pop('discriminator')
    return {'generator': sum(values.values()), 'discriminator': discriminator}

  def gradient(network):
    return jax.grad(lambda params: losses(params)[network])

  gradients = jax.jit(
    lambda params: {
      network: gradient(network)(params)
      for network in ('generator', 'discriminator')
    }
  )(initial_state.params)
  for network, groups in gradients.items():
    for group, tree in groups.items():
      learns = (group == 'discriminator') == (network == 'discriminator')
      assert (float(optax.tree.norm(tree)) > 0) == learns, (network, group)
  # The matching uses only level 2, and the losses levels 3 to 5, through which no
  # gradient flows to the Feature Transform's parameters.
  for level in (3, 4, 5):
    tree = gradients['generator']['feature_transform'][f'level{level}']
    assert float(optax.tree.norm(tree)) == 0


def test_l1_can_exclude_references_from_other_videos(initial_state):
  def l1(clips, same_video_only):
    config = make_config('l1')
    config.loss.l1_same_video_only = same_video_only
    terms = jax.jit(make_terms(config))
    values, _ = terms(
      initial_state.params, initial_state.spectral, clips, jax.random.key(0)
    )
    return float(values['l1'])

  clips = random_clips(2)  # The reference of the second is from another video.
  same, other = (
    l1(jax.tree.map(lambda x, i=i: x[i : i + 1], clips), False) for i in (0, 1)
  )
  assert l1(clips, False) == pytest.approx((same + other) / 2, rel=1e-4)
  assert l1(clips, True) == pytest.approx(same / 2, rel=1e-4)


def test_degradation_is_that_of_the_config(initial_state, monkeypatch):
  config = make_config('l1')
  expected = {
    'blur': 1.0,
    'flicker': 0.5,
    'grain': 3.0,
    'luminance_noise': 2.0,
  }
  config.augment.update(expected)
  calls = []

  def degrade(luminance, key, **strengths):
    calls.append(strengths)
    return luminance

  monkeypatch.setattr(augment, 'degrade', degrade)
  terms = make_terms(config)
  key = jax.random.key(0)
  jax.eval_shape(terms, initial_state.params, {}, random_clips(1), key)
  assert calls == [expected]
