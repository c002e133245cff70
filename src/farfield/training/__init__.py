"""Training: the LightningModule, optimisation, and one file for each technique."""
