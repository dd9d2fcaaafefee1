"""Many runs: studies, the list of runs under a folder, and the check that a run resumes to the bit."""
