"""Pretrained networks and weights: VGG16, LPIPS, EfficientNet, ViT."""
