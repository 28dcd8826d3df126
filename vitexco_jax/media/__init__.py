"""Files in and out: videos, images, audio, shots."""
