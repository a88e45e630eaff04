"""Asking and answering: resolution, plan, fan-out, merge, certificate, synthesis, faces."""
