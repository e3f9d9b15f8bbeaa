"""What a process has of its machine: cores, signals, and facts for reports."""
