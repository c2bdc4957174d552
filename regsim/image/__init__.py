"""How images are made and live: file trees with whiteouts, layers, containers, history, the local store."""
