"""Training: the loop, the losses, pretraining, logs, multihost."""
