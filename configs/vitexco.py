"""Vitexco: the paper's experiment, top to bottom.

  python launch.py --config=configs/vitexco.py                 the paper's size
  python launch.py --config=configs/vitexco.py:small           for CPUs; ships
  python launch.py --config=configs/vitexco.py:tiny            :small, for tests
  python launch.py --config=configs/vitexco.py:paper_tiny      paper's, for tests

Every value stands here once, in pipeline order. "Sec." is a section of the
paper; what the paper leaves open is taken from the work it builds on, Deep
Exemplar-based Video Colorization ("DEVC", Zhang et al., CVPR 2019), and marked.
Cost of the paper's schedule: 100,000 updates of four two-frame clips on two
GPUs. Published result: 28.88 dB PSNR on DAVIS (Table I, protocol unstated).
"""

import ml_collections


def get_config(variant: str = 'paper') -> ml_collections.ConfigDict:
  """Returns the config of a variant: one of `_VARIANTS`."""
  config = ml_collections.ConfigDict()
  config.variant = variant
  config.seed = 0

  # Data, Sec. IV.
  config.data = ml_collections.ConfigDict()
  config.data.records = 'data/records'  # What --mode=prepare writes.
  config.data.size = (224, 384)  # DEVC's 216x384, to a multiple of 16.
  config.data.frame_step = 2  # "every 2 frames"
  config.data.run_length = 64  # Frames that are judged together, at most.
  config.data.min_frames = 4  # Shorter shots are left out.
  # What is left out as well; see vitexco_jax/media/quality.py. 0: nothing.
  config.data.quality = ml_collections.ConfigDict()
  config.data.quality.min_chroma = 1.8  # "black-and-white"
  config.data.quality.min_motion = 4.0
  config.data.quality.max_blockiness = 1.5  # "low-quality"
  config.data.quality.max_blur = 0.66
  config.data.flow = 'deepflow'  # Or 'dis', 25 times faster.
  # Samples with a retrieved reference (DEVC). The rest take a frame of the same
  # video: these shares of them the clip's own first, as users have most often; the
  # last, smoothly warped; one at most five frames away. What is left: any.
  config.data.retrieved_share = 0.7
  config.data.first_frame_share = 0.3
  config.data.warped_share = 0.0
  config.data.nearby_share = 0.0
  config.data.threads = 4  # Reading and decoding in this process ...
  config.data.workers = 0  # ... or in this many others.

  # Retrieval of references, Sec. IV.
  config.retrieval = ml_collections.ConfigDict()
  # "extract embeddings ... using the ViT": its class token. 'efficientnet_lite0'
  # stands in for it where there are no pretrained weights.
  config.retrieval.network = 'vit'
  config.retrieval.grey = True  # Pictures are compared without their colors.
  config.retrieval.index = 'exact'  # Or 'ivf', approximate and faster.
  config.retrieval.count = 5  # "the five most similar images"
  config.retrieval.near_duplicate = (
    0.95  # Cosine, of two that are one too many.
  )

  # Augmentation. The last four wear what the networks see of L; each clip has up
  # to so much blur, flicker and grain. With the values named for old film, half
  # of which a clip has in the mean, 224x384 clips come near three restored films
  # of the forties and fifties; worn prints would need more.
  config.augment = ml_collections.ConfigDict()
  config.augment.flip = 0.5  # Probability.
  config.augment.crop = 1.0  # Smallest share of each side kept; 0.7, say.
  config.augment.blur = 0.0  # Sigma in pixels; old film: 0.8.
  config.augment.flicker = 0.0  # Share that L changes by; old film: 0.02.
  config.augment.grain = 0.0  # Standard deviation in L; old film: 1.0.
  config.augment.luminance_noise = 2.0  # Standard deviation in L (DEVC).

  # Networks, Sec. III.
  config.model = ml_collections.ConfigDict()
  config.model.dtype = 'float32'  # Or 'bfloat16', for the convolutions.
  config.model.stem = ''  # None; or 'efficientnet_lite0': a hybrid ViT.
  config.model.vit = ml_collections.ConfigDict()
  config.model.vit.variant = 'Ti/16'  # "tiny version of ViT"
  config.model.vit.taps = (8, 9, 10, 11, 12)  # Blocks, counted from 1.
  config.model.vit.gelu = 'tanh'  # AugReg's; timm's weights want 'erf'.
  # Side of the grid of position embeddings; 0: that of 224x224 pixels. Weights that
  # a run starts from bring their own.
  config.model.vit.pos_grid = 0
  config.model.feature_transform = ml_collections.ConfigDict()
  config.model.feature_transform.kind = 'bilinear'  # Or 'subpixel'.
  config.model.feature_transform.width = 1.0
  config.model.feature_transform.dropout = 0.3
  config.model.correspondence = ml_collections.ConfigDict()
  config.model.correspondence.levels = (1, 2, 3, 4, 5)  # DEVC: 2 to 5.
  config.model.correspondence.width = 1.0
  config.model.correspondence.temperature = 0.01  # DEVC
  config.model.correspondence.block = 432  # Rows of the matching at a time.
  config.model.colorizer = ml_collections.ConfigDict()
  config.model.colorizer.width = 1.0
  config.model.colorizer.residual = ''  # Or 'warped', 'blend': see `_small`.
  config.model.prior = ml_collections.ConfigDict()
  config.model.prior.width = 0.0  # Not the paper's; see `_small`.
  config.model.discriminator = ml_collections.ConfigDict()
  config.model.discriminator.width = 1.0

  # Losses, Sec. III-D; the weights are Sec. IV's. What each is a mean or a sum of,
  # so that these weights mean something, stands in vitexco_jax/training/losses.py.
  config.loss = ml_collections.ConfigDict()
  config.loss.weights = ml_collections.ConfigDict()
  config.loss.weights.l1 = 2.0
  config.loss.weights.adversarial = 0.2  # 0: no discriminator.
  config.loss.weights.perceptual = 0.005
  config.loss.weights.contextual = 0.5
  config.loss.weights.temporal = 0.02
  config.loss.weights.smoothness = 5.0
  config.loss.weights.warped = 0.0  # Not the paper's; see `_small`.
  config.loss.features = 'feature_transform'  # Or 'vgg16', as DEVC.
  config.loss.l1_same_video_only = False  # DEVC: True.

  # Pretraining, which the paper leaves out; see vitexco_jax/training/pretrain.py.
  config.pretrain = ml_collections.ConfigDict()
  config.pretrain.size = (224, 224)  # Of the views; ViTs are pretrained at it.
  config.pretrain.crop = (
    0.5  # Smallest side of a view, of the largest there is.
  )
  config.pretrain.grey = 0.5  # Share of the views that are shown in gray.
  config.pretrain.updates = 50_000
  config.pretrain.batch_size = 64  # Views of one optimiser update ...
  config.pretrain.accumulation = 1  # ... in this many micro-steps.
  config.pretrain.learning_rate = ml_collections.ConfigDict()
  # Hardly tuned: after 400 updates of 8 small views 5.5 % of the maps were
  # explained; with 5e-4 for ViT and decoders and 4e-3 for heads 3.7 %.
  config.pretrain.learning_rate.vit = 1e-4
  config.pretrain.learning_rate.feature_transform = 1e-3
  config.pretrain.learning_rate.prior = 1e-3
  # Single layers, to be thrown away.
  config.pretrain.learning_rate.heads = 1e-2
  config.pretrain.first_block = 1  # Of the ViT that learns.
  config.pretrain.warmup = 0.05  # Share of the updates; then a cosine to 0.
  config.pretrain.weight_decay = 0.05
  config.pretrain.gradient_norm = 1.0  # Gradients are clipped to it.
  config.pretrain.taught = 1.0  # Share of the views whose class token learns.
  config.pretrain.average = 0.0  # Decay of the average of parameters; 0: none.
  # Pictures that are not trained on, for the curve beside those held out.
  config.pretrain.validation = ''
  config.pretrain.weights = ml_collections.ConfigDict()
  config.pretrain.weights.maps = 1.0  # Mean of the five levels.
  config.pretrain.weights.class_token = 1.0  # Where the ViT learns.
  config.pretrain.weights.color = 0.0  # Of the prior, where there is one.
  config.pretrain.weights.spread = 0.0
  config.pretrain.log_every = 50
  config.pretrain.checkpoint_every = 1000

  # Training, Sec. IV.
  config.train = ml_collections.ConfigDict()
  config.train.updates = 100_000
  config.train.batch_size = 4  # Clips of one optimiser update ...
  config.train.accumulation = 2  # ... in this many micro-steps.
  config.train.clip_length = 2  # Frames of a clip ("two consecutive frames").
  config.train.learning_rate = ml_collections.ConfigDict()
  config.train.learning_rate.stem = 0.0  # 0: frozen, where there is one.
  config.train.learning_rate.vit = 0.0
  config.train.learning_rate.feature_transform = 1e-5
  config.train.learning_rate.correspondence = 1e-5
  config.train.learning_rate.colorizer = 1e-5
  config.train.learning_rate.discriminator = 1e-5
  config.train.learning_rate.prior = 0.0  # No loss of training reaches it.
  config.train.schedule_power = 0.0  # Polynomial decay to 0; 0: constant.
  config.train.b1 = 0.5
  config.train.b2 = 0.999
  config.train.weight_decay = 0.01
  config.train.unroll = 0  # Frames a scan unrolls; 0: all on CPU, 1 on GPU.
  config.train.vit_weights = ''  # AugReg .npz, timm .safetensors or .pth.
  config.train.init = ''  # An export or checkpoint to start from.
  config.train.log_every = 50
  config.train.strip_every = 1000
  config.train.checkpoint_every = 1000

  # Use.
  config.use = ml_collections.ConfigDict()
  config.use.size = (224, 384)  # Working size, a bound: aspect is kept.
  config.use.temperature = 0.01  # 0: the best match alone.
  # A reference that is a frame of the video also gives its colors along the
  # optical flow to it: their weight in a mean where both look alike, 0 to 1.
  config.use.anchor = 0.0
  # Frames that are larger than the working size are matched at that, but colors
  # follow motion at up to so many times of it.
  config.use.refine = 1
  # References are seen at the working size and, above 1, at so many times of it too:
  # what has come nearer is found there.
  config.use.enlarge = 1
  # Principal components of the references' features that are compared; 0: all.
  config.use.components = 0

  if variant not in _VARIANTS:
    raise ValueError(
      f'unknown variant {variant!r} of configs/vitexco.py: '
      f'{", ".join(_VARIANTS)} are known'
    )
  _VARIANTS[variant](config)
  return config.lock()


