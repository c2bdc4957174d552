"""The Python API: a client with one coroutine for each thing that can be done with images and registries."""
