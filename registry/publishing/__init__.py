"""Who may say what, what they said, and how it is published."""
