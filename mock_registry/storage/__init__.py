"""Where bytes live: content under its digest, and uploads that are still growing.

Knows digests and files. Must not know of repositories, tags or HTTP.
"""