def _small(config):
  """ViT-Ti/16 whole, all else narrow; learns its ViT from scratch."""
  config.data.records = 'data/records_small'
  config.data.size = (112, 192)
  config.data.frame_step = 1
  config.data.flow = 'dis'
  config.data.warped_share = 0.1
  config.data.nearby_share = 0.2
  config.retrieval.network = 'efficientnet_lite0'  # Its ViT knows no classes.
  # No pretrained ViT can be had without a hub, and a CPU cannot train one: hybrid
  # with a small pretrained network matches better before any training than the
  # ViT did that had learned for hours (docs/results.md).
  config.model.stem = 'efficientnet_lite0'
  config.model.feature_transform.width = 0.25
  config.model.feature_transform.dropout = 0.0
  config.model.correspondence.levels = (3, 4, 5)
  config.model.correspondence.width = 0.5
  # By 0.13 dB better than 0.01 for the stem's maps, see there.
  config.model.correspondence.temperature = 0.02
  # No U-Net: InstanceNorms take out how strong a color is, and learning to carry
  # that past them takes far longer than a CPU trains (docs/results.md). What moves
  # is told from what is new by optical flow, which need not be learned.
  config.model.colorizer.width = 0.0
  config.model.colorizer.residual = 'blend'
  config.model.discriminator.width = 0.25
  config.loss.features = 'vgg16'
  # Held to the truth with another video's picture as well, colors go pale.
  config.loss.l1_same_video_only = True
  # Without a pretrained ViT the matching has to be learned too: its warped
  # colors are held to the truth where the reference is of the same video.
  config.loss.weights.warped = 1.0
  # As `weights/small` learned, by DEVC's sum of three levels.
  config.loss.weights.contextual = 0.5 * 14
  # ViT and Feature Transform learn color, with a prior that colorizes frames
  # without a reference. Stills of all kinds count more than updates. VGG16's maps
  # are left out: at five times the cost of all else they teach no color.
  config.model.prior.width = 1.0
  config.pretrain.size = (128, 128)
  config.pretrain.grey = 1.0
  config.pretrain.updates = 80_000
  config.pretrain.batch_size = 16
  config.pretrain.weights.maps = 0.0
  config.pretrain.weights.class_token = 0.2
  config.pretrain.weights.color = 1.0
  config.pretrain.weights.spread = 0.1
  config.pretrain.learning_rate.vit = 2e-4
  config.pretrain.learning_rate.feature_transform = 5e-4
  # At first; 1, later, learns the whole ViT at twice the cost of an update.
  config.pretrain.first_block = 9
  config.pretrain.warmup = 0.004
  config.pretrain.weight_decay = 0.02
  config.pretrain.average = 0.999
  config.pretrain.taught = 1 / 8
  config.train.updates = 10_000
  config.train.accumulation = 1
  for group in config.train.learning_rate:
    config.train.learning_rate[group] = 2e-4
  config.train.learning_rate.stem = 0.0
  config.train.learning_rate.prior = 0.0
  config.train.schedule_power = 1.0
  config.use.temperature = config.model.correspondence.temperature
  config.use.anchor = 0.7
  config.use.refine = 2
  config.use.enlarge = 2
  config.use.components = 128


