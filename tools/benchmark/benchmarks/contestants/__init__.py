"""What is timed: cases, our networks and operators, and their peers."""
