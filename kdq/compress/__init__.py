"""The smallest model within a drop of accuracy: what is searched for, on which images, and the report."""
