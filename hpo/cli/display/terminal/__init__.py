"""The terminal or pipe of a running study: who may write to it, and when.

Never: lets the thread that schedules trials write to it. A reader may stand still for as long as a person likes.
"""
