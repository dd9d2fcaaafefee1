"""What a report says, a module for each section or for sections of a kind: from an analysis to elements."""
