"""A masked diffusion language model: files, forward pass, sampler, likelihoods."""
