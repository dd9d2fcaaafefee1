"""The commands that run or evaluate one federation: parser, Trainer, run folder, errors."""
