"""What people read: graphs, differences, explanations and findings as text, Markdown and pictures.

One module for each format; every function gives a string, the same one for the same input.
"""
