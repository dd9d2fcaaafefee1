"""The command of one run: its parser, its Trainer, the place where it lives."""
