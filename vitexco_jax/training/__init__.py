"""Training: the loop, the losses, pretraining, the mixture, logs, multihost."""
