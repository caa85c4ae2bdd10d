"""Is an explanation faithful? Checks that find out explanations which ignore the classifier, and shortcuts."""