def _tiny(config):
  """`:small` in seconds; its pictures mean nothing."""
  _small(config)
  _narrow(config)
  config.data.records = 'data/records_tiny'
  config.model.stem = ''
  config.loss.features = 'feature_transform'
  config.train.batch_size = 2


def _paper_tiny(config):
  """The paper's structure in seconds; its pictures mean nothing.

  As the paper's, its ViT is frozen: give it weights by
  --config.train.vit_weights.
  """
  _narrow(config)
  config.data.records = 'data/records_paper_tiny'


def _narrow(config):
  """Sizes and lengths of a test; leaves the structure as it is."""
  config.data.size = (32, 48)
  config.data.run_length = 8
  config.data.threads = 1
  config.model.vit.variant = 'test/16'
  config.model.vit.taps = (1, 1, 2, 2, 2)
  config.model.feature_transform.width = 1 / 16
  config.model.feature_transform.dropout = 0.3
  config.model.correspondence.width = 1 / 16
  config.model.correspondence.block = 40
  config.model.colorizer.width = 1 / 16
  config.model.prior.width = 1 / 16
  config.model.discriminator.width = 1 / 16
  config.pretrain.size = (32, 48)
  config.pretrain.grey = 0.5
  config.pretrain.first_block = 2
  config.pretrain.taught = 1.0
  config.pretrain.weights.maps = 1.0
  config.pretrain.updates = 4
  config.pretrain.batch_size = 2
  config.pretrain.log_every = 1
  config.pretrain.checkpoint_every = 2
  config.train.updates = 4
  config.train.log_every = 1
  config.train.strip_every = 2
  config.train.checkpoint_every = 2
  config.use.size = (64, 96)
  config.use.refine = 1
  config.use.enlarge = 1
  config.use.components = 0


_VARIANTS = {
  'paper': lambda config: None,
  'small': _small,
  'tiny': _tiny,
  'paper_tiny': _paper_tiny,
}
