"""One description of a plot, and its two renderers: Plotly for the page, Matplotlib for PNG.

Never: knows a study.
"""
