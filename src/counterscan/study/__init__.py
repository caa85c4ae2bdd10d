"""Reader studies: what readers are shown, what they said, and what that proves."""
