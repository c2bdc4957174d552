"""Building images: from a Dockerfile's stages to layers, configs and manifests, with a cache."""
