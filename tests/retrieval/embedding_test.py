"""embedding: networks against numpy; digests and errors."""

import functools

import flax
import jax
import numpy as np
import plain_vit
import pytest
from tiny_embedder import make_config, make_pictures
from written_weights import write_safetensors

from configs.vitexco import get_config
from vitexco_jax import checkpoint, color
from vitexco_jax.errors import UserError
from vitexco_jax.generator import abstract_params, make_generator
from vitexco_jax.models import efficientnet
from vitexco_jax.pretrained import efficientnet_weights
from vitexco_jax.retrieval import embedding

# Embeddings


def test_uses_the_central_square():
  rgb = np.zeros((256, 400, 3), np.uint8)
  rgb[16:-16, 88:-88] = np.arange(224, dtype=np.uint8)[:, None, None]
  seen = embedding.crop(rgb)
  np.testing.assert_array_equal(seen, rgb[16:-16, 88:-88])
  turned = embedding.crop(rgb.swapaxes(0, 1))
  np.testing.assert_array_equal(turned, seen.swapaxes(0, 1))


@pytest.mark.parametrize('size', [(32, 50), (100, 90), (600, 448)])
def test_any_size_is_resized_to_one(size):
  rgb = np.full((*size, 3), 77, np.uint8)
  assert embedding.crop(rgb).shape == (224, 224, 3)
  assert (embedding.crop(rgb) == 77).all()


def test_only_rgb_is_accepted(embed):
  for wrong in (np.zeros((60, 80), np.uint8), np.zeros((60, 80, 3))):
    with pytest.raises(TypeError, match='expected uint8'):
      embed([wrong])


def test_the_class_token_of_the_vit_in_gray(tmp_path):
  """Compares weights from a file with a numpy network."""
  config = make_config(train__vit_weights=str(tmp_path / 'vit.npz'))
  rng = np.random.default_rng(0)
  model = embedding.vit.VisionTransformer('test/16', taps=())
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)['params']
  weights = {
    name: np.float32(rng.normal(0, 0.1, leaf.shape))
    for name, leaf in flax.traverse_util.flatten_dict(shapes, sep='/').items()
  }
  np.savez(config.train.vit_weights, **weights)
  rgb = make_pictures(2)
  crops = np.stack([embedding.crop(picture) for picture in rgb])
  gray = np.asarray(color.gray(crops), np.float64) / 255
  _, expected = plain_vit.forward_scenic(weights, 2 * gray - 1, 'tanh', 2)
  expected /= np.linalg.norm(expected, axis=1, keepdims=True)
  actual = embedding.make_embedder(config)(rgb)
  assert actual.dtype == np.float32
  np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_hybrid_includes_its_stem(tmp_path):
  config = make_config(model__stem='efficientnet_lite0', retrieval__gray=False)
  config.use.size = (32, 48)
  generator = make_generator(config)
  params = jax.jit(generator.init)(jax.random.key(3), np.zeros((1, 32, 48, 3)))
  checkpoint.export(tmp_path / 'hybrid', params['params'], config)
  config.retrieval.weights = str(tmp_path / 'hybrid')
  config.train.init = 'nowhere'  # Not needed.
  rgb = make_pictures(2)
  crops = np.stack([embedding.crop(picture) for picture in rgb]) / 255
  halved = jax.tree.map(np.asarray, checkpoint.load_params(tmp_path / 'hybrid'))
  seen = jax.jit(functools.partial(generator.apply, method='see'))
  expected = seen({'params': halved}, crops).embedding
  expected /= np.linalg.norm(expected, axis=1, keepdims=True)
  embed = embedding.make_embedder(config)
  np.testing.assert_allclose(embed(rgb), expected, atol=1e-4)
  assert embed.settings['stem'] == 'efficientnet_lite0'


def test_the_pooled_features_of_efficientnet_in_color():
  config = make_config(
    retrieval__network='efficientnet_lite0', retrieval__gray=False
  )
  rgb = make_pictures(1)
  crop = embedding.crop(rgb[0])
  expected = jax.jit(efficientnet.EfficientNetLite0().apply)(
    {'params': efficientnet_weights.load_efficientnet_lite0()}, crop[None] / 255
  )
  expected /= np.linalg.norm(expected)
  actual = embedding.make_embedder(config)(rgb)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_gray_embeddings_ignore_colors(embed):
  rgb = make_pictures(
    2, (256, 300)
  )  # No resizing, which would precede the conversion to gray.
  gray = np.asarray(color.gray(rgb))
  np.testing.assert_allclose(embed(rgb), embed(gray), atol=0.01)
  in_color = embedding.make_embedder(make_config(retrieval__gray=False))
  assert np.abs(in_color(rgb) - in_color(gray)).max() > 0.1
  np.testing.assert_allclose(in_color(gray), embed(gray), atol=0.01)


def test_embeddings_do_not_depend_on_the_batch(embed):
  rgb = list(make_pictures(70)) + list(make_pictures(1, (90, 64)))
  whole = embed(rgb)
  assert whole.shape == (71, 32)
  np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
  for i in (0, 3, 66, 70):
    np.testing.assert_allclose(embed(rgb[i : i + 1])[0], whole[i], atol=1e-5)


def test_only_untrained_weights_cause_a_warning(tmp_path, capsys):
  untrained = embedding.make_embedder(make_config())
  assert 'Retrieval will be poor' in capsys.readouterr().out
  config = get_config('tiny')
  expected = abstract_params(config)
  params = jax.tree.map(lambda leaf: np.ones(leaf.shape), expected)
  checkpoint.export(tmp_path / 'export', params, config)
  trained = embedding.make_embedder(
    make_config(train__init=str(tmp_path / 'export'))
  )
  assert not capsys.readouterr().out
  assert trained.settings['weights'] != untrained.settings['weights']
  assert trained.settings == untrained.settings | {
    'weights': trained.settings['weights']
  }


def test_weights_are_identified_by_content(tmp_path):
  flat = {'a/b': np.ones(3), 'a/c': np.zeros(2)}
  tree = {'a': {'c': np.zeros(2), 'b': np.ones(3)}}
  other = {'a': {'c': np.zeros(2), 'b': np.ones(3) + 1e-6}}
  digests = [
    embedding._digest(x)
    for x in (flax.traverse_util.unflatten_dict(flat, sep='/'), tree, other)
  ]
  assert digests[0] == digests[1] != digests[2]


def test_an_unknown_network_and_weights_that_do_not_fit(tmp_path):
  with pytest.raises(
    UserError, match='retrieval.network=resnet must be one of vit, effi'
  ):
    embedding.make_embedder(make_config(retrieval__network='resnet'))
  path = tmp_path / 'vit.safetensors'
  write_safetensors(path, {'cls_token': np.zeros((1, 1, 32), np.float32)})
  with pytest.raises(UserError, match='does not fit the ViT'):
    embedding.make_embedder(make_config(train__vit_weights=str(path)))
