"""The latent space explorer: one web page with four small models in it, made by `python -m tools.explorer.build`."""
