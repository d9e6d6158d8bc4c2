"""Deciding and acting: accept, plan, dispatch, deliver, settle, status, upkeep."""
