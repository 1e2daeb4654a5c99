"""Kinds of models, each a class whose fields are its hyperparameters."""
