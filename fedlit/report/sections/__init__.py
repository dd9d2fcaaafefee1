"""The sections of a report: functions from an analysis to elements."""
