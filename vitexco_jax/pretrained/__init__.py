"""Other networks and their weights: VGG16, LPIPS, loaders of foreign ViT weights."""
