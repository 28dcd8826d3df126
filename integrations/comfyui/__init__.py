"""Vitexco for ComfyUI: a node that colorizes video frames."""

from .nodes import comfy_entrypoint as comfy_entrypoint
